"""Commits that a power cut left in part: readers and writers move them into quarantine.

A commit is written by LanceDB alone, so that it is in no ledger, and then some of its files lose
their end, as on a disk that never got it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lancedb
import pytest
from support.stand_in import StandIn
from support.stand_in_fill import fill, paint

from indexes.store.database import Database
from indexes.store.gallery import Gallery
from indexes.store.manifest import manifest_row
from indexes.store.records import FILES, IMAGES, MANIFEST, STATISTICS
from indexes.verify import verify

Cut = Callable[[bytes], bytes]
CUTS: list[Cut] = [
    lambda content: b"",
    lambda content: content[: len(content) // 2],
    lambda content: content[:-1],
    lambda content: bytes(len(content)),
]


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    for number in range(12):
        paint(tmp_path / "in" / f"{number:02}.png", number)
    gallery = Gallery.create(tmp_path / "gallery")
    fill(gallery, tmp_path / "in", "color", StandIn())
    return Gallery.open(gallery.path)


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"}


def unacknowledged(gallery: Gallery, deleting: bool) -> set[Path]:
    """Commit to the condition's table behind the gallery's back; returns the new files."""
    name = gallery.conditions()[0].table
    folder = gallery.path / f"{name}.lance"
    before = files(folder)
    table = lancedb.connect(str(gallery.path)).open_table(name)
    some = table.search().limit(3).to_arrow()
    if deleting:
        table.delete(f"key = '{some.column('key')[0].as_py()}'")
    else:
        keys = [f"{number:064x}" for number in range(3)]
        table.add(some.set_column(0, some.schema.field("key"), [keys]))
    return files(folder) - before


def rows(gallery: Gallery) -> int:
    column = gallery.column(gallery.conditions()[0])
    assert len(set(column.keys)) == len(column.keys)
    return len(column.keys)


def undamaged(gallery: Gallery) -> None:
    assert rows(gallery) == 12
    assert [found.text for found in verify(gallery.path) if found.damage] == []


@pytest.mark.parametrize("cut", CUTS, ids=["empty", "half", "one byte", "zeros"])
@pytest.mark.parametrize(
    "suffix",
    [pytest.param(".lance", marks=pytest.mark.soak), ".manifest", ".arrow", "all"],
)
def test_a_reader_finds_what_was_acknowledged(gallery: Gallery, suffix: str, cut: Cut) -> None:
    for path in unacknowledged(gallery, deleting=suffix == ".arrow"):
        if suffix in (path.suffix, "all"):
            path.write_bytes(cut(path.read_bytes()))
    undamaged(Gallery.open(gallery.path))
    # What was set aside can be looked at, and does not come back.
    assert files(gallery.path / "quarantine")
    undamaged(Gallery.open(gallery.path))


def test_a_whole_commit_is_kept(gallery: Gallery) -> None:
    assert unacknowledged(gallery, deleting=False)
    assert rows(Gallery.open(gallery.path)) == 15
    with gallery.writer():
        pass
    assert rows(Gallery.open(gallery.path)) == 15
    assert not (gallery.path / "quarantine").exists()


def test_only_the_commit_that_was_cut_short_is_lost(gallery: Gallery) -> None:
    """Rows half written when a process died belong to no commit, and cost the ones before none."""
    unacknowledged(gallery, deleting=False)
    half = next((gallery.path / f"{gallery.conditions()[0].table}.lance" / "data").glob("*.lance"))
    half.with_name(f"22{half.name[2:]}").write_bytes(half.read_bytes()[:100])
    assert rows(Gallery.open(gallery.path)) == 15


def test_nothing_is_moved_while_a_writer_works(gallery: Gallery) -> None:
    with gallery.writer():
        new = unacknowledged(gallery, deleting=False)
        manifest = next(path for path in new if path.suffix == ".manifest")
        content = manifest.read_bytes()
        manifest.write_bytes(content[:-1])
        assert Gallery.open(gallery.path).conditions()
        reader = Database(gallery.path)
        reader._recover_once(gallery.conditions()[0].table)
        assert manifest.exists()
        manifest.write_bytes(content)
    assert rows(Gallery.open(gallery.path)) == 15


def test_an_acknowledged_file_that_is_damaged_is_left_for_repair(gallery: Gallery) -> None:
    name = gallery.conditions()[0].table
    data = next((gallery.path / f"{name}.lance" / "data").glob("*.lance"))
    data.write_bytes(data.read_bytes()[:-1])
    Database(gallery.path)._recover_once(name)
    with gallery.writer():
        pass
    assert data.exists() and not (gallery.path / "quarantine").exists()
    assert [found for found in verify(gallery.path) if found.damage]


def test_power_lost_while_a_condition_was_created(gallery: Gallery) -> None:
    """Its folder is there, and not one whole manifest in it."""
    fill(gallery, gallery.path.parent / "in", "shape", StandIn())
    name = gallery.conditions()[1].table
    for path in files(gallery.path / f"{name}.lance"):
        path.write_bytes(b"")
    (gallery.path / "checksums" / f"{name}.txt").unlink()
    fill(Gallery.open(gallery.path), gallery.path.parent / "in", "shape", StandIn())
    assert [len(gallery.keys(table)) for table in gallery.conditions()] == [12, 12]
    undamaged(gallery)


@pytest.mark.parametrize("making", [True, False])
def test_power_lost_while_the_manifest_was_written(tmp_path: Path, making: bool) -> None:
    """What reached the disk is a new state's name, and nothing of its rows."""
    place = tmp_path / "gallery"
    if making:
        place.mkdir()
        database = Database(place)
        for name, schema in (("files", FILES), ("images", IMAGES), ("statistics", STATISTICS)):
            database.ensure(name, schema)
        database.ensure("manifest", MANIFEST)
    else:
        Gallery.create(place)
    data = place / "manifest.lance" / "data"
    before = set(data.glob("*"))
    lancedb.connect(str(place)).open_table("manifest").add(manifest_row("gallery", {"format": 9}))
    fresh = set(data.glob("*")) - before
    assert fresh
    for path in fresh:
        path.write_bytes(b"")
    gallery = Gallery.create(place) if making else Gallery.open(place)
    assert gallery.geometry == "raw" and gallery.conditions() == []
    assert [found.text for found in verify(place) if found.damage] == []


@pytest.mark.parametrize("name", ["files", "manifest"])
def test_power_lost_while_a_gallery_was_created(tmp_path: Path, name: str) -> None:
    place = tmp_path / "gallery"
    place.mkdir()
    database = Database(place)
    schemas = {"files": FILES, "images": IMAGES, "statistics": STATISTICS, "manifest": MANIFEST}
    for table, schema in schemas.items():
        database.ensure(table, schema)
        if table == name:
            break
    for path in files(place / f"{name}.lance"):
        path.write_bytes(b"")
    (place / "checksums" / f"{name}.txt").unlink()
    gallery = Gallery.create(place)
    assert gallery.geometry == "raw" and gallery.conditions() == []
    assert [found.text for found in verify(place) if found.damage] == []
