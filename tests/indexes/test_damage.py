"""Damage of every kind is found, named, removed, and restored by the next ingest."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from support.commands import run
from support.stand_in import StandIn
from support.stand_in_fill import fill, paint

from indexes.errors import CiesError, GalleryError, GalleryMismatch
from indexes.repair import repair
from indexes.store.gallery import Gallery
from indexes.store.manifest import MANIFEST_COPY
from indexes.verify import verify
from query.engine import Engine

PICTURES = 24


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of 24 pictures under 2 conditions in 3 commits, and a file that is none."""
    root = tmp_path_factory.mktemp("whole")
    place = Gallery.create(root / "gallery")
    for part in range(3):
        for number in range(part * 8, part * 8 + 8):
            paint(root / "pictures" / f"{number:02}.png", number)
        # Each commit by a writer of its own, so that nothing is compacted in between.
        fill(place, root / "pictures", "color shape", StandIn())
    (root / "pictures" / "text.jpg").write_text("no picture")
    fill(place, root / "pictures", "color shape", StandIn())
    return root


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy" / "gallery"


def scattered(place: Path) -> None:
    """Add three commits, so that tables have several files."""
    gallery = Gallery.open(place)
    for number in range(PICTURES, PICTURES + 3):
        paint(place.parent / "pictures" / f"{number}.png", number)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("indexes.store.writer.Writer.maintain", lambda *_, **__: None)
            fill(gallery, place.parent / "pictures", "", StandIn())


def damaged(place: Path) -> list[str]:
    return [finding.text for finding in verify(place) if finding.damage]


def vectors(place: Path) -> dict[str, dict[str, bytes]]:
    gallery = Gallery.open(place)
    found = {}
    for table in gallery.conditions():
        column = gallery.column(table)
        rows = zip(column.keys, column.vectors, column.words, strict=True)
        found[table.name] = {key: vector.tobytes() + w.encode() for key, vector, w in rows}
    return found


def newest(folder: Path, pattern: str) -> Path:
    """The file written last; manifests count down."""
    paths = sorted(folder.glob(pattern))
    return paths[0] if "manifest" in pattern else max(paths, key=lambda p: p.stat().st_mtime_ns)


def flip(path: Path, share: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(share * (len(data) - 1))] ^= 0x10
    path.write_bytes(bytes(data))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


HARMS: dict[str, Callable[[Path], None]] = {
    "emptied": empty,
    "halved": halve,
    "deleted": lambda path: path.unlink(),
    "flipped early": lambda path: flip(path, 0.02),
    "flipped": lambda path: flip(path, 0.4),
    "flipped late": lambda path: flip(path, 0.97),
}


def test_a_whole_gallery_is_whole(place: Path) -> None:
    scattered(place)
    assert damaged(place) == []
    assert repair(place).steps == []
    done = run("verify", "-g", place)
    assert done.returncode == 0 and "is undamaged" in done.stderr


#: All tables, files and harms; every tenth is a test of each run, the others of `make soak`.
_CASES = list(
    product(
        ["color", "files", "images", "manifest", "statistics"],
        ["_versions/*.manifest", "data/*.lance"],
        HARMS,
    )
)


@pytest.mark.parametrize(
    ("table", "pattern", "harm"),
    [
        pytest.param(*case, marks=[pytest.mark.soak] if number % 10 else [])
        for number, case in enumerate(_CASES)
    ],
)
def test_all_damage_is_found_and_repaired(table: str, pattern: str, harm: str, place: Path) -> None:
    scattered(place)
    pictures = place.parent / "pictures"
    before = vectors(place)
    names = {t.name: t.table for t in Gallery.open(place).conditions()}
    folder = place / f"{names.get(table, table)}.lance"
    HARMS[harm](newest(folder, pattern))
    # What was harmed is found before anything is opened, which may step back already.
    assert damaged(place), "damage was not found"
    # Opened, it works or names the way out.
    try:
        Engine(Gallery.open(place), lambda spec: StandIn()).vectors("color")
    except CiesError as error:
        assert "cies repair" in str(error) and ". " not in str(error).rstrip(".")
    done = repair(place)
    assert done.steps or harm in ("deleted", "emptied") or "flipped" in harm
    assert damaged(place) == []
    # The next ingest embeds exactly what is missing, and then all is as it was.
    gallery = Gallery.open(place)
    left = vectors(place)
    lost = {name: set(before[name]) - set(left[name]) for name in before}
    assert {name: sorted(keys) for name, keys in lost.items() if keys} == done.embed_again
    encoder = StandIn()
    report = fill(gallery, pictures, "", encoder)
    assert report.embedded == len(set().union(*lost.values()))
    assert vectors(place) == before
    assert gallery.image_keys() >= set(before["color"])
    assert len(gallery.paths()) == PICTURES + 3
    assert damaged(place) == []
    again = StandIn()
    fill(gallery, pictures, "", again)
    assert again.calls == []


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[pytest.mark.soak] if n > 4 else []) for n in range(20)]
)
def test_any_flipped_bit_is_found(seed: int, place: Path) -> None:
    random = np.random.default_rng(seed)
    files = sorted(p for p in place.rglob("*.lance/**/*") if p.is_file() and p.suffix != ".json")
    victim = files[random.integers(len(files))]
    data = bytearray(victim.read_bytes())
    data[random.integers(len(data))] ^= 1 << random.integers(8)
    victim.write_bytes(bytes(data))
    assert any(victim.name in text for text in damaged(place))


