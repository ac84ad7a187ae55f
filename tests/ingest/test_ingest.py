"""Filling a gallery: only new pictures, nothing lost, nothing twice, whatever files there are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.stand_in import StandIn
from support.stand_in_fill import fill, keys, paint

from indexes.errors import (
    GalleryDamaged,
    GalleryError,
    GalleryLocked,
    GalleryMismatch,
    GalleryMissing,
    UsageError,
)
from indexes.repair import repair
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.conditions import Condition
from ingest.fill.pipeline import Progress, ingest


def test_stored_vectors_are_the_encoders(gallery: Gallery, folder: Path) -> None:
    encoder = StandIn()
    report = fill(gallery, folder, "color shape", encoder)
    assert (report.found, report.embedded, report.failed) == (10, 10, [])
    reopened = Gallery.open(gallery.path)
    for table, phrase in zip(reopened.conditions(), ["color", "shape"], strict=True):
        column = reopened.column(table)
        rows = dict(zip(column.keys, column.vectors, strict=True))
        assert set(column.words) == {phrase}
        for key, paths in reopened.paths().items():
            image = Image.open(reopened.absolute(paths[0]))
            assert np.abs(rows[key] - encoder.vector(image, phrase)).max() < 1e-3


def test_a_second_run_embeds_nothing_and_loads_no_model(gallery: Gallery, folder: Path) -> None:
    fill(gallery, folder, "color", StandIn())

    def refuse(spec: object) -> StandIn:
        raise AssertionError("no model is needed")

    report = ingest(gallery, [folder], [Condition.parse("colour")], refuse)
    assert (report.embedded, report.unchanged) == (0, 10)


def test_only_what_is_new_is_embedded(gallery: Gallery, folder: Path) -> None:
    fill(gallery, folder, "color", StandIn())
    paint(folder / "new.png", 100)
    paint(folder / "3.png", 101)  # changed
    (folder / "4.png").rename(folder / "moved.png")
    shutil.copy(folder / "5.png", folder / "copy.png")
    encoder = StandIn()
    report = fill(gallery, folder, "", encoder)
    assert encoder.calls == [(2, ("color",))]
    assert (report.embedded, report.known, report.unchanged) == (2, 2, 8)


def test_a_new_condition_embeds_only_itself(gallery: Gallery, folder: Path) -> None:
    fill(gallery, folder, "color", StandIn())
    encoder = StandIn()
    fill(gallery, folder, "color shape", encoder)
    assert encoder.pictures == 10 and {names for _, names in encoder.calls} == {("shape",)}
    assert keys(gallery)[0] == keys(gallery)[1]


def test_new_pictures_get_all_conditions_and_new_conditions_all_pictures(
    gallery: Gallery, folder: Path, tmp_path: Path
) -> None:
    fill(gallery, folder, "color shape", StandIn())
    paint(tmp_path / "more" / "a.png", 200)
    encoder = StandIn()
    fill(gallery, tmp_path / "more", "color", encoder)
    assert encoder.calls == [(1, ("color", "shape"))]
    encoder = StandIn()
    fill(gallery, tmp_path / "more", "pattern", encoder)
    assert encoder.pictures == 11 and {names for _, names in encoder.calls} == {("pattern",)}


def test_a_run_that_dies_keeps_what_it_wrote(
    gallery: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.fill.commit_queue.BATCH", 3)
    with pytest.raises(RuntimeError):
        fill(gallery, folder, "color shape", StandIn(fail_after=2))
    kept = keys(gallery)
    assert len(kept[0]) == 6 and kept[0] == kept[1]
    encoder = StandIn()
    fill(gallery, folder, "color shape", encoder)
    assert encoder.pictures == 4
    assert len(keys(gallery)[0]) == 10
    assert len(gallery.column(gallery.conditions()[0]).keys) == 10


KILLED = """
import sys, time; sys.path.insert(0, {tests!r})
from pathlib import Path
from support.stand_in import StandIn
from support.stand_in_fill import fill
from indexes.repair import repair
from indexes.store.gallery import Gallery
import ingest.fill.commit_queue
ingest.fill.commit_queue.BATCH = 4; ingest.fill.commit_queue.COMMIT_SECONDS = 0
def tell(state): print(state.embedded, flush=True)
fill(Gallery.create({gallery!r}), Path({folder!r}), "color shape", StandIn(), progress=tell)
"""


def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    for number in range(60):
        paint(tmp_path / "many" / f"{number}.png", number)
    place = tmp_path / "killed"
    code = KILLED.format(
        tests=str(Path(__file__).parents[1]), gallery=str(place), folder=str(tmp_path / "many")
    )
    acknowledged = 0
    for lines in (2, 3, 4, 5):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(lines)]
        process.kill()
        process.wait()
        process.stdout.close()
        acknowledged += max(told)
        for table in Gallery.open(place).conditions():
            column = Gallery.open(place).column(table)
            assert len(column.keys) == len(set(column.keys)) >= acknowledged
        acknowledged = len(Gallery.open(place).keys(Gallery.open(place).conditions()[1]))
    encoder = StandIn()
    fill(Gallery.open(place), tmp_path / "many", "color shape", encoder)
    assert {len(found) for found in keys(Gallery.open(place))} == {60}
    assert encoder.pictures <= 60 - acknowledged + 4


def test_bad_files_are_listed_and_the_rest_searchable(gallery: Gallery, folder: Path) -> None:
    whole = (folder / "0.png").read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:5000])
    (folder / "text.jpg").write_text("not a picture")
    (folder / "zero.jpg").touch()
    os.mkfifo(folder / "x.jpg")
    odd = Path(os.fsdecode(os.path.join(os.fsencode(folder), b"\xff\n.png")))
    odd.write_bytes(whole + b"tail")
    states: list[Progress] = []
    report = fill(gallery, folder, "color", StandIn(), progress=states.append)
    assert {(Path(r.path).name, r.status) for r in report.failed} == {
        ("cut.jpg", "truncated"),
        ("text.jpg", "not_an_image"),
        ("zero.jpg", "empty"),
        ("x.jpg", "not_a_file"),
    }
    assert report.embedded == 11
    assert (states[-1].done, states[-1].total, states[-1].failed) == (15, 15, 4)
    stored = [gallery.absolute(path) for paths in gallery.paths().values() for path in paths]
    assert odd in stored
    again = fill(gallery, folder, "color", StandIn())
    assert (again.embedded, again.unchanged, len(again.failed)) == (0, 11, 4)


def test_one_writer_and_free_readers(gallery: Gallery, folder: Path) -> None:
    fill(gallery, folder, "color", StandIn())
    with gallery.writer():
        with pytest.raises(GalleryLocked, match="Another process is writing"):
            fill(Gallery.open(gallery.path), folder, "color", StandIn())
        assert len(Gallery.open(gallery.path).keys(gallery.conditions()[0])) == 10


def test_no_condition_and_no_source(gallery: Gallery, folder: Path) -> None:
    with pytest.raises(UsageError, match="No condition"):
        fill(gallery, folder, "", StandIn())
    with pytest.raises(UsageError, match="no file or folder"):
        fill(gallery, folder / "nowhere", "color", StandIn())


def test_paths_that_are_not_a_gallery(tmp_path: Path) -> None:
    with pytest.raises(GalleryMissing, match="cies ingest"):
        Gallery.open(tmp_path / "nowhere")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(GalleryError, match=r"letter.txt"):
        Gallery.create(tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_a_newer_format_is_refused(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexes.store.gallery.FORMAT", 0)
    with pytest.raises(GalleryMismatch, match="format 1"):
        Gallery.open(gallery.path)


def test_vectors_are_checked_before_writing(gallery: Gallery) -> None:
    table = VectorTable("color", 4, {"phrase": "color"})
    with gallery.writer() as writer:
        writer.declare(table, 0)
        for bad in (np.zeros((1, 4), "f4"), np.full((1, 4), np.nan, "f4"), np.eye(3, dtype="f4")):
            with pytest.raises(ValueError, match="unit vectors"):
                writer.put_vectors(table, ["a"], bad, [""], np.ones(1, "f4"))
        with pytest.raises(ValueError, match="repeated keys"):
            two = np.eye(4, dtype="f4")[:2]
            writer.put_vectors(table, ["a", "a"], two, ["", ""], np.ones(2, "f4"))
    assert gallery.keys(table) == set()


HOSTILE = [
    "x'; DROP TABLE x",
    "../../etc",
    "a" * 400,
    "\u202eabc",
    "Genre",
    "genre",
    "é",
    "e\u0301 ",
]


def test_hostile_conditions_name_no_table(gallery: Gallery, folder: Path) -> None:
    before = {p.name for p in gallery.path.parent.iterdir()}
    conditions = [Condition.parse(text) for text in HOSTILE]
    ingest(gallery, [folder], conditions, lambda spec: StandIn())
    tables = [p.name for p in gallery.path.glob("c_*")]
    assert all(len(name) == len("c_") + 26 + len(".lance") for name in tables)
    # Names that differ in case or in Unicode form are one condition.
    assert len(tables) == len(gallery.conditions()) == len(HOSTILE) - 2
    assert {p.name for p in gallery.path.parent.iterdir()} == before


@pytest.mark.parametrize("text", ["", "  ", "a" * 1000, "a\0b", "a\x1b[31m"])
def test_impossible_conditions(text: str) -> None:
    with pytest.raises(UsageError):
        Condition.parse(text)


def test_an_interrupted_creation_of_a_gallery_is_completed(tmp_path: Path) -> None:
    from indexes.store.database import Database
    from indexes.store.records import FILES, MANIFEST

    (tmp_path / "half").mkdir()
    database = Database(tmp_path / "half")
    database.ensure("files", FILES)
    database.ensure("manifest", MANIFEST)
    with pytest.raises(GalleryMissing):
        Gallery.open(tmp_path / "half")
    assert Gallery.create(tmp_path / "half").conditions() == []
    assert Gallery.open(tmp_path / "half").files() == []


def test_a_head_manifest_emptied_by_a_power_cut_is_set_aside(
    gallery: Gallery, folder: Path
) -> None:
    """The power fails during a commit: its manifest has a name, but no content yet."""
    fill(gallery, folder, "color", StandIn())
    table = gallery.conditions()[0]
    versions = gallery.path / f"{table.table}.lance" / "_versions"
    newest = min(versions.glob("*.manifest"), key=lambda path: int(path.stem))
    (versions / f"{int(newest.stem) - 1}.manifest").write_bytes(b"")
    paint(folder / "late.png", 300)
    encoder = StandIn()
    assert fill(Gallery.open(gallery.path), folder, "color", encoder).embedded == 1
    assert len(Gallery.open(gallery.path).keys(table)) == 11


def test_an_acknowledged_state_is_never_replaced_by_an_earlier_one(
    gallery: Gallery, folder: Path
) -> None:
    """The newest manifest is lost after its commit: that is damage, which repair removes."""
    fill(gallery, folder, "color", StandIn())
    table = gallery.conditions()[0]
    versions = gallery.path / f"{table.table}.lance" / "_versions"
    before = set(versions.glob("*.manifest"))
    paint(folder / "late.png", 300)
    fill(gallery, folder, "color", StandIn())
    for late in set(versions.glob("*.manifest")) - before:
        late.write_bytes(b"")
    reopened = Gallery.open(gallery.path)
    with pytest.raises(GalleryDamaged, match="cies repair"):
        reopened.keys(table)
    with pytest.raises(GalleryDamaged, match="cies repair"):
        fill(reopened, folder, "color", StandIn())
    repair(gallery.path)
    assert fill(reopened, folder, "color", StandIn()).embedded == 1
    assert len(reopened.keys(table)) == 11


def test_batches_are_no_longer_than_a_slow_model_needs(
    gallery: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10, 40):
        paint(folder / f"{number}.png", number)
    fast = StandIn()
    fill(gallery, folder, "color", fast)
    assert [count for count, _ in fast.calls] == [8, 32]
    # With a model that takes seconds for a picture, every picture is committed.
    monkeypatch.setattr("ingest.fill.commit_queue.BATCH_SECONDS", 1e-6)
    slow = StandIn()
    fill(gallery, folder, "shape", slow)
    assert [count for count, _ in slow.calls] == [8] + [1] * 32
