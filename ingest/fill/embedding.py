"""Pictures in, rows out: a function that knows nothing of a gallery and can run anywhere.

:func:`embed` may run in many processes or on many machines at once, each with an encoder of its
own; what it returns can be pickled, and is stored by :func:`ingest.fill.commit.commit`, which one
process runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Sequence

import numpy as np
from PIL import Image

from indexes.errors import CiesError
from indexes.store.records import ImageRecord, VectorTable
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings
from ingest.read.images import Picture

#: A vector counts as one of unit length within this much.
_TOLERANCE = 1e-3

#: What an encoder is asked about to learn whether it works at all.
_PROBE_SIZE = (64, 64)


@dataclass(frozen=True)
class Embedded:
    """What was made of some pictures.

    Attributes:
        tables: the conditions they were embedded under, each with all that made its vectors.
        images: what is known of each picture that could be embedded; its key is first of all.
        reading: their vectors float32 [images, tables, dim] and words; ``None`` without tables.
        refused: key to reason, of pictures the encoder gave no usable vector for.
    """

    tables: tuple[VectorTable, ...]
    images: tuple[ImageRecord, ...]
    reading: Embeddings | None
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """Content keys of the embedded pictures."""
        return [image.key for image in self.images]


def condition_of(table: VectorTable) -> Condition:
    """The condition a table's vectors are made under."""
    return Condition(table.name, str(table.made_by["phrase"]))


def embed(
    encoder: BaseEncoder, tables: Sequence[VectorTable], pictures: Mapping[str, Picture]
) -> Embedded:
    """Embed pictures under some conditions.

    A picture that the encoder fails on, or gives a vector for that is not finite or not of unit
    length, is refused and the others are embedded; but if the encoder fails on a plain grey
    picture too, it is not the pictures' fault, and its error is raised.

    Args:
        encoder: the one that ``tables`` tell of.
        tables: the conditions; with none, only what is known of the pictures is returned.
        pictures: content key to picture.

    Raises:
        CiesError: from the encoder, such as when memory runs out.
        Exception: whatever the encoder raises when it does not work at all.
    """
    refused: dict[str, str] = {}
    reading = None
    keys = list(pictures)
    if tables and keys:
        conditions = [condition_of(table) for table in tables]
        shape = (len(tables), tables[0].dimension)
        images = [pictures[key].image for key in keys]
        reading, refused = _read(encoder, conditions, shape, keys, images)
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
    return Embedded(tuple(tables), records, reading, refused)


def _read(
    encoder: BaseEncoder,
    conditions: Sequence[Condition],
    shape: tuple[int, int],
    keys: Sequence[str],
    images: Sequence[Image.Image],
) -> tuple[Embeddings | None, dict[str, str]]:
    """All pictures at once or, if that fails, one by one."""
    try:
        reading = encoder.embed(images, conditions)
        reason = _fault(reading, len(images), shape)
        if not reason:
            return reading, {}
    except CiesError:
        raise
    except Exception:  # noqa: BLE001, S110
        pass  # Whatever it is: one by one it shows which picture does it, or that all of them do.
    refused: dict[str, str] = {}
    single: list[Embeddings] = []
    for key, image in zip(keys, images, strict=True):
        try:
            one = encoder.embed([image], conditions)
            reason = _fault(one, 1, shape)
        except CiesError:
            raise
        except Exception as error:  # noqa: BLE001
            reason = f"the model failed on it: {str(error) or type(error).__name__}"
        if reason:
            if not refused:
                _probe(encoder, conditions, shape)
            refused[key] = reason.splitlines()[0][:200]
        else:
            single.append(one)
    if not single:
        return None, refused
    return _joined(single), refused


def _probe(encoder: BaseEncoder, conditions: Sequence[Condition], shape: tuple[int, int]) -> None:
    """Ask about a plain grey picture.

    Raises:
        Exception: if the encoder fails on that too.
    """
    reading = encoder.embed([Image.new("RGB", _PROBE_SIZE, (127, 127, 127))], conditions)
    reason = _fault(reading, 1, shape)
    if reason:
        raise RuntimeError(f"the encoder does not work: of a plain grey picture {reason}")


def _fault(reading: Embeddings, count: int, shape: tuple[int, int]) -> str:
    """What is wrong with the vectors, or nothing."""
    vectors = reading.vectors
    if vectors.shape != (count, *shape):
        return f"the model gave vectors of shape {vectors.shape}, not {(count, *shape)}"
    if not np.isfinite(vectors).all():
        return "the model gave a vector that is not finite"
    if not np.allclose(np.linalg.norm(vectors, axis=-1), 1, atol=_TOLERANCE):
        return "the model gave a vector that is not of unit length"
    return ""


def _joined(readings: Sequence[Embeddings]) -> Embeddings:
    return Embeddings(
        np.concatenate([reading.vectors for reading in readings]),
        [words for reading in readings for words in reading.words],
        np.concatenate([reading.word_probabilities for reading in readings]),
    )
