"""Generated vectors for the search benchmark, and a gallery of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord, ImageRecord, VectorTable
from indexes.vectors import Vectors, unit

#: Rows generated and written at once.
ROWS = 20_000

#: Number of clusters, directions in which a cluster spreads, and how far; centers have length 1.
_CLUSTERS = 500
_SPREAD = 48
_WITHIN = 0.6

#: Length of the common offset, as hidden states under one prompt have.
_OFFSET = 1.0


def mixture(count: int, dimension: int, seed: int) -> Vectors:
    """Unit vectors distributed like hidden states: clusters of low rank around a common offset.

    Equal seeds give equal vectors; different seeds draw from the same mixture.

    Args:
        count: number of vectors.
        dimension: the dimension of each vector.
        seed: the seed of the drawing.

    Returns:
        float32 [count, dimension], unit rows.
    """
    shape, random = np.random.default_rng(7), np.random.default_rng([11, seed])
    width = np.float32(1 / np.sqrt(dimension))
    centers = shape.standard_normal((_CLUSTERS, dimension), dtype=np.float32) * width
    spread = shape.standard_normal((_SPREAD, dimension), dtype=np.float32) * width
    offset = shape.standard_normal(dimension, dtype=np.float32) * width * np.float32(_OFFSET)
    # Some clusters are ten times as large as others, as in real collections.
    weights = shape.gamma(1.0, size=_CLUSTERS)
    found = np.empty((count, dimension), dtype=np.float32)
    for start in range(0, count, ROWS):
        part = found[start : start + ROWS]
        cluster = random.choice(_CLUSTERS, len(part), p=weights / weights.sum())
        within = random.standard_normal((len(part), _SPREAD), dtype=np.float32)
        noise = random.standard_normal(part.shape, dtype=np.float32)
        part[:] = centers[cluster] + offset + noise * (width * np.float32(0.3))
        part += within @ spread * np.float32(_WITHIN / np.sqrt(_SPREAD))
    return unit(found)


def table_of(dimension: int) -> VectorTable:
    """The table of the generated vectors."""
    made_by = {
        "method": "generated",
        "model": "none",
        "revision": "",
        "settings": {"dimension": dimension},
        "phrase": "generated",
    }
    return VectorTable("generated", dimension, made_by)


def write_generated(
    folder: Path, size: int, dimension: int, seed: int, tables: Sequence[VectorTable] = ()
) -> Gallery:
    """Write a gallery of generated vectors, each with the record of a picture and a file.

    Args:
        folder: the folder of the new gallery.
        size: number of pictures.
        dimension: the dimension of each vector.
        seed: the seed of the vectors; those of each table are different.
        tables: the tables of the vectors; :func:`table_of` by default.

    Raises:
        GalleryError: if the disk is full.
    """
    gallery = Gallery.create(folder)
    tables = tables or [table_of(dimension)]
    with gallery.writer() as writer:
        for table in tables:
            writer.declare(table, 0)
        for start in range(0, size, ROWS):
            count = min(ROWS, size - start)
            keys = [generated_key(seed, start + n) for n in range(count)]
            sure = np.full(count, 0.5, dtype=np.float32)
            words = [f"word{n % 97}" for n in range(count)]
            for number, table in enumerate(tables):
                of_table = seed * 100_003 + start + number * 7_000_003
                writer.put_vectors(table, keys, mixture(count, dimension, of_table), words, sure)
            writer.put_images([ImageRecord(key, 64, 64, "PNG") for key in keys])
            files = [FileRecord(f"{key[:2]}/{key}.png", key, 1, 1, "done") for key in keys]
            writer.put_files(files)
        writer.maintain(due_only=False)
    return gallery


def generated_key(seed: int, number: int) -> str:
    """The key of a picture of a generated gallery."""
    return hashlib.sha256(f"{seed} {number}".encode()).hexdigest()