def test_exactly_the_damaged_rows_are_embedded_again(place: Path) -> None:
    gallery = Gallery.open(place)
    table = gallery.conditions()[0]
    before = vectors(place)
    column = gallery.column(table)
    hurt = column.keys[5]
    # The bytes of one vector are looked up in the data file and changed there.
    bits = column.vectors[5].astype(np.float16)
    # An older version may hold it too, which is of no interest.
    stored = max(
        (
            (path, data.find(bits.tobytes()))
            for path in (place / f"{table.table}.lance" / "data").iterdir()
            if (data := path.read_bytes()).find(bits.tobytes()) >= 0
        ),
        key=lambda found: found[0].stat().st_mtime_ns,
    )
    data = bytearray(stored[0].read_bytes())
    data[stored[1] + 3] ^= 0x01
    stored[0].write_bytes(bytes(data))
    shown = run("repair", "-g", place, "--dry-run", "--json")
    document = json.loads(shown.stdout)
    assert document["damaged"] and document["steps"] == []
    assert [f["keys"] for f in document["findings"] if f["what"] == "rows"] == [[hurt]]
    checked = run("verify", "-g", place)
    assert checked.returncode == 1 and hurt in checked.stdout and "cies repair" in checked.stderr
    done = run("repair", "-g", place)
    assert done.returncode == 0, done.stderr
    path = gallery.paths()[hurt][0]
    assert "To be embedded again under 'color': 1 pictures." in done.stderr and path in done.stderr
    encoder = StandIn()
    fill(Gallery.open(place), place.parent / "pictures", "", encoder)
    assert encoder.calls == [(1, ("color",))]
    assert vectors(place) == before


def test_a_lost_manifest_comes_back(place: Path) -> None:
    before = vectors(place)
    shutil.rmtree(place / "manifest.lance")
    for use in (Gallery.open, Gallery.create):
        with pytest.raises(GalleryError, match="cies repair"):
            use(place)
    assert damaged(place)
    repair(place)
    assert vectors(place) == before and damaged(place) == []


def test_a_repair_needs_the_lock_and_a_gallery(place: Path, tmp_path: Path) -> None:
    (place / MANIFEST_COPY).unlink()
    shutil.rmtree(place / "statistics.lance")
    with Gallery.open(place).writer():
        done = run("repair", "-g", place)
    assert done.returncode == 4 and "Another process is writing" in done.stderr
    for command in ("verify", "repair"):
        done = run(command, "-g", tmp_path / "nowhere")
        assert done.returncode == 4 and "no gallery" in done.stderr


def test_readers_live_through_a_repair(place: Path) -> None:
    gallery = Gallery.open(place)
    table = gallery.conditions()[0]
    part = gallery.vector_parts(table)
    folder = place / f"{table.table}.lance"
    flip(newest(folder, "data/*.lance"), 0.9)
    repair(place)
    assert sum(len(rows) for rows in part) <= PICTURES


def test_a_gallery_of_the_first_format_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(Path(__file__).parents[1] / "data" / "format-1.zip") as archive:
        archive.extractall(tmp_path)
    place = tmp_path / "format-1" / "gallery"
    files = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    engine = Engine(Gallery.open(place), lambda spec: StandIn())
    column = engine.vectors("color")
    assert len(column.keys) == 6 and set(column.words) == {"color"}
    assert len(engine.search(column.keys[0], "shape", 5).hits) == 5
    assert damaged(place) == []
    # Reading it changed nothing.
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == files
    encoder = StandIn()
    paint(tmp_path / "format-1" / "pictures" / "new.png", 99)
    fill(Gallery.open(place), tmp_path / "format-1" / "pictures", "", encoder)
    assert encoder.calls == [(1, ("color", "shape"))]
    assert damaged(place) == []
    monkeypatch.setattr("indexes.store.gallery.FORMAT", 0)
    with pytest.raises(GalleryMismatch, match="format 1"):
        Gallery.open(place)
