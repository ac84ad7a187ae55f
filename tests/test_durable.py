"""Full disks, failing calls, bad encoders, readers beside a writer: nothing is half done."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stand_in import StandIn
from test_cli import run
from test_ingest import fill, keys, paint

from indexes.errors import CiesError, GalleryError, GalleryMismatch
from indexes.gallery import Gallery
from indexes.records import FileRecord, VectorTable
from indexes.verify import verify
from indexes.writer import COPY
from ingest.commit import commit
from ingest.conditions import Condition
from ingest.embedding import Embedded, embed
from ingest.encoders.base import Reading
from ingest.images import decode, read_bytes
from ingest.pipeline import Progress, ingest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(30):
        paint(tmp_path / "in" / f"{number:02}.png", number)
    return tmp_path / "in"


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery.create(tmp_path / "gallery")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit after every four pictures."""
    monkeypatch.setattr("ingest.flow.BATCH", 4)
    monkeypatch.setattr("ingest.flow.COMMIT_SECONDS", 0.0)


def sound(gallery: Gallery) -> None:
    """What is claimed is there, once, and nothing is damaged."""
    claimed = set(gallery.paths())
    for table in gallery.conditions():
        column = gallery.column(table)
        assert len(column.keys) == len(set(column.keys))
        assert claimed <= set(column.keys)
    assert [f.text for f in verify(gallery.path, COPY) if f.damage] == []


# -- F6: every call that can fail, failing in turn ------------------------------------------------

CALLS = {
    "fsync": ("os.fsync", OSError(errno.EIO, "Input/output error")),
    "full": ("os.fsync", OSError(errno.ENOSPC, "No space left on device")),
    "merge": ("lancedb.table.LanceTable.merge_insert", RuntimeError("lance error: it broke")),
    "replace": ("pathlib.Path.replace", OSError(errno.EIO, "Input/output error")),
    "optimize": ("lancedb.table.LanceTable.optimize", RuntimeError("No space left on device")),
}


class Told:
    """Remembers what was acknowledged last."""

    embedded = 0

    def __call__(self, state: Progress) -> None:
        self.embedded = state.embedded


class FailOnce:
    """Raises at the n-th call, and lets all others through."""

    def __init__(self, real: Any, number: int, error: Exception):
        self.real, self.left, self.error, self.raised = real, number, error, False

    def __get__(self, thing: Any, kind: Any = None) -> Any:
        return lambda *a, **k: self(thing, *a, **k)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            self.raised = True
            raise self.error
        return self.real(*arguments, **options)


@pytest.mark.parametrize("name", list(CALLS))
def test_a_call_that_fails(
    name: str,
    folder: Path,
    tmp_path: Path,
    small: None,
    monkeypatch: pytest.MonkeyPatch,
    soak: bool,
) -> None:
    import importlib

    for path in sorted(folder.iterdir())[12:]:
        path.unlink()
    target, error = CALLS[name]
    owner, _, attribute = target.rpartition(".")
    try:
        place: Any = importlib.import_module(owner)
    except ImportError:
        module, _, kind = owner.rpartition(".")
        place = getattr(importlib.import_module(module), kind)
    number, step = 1, 1
    while True:
        gallery = Gallery.create(tmp_path / f"gallery{number}")
        told = Told()
        failing = FailOnce(getattr(place, attribute), number, error)
        with monkeypatch.context() as patch:
            patch.setattr(place, attribute, failing)
            try:
                fill(
                    gallery,
                    folder,
                    "color shape",
                    StandIn(),
                    progress=told,
                )
            except CiesError as said:
                assert "run the same command again" in str(said)
        acknowledged = told.embedded
        assert all(len(have) >= acknowledged for have in keys(gallery))
        sound(gallery)
        missing = {read_bytes(p).key for p in folder.iterdir()}
        missing -= set.intersection(*keys(gallery)) if gallery.conditions() else set()
        encoder = StandIn()
        fill(gallery, folder, "color shape", encoder)
        assert encoder.pictures == len(missing)
        assert [len(have) for have in keys(gallery)] == [12, 12]
        sound(gallery)
        if not failing.raised:
            break
        number += step
        step = 1 if soak else 2 * number
    assert number > 1, "the call was never made"


