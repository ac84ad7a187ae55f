"""Embeds some pictures of a gallery without storing what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.store.paths import Paths
from indexes.store.records import VectorColumn, VectorTable
from ingest.encoders.base import BaseEncoder
from ingest.fill.embedding import embed
from ingest.fill.pipeline import Progress
from ingest.read.images import Picture, UnreadableImage, decode
from ingest.sources.base import suffix_of
from ingest.sources.factory import located

#: Pictures embedded at once.
_BATCH = 32


def embed_unkept(
    gallery: Gallery,
    encoder: BaseEncoder,
    table: VectorTable,
    keys: Sequence[str],
    paths: Paths,
    progress: Callable[[Progress], None] = lambda state: None,
) -> VectorColumn:
    """Embed pictures under one condition, as where a gallery cannot be written to now.

    Args:
        gallery: whose pictures.
        encoder: the one that ``table`` tells of.
        table: the condition, with all that makes its vectors.
        keys: of the pictures.
        paths: of the gallery, content key to stored paths.
        progress: told after every batch.

    Returns:
        Those that could be read and embedded, in key order, as they would be stored but for the
        rounding to fp16.

    Raises:
        CiesError: from the encoder.
    """
    vectors: dict[str, np.ndarray] = {}
    said: dict[str, tuple[str, float]] = {}
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), _BATCH):
        pictures = {}
        for key in wanted[start : start + _BATCH]:
            picture = _picture(gallery, paths.get(key) or [], key, encoder.spec.max_side)
            if picture is not None:
                pictures[key] = picture
        made = embed(encoder, [table], pictures)
        if made.reading is not None:
            for at, key in enumerate(made.keys):
                vectors[key] = made.reading.vectors[at, 0]
                sure = float(made.reading.word_probabilities[at, 0])
                said[key] = made.reading.words[at][0], sure
        done = min(start + _BATCH, len(wanted))
        progress(Progress(done, len(wanted), len(vectors), done - len(vectors)))
    found = sorted(vectors)
    rows = np.stack([vectors[key] for key in found]) if found else np.zeros((0, table.dimension))
    return VectorColumn(
        found,
        rows.astype(np.float32),
        [said[key][0] for key in found],
        np.array([said[key][1] for key in found], dtype=np.float32),
    )


def _picture(gallery: Gallery, paths: Sequence[str], key: str, side: int | None) -> Picture | None:
    """A picture from the first of its files that still holds it; ``None`` if none does."""
    for path in paths:
        try:
            content = located(gallery.location(path)).read()
            if content.key == key:
                return decode(content.data, side, suffix_of(path))
        except (UnreadableImage, UsageError, OSError):
            continue
    return None
