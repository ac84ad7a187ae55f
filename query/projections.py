"""Projections of a gallery's base vectors, fitted when a condition is first used, and cached.

For each condition and method the gallery has a cache folder ``indexes/c_...`` with ``texts.npz``,
the base vectors of the condition's words, and ``view-....npz``, the projection fitted to them and
to the mean of the gallery's base vectors. :mod:`indexes.search.table_loader` adds its cache of the
projected rows. The folder's name is a digest of all that changes the words' vectors, the
projection's file name a digest of the mean. A damaged file is made again.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexes.files import write_atomic
from indexes.geometry import Statistics
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from indexes.vectors import Vectors
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.fill.vector_sources import CONDITIONAL, by_preference, vector_sources
from ingest.vocabularies import Vocabulary, WordLister, find_vocabulary, vocabulary_of

if TYPE_CHECKING:
    from ingest.encoders.projections.base import Projection

#: The projection that is used when none is named; measured in docs/query.md.
DEFAULT_PROJECTION = "clay"

#: Projections that are fitted in milliseconds.
QUICK_PROJECTIONS = ("clay", "crl")

_logger = logging.getLogger("cies")


class Projections:
    """Fits projections of a gallery's base vectors and caches them on the disk."""

    def __init__(self, gallery: Gallery, encoder: Callable[[EncoderSpec], BaseEncoder]):
        """Store the arguments; nothing is read yet.

        Args:
            gallery: the gallery of the base vectors.
            encoder: loads the encoder of a spec, to embed or to list words.
        """
        self._gallery = gallery
        self._encoder = encoder
        #: Lists of words that were generated since this state of the gallery.
        self._generated: dict[str, Vocabulary] = {}

    def fit(
        self, base: VectorTable, method: str, condition: str
    ) -> tuple[VectorTable, Projection, Vocabulary]:
        """The projection of a condition, and the entry of the table of projected vectors.

        Args:
            base: the stored table of base vectors.
            method: one of :data:`ingest.encoders.projections.base.PROJECTIONS`.
            condition: as the user typed it.

        Raises:
            UsageError: if no list of words is known for the condition, or it has one word.
            ModelError: if the words must be embedded and the model cannot be loaded.
        """
        name = Condition.parse(condition).name
        vocabulary = find_vocabulary(name, self._gallery) or self._generated.get(name)
        if vocabulary is None:
            vocabulary = vocabulary_of(name, self._gallery, self.lister())
            self._generated[name] = vocabulary
        made_by = dict(base.made_by)
        settings = {**dict(made_by.get("settings", {})), "words": vocabulary.digest}
        made_by |= {"method": method, "settings": settings, "phrase": vocabulary.condition}
        folder = self._gallery.indexes / VectorTable(name, 0, made_by).table
        mean = self._mean(base)
        path = folder / f"view-{hashlib.sha256(mean.mean.tobytes()).hexdigest()[:16]}.npz"
        projection = self._cached(path, method, vocabulary, base)
        if projection is None:
            from ingest.encoders.projections.base import fit_projection

            texts = self._texts(folder / "texts.npz", base, vocabulary)
            average = mean.mean if mean.count else None
            projection = fit_projection(method, vocabulary.words, texts, average)
            _write_cache(path, projection.to_npz(), "view-*.npz")
        return VectorTable(name, projection.dimension, made_by), projection, vocabulary

    def lister(self) -> WordLister | None:
        """Lists the words of a condition that has no vocabulary: the gallery's own LVLM, if any."""
        for source in by_preference(vector_sources(self._gallery)):
            if source.spec.method in CONDITIONAL and source.tables:
                from ingest.encoders.vlm.value_lists import word_lister_for

                return word_lister_for(source.spec, self._encoder)
        return None

    def _mean(self, base: VectorTable) -> Statistics:
        """Mean of the gallery's base vectors as of the last commit that added some."""
        known = self._gallery.statistics(base)
        if known is not None:
            return known
        return Statistics.of_parts(self._gallery.vector_parts(base), base.dimension)

    def _cached(
        self, path: Path, method: str, vocabulary: Vocabulary, base: VectorTable
    ) -> Projection | None:
        """The projection in a cache file, if the file is intact and fits."""
        from ingest.encoders.projections.base import Projection

        try:
            projection = Projection.from_npz(path)
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            _logger.warning("A cached projection is damaged and is made again: %s", error)
            return None
        same = projection.method == method and projection.words == vocabulary.words
        return projection if same and projection.base_dimension == base.dimension else None

    def _texts(self, path: Path, base: VectorTable, vocabulary: Vocabulary) -> Vectors:
        """Base vectors of a condition's words in their sentences: float32 [words, dim]."""
        shape = len(vocabulary.words), base.dimension
        with suppress(OSError, ValueError, KeyError, EOFError):
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                cached: Vectors = archive["texts"]
            if cached.shape == shape and cached.dtype == np.float32:
                return cached
        encoder = self._encoder(EncoderSpec.from_made_by(base.made_by))
        unconditional = [Condition.parse(UNCONDITIONAL)]
        texts = encoder.encode_text(vocabulary.texts, unconditional)[:, 0]
        archive_bytes = io.BytesIO()
        np.savez(archive_bytes, texts=texts)
        _write_cache(path, archive_bytes.getvalue())
        return texts


def projection_digest(projection: Projection) -> str:
    """A digest of all that decides what a projection does to vectors."""
    digest = hashlib.sha256("\0".join(projection.words).encode())
    for name in sorted(projection.arrays):
        digest.update(name.encode() + projection.arrays[name].tobytes())
    return digest.hexdigest()


def _write_cache(path: Path, data: bytes, replaces: str = "") -> None:
    """Write a cache file atomically; a failure is logged and otherwise ignored.

    Args:
        path: the file.
        data: its content.
        replaces: a pattern; other files in the folder that match it are removed.
    """
    try:
        write_atomic(path, data, durable=False)
        for old in path.parent.glob(replaces) if replaces else ():
            if old != path:
                old.unlink(missing_ok=True)
    except OSError as error:
        _logger.warning(
            "The cache that makes the next search quick cannot be written to %s (%s).",
            path.parent,
            (error.strerror or str(error)).lower(),
        )
