"""Embeds pictures: from decoded pictures to rows, without access to a gallery.

:func:`embed` may run in many processes or on many machines at once, each with its own encoder.
Its result can be pickled; one process stores all of them with :func:`ingest.fill.commit.commit`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import CiesError
from indexes.store.records import ImageRecord, VectorColumn, VectorTable
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec
from ingest.fill.vector_sources import layer_of
from ingest.read.images import Picture

#: Tolerance for the length of a unit vector.
_TOLERANCE = 1e-3

#: Embeds images under conditions that are settled.
_EmbedImages = Callable[[Sequence[Image.Image]], Embeddings]

#: Size in pixels of the grey picture that tests whether an encoder works at all.
_PROBE_SIZE = (64, 64)


@dataclass(frozen=True)
class EmbeddedBatch:
    """Embedded pictures, as :func:`ingest.fill.commit.commit` stores them.

    Attributes:
        tables: the conditions the pictures were embedded under.
        images: the records of the pictures that could be embedded.
        embeddings: vectors float32 [images, tables, dim] and words; ``None`` without tables.
        refused: key to reason, for pictures that the encoder gave no usable vector for.
    """

    tables: tuple[VectorTable, ...]
    images: tuple[ImageRecord, ...]
    embeddings: Embeddings | None
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """Content keys of the embedded pictures."""
        return [image.key for image in self.images]


def vector_column(batches: Sequence[EmbeddedBatch], table: VectorTable) -> VectorColumn:
    """The vectors and words of one condition in several batches; a repeated key counts once."""
    rows: dict[str, tuple[NDArray[np.float32], str, float, float]] = {}
    for batch in batches:
        if batch.embeddings is None or table not in batch.tables:
            continue
        column, found = batch.tables.index(table), batch.embeddings
        for row, key in enumerate(batch.keys):
            word, probability = found.words[row][column], found.word_probabilities[row, column]
            vector, norm = found.vectors[row, column], found.norms[row, column]
            rows.setdefault(key, (vector, word, probability, norm))
    vectors = [vector for vector, _, _, _ in rows.values()]
    return VectorColumn(
        list(rows),
        np.stack(vectors) if vectors else np.zeros((0, table.dimension), dtype=np.float32),
        [word for _, word, _, _ in rows.values()],
        np.array([probability for _, _, probability, _ in rows.values()], dtype=np.float32),
        norms=np.array([norm for _, _, _, norm in rows.values()], dtype=np.float32),
    )


def condition_of(table: VectorTable) -> Condition:
    """The condition a table's vectors are made under."""
    return Condition(table.name, str(table.made_by["phrase"]))


def embed(
    encoder: BaseEncoder, tables: Sequence[VectorTable], pictures: Mapping[str, Picture]
) -> EmbeddedBatch:
    """Embed pictures under some conditions.

    A picture is refused if the encoder fails on it, or returns a vector that is not finite or not
    of unit length; the others are embedded. If the encoder also fails on a plain grey picture, the
    encoder itself does not work, and its error is raised.

    Args:
        encoder: the encoder of ``tables``.
        tables: the conditions, perhaps by several layers of its model; without any, only the
            pictures' records are returned.
        pictures: content key to picture.

    Raises:
        CiesError: from the encoder, for instance if memory runs out.
        Exception: any error of an encoder that does not work at all.
    """
    refused: dict[str, str] = {}
    embeddings = None
    keys = list(pictures)
    if tables and keys:
        shape = (len(tables), tables[0].dimension)
        images = [pictures[key].image for key in keys]
        embed_images = _embedder(encoder, tables)
        embeddings, refused = _embed_checked(embed_images, shape, keys, images)
        keys = [key for key in keys if key not in refused]
    records = tuple(
        ImageRecord(
            key,
            *pictures[key].size,
            pictures[key].format,
            pictures[key].taken_at,
            pictures[key].orientation,
        )
        for key in keys
    )
    return EmbeddedBatch(tuple(tables), records, embeddings, refused)


