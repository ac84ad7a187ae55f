"""Full disks, failing calls, bad encoders, interruptions: a gallery stays whole."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.durable import Slow, sound
from support.stand_in import StandIn
from support.stand_in_fill import fill, keys, paint

from indexes.errors import CiesError, GalleryError
from indexes.store.gallery import Gallery
from ingest.encoders.base import Embeddings
from ingest.fill.commit import commit
from ingest.fill.pipeline import Progress
from ingest.read.images import read_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(30):
        paint(tmp_path / "in" / f"{number:02}.png", number)
    return tmp_path / "in"


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
        step = 1 if soak else 3 * number
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
            patch.setattr("indexes.store.tables.RETENTION_SECONDS", 0.0)
            patch.setattr("indexes.store.writer._SPARE_BYTES", 0)
            assert writer.maintain(due_only=False) is None
    assert refused


def test_maintenance_is_put_off_when_there_is_no_room(
    folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexes.store.writer._SPARE_BYTES", 2**60)
    report = fill(gallery, folder, "color", StandIn())
    assert report.embedded == 30
    assert any("not compacted" in note for note in report.notes)


# -- F8: encoders that fail -----------------------------------------------------------------------


class Moody(StandIn):
    """Fails in some way on pictures of one width."""

    def __init__(self, mood: str, width: int = 23):
        super().__init__()
        self.mood, self.width = mood, width

    def embed(
        self, images: Sequence[Image.Image], conditions: Any, words: bool = True
    ) -> Embeddings:
        reading = super().embed(images, conditions, words)
        rows = [n for n, image in enumerate(images) if image.width == self.width]
        if rows and self.mood == "raises":
            raise ValueError("I do not like this one")
        if rows and self.mood == "short":
            return Embeddings(reading.vectors[:, :, :-1], reading.words, reading.word_probabilities)
        value = {"nan": np.nan, "inf": np.inf, "zero": 0.0}.get(self.mood)
        if value is not None:
            reading.vectors[rows] = value
        return reading


def odd(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 23, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("mood", ["raises", "short", "nan", "inf", "zero"])
@pytest.mark.parametrize(
    "at",
    [
        (3,),
        pytest.param((0,), marks=pytest.mark.soak),
        pytest.param((29,), marks=pytest.mark.soak),
        (3, 17, 18),
    ],
)
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
        def embed(
            self, images: Sequence[Image.Image], conditions: Any, words: bool = True
        ) -> Embeddings:
            self.width = images[0].width
            return super().embed(images, conditions, words)

    with pytest.raises((ValueError, RuntimeError)):
        fill(gallery, folder, "color", Broken(mood))
    assert keys(gallery) == [set()] and gallery.files() == []


# -- commits by time, and interruptions -----------------------------------------------------------


def test_work_at_risk_is_bounded_by_time(
    folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as in life, sixty times faster."""
    monkeypatch.setattr("ingest.fill.commit_queue.BATCH_SECONDS", 5 / 60)
    monkeypatch.setattr("ingest.fill.commit_queue.COMMIT_SECONDS", 5 / 60)
    monkeypatch.setattr("ingest.fill.commit_queue.FIRST_BATCH", 2)
    embedded: list[float] = []
    stored: list[float] = []

    class Clocked(Slow):
        def embed(self, images: Any, conditions: Any, words: bool = True) -> Embeddings:
            reading = super().embed(images, conditions, words)
            embedded.extend([time.monotonic()] * len(images))
            return reading

    def put(writer: Any, parts: Any, files: Any = ()) -> None:
        commit(writer, parts, files)
        stored.extend([time.monotonic()] * sum(len(part.keys) for part in parts))

    monkeypatch.setattr("ingest.fill.commit_queue.commit", put)
    fill(gallery, folder, "color", Clocked(0.05))
    assert len(stored) == len(embedded) == 30
    commit_time = 0.5  # a shared machine's disk, which is not sixty times faster
    assert max(s - e for s, e in zip(stored, embedded, strict=True)) < 30 / 60 + commit_time


INTERRUPTED = """
import signal, sys; sys.path.insert(0, {tests!r})
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
import cies.cli.app, ingest.fill.commit_queue, ingest.fill.encoder_choice
from support.durable import Slow
ingest.fill.commit_queue.BATCH = 4; ingest.fill.commit_queue.FIRST_BATCH = 4
class Told(Slow):
    def embed(self, *args, **kwargs):
        reading = super().embed(*args, **kwargs)
        print("read", file=sys.stdout, flush=True)
        return reading
ingest.fill.encoder_choice.encoder_loader = lambda *a, **k: lambda spec: Told(0.25)
sys.argv = ["cies", "ingest", {folder!r}, "-g", {gallery!r}, "-c", "color", "-c", "shape"]
print("go", flush=True)
cies.cli.app.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupts_keep_the_work(number: int, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "interrupted"
    code = INTERRUPTED.format(
        tests=str(Path(__file__).parents[1]), folder=str(folder), gallery=str(place)
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
