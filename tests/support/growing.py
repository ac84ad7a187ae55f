"""A gallery that another process writes to all the time: ``python growing.py GALLERY SECONDS``."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord, ImageRecord, VectorTable
from indexes.vectors import Vectors, unit

DIMENSION = 32
#: The conditions.
TABLES = [
    VectorTable(
        name,
        DIMENSION,
        {"method": "dior", "model": "m", "revision": "1", "settings": {}, "phrase": name},
    )
    for name in ("color", "shape")
]
#: Pictures in a commit.
BATCH = 64
#: Commits that the writer makes at least.
_LEAST = 12


def key(number: int) -> str:
    """The content key of a picture."""
    return hashlib.sha256(f"{number}".encode()).hexdigest()


def vectors(numbers: range, condition: int) -> Vectors:
    """The vectors of pictures under a condition, drawn from their numbers."""
    rows = [
        np.random.default_rng([condition, number]).standard_normal(DIMENSION) for number in numbers
    ]
    return unit(np.array(rows, dtype=np.float32))


def add(gallery: Gallery, numbers: range, dimension: int = DIMENSION) -> None:
    """Add pictures in one commit of each table."""
    keys = [key(number) for number in numbers]
    with gallery.writer() as writer:
        for order, one in enumerate(TABLES):
            table = replace(one, dimension=dimension)
            if table.table not in writer.declared():
                writer.declare(table, order)
            if dimension == DIMENSION:
                rows = vectors(numbers, order)
            else:
                random = np.random.default_rng([order, numbers.start])
                rows = unit(random.standard_normal((len(keys), dimension)).astype(np.float32))
            chances = np.full(len(keys), 0.5, dtype=np.float32)
            writer.put_vectors(table, keys, rows, [f"word{n % 7}" for n in numbers], chances)
        writer.put_images([ImageRecord(one, 1, 1, "PNG") for one in keys])
        writer.put_files([FileRecord(f"{one}.png", one, 1, 1, "done") for one in keys])
        writer.maintain()


def remove(gallery: Gallery, numbers: range) -> None:
    """Remove pictures: first their files, so that no reader finds them under one condition only."""
    keys = [key(number) for number in numbers]
    with gallery.writer() as writer:
        writer.forget_files([f"{one}.png" for one in keys])
        writer.forget_pictures(keys, gallery.conditions())


def start_writer(place: Path, seconds: float, dimension: int = DIMENSION) -> subprocess.Popen[str]:
    """A process that adds pictures all the time, and removes some of them."""
    command = [sys.executable, __file__, str(place), str(seconds), str(dimension)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _main() -> None:
    gallery = Gallery.open(sys.argv[1])
    end = time.monotonic() + float(sys.argv[2])
    commits, first = 0, 10_000_000
    # On a busy machine a commit may take seconds.
    while time.monotonic() < end or commits < _LEAST:
        add(gallery, range(first, first + BATCH), int(sys.argv[3]))
        if commits % 8 == 7:
            remove(gallery, range(first, first + 5))
        first += BATCH
        commits += 1
    print(commits)


if __name__ == "__main__":
    _main()
