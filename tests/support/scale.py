"""A process that ingests very many small pictures and prints measurements as a line of JSON.

python tests/support/scale.py FOLDER PICTURES
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import indexes.store.tables
import ingest.fill.commit_queue
from eval.bench.ingest import CONDITIONS, SleepingEncoder, _PeakMemory
from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord
from indexes.store.writer import Writer
from ingest.conditions import Condition
from ingest.fill.commit import commit
from ingest.fill.embedding import EmbeddedBatch
from ingest.fill.pipeline import ingest as fill

DIMENSION = 512
SIDE = 6


def write_bitmaps(folder: Path, count: int) -> None:
    """Write bitmaps without an image library, a thousand in each folder."""
    random = np.random.default_rng(0)
    row = SIDE * 3 + (-SIDE * 3) % 4
    size = 54 + row * SIDE
    head = b"BM" + struct.pack("<IHHI", size, 0, 0, 54)
    head += struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, 0, row * SIDE, 2835, 2835, 0, 0)
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        (place / f"{number:06}.bmp").write_bytes(head + random.bytes(row * SIDE))


def versions(gallery: Gallery) -> dict[str, int]:
    return {name: gallery._database.open(name).version for name in gallery._database.names()}


def disk(gallery: Gallery) -> int:
    return sum(p.stat().st_size for p in gallery.path.rglob("*") if p.is_file())


def main() -> None:
    root, count = Path(sys.argv[1]), int(sys.argv[2])
    write_bitmaps(root / "in", count)
    conditions = [Condition.parse(name) for name in CONDITIONS]
    # Small commits, so that there are many.
    ingest.fill.commit_queue.COMMIT_FILES = 256
    seconds: list[float] = []

    def timed(
        writer: Writer, parts: Sequence[EmbeddedBatch], files: Sequence[FileRecord] = ()
    ) -> None:
        begun = time.monotonic()
        commit(writer, parts, files)
        seconds.append(time.monotonic() - begun)

    vars(ingest.fill.commit_queue)["commit"] = timed
    gallery = Gallery.create(root / "gallery")
    with _PeakMemory() as memory:
        report = fill(
            gallery, [root / "in"], conditions, lambda spec: SleepingEncoder(0, DIMENSION)
        )
    found = {"embedded": report.embedded, "seconds": report.seconds, "peak_bytes": memory.peak}
    found |= {"commits": len(seconds), "first_commits": float(np.mean(seconds[:100]))}
    found |= {"slowest_commit": max(seconds), "last_commits": float(np.mean(seconds[-100:]))}
    found["disk_with_old_versions"] = disk(gallery)
    before = versions(gallery)
    encoder = SleepingEncoder(0, DIMENSION)
    again = fill(gallery, [root / "in"], conditions, lambda spec: encoder)
    found |= {"rescan_seconds": again.seconds, "rescan_embedded": again.embedded}
    found |= {"rescan_calls": len(encoder.calls), "new_versions": versions(gallery) != before}
    begun = time.monotonic()
    assert len(Gallery.open(gallery.path).conditions()) == len(CONDITIONS)
    found["open_seconds"] = time.monotonic() - begun
    # An hour later.
    indexes.store.tables.RETENTION_SECONDS = 0.0
    with gallery.writer() as writer:
        for name in gallery._database.names():
            writer._table(name).compact()
    found["disk_of_raw_vectors"] = disk(gallery) / (count * len(CONDITIONS) * DIMENSION * 2)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
