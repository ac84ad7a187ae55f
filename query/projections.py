"""Views of a gallery's base vectors: worked out when first asked for, and kept.

Beside a gallery lies, for each condition and method, a folder ``indexes/c_...`` with
``texts.npz``, the base vectors of the condition's words, and ``view-....npz``, what was worked out
from them and from the mean of the gallery's pictures; then whatever :mod:`indexes.search.table_loader` keeps of
the moved rows. The folder is named by all that changes the words' vectors, the view by the mean.
All of it is a cache: whatever is wrong with a file, it is made anew.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from indexes.search.geometry import Statistics
from indexes.search.vectors import Vectors
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.encoders.projections.base import Projection, fit_view
from ingest.vocabularies import Lister, Vocabulary, known_vocabulary, vocabulary_of

#: The view that is taken where none is named; measured in docs/query.md.
DEFAULT_PROJECTION = "clay"

#: Those that are worked out in no time.
QUICK_PROJECTIONS = ("clay", "crl")

_logger = logging.getLogger("cies")


class Projections:
    """Works out views of a gallery's base vectors, each once, and keeps them."""

    def __init__(
        self,
        gallery: Gallery,
        encoder: Callable[[EncoderSpec], BaseEncoder],
        lister: Callable[[], Lister | None] = lambda: None,
    ):
        """Look at nothing yet.

        Args:
            gallery: whose base vectors they are of.
            encoder: gives the encoder of a spec; asked for when words were never embedded.
            lister: gives what makes a list of words for a condition that has none, if anything
                does.
        """
        self._gallery = gallery
        self._encoder = encoder
        self._lister = lister
        self._bases: dict[int, str] = {}

    def of(
        self, base: VectorTable, method: str, condition: str
    ) -> tuple[VectorTable, Projection, Vocabulary]:
        """A view, and the entry of the table that it makes of the base vectors.

        Args:
            base: the stored table of base vectors.
            method: one of :data:`ingest.encoders.projections.base.PROJECTIONS`.
            condition: as the user typed it.

        Raises:
            UsageError: if no list of words is known for the condition, or it has one word.
            ModelError: if the words must be embedded and the model cannot be had.
        """
        name = Condition.parse(condition).name
        vocabulary = known_vocabulary(name, self._gallery)
        if vocabulary is None:
            vocabulary = vocabulary_of(name, self._gallery, self._lister())
        made_by = dict(base.made_by)
        settings = {**dict(made_by.get("settings", {})), "words": vocabulary.digest}
        made_by |= {"method": method, "settings": settings, "phrase": vocabulary.condition}
        folder = self._gallery.indexes / VectorTable(name, 0, made_by).table
        mean = self._mean(base)
        digest = hashlib.sha256(mean.mean.tobytes()).hexdigest()[:16]
        view = self._kept(folder / f"view-{digest}.npz", method, vocabulary, base)
        if view is None:
            texts = self._texts(folder / "texts.npz", base, vocabulary)
            average = mean.mean if mean.count else None
            view = fit_view(method, vocabulary.words, texts, average)
            _keep(folder / f"view-{digest}.npz", view.to_npz(), "view-*.npz")
        return VectorTable(name, view.dimension, made_by), view, vocabulary

    def basis(self, view: Projection) -> str:
        """Names all that a view does to vectors."""
        known = self._bases.get(id(view))
        if known is None:
            hashed = hashlib.sha256("\0".join(view.words).encode())
            for name in sorted(view.arrays):
                hashed.update(name.encode() + view.arrays[name].tobytes())
            known = self._bases[id(view)] = hashed.hexdigest()
        return known

    def _mean(self, base: VectorTable) -> Statistics:
        """Mean of the gallery's base vectors, as it was when they were last added to."""
        known = self._gallery.statistics(base)
        if known is not None:
            return known
        return Statistics.of_parts(self._gallery.vector_parts(base), base.dimension)

    def _kept(
        self, path: Path, method: str, vocabulary: Vocabulary, base: VectorTable
    ) -> Projection | None:
        """The view of a file, if it is whole and the one that is meant."""
        try:
            view = Projection.from_npz(path)
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            _logger.warning("A kept view is damaged and is made anew: %s", error)
            return None
        meant = view.method == method and view.words == vocabulary.words
        return view if meant and view.base_dimension == base.dimension else None

    def _texts(self, path: Path, base: VectorTable, vocabulary: Vocabulary) -> Vectors:
        """Base vectors of a condition's words in their sentences: float32 [words, dim]."""
        import io

        import numpy as np

        shape = len(vocabulary.words), base.dimension
        with suppress(OSError, ValueError, KeyError, EOFError):
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                kept: Vectors = archive["texts"]
            if kept.shape == shape and kept.dtype == np.float32:
                return kept
        encoder = self._encoder(EncoderSpec.from_made_by(base.made_by))
        asked = [Condition.parse(UNCONDITIONAL)]
        texts = encoder.encode_text(vocabulary.texts, asked)[:, 0]
        archive_bytes = io.BytesIO()
        np.savez(archive_bytes, texts=texts)
        _keep(path, archive_bytes.getvalue())
        return texts


def _keep(path: Path, data: bytes, replaces: str = "") -> None:
    """Write a file, whole or not at all, where that can be done; it is only kept for speed.

    Args:
        path: where to.
        data: its content.
        replaces: a pattern; files beside it that match are removed.
    """
    fresh = path.with_name(f".new-{uuid.uuid4().hex[:12]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(data)
        fresh.replace(path)
        for old in path.parent.glob(replaces) if replaces else ():
            if old != path:
                old.unlink(missing_ok=True)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        _logger.warning(
            "What makes the next search quick cannot be kept in %s (%s).",
            path.parent,
            (error.strerror or str(error)).lower(),
        )
