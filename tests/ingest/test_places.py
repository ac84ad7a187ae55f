"""Moved files: the gallery finds them again, and printed paths exist."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.durable import sound
from support.kinds import fill, png, put, rows, tar
from support.scans import engine, gone, versions
from support.shell import Shell

from cies import maintain
from indexes.store.gallery import Gallery
from indexes.store.places import existing_path
from indexes.store.tables import Table
from ingest.fill.prune import find_gone


def key(seed: int) -> str:
    return hashlib.sha256(png(seed)).hexdigest()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight pictures, two of them in a shard."""
    folder = tmp_path / "photos"
    for number in range(6):
        put(folder / "trip" / f"{number}.png", png(number))
    tar(folder / "shard.tar", [("6.png", png(6)), ("7.png", png(7))])
    return folder


@pytest.fixture
def place(tmp_path: Path, photos: Path) -> Gallery:
    gallery = Gallery.create(tmp_path / "g")
    fill(gallery, photos, photos / "shard.tar")
    return gallery


def hit_paths(gallery: Gallery) -> list[str]:
    """The paths of all hits, as `cies search` prints them."""
    query = next(iter(gallery.paths()))
    return sorted(hit.path for hit in engine(gallery).search(query, "color", k=50))


def test_a_folder_that_was_renamed_takes_over(
    place: Gallery, photos: Path, tmp_path: Path, shell: Shell
) -> None:
    photos.rename(tmp_path / "pictures")
    report, passes = fill(place, "pictures", "pictures/shard.tar")
    assert (passes, report.moved, report.gone, report.known) == (0, 8, 0, 8)
    assert "source photos is not there any more, and all its pictures were found elsewhere" in (
        "".join(report.notes)
    )
    paths = hit_paths(place)
    assert len(paths) == 7 and all("/pictures/" in path for path in paths)
    assert all(Path(path.partition("!/")[0]).exists() for path in paths)
    # No picture is lost, so that no confirmation is needed; the old sources are forgotten.
    out, _ = shell.done("prune", "--json")
    document = json.loads(out)
    assert (len(document["paths"]), document["keys"], document["share"]) == (8, [], 0)
    assert set(place.sources()) == {"pictures", "pictures/shard.tar"}
    report, passes = fill(place)
    assert (passes, report.unchanged, report.unreachable) == (0, 8, [])
    sound(place)


def test_a_file_that_is_there_twice_keeps_both_paths(place: Gallery, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "photos" / "trip", tmp_path / "copy")
    report, _ = fill(place, "copy")
    assert report.moved == 0 and not gone(place)
    assert place.paths()[key(1)] == ["copy/1.png", "photos/trip/1.png"]


def test_a_drive_that_comes_back_costs_nothing(place: Gallery, tmp_path: Path) -> None:
    """A copy was ingested while the drive was unplugged."""
    shutil.copytree(tmp_path / "photos" / "trip", tmp_path / "copy")
    (tmp_path / "photos").rename(tmp_path / "unplugged")
    report, _ = fill(place, "copy")
    assert report.moved == 6 and len(gone(place)) == 6
    # The shard is still unplugged: its source is not forgotten.
    assert find_gone(place).absent == () and find_gone(place).keys == []
    (tmp_path / "unplugged").rename(tmp_path / "photos")
    report, passes = fill(place, "photos")
    assert passes == 0 and not gone(place)
    assert place.paths()[key(1)] == ["copy/1.png", "photos/trip/1.png"]


def test_the_path_that_exists(place: Gallery, tmp_path: Path) -> None:
    paths = ["nothing.png", "photos/trip/1.png"]
    there = str(tmp_path / "photos" / "trip" / "1.png")
    assert existing_path(place, paths) == (there, True)
    assert existing_path(place, paths[:1]) == (str(tmp_path / "nothing.png"), False)
    shard = f"{tmp_path}/photos/shard.tar!/6.png"
    assert existing_path(place, ["photos/shard.tar!/6.png"]) == (shard, True)
    assert existing_path(place, ["s3://bucket/a.png"]) == ("s3://bucket/a.png", True)


def test_a_gallery_that_was_copied_alone_prints_true_paths(
    place: Gallery, photos: Path, tmp_path: Path
) -> None:
    before = hit_paths(place)
    shutil.copytree(place.path, tmp_path / "backup" / "g")
    copy = Gallery.open(tmp_path / "backup" / "g")
    assert hit_paths(copy) == before and all(
        Path(path.partition("!/")[0]).exists() for path in before
    )
    # The pictures go away: the path that is printed is said not to exist.
    shutil.rmtree(photos)
    assert existing_path(copy, ["photos/trip/1.png"])[1] is False


def test_a_tree_with_its_gallery_moves_as_a_whole(photos: Path, tmp_path: Path) -> None:
    gallery = Gallery.create(photos / ".cies")
    fill(gallery, photos)
    photos.rename(tmp_path / "elsewhere")
    moved = Gallery.open(tmp_path / "elsewhere" / ".cies")
    assert all(path.startswith(f"{tmp_path}/elsewhere/") for path in hit_paths(moved))
    report, passes = fill(moved)
    assert (passes, report.unchanged, report.moved) == (0, 6, 0)
    # The source is the gallery's own folder: all of it can be named.
    assert len(maintain.remove(moved, tmp_path / "elsewhere", dry_run=True).paths) == 6


# -- cies relocate -----------------------------------------------------------------------------


