"""Vectors for the search bench: generated ones, and a gallery that holds them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord, ImageRecord, VectorTable
from indexes.vectors import Vectors, unit

#: Rows made and written at once.
ROWS = 20_000

#: Clusters, directions in which a cluster spreads, and how far, beside centers of length 1.
_CLUSTERS = 500
_SPREAD = 48
_WITHIN = 0.6

#: Length of the offset that all hidden states under one prompt share.
_OFFSET = 1.0


def mixture(count: int, dimension: int, seed: int) -> Vectors:
    """Unit vectors that lie as hidden states do: clusters of low rank around a shared offset.

    Equal seeds give equal vectors; different seeds draw from the same mixture.

    Args:
        count: how many.
        dimension: of each.
        seed: of the drawing.

    Returns:
        float32 [count, dimension], unit rows.
    """
    shape, random = np.random.default_rng(7), np.random.default_rng([11, seed])
    width = np.float32(1 / np.sqrt(dimension))
    centers = shape.standard_normal((_CLUSTERS, dimension), dtype=np.float32) * width
    spread = shape.standard_normal((_SPREAD, dimension), dtype=np.float32) * width
    offset = shape.standard_normal(dimension, dtype=np.float32) * width * np.float32(_OFFSET)
    # Some clusters are ten times as large as others, as in any collection.
    weights = shape.gamma(1.0, size=_CLUSTERS)
    found = np.empty((count, dimension), dtype=np.float32)
    for start in range(0, count, ROWS):
        part = found[start : start + ROWS]
        of = random.choice(_CLUSTERS, len(part), p=weights / weights.sum())
        within = random.standard_normal((len(part), _SPREAD), dtype=np.float32)
        noise = random.standard_normal(part.shape, dtype=np.float32)
        part[:] = centers[of] + offset + noise * (width * np.float32(0.3))
        part += within @ spread * np.float32(_WITHIN / np.sqrt(_SPREAD))
    return unit(found)


def table_of(dimension: int) -> VectorTable:
    """The condition that generated vectors are stored under."""
    made_by = {
        "method": "generated",
        "model": "none",
        "revision": "",
        "settings": {"dimension": dimension},
        "phrase": "generated",
    }
    return VectorTable("generated", dimension, made_by)


def write_generated(
    folder: Path, size: int, dimension: int, seed: int, table: VectorTable | None = None
) -> Gallery:
    """A gallery of generated vectors, each with a picture and a file in the record.

    Args:
        folder: of the gallery; made.
        size: how many.
        dimension: of each.
        seed: of the drawing.
        table: what they are stored as; by default :func:`table_of` says it.

    Raises:
        GalleryError: if the disk is full.
    """
    gallery = Gallery.create(folder)
    table = table or table_of(dimension)
    with gallery.writer() as writer:
        writer.declare(table, 0)
        for start in range(0, size, ROWS):
            count = min(ROWS, size - start)
            vectors = mixture(count, dimension, seed * 100_003 + start)
            keys = [
                hashlib.sha256(f"{seed} {start + n}".encode()).hexdigest() for n in range(count)
            ]
            sure = np.full(count, 0.5, dtype=np.float32)
            writer.put_vectors(table, keys, vectors, [f"word{n % 97}" for n in range(count)], sure)
            writer.put_images([ImageRecord(key, 64, 64, "PNG") for key in keys])
            files = [FileRecord(f"{key[:2]}/{key}.png", key, 1, 1, "done") for key in keys]
            writer.put_files(files)
        writer.maintain(due_only=False)
    return gallery
