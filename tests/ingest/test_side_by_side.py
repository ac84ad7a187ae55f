"""Concurrency: one writer, many readers, many embedding processes in any order."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from support.commands import run
from support.durable import sound
from support.stand_in import StandIn
from support.stand_in_fill import fill, paint

from indexes.errors import GalleryError, GalleryMismatch
from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord, VectorTable
from ingest.conditions import Condition
from ingest.fill.commit import commit
from ingest.fill.embedding import EmbeddedBatch, embed
from ingest.fill.pipeline import ingest
from ingest.read.images import decode, read_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(30):
        paint(tmp_path / "in" / f"{number:02}.png", number)
    return tmp_path / "in"


# -- C1, C2: one writer, many readers -------------------------------------------------------------


def test_a_second_writer_is_refused_at_once(folder: Path, gallery: Gallery) -> None:
    fill(gallery, folder, "color", StandIn())
    before = {p: p.stat().st_mtime_ns for p in gallery.path.rglob("*") if p.is_file()}
    with gallery.writer():
        started = time.monotonic()
        with pytest.raises(GalleryError, match="Another process is writing"):
            fill(Gallery.open(gallery.path), folder, "color", StandIn())
        assert time.monotonic() - started < 1
        done = run("ingest", folder, "-g", gallery.path, "-c", "color")
        assert done.returncode == 4 and "Another process is writing" in done.stderr
    after = {p: p.stat().st_mtime_ns for p in gallery.path.rglob("*") if p.is_file()}
    assert {p.name for p, t in after.items() if before.get(p) != t} <= {"lock"}


def test_a_lock_ends_with_its_process(folder: Path, gallery: Gallery) -> None:
    code = (
        "import os, sys\nfrom indexes.store.gallery import Gallery\n"
        f"with Gallery.open({str(gallery.path)!r}).writer(): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert fill(gallery, folder, "color", StandIn()).embedded == 30


def test_readers_during_a_write(
    folder: Path, gallery: Gallery, small: None, monkeypatch: pytest.MonkeyPatch, soak: bool
) -> None:
    monkeypatch.setattr("indexes.store.tables.COMMITS_PER_COMPACTION", 3)
    fill(gallery, folder, "color shape", StandIn())
    stop = threading.Event()
    errors: list[Exception] = []
    reads = [0] * 8

    def watch(number: int) -> None:
        last = [0, 0]
        try:
            while not stop.is_set():
                opened = Gallery.open(gallery.path)
                claimed = set(opened.paths())
                for place, table in enumerate(opened.conditions()):
                    column = opened.column(table)
                    assert len(column.keys) == len(set(column.keys)) >= last[place]
                    assert claimed <= set(column.keys), "a file is claimed without its vectors"
                    last[place] = len(column.keys)
                reads[number] += 1
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=watch, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + (600 if soak else 6)
    number = 100
    try:
        while time.monotonic() < until and not errors:
            for _ in range(12):
                paint(folder / f"{number}.png", number)
                number += 1
            fill(gallery, folder, "", StandIn())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors, errors[:1]
    assert min(reads) >= 2 and number > 100
    sound(gallery)


# -- embed and commit in pipelines ----------------------------------------------------------------


def embed_files(paths: list[str], tables: list[VectorTable]) -> bytes:
    """What a worker of another pipeline does, without access to the gallery."""
    pictures = {}
    for path in paths:
        content = read_bytes(Path(path))
        pictures[content.key] = decode(content.data)
    return pickle.dumps(embed(StandIn(), tables, pictures))


def test_many_processes_embed_and_one_commits(
    folder: Path, gallery: Gallery, tmp_path: Path
) -> None:
    spec = StandIn().spec
    conditions = [Condition.parse("color"), Condition.parse("shape")]
    tables = [VectorTable(c.name, 16, spec.made_by(c)) for c in conditions]
    paths = sorted(folder.iterdir())
    parts = [[str(p) for p in paths[n::4]] for n in range(4)]
    # A picture that two workers embedded is stored once.
    parts[1].append(parts[0][0])
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(embed_files, parts, [tables] * 4))
    embedded: list[EmbeddedBatch] = [pickle.loads(result) for result in results]
    records = []
    for path in paths:
        content = read_bytes(path)
        stored = gallery.stored(path)
        records.append(FileRecord(stored, content.key, content.size, content.mtime_ns, "done"))
    with gallery.writer() as writer:
        with pytest.raises(GalleryMismatch, match="'color'"):
            commit(writer, embedded, records)
        for order, table in enumerate(tables):
            writer.declare(table, order)
        for _ in range(2):
            commit(writer, embedded, records)
    other = Gallery.create(tmp_path / "other")
    fill(other, folder, "color shape", StandIn())
    for mine, its in zip(gallery.conditions(), other.conditions(), strict=True):
        one, two = gallery.column(mine), other.column(its)
        assert one.keys == two.keys and one.words == two.words
        assert np.array_equal(one.vectors, two.vectors)
    # An ingest has nothing left to do.
    idle = StandIn()
    assert fill(gallery, folder, "color shape", idle).unchanged == 30 and idle.calls == []


# -- P2: order, batches and workers do not matter -------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "readers", "backwards"), [(1, 1, False), (7, 2, True), (64, 6, False)]
)
def test_order_batches_and_workers_do_not_matter(
    batch: int,
    readers: int,
    backwards: bool,
    folder: Path,
    gallery: Gallery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = Gallery.create(tmp_path / "other")
    fill(other, folder, "color shape", StandIn())
    monkeypatch.setattr("ingest.fill.commit_queue.BATCH", batch)
    monkeypatch.setattr("ingest.read.readers.READERS", readers)
    monkeypatch.setattr("ingest.read.readers.AHEAD_BYTES", 4000)
    names = "shape color" if backwards else "color shape"
    if backwards:
        conditions = [Condition.parse(name) for name in names.split()]
        sources = sorted(folder.iterdir(), reverse=True)
        ingest(gallery, sources, conditions, lambda spec: StandIn())
    else:
        fill(gallery, folder, names, StandIn())
    theirs = {t.name: other.column(t) for t in other.conditions()}
    for table in gallery.conditions():
        column = gallery.column(table)
        assert column.keys == theirs[table.name].keys
        assert np.array_equal(column.vectors, theirs[table.name].vectors)