# -- F5: a disk that is full ----------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "cies-test", str(place)], capture_output=True
    )
    if made.returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(folder: Path, tiny_disk: Path, small: None, soak: bool) -> None:
    gallery = Gallery.create(tiny_disk / "gallery")
    fill(gallery, folder, "color shape", StandIn())
    ballast = tiny_disk / "ballast"
    random = np.random.default_rng(3)
    number = 100
    refused = 0
    for _ in range(20 if soak else 6):
        free = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_frsize
        ballast.write_bytes(bytes(max(0, free - int(random.integers(0, 60_000)))))
        for _ in range(12):
            paint(folder / f"{number}.png", number)
            number += 1
        before = keys(gallery)[0]
        try:
            fill(gallery, folder, "color shape", StandIn())
        except GalleryError as error:
            refused += 1
            assert "the disk is full" in str(error) or "No space" in str(error)
            assert error.exit_code == 4
        assert keys(gallery)[0] >= before
        sound(gallery)
        ballast.unlink()
        fill(gallery, folder, "color shape", StandIn())
        assert {len(have) for have in keys(gallery)} == {number - 100 + 30}
        sound(gallery)
        with pytest.MonkeyPatch.context() as patch, gallery.writer() as writer:
            patch.setattr("indexes.tables.RETENTION_SECONDS", 0.0)
            patch.setattr("indexes.writer._SPARE_BYTES", 0)
            assert writer.maintain(due_only=False) is None
    assert refused


