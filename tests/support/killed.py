"""A process for tests to kill: checks a gallery, then works on it until done or killed.

    python tests/support/killed.py WORK GALLERY FOLDER

``WORK`` is ingest, mixed (with two encoders, one after the other), compact, index, or remove. What
is acknowledged goes to ``GALLERY.acknowledged``, what is embedded to ``GALLERY.embedded``, both
outside of the gallery and with a single write a line.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from support.stand_in import StandIn

import indexes.store.tables
import ingest.fill.commit_queue
from cies import maintain
from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord, VectorTable
from indexes.store.writer import Writer
from ingest.conditions import Condition
from ingest.encoders.base import Embeddings, EncoderSpec
from ingest.fill.commit import commit
from ingest.fill.embedding import EmbeddedBatch
from ingest.fill.pipeline import ingest as fill

CONDITIONS = [Condition.parse("color"), Condition.parse("shape")]

#: Of a gallery with two methods.
BASE = EncoderSpec("clip", "stand-in-clip", "1", {"dtype": "float32"})
TABLES = [
    *(VectorTable(c.name, 16, StandIn().spec.made_by(c)) for c in CONDITIONS),
    VectorTable("unconditional", 16, BASE.made_by(Condition.parse("unconditional"))),
]


def append(path: Path, lines: Sequence[str]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, "".join(f"{line}\n" for line in lines).encode())
    os.close(descriptor)


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def digest(pixels: bytes) -> str:
    return hashlib.sha256(pixels).hexdigest()


class Logged(StandIn):
    """Logs every picture that it embeds."""

    def __init__(self, log: Path, spec: EncoderSpec | None = None):
        super().__init__()
        self.log = log
        self._spec = spec or super().spec

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    def embed(self, images, conditions, words=True) -> Embeddings:  # type: ignore[no-untyped-def]
        names = "+".join(c.name for c in conditions)
        append(self.log, [f"{digest(image.tobytes())}:{names}" for image in images])
        return super().embed(images, conditions, words)


def check(place: Path, acknowledged: Path) -> None:
    """Assert that nothing acknowledged is lost or duplicated, and that files have vectors."""
    gallery = Gallery.open(place)
    promised = set(lines(acknowledged))
    have = []
    for table in gallery.conditions():
        column = gallery.column(table)
        assert len(column.keys) == len(set(column.keys)), "duplicates"
        have.append(set(column.keys))
        assert promised <= have[-1], f"{len(promised - have[-1])} acknowledged pictures are lost"
    recorded = set(gallery.paths())
    assert promised <= recorded, "acknowledged files are lost"
    assert all(recorded <= keys for keys in have), "a file is claimed without its vectors"
    assert recorded <= gallery.image_keys()


def remove_all(place: Path) -> None:
    """Remove pictures at random until none is left; logs what it asks for, and what is done."""
    gallery, random = Gallery.open(place), np.random.default_rng()
    print("START", flush=True)
    while keys := sorted(gallery.paths()):
        count = min(len(keys), int(random.integers(1, 100)))
        some = [str(key) for key in random.choice(keys, count, replace=False)]
        append(place.with_suffix(".asked"), some)
        maintain.remove(gallery, some)
        append(place.with_suffix(".removed"), some)
    print("COMPLETE", flush=True)


def work(kind: str, place: Path, folder: Path) -> None:
    if kind == "remove":
        remove_all(place)
        return
    acknowledged, embedded = (place.with_suffix(end) for end in (".acknowledged", ".embedded"))
    if (place / "manifest.lance").is_dir() and acknowledged.exists():
        check(place, acknowledged)
    print("START", flush=True)
    if kind in ("ingest", "mixed"):
        ingest.fill.commit_queue.BATCH = 16
        ingest.fill.commit_queue.COMMIT_SECONDS = 0.05

        def told(
            writer: Writer, parts: Sequence[EmbeddedBatch], files: Sequence[FileRecord] = ()
        ) -> None:
            commit(writer, parts, files)
            append(acknowledged, [record.key for record in files if record.status == "done"])

        vars(ingest.fill.commit_queue)["commit"] = told
        gallery = Gallery.create(place)
        if kind == "mixed":
            with gallery.writer() as writer:
                for one in TABLES:
                    writer.declare(one)
        wanted = CONDITIONS if kind == "ingest" else []
        fill(gallery, [folder], wanted, lambda spec: Logged(embedded, spec))
    else:
        gallery = Gallery.open(place)
        names = [table.table for table in gallery.conditions()]
        while True:
            with gallery.writer() as writer:
                for name in names:
                    table = writer._table(name)
                    if kind == "compact":
                        some = table.read().slice(0, 20)
                        for start in range(0, 20, 5):
                            table.upsert(some.slice(start, 5))
                        indexes.store.tables.RETENTION_SECONDS = 0.0
                        table.compact()
                    else:
                        options = {"num_partitions": 4, "index_type": "IVF_FLAT"}
                        table._table.create_index(metric="cosine", replace=True, **options)
            print("ROUND", flush=True)
    print("COMPLETE", flush=True)


if __name__ == "__main__":
    print("READY", flush=True)
    if sys.stdin.readline():
        work(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