def test_relocate_reads_nothing(place: Gallery, photos: Path, shell: Shell) -> None:
    photos.rename("pictures")
    out, _ = shell.done("relocate", "photos", "pictures", "--json")
    document = json.loads(out)
    assert (document["files"], document["existing"], document["done"]) == (8, 8, True)
    assert document["sources"] == [
        {"old": "photos", "new": "pictures"},
        {"old": "photos/shard.tar", "new": "pictures/shard.tar"},
    ]
    assert {record.path for record in place.files()} == {
        *(f"pictures/trip/{n}.png" for n in range(6)),
        "pictures/shard.tar!/6.png",
        "pictures/shard.tar!/7.png",
    }
    report, passes = fill(place)
    assert (passes, report.unchanged, report.known, report.gone) == (0, 8, 0, 0)
    sound(place)


def test_relocate_takes_columns_and_the_root_of_a_table_along(tmp_path: Path, shell: Shell) -> None:
    put(tmp_path / "d" / "images" / "0.png", png(0))
    table = put(tmp_path / "d" / "t.csv", "file,sku\n0.png,00001\n")
    gallery = Gallery.create(tmp_path / "far" / "g")
    fill(gallery, table, root=str(tmp_path / "d" / "images"))
    (tmp_path / "d").rename(tmp_path / "e")
    shell.done("relocate", tmp_path / "d", tmp_path / "e", "-g", gallery.path)
    assert [row["sku"] for row in rows(gallery).values()] == ["00001"]
    report, passes = fill(gallery)
    assert (passes, report.unchanged, report.relabelled) == (0, 1, 0)
    assert list(gallery.sources()) == [f"{tmp_path}/e/t.csv"]
    assert list(gallery.source_columns()) == [f"{tmp_path}/e/t.csv"]


def test_relocate_after_the_gallery_was_copied_alone(
    place: Gallery, photos: Path, tmp_path: Path
) -> None:
    """The old folder is named as it was, though the gallery stored it relative to itself."""
    shutil.copytree(place.path, tmp_path / "backup" / "g")
    copy = Gallery.open(tmp_path / "backup" / "g")
    found = maintain.relocate(copy, photos, photos)
    assert (found.files, found.existing) == (8, 8)
    assert all(record.path.startswith(f"{tmp_path}/photos/") for record in copy.files())
    report, passes = fill(copy)
    assert (passes, report.unchanged) == (0, 8)


def test_a_record_at_the_new_path_is_kept(place: Gallery, photos: Path, tmp_path: Path) -> None:
    """The new folder was ingested before it was relocated, and one file there has changed."""
    photos.rename(tmp_path / "pictures")
    put(tmp_path / "pictures" / "trip" / "1.png", png(50))
    fill(place, "pictures")
    maintain.relocate(place, "photos", "pictures")
    assert place.paths()[key(50)] == ["pictures/trip/1.png"] and key(1) not in place.paths()
    assert not gone(place) and len(place.paths()) == 8
    report, passes = fill(place)
    assert (passes, report.gone) == (0, 0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere", "pictures"], "has nothing below nowhere"),
        (["photos", "nowhere"], "None of the 8 files below photos is at nowhere now"),
    ],
)
def test_what_cannot_be_relocated_is_said(
    words: list[str], sentence: str, place: Gallery, shell: Shell
) -> None:
    Path("photos").rename("pictures")
    before = versions(place)
    assert sentence in shell.refused("relocate", *words)
    shell.done("relocate", "photos", "pictures", "--dry-run")
    assert versions(place) == before


def test_relocate_is_continued_after_an_interruption(
    place: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos.rename("pictures")
    for allowed in range(20):
        writes = 0
        with monkeypatch.context() as patch:
            for name in ("upsert", "delete"):
                original = getattr(Table, name)

                def failing(self, *arguments, original=original, allowed=allowed):  # type: ignore[no-untyped-def]
                    nonlocal writes
                    writes += 1
                    if writes > allowed:
                        raise KeyboardInterrupt
                    return original(self, *arguments)

                patch.setattr(Table, name, failing)
            try:
                maintain.relocate(place, "photos", "pictures")
            except KeyboardInterrupt:
                sound(Gallery.open(place.path))
                assert set(place.paths()) == {key(n) for n in range(8)}
                continue
        break
    assert allowed > 2
    assert all(record.path.startswith("pictures/") for record in place.files())
    assert set(place.sources()) == {"pictures", "pictures/shard.tar"}


# -- read-only ---------------------------------------------------------------------------------


#: Searches a gallery, first as the user who may do anything, so that all is imported, and then as
#: one who may only read.
_AS_ANOTHER = """
import os, sys
from pathlib import Path
from indexes.errors import CiesError
from indexes.store.gallery import Gallery
from query.engine import Engine

def search(place):
    gallery = Gallery.open(Path(place))
    engine = Engine(gallery, lambda spec: None)
    return len(engine.search(next(iter(gallery.paths())), "color", k=50))

search(sys.argv[1])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(search(sys.argv[2]))
try:
    with Gallery.open(Path(sys.argv[2])).writer():
        print("written")
except CiesError as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs to become another user")
def test_a_gallery_on_a_read_only_drive_is_searched(place: Gallery, tmp_path: Path) -> None:
    shutil.copytree(place.path, tmp_path / "mine" / "g")
    # Not below the folder of pytest, which every run closes to other users.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        drive = Path(shutil.copytree(place.path, Path(folder) / "g"))
        for path in [drive, *drive.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in drive.rglob("*")}
        done = subprocess.run(
            [sys.executable, "-c", _AS_ANOTHER, tmp_path / "mine" / "g", drive],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        lines = done.stdout.splitlines()
        assert lines[:1] == ["7"], (done.returncode, done.stderr)
        assert "cannot be written to" in lines[1] and "it can still be searched" in lines[1]
        after = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in drive.rglob("*")}
        assert after == before