def test_maintenance_is_put_off_when_there_is_no_room(
    folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexes.writer._SPARE_BYTES", 2**60)
    report = fill(gallery, folder, "color", StandIn())
    assert report.embedded == 30
    assert any("not compacted" in note for note in report.notes)


# -- F8: encoders that fail -----------------------------------------------------------------------


class Moody(StandIn):
    """Fails in some way on pictures of one width."""

    def __init__(self, mood: str, width: int = 23):
        super().__init__()
        self.mood, self.width = mood, width

    def read(self, images: Sequence[Image.Image], conditions: Any, words: bool = True) -> Reading:
        reading = super().read(images, conditions, words)
        rows = [n for n, image in enumerate(images) if image.width == self.width]
        if rows and self.mood == "raises":
            raise ValueError("I do not like this one")
        if rows and self.mood == "short":
            return Reading(reading.vectors[:, :, :-1], reading.words, reading.word_probabilities)
        value = {"nan": np.nan, "inf": np.inf, "zero": 0.0}.get(self.mood)
        if value is not None:
            reading.vectors[rows] = value
        return reading


def odd(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 23, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("mood", ["raises", "short", "nan", "inf", "zero"])
@pytest.mark.parametrize("at", [(3,), (0,), (29,), (3, 17, 18)])
def test_a_picture_the_encoder_cannot_do(
    mood: str, at: tuple[int, ...], folder: Path, gallery: Gallery
) -> None:
    for number in at:
        odd(folder / f"{number:02}.png", number)
    report = fill(gallery, folder, "color shape", Moody(mood))
    assert report.embedded == 30 - len(at)
    assert {(Path(r.path).stem, r.status) for r in report.failed} == {
        (f"{number:02}", "embed_error") for number in at
    }
    assert [len(have) for have in keys(gallery)] == [30 - len(at)] * 2
    sound(gallery)
    again = Moody(mood)
    assert len(fill(gallery, folder, "", again).failed) == len(at) and again.calls == []


def test_a_refusal_under_a_new_condition_hides_nothing(folder: Path, gallery: Gallery) -> None:
    odd(folder / "03.png", 3)
    fill(gallery, folder, "color", StandIn())
    report = fill(gallery, folder, "shape", Moody("nan"))
    assert [(Path(r.path).stem, r.status) for r in report.failed] == [("03", "embed_error")]
    assert [len(have) for have in keys(gallery)] == [30, 29]
    assert len(gallery.paths()) == 30


@pytest.mark.parametrize("mood", ["raises", "short", "nan"])
def test_an_encoder_that_fails_on_everything_is_no_fault_of_the_pictures(
    mood: str, folder: Path, gallery: Gallery
) -> None:
    class Broken(Moody):
        def read(
            self, images: Sequence[Image.Image], conditions: Any, words: bool = True
        ) -> Reading:
            self.width = images[0].width
            return super().read(images, conditions, words)

    with pytest.raises((ValueError, RuntimeError)):
        fill(gallery, folder, "color", Broken(mood))
    assert keys(gallery) == [set()] and gallery.files() == []


# -- commits by time, and interruptions -----------------------------------------------------------


class Slow(StandIn):
    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def read(self, images: Sequence[Image.Image], conditions: Any, words: bool = True) -> Reading:
        time.sleep(self.seconds * len(images))
        return super().read(images, conditions, words)


def test_work_at_risk_is_bounded_by_time(
    folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as in life, sixty times faster."""
    monkeypatch.setattr("ingest.flow.BATCH_SECONDS", 5 / 60)
    monkeypatch.setattr("ingest.flow.COMMIT_SECONDS", 5 / 60)
    monkeypatch.setattr("ingest.flow.FIRST_BATCH", 2)
    embedded: list[float] = []
    stored: list[float] = []

    class Clocked(Slow):
        def read(self, images: Any, conditions: Any, words: bool = True) -> Reading:
            reading = super().read(images, conditions, words)
            embedded.extend([time.monotonic()] * len(images))
            return reading

    def put(writer: Any, parts: Any, files: Any = ()) -> None:
        commit(writer, parts, files)
        stored.extend([time.monotonic()] * sum(len(part.keys) for part in parts))

    monkeypatch.setattr("ingest.flow.commit", put)
    fill(gallery, folder, "color", Clocked(0.05))
    assert len(stored) == len(embedded) == 30
    commit_time = 0.5  # a shared machine's disk, which is not sixty times faster
    assert max(s - e for s, e in zip(stored, embedded, strict=True)) < 30 / 60 + commit_time


INTERRUPTED = """
import signal, sys; sys.path.insert(0, {tests!r})
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
import cies.cli, cies.api, ingest.flow
from test_durable import Slow
ingest.flow.BATCH = 4; ingest.flow.FIRST_BATCH = 4
class Told(Slow):
    def read(self, *args, **kwargs):
        reading = super().read(*args, **kwargs)
        print("read", file=sys.stdout, flush=True)
        return reading
cies.api.load_encoder = lambda *a, **k: Told(0.25)
cies.api.remake_encoder = lambda *a, **k: Told(0.25)
sys.argv = ["cies", "ingest", {folder!r}, "-g", {gallery!r}, "-c", "color", "-c", "shape"]
print("go", flush=True)
cies.cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupts_keep_the_work(number: int, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "interrupted"
    code = INTERRUPTED.format(
        tests=str(Path(__file__).parent), folder=str(folder), gallery=str(place)
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(3):  # "go", and two batches of four pictures
        process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "run the same command again" in errors and "Traceback" not in errors
    gallery = Gallery.open(place)
    # Well under five seconds of work were done, and they are there.
    assert 4 <= len(keys(gallery)[0]) < 30
    sound(gallery)
    encoder = StandIn()
    have = len(keys(gallery)[0])
    fill(gallery, folder, "", encoder)
    assert encoder.pictures == 30 - have


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
        "import os, sys\nfrom indexes.gallery import Gallery\n"
        f"with Gallery.open({str(gallery.path)!r}).writer(): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert fill(gallery, folder, "color", StandIn()).embedded == 30


def test_readers_beside_a_writer(
    folder: Path, gallery: Gallery, small: None, monkeypatch: pytest.MonkeyPatch, soak: bool
) -> None:
    monkeypatch.setattr("indexes.tables.COMMITS_PER_COMPACTION", 3)
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


# -- the two functions for engines ----------------------------------------------------------------


def embed_files(paths: list[str], tables: list[VectorTable]) -> bytes:
    """What a worker of some engine would do: it knows of no gallery."""
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
    # A picture that two workers were given is stored once.
    parts[1].append(parts[0][0])
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(embed_files, parts, [tables] * 4))
    embedded: list[Embedded] = [pickle.loads(result) for result in results]
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
    # For the pipeline there is nothing left to do.
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
    monkeypatch.setattr("ingest.flow.BATCH", batch)
    monkeypatch.setattr("ingest.readers.READERS", readers)
    monkeypatch.setattr("ingest.readers.AHEAD_BYTES", 4000)
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
