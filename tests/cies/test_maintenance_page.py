"""The table of docs/maintenance.md: what happens when pictures change, cell by cell."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.durable import sound
from support.kinds import fill, png, put, rows
from support.scans import engine, gone
from support.shell import Shell

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.fill.pipeline import IngestReport
from query.hits import Hit

PAGE = Path(__file__).parents[2] / "docs" / "maintenance.md"
CATALOG = "file,sku,price\n" + "".join(f"p/{n}.png,{n:05},{n}.5\n" for n in range(4))


def key(seed: int) -> str:
    return hashlib.sha256(png(seed)).hexdigest()


def table() -> dict[str, list[str]]:
    """The cells of the table by what happens."""
    lines = re.findall(r"^\| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    cells = [line.split(" | ") for line in lines[1:]]
    return {first: rest for first, *rest in cells}


@dataclass
class Place:
    """A gallery of twelve pictures, 0 to 3 of them in a catalog, with one command after another."""

    gallery: Gallery
    shell: Shell
    report: IngestReport | None = None
    passes: int = 0
    pruned: str = ""

    def hits(self, **more: object) -> dict[str, Hit]:
        """All pictures that a new search finds, by key."""
        return {h.key: h for h in engine(self.gallery).search(key(11), "color", k=50, **more)}

    def ingest(self, *sources: str) -> None:
        self.report, self.passes = fill(self.gallery, *sources, names="")

    def prune(self, *words: str) -> None:
        self.pruned = self.shell.done("prune", *words)[1]

    def path(self, seed: int) -> str:
        return str(Path(self.hits()[key(seed)].path).relative_to(self.gallery.root))

    @property
    def listed_gone(self) -> str:
        return self.shell.done("status", "--gone")[0]

    @property
    def nothing_to_forget(self) -> bool:
        return "Nothing to forget" in self.pruned


@pytest.fixture
def place(tmp_path: Path, shell: Shell) -> Place:
    for number in range(4):
        put(tmp_path / "p" / f"{number}.png", png(number))
    for number in range(4, 12):
        put(tmp_path / ("q" if number < 8 else "r") / f"{number}.png", png(number))
    gallery = Gallery.create(tmp_path / "g")
    fill(gallery, put(tmp_path / "catalog.csv", CATALOG), tmp_path / "q", tmp_path / "r")
    return Place(gallery, shell)


def changed(place: Place, cells: list[str]) -> None:
    put(Path("q/5.png"), png(50))
    assert cells[0] == "found as it was" and place.path(5) == "q/5.png"
    place.ingest()
    assert cells[1] == "found as it is now, the old picture is not found"
    assert place.passes == 1 and place.path(50) == "q/5.png" and key(5) not in place.hits()
    place.prune()
    assert cells[2] == "the old picture is deleted"
    assert key(5) not in place.gallery.read_keys() and key(50) in place.hits()


def moved(place: Place, cells: list[str]) -> None:
    Path("q/5.png").rename("r/new.png")
    assert cells[0] == "found, at its old path" and place.path(5) == "q/5.png"
    place.ingest()
    assert cells[1] == "found at its new path, not embedded again"
    assert place.passes == 0 and place.path(5) == "r/new.png"
    place.prune()
    assert cells[2] == "the old path is forgotten, no picture is lost"
    assert not gone(place.gallery) and place.path(5) == "r/new.png" and "Forgotten" in place.pruned


def copied(place: Place, cells: list[str]) -> None:
    put(Path("r/copy.png"), png(5))
    assert cells[0] == "found" and place.path(5) == "q/5.png"
    place.ingest()
    assert cells[1] == "found once, both paths are known" and place.passes == 0
    assert len(place.hits()) == 11
    assert place.gallery.paths()[key(5)] == ["q/5.png", "r/copy.png"]
    place.prune()
    assert cells[2] == "nothing to forget" and place.nothing_to_forget


def deleted(place: Place, cells: list[str]) -> None:
    Path("q/5.png").unlink()
    assert cells[0] == "found, at its old path" and place.path(5) == "q/5.png"
    place.ingest()
    assert cells[1] == "not found, listed by `cies status --gone`"
    assert key(5) not in place.hits() and "q/5.png" in place.listed_gone
    place.prune()
    assert cells[2] == "its picture is deleted"
    assert key(5) not in place.gallery.read_keys() and not gone(place.gallery)


def renamed(place: Place, cells: list[str]) -> None:
    Path("q").rename("s")
    assert cells[0] == "found, at the old paths" and place.path(5) == "q/5.png"
    place.ingest("s")
    assert cells[1] == "found at the new paths after an ingest of the new folder"
    assert place.passes == 0 and place.path(5) == "s/5.png" and place.path(7) == "s/7.png"
    place.prune()
    assert cells[2] == "the old paths and source are forgotten, no picture is lost"
    assert "q" not in place.gallery.sources() and not gone(place.gallery)
    assert len(place.hits()) == 11


def unplugged(place: Place, cells: list[str]) -> None:
    Path("q").rename("away")
    assert cells[0] == "found, at the old paths" and place.path(5) == "q/5.png"
    place.ingest()
    assert cells[1] == "found, nothing counts as gone, the source is named"
    assert place.path(5) == "q/5.png" and not gone(place.gallery)
    assert place.report and [one.name for one in place.report.unreachable] == ["q"]
    place.prune()
    assert cells[2] == "nothing to forget" and place.nothing_to_forget
    Path("away").rename("q")
    place.ingest()
    assert place.passes == 0 and len(place.hits()) == 11


def row_deleted(place: Place, cells: list[str]) -> None:
    put(Path("catalog.csv"), CATALOG.replace("p/2.png,00002,2.5\n", ""))
    assert cells[0] == "found" and place.path(2) == "p/2.png"
    place.ingest()
    assert cells[1] == "not found, listed by `cies status --gone`"
    assert key(2) not in place.hits() and "p/2.png" in place.listed_gone
    place.prune()
    assert cells[2] == "its picture is deleted, the file stays"
    assert key(2) not in place.gallery.read_keys() and Path("p/2.png").is_file()


def column_renamed(place: Place, cells: list[str]) -> None:
    put(Path("catalog.csv"), CATALOG.replace("price", "cost"))
    assert cells[0] == "filters know the old name"
    assert set(place.hits(where="price > 2")) == {key(2), key(3)}
    place.ingest()
    assert cells[1] == "filters know the new name, the old one is dropped and named"
    assert set(place.hits(where="cost > 2")) == {key(2), key(3)}
    assert place.report and "column 'price' is not taken from catalog.csv" in place.report.notes[0]
    with pytest.raises(UsageError, match="no column 'price'"):
        place.hits(where="price > 2")
    place.prune()
    assert cells[2] == "nothing to forget" and place.nothing_to_forget
    assert rows(place.gallery)["p/3.png"]["cost"] == 3.5


EVENTS: dict[str, Callable[[Place, list[str]], None]] = {
    "a file is changed": changed,
    "a file is moved": moved,
    "a file is copied": copied,
    "a file is deleted": deleted,
    "a folder is renamed": renamed,
    "a drive is unplugged": unplugged,
    "a row is deleted from the catalog": row_deleted,
    "a column of the catalog is renamed": column_renamed,
}


def test_every_row_of_the_table_is_tested() -> None:
    assert set(table()) == set(EVENTS)


@pytest.mark.parametrize("event", EVENTS)
def test_a_row_of_the_table(event: str, place: Place) -> None:
    EVENTS[event](place, table()[event])
    sound(place.gallery)
    # Whatever happened, the next run of everything changes nothing.
    place.ingest()
    assert place.passes == 0
    assert json.loads(place.shell.done("prune", "--json")[0])["keys"] == []


# -- backups -----------------------------------------------------------------------------------


def test_a_copy_made_while_an_ingest_ran(place: Place, tmp_path: Path) -> None:
    """Verify says whether the copy is whole, and repair makes it so."""
    copies = []
    for number in (0, 2, 5):
        put(tmp_path / "r" / f"new{number}.png", png(100 + number))
        target = tmp_path / f"copy{number}"
        # Tables are copied one after the other while the gallery grows in between.
        target.mkdir(parents=True)
        entries = sorted(place.gallery.path.iterdir())
        for entry in entries[: number + 3]:
            (shutil.copytree if entry.is_dir() else shutil.copy)(entry, target / entry.name)
        place.ingest()
        for entry in entries[number + 3 :]:
            (shutil.copytree if entry.is_dir() else shutil.copy)(entry, target / entry.name)
        copies.append(target)
    for target in copies:
        if place.shell("verify", "-g", target)[0]:
            place.shell.done("repair", "-g", target)
        assert place.shell("verify", "-g", target)[0] == 0
        copy = Gallery.open(target)
        fill(copy, names="")
        sound(copy)
