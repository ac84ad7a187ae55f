"""Repeated scans: moved files need no work, gone files are marked, only prune deletes them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.kinds import fill, png, put
from support.scans import engine, gone, versions
from support.stand_in import StandIn

from cies.reports.maintenance import run_prune
from indexes.errors import GalleryLocked, UsageError
from indexes.store.attributes import attributes
from indexes.store.gallery import Gallery
from ingest.fill.prune import delete_gone, find_gone
from ingest.scan.known_files import KnownKeys, PathIndex
from ingest.scan.plan import Planner


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(20):
        put(tmp_path / "p" / f"{number:02}.png", png(number))
    return tmp_path / "p"


def test_moved_files_need_no_work_and_gone_files_are_marked(gallery: Gallery, folder: Path) -> None:
    fill(gallery, folder, names="color shape")
    (folder / "00.png").rename(folder / "renamed.png")
    (folder / "sub").mkdir()
    (folder / "01.png").rename(folder / "sub" / "01.png")
    shutil.copy(folder / "02.png", folder / "copy.png")
    put(folder / "03.png", png(100))
    (folder / "04.png").unlink()
    report, passes = fill(gallery, folder)
    assert (passes, report.embedded, report.known, report.gone) == (1, 1, 3, 3)
    assert set(gone(gallery)) == {"p/00.png", "p/01.png", "p/04.png"}
    record = gone(gallery)["p/04.png"]
    assert record.key == hashlib.sha256(png(4)).hexdigest() and record.gone_at
    # The changed path has its new content, and gone files are not found.
    paths = {path: key for key, paths in gallery.paths().items() for path in paths}
    assert paths["p/03.png"] == hashlib.sha256(png(100)).hexdigest()
    hits = engine(gallery).search(folder / "05.png", "color", k=50)
    lost = {hashlib.sha256(png(number)).hexdigest() for number in (3, 4)}
    assert len(hits) == 18 and not lost & {hit.key for hit in hits}
    assert all(hit.path for hit in hits)
    found = engine(gallery, gone=True).search(folder / "05.png", "color", k=50)
    assert {hit.key for hit in found} - {hit.key for hit in hits} == {
        hashlib.sha256(png(4)).hexdigest()
    }
    # Again: no table gets a new version, and the time when the file was first missed stays.
    before = versions(gallery)
    report, passes = fill(gallery, folder)
    assert (passes, report.gone, report.unchanged) == (0, 0, 20)
    assert versions(gallery) == before
    assert gone(gallery)["p/04.png"] == record
    # The file exists again: no embedding.
    put(folder / "04.png", png(4))
    report, passes = fill(gallery, folder)
    assert (passes, report.gone) == (0, 0) and "p/04.png" not in gone(gallery)


def test_a_file_that_returns_with_the_same_time_is_not_read(gallery: Gallery, folder: Path) -> None:
    fill(gallery, folder)
    away = folder.parent / "away.png"
    (folder / "00.png").rename(away)
    fill(gallery, folder)
    away.rename(folder / "00.png")
    (folder / "00.png").chmod(0)  # as root it could be read; the plan does not ask to
    report, passes = fill(gallery, folder)
    assert (report.known, report.unchanged, passes) == (1, 19, 0)
    assert not gone(gallery)


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_an_unplugged_drive_is_no_deletion(gallery: Gallery, folder: Path, how: str) -> None:
    other = put(folder.parent / "other" / "x.png", png(50)).parent
    fill(gallery, folder, other)
    folder.rename(folder.parent / "away")
    if how == "empty":
        folder.mkdir()
    with pytest.raises(UsageError, match=r"20 files from it.*plug it in.*cies prune --source p"):
        fill(gallery, folder)
    # Together with other sources: it is reported, and they are ingested.
    put(other / "y.png", png(51))
    report, passes = fill(gallery)
    assert passes == 1
    assert [(one.name, one.files) for one in report.unreachable] == [("p", 20)]
    assert not gone(gallery)
    if how == "empty":
        folder.rmdir()
    (folder.parent / "away").rename(folder)
    report, passes = fill(gallery)
    assert (report.unchanged, passes, report.unreachable) == (22, 0, [])


def test_a_table_whose_pictures_are_unplugged(gallery: Gallery, folder: Path) -> None:
    lines = "".join(f"p/{number:02}.png,{number}\n" for number in range(20))
    table = put(folder.parent / "t.csv", "file,n\n" + lines)
    fill(gallery, table)
    folder.rename(folder.parent / "away")
    with pytest.raises(UsageError, match=r"t\.csv is empty|20 files"):
        fill(gallery, table)
    assert not gone(gallery)
    (folder.parent / "away").rename(folder)
    # A picture is gone with its row.
    put(table, "file,n\n" + lines.replace("p/03.png,3\n", ""))
    assert fill(gallery, table)[0].gone == 1
    assert set(gone(gallery)) == {"p/03.png"}
    assert "p/03.png" not in {row["path"] for row in attributes(gallery).to_pylist()}
    # It returns with another source that has it.
    report, passes = fill(gallery, folder)
    assert (report.known, passes) == (1, 0) and not gone(gallery)


def test_a_folder_that_cannot_be_listed_loses_nothing(gallery: Gallery, folder: Path) -> None:
    put(folder / "sub" / "a.png", png(50))
    fill(gallery, folder)
    (folder / "sub").rename(folder / ".hidden")
    (folder / "sub").symlink_to(folder / ".hidden", target_is_directory=True)
    report, _ = fill(gallery, folder)
    assert (report.found, report.gone) == (20, 0)


def test_failed_files_are_tried_again_only_if_asked_or_changed(
    gallery: Gallery, folder: Path
) -> None:
    put(folder / "bad.png", "text")
    put(folder / "worse.png", "text")
    fill(gallery, folder)
    before = versions(gallery)
    report, _ = fill(gallery, folder)
    assert len(report.failed) == 2 and versions(gallery) == before
    # The same size and time: it counts as the same file.
    about = (folder / "bad.png").stat()
    real = png(60)
    put(folder / "bad.png", real)
    os.utime(folder / "bad.png", ns=(about.st_atime_ns, about.st_mtime_ns))
    report, passes = fill(gallery, folder, retry_failed=True)
    assert passes == 1 and [Path(r.path).name for r in report.failed] == ["worse.png"]
    (folder / "worse.png").unlink()
    report, _ = fill(gallery, folder)
    assert report.failed == [] and report.gone == 0
    assert all(record.status == "done" for record in gallery.files())


def test_an_interrupted_new_condition_is_filled_for_other_sources_too(
    gallery: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = put(folder.parent / "other" / "x.png", png(50)).parent
    fill(gallery, folder)
    fill(gallery, other)
    from ingest.conditions import Condition
    from ingest.fill.pipeline import ingest

    with pytest.raises(RuntimeError):
        ingest(gallery, [other], [Condition.parse("shape")], lambda s: StandIn(fail_after=1))
    report, passes = fill(gallery, other)
    tables = gallery.conditions()
    assert gallery.keys(tables[0]) == gallery.keys(tables[1]) and len(gallery.keys(tables[1])) == 21
    assert passes == 21 - 8
    # A picture that lacks a condition and cannot be read stays in the gallery.
    folder.rename(folder.parent / "away")
    report, passes = fill(gallery, other, names="style")
    assert (passes, report.out_of_reach) == (1, 20)
    assert len(gallery.paths()) == 21 and not gone(gallery)


def test_sources_are_remembered_with_their_options(gallery: Gallery, folder: Path) -> None:
    with pytest.raises(UsageError, match="none is remembered"):
        fill(gallery)
    fill(gallery, folder, exclude=("1*",))
    put(folder / "new.png", png(90))
    put(folder / "1x.png", png(91))
    report, passes = fill(gallery)
    assert (report.found, passes) == (11, 1)
    assert gallery.sources() == {"p": {"exclude": ["1*"]}}
    # Gallery and pictures move together.
    moved = folder.parent.parent / (folder.parent.name + "-moved")
    folder.parent.rename(moved)
    try:
        report, passes = fill(Gallery.open(moved / "gallery"))
        assert (report.unchanged, passes) == (11, 0)
    finally:
        moved.rename(folder.parent)


# -- prune ------------------------------------------------------------------------------------


def test_prune_deletes_what_is_gone_and_nothing_else(
    gallery: Gallery, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "".join(f"{number:02}.png,{number}\n" for number in range(20))
    table = put(folder / "t.csv", "file,n\n" + lines)
    fill(gallery, folder, table, names="color shape")
    shutil.copy(folder / "00.png", folder / "twin.png")
    put(folder / "01.png", png(100))  # its old picture has no file any more
    fill(gallery, folder)
    (folder / "00.png").unlink()
    fill(gallery, folder)
    what = find_gone(gallery)
    assert what.paths == ["p/00.png"]
    assert what.keys == [hashlib.sha256(png(1)).hexdigest()]
    before = versions(gallery)
    run_prune(gallery.path, None, dry_run=True, yes=False, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["done"]) == (1, False)
    assert document["paths"] == what.paths and versions(gallery) == before
    with gallery.writer(), pytest.raises(GalleryLocked):
        run_prune(gallery.path, None, dry_run=False, yes=True, as_json=False)
    run_prune(gallery.path, None, dry_run=False, yes=False, as_json=False)
    told = capsys.readouterr()
    assert told.out == "" and "p/00.png" in told.err and "Forgotten" in told.err
    live = set(gallery.paths())
    for table_ in gallery.conditions():
        assert gallery.keys(table_) == live
        statistics = gallery.statistics(table_)
        column = gallery.column(table_).vectors
        assert statistics is not None and statistics.count == len(column) == 20
        assert np.allclose(statistics.mean, column.mean(axis=0), atol=1e-6)
    assert {image.key for image in gallery.images()} == live
    assert "p/00.png" not in {record.path for record in gallery.files()}
    assert find_gone(gallery).paths == find_gone(gallery).keys == []
    assert fill(gallery, folder)[1] == 0


def test_prune_refuses_to_delete_much(
    gallery: Gallery, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(gallery, folder)
    for number in range(3):
        (folder / f"{number:02}.png").unlink()
    fill(gallery, folder)
    before = versions(gallery)
    with pytest.raises(UsageError, match=r"15% of the gallery.*--yes"):
        run_prune(gallery.path, None, dry_run=False, yes=False, as_json=False)
    assert versions(gallery) == before
    run_prune(gallery.path, None, dry_run=False, yes=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["done"] is True
    assert len(gallery.files()) == len(gallery.keys(gallery.conditions()[0])) == 17


def test_a_deleted_source_is_pruned_by_name(gallery: Gallery, folder: Path) -> None:
    other = put(folder.parent / "other" / "x.png", png(50)).parent
    fill(gallery, folder, other)
    with pytest.raises(UsageError, match="knows no file from nowhere"):
        find_gone(gallery, str(folder.parent / "nowhere"))
    assert find_gone(gallery, str(folder)).paths == []  # it is all there
    shutil.rmtree(folder)
    what = find_gone(gallery, str(folder))
    assert (len(what.paths), len(what.keys), what.source) == (20, 20, "p")
    assert what.share == pytest.approx(20 / 21)
    with gallery.writer() as writer:
        delete_gone(gallery, writer, what)
    assert list(gallery.sources()) == ["other"]
    assert [record.path for record in gallery.files()] == ["other/x.png"]
    assert fill(gallery)[0].unchanged == 1


def test_prune_interrupted_is_finished_by_the_next(
    gallery: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(gallery, folder, names="color shape")
    (folder / "00.png").unlink()
    fill(gallery, folder)
    what = find_gone(gallery)
    for allowed in range(4):
        with gallery.writer() as writer:
            delete, done = writer._delete, []

            def failing(name: str, keys: object, delete=delete, done=done, allowed=allowed) -> None:
                if len(done) == allowed:
                    raise RuntimeError("the machine went down")
                done.append(name)
                delete(name, keys)

            monkeypatch.setattr(writer, "_delete", failing)
            with pytest.raises(RuntimeError):
                delete_gone(gallery, writer, what)
        assert find_gone(gallery).paths == ["p/00.png"]
    with gallery.writer() as writer:
        delete_gone(gallery, writer, find_gone(gallery))
    assert len(gallery.files()) == len(gallery.images()) == 19


# -- the indexes in memory ---------------------------------------------------------------------


def test_paths_are_found_even_if_hashes_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"d/{number}.png" for number in range(500)]
    shuffled = list(np.random.default_rng(0).permutation(paths))
    wanted = [*shuffled, "none", "", "d/500.png"]
    expected = [paths.index(path) if path in paths else -1 for path in wanted]
    column = pa.chunked_array([paths[:200], paths[200:]])
    assert PathIndex(column).rows(wanted).tolist() == expected
    monkeypatch.setattr("ingest.scan.known_files.hash", lambda text: len(text) % 3, raising=False)
    assert PathIndex(column).rows(wanted).tolist() == expected
    assert PathIndex(column.slice(0, 0)).rows(["a"]).tolist() == [-1]


def test_missing_conditions_are_those_of_plain_sets() -> None:
    random = np.random.default_rng(0)
    keys = [hashlib.sha256(bytes([number])).hexdigest() for number in range(100)]
    have = [{key for key in keys if random.random() < 0.5} for _ in range(5)]
    known = KnownKeys(pa.chunked_array([sorted(some)]) for some in have)
    have[3].update(keys[:50])
    known.add(3, keys[:50])
    for key in keys:
        assert known.missing(key) == tuple(n for n in range(5) if key not in have[n])


def test_any_order_of_changes_gives_what_a_dictionary_would(
    gallery: Gallery, tmp_path: Path
) -> None:
    """Random adds, edits, deletions, renames and copies, with a scan after each few."""
    random = np.random.default_rng(7)
    folder, seed = tmp_path / "p", 0
    put(folder / "keep.png", png(9999))
    for _ in range(8):
        for _ in range(6):
            files = sorted(folder.rglob("*.png"))
            kind = random.integers(5)
            path = files[random.integers(len(files))]
            seed += 1
            fresh = folder / f"{random.integers(3)}" / f"{seed}.png"
            fresh.parent.mkdir(exist_ok=True)
            if kind == 0:
                put(fresh, png(seed))
            elif kind == 1:
                put(path, png(seed))
            elif kind == 2 and path.name != "keep.png":
                path.unlink()
            elif kind == 3 and path.name != "keep.png":
                path.rename(fresh)
            elif kind == 4:
                shutil.copy(path, fresh)
        expected = {
            f"p/{path.relative_to(folder)}": hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*.png")
        }
        had = gallery.keys(gallery.conditions()[0]) if gallery.conditions() else set()
        _, passes = fill(gallery, folder)
        assert passes == len(set(expected.values()) - had)
        told = {path: key for key, paths in gallery.paths().items() for path in paths}
        assert told == expected
    with gallery.writer() as writer:
        delete_gone(gallery, writer, find_gone(gallery))
    assert gallery.keys(gallery.conditions()[0]) == set(expected.values())
    assert {record.path for record in gallery.files()} == set(expected)


def test_planner_reads_no_picture(gallery: Gallery, folder: Path) -> None:
    """A plan is the same if the files of the folder cannot be opened."""
    from indexes.store.records import FILES
    from ingest.scan.known_files import KnownFiles
    from ingest.sources.base import SourceOptions
    from ingest.sources.factory import open_sources

    fill(gallery, folder)
    opened = open_sources([str(folder)], SourceOptions(), gallery.root)
    calls: list[str] = []
    planner = Planner(KnownFiles(gallery.read("files", FILES)), calls.append, gallery.root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingest.read.images.os.open", None)
        plan = planner.scan(opened)
    assert (plan.unchanged, plan.todo, len(calls)) == (20, [], 20)