def embed_missing(
    encoder: BaseEncoder,
    pictures: Mapping[str, Picture],
    missing: Callable[[str], tuple[VectorTable, ...]],
) -> list[EmbeddedBatch]:
    """Embed each picture under the conditions that it lacks, and no others.

    Args:
        encoder: the encoder of all tables.
        pictures: content key to picture.
        missing: the tables that do not contain the picture of a content key.

    Raises:
        CiesError: as :func:`embed`.
    """
    groups: dict[tuple[str, ...], tuple[tuple[VectorTable, ...], dict[str, Picture]]] = {}
    for key, picture in pictures.items():
        tables = missing(key)
        names = tuple(table.table for table in tables)
        groups.setdefault(names, (tables, {}))[1][key] = picture
    return [embed(encoder, tables, group) for tables, group in groups.values()]


def _embedder(encoder: BaseEncoder, tables: Sequence[VectorTable]) -> _EmbedImages:
    """Embeds images for some tables, in one pass if these are of several layers of one model."""
    conditions = [condition_of(table) for table in tables]
    layers = [layer_of(EncoderSpec.from_made_by(table.made_by)) for table in tables]
    if set(layers) == {layer_of(encoder.spec)}:
        return lambda images: encoder.embed(images, conditions)
    asked, read = list(dict.fromkeys(conditions)), list(dict.fromkeys(layers))
    places = [(read.index(n), asked.index(c)) for n, c in zip(layers, conditions, strict=True)]

    def embed_images(images: Sequence[Image.Image]) -> Embeddings:
        found = encoder.embed_layers(images, asked, read)
        return Embeddings(
            np.stack([found[n].vectors[:, c] for n, c in places], 1),
            [[found[n].words[row][c] for n, c in places] for row in range(len(images))],
            np.stack([found[n].word_probabilities[:, c] for n, c in places], 1),
            np.stack([found[n].norms[:, c] for n, c in places], 1),
        )

    return embed_images


def _embed_checked(
    embed_images: _EmbedImages,
    shape: tuple[int, int],
    keys: Sequence[str],
    images: Sequence[Image.Image],
) -> tuple[Embeddings | None, dict[str, str]]:
    """Embed all pictures at once or, if that fails, one by one."""
    try:
        embeddings = embed_images(images)
        if not _fault(embeddings, len(images), shape):
            return embeddings, {}
    except CiesError:
        raise
    except Exception:  # noqa: BLE001, S110
        pass  # One by one shows which picture causes the error, or that all of them do.
    refused: dict[str, str] = {}
    accepted: list[Embeddings] = []
    for key, image in zip(keys, images, strict=True):
        try:
            single = embed_images([image])
            reason = _fault(single, 1, shape)
        except CiesError:
            raise
        except Exception as error:  # noqa: BLE001
            reason = f"the model failed on it: {str(error) or type(error).__name__}"
        if reason:
            if not refused:
                _probe(embed_images, shape)
            refused[key] = reason.splitlines()[0][:200]
        else:
            accepted.append(single)
    return _concatenated(accepted) if accepted else None, refused


def _probe(embed_images: _EmbedImages, shape: tuple[int, int]) -> None:
    """Embed a plain grey picture.

    Raises:
        Exception: if the encoder fails on that too.
    """
    grey = Image.new("RGB", _PROBE_SIZE, (127, 127, 127))
    reason = _fault(embed_images([grey]), 1, shape)
    if reason:
        raise RuntimeError(f"the encoder does not work: for a plain grey picture {reason}")


def _fault(embeddings: Embeddings, count: int, shape: tuple[int, int]) -> str:
    """What is wrong with the vectors; empty if they are usable."""
    vectors = embeddings.vectors
    if vectors.shape != (count, *shape):
        return f"the model gave vectors of shape {vectors.shape}, not {(count, *shape)}"
    if not np.isfinite(vectors).all():
        return "the model gave a vector that is not finite"
    if not np.allclose(np.linalg.norm(vectors, axis=-1), 1, atol=_TOLERANCE):
        return "the model gave a vector that is not of unit length"
    return ""


def _concatenated(parts: Sequence[Embeddings]) -> Embeddings:
    return Embeddings(
        np.concatenate([part.vectors for part in parts]),
        [words for part in parts for words in part.words],
        np.concatenate([part.word_probabilities for part in parts]),
        np.concatenate([part.norms for part in parts]),
    )
