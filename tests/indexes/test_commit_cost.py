"""One ingest of one new picture makes few reads, listings and syncs."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.stand_in import StandIn
from support.stand_in_fill import fill, paint

from indexes.store.gallery import Gallery
from indexes.store.ledger import Ledger
from indexes.store.tables import Table

#: Upper bounds for one ingest into a gallery of two conditions, opening the gallery included. In
#: brackets: the numbers before handles, ledgers and the manifest were kept for a whole ingest.
BOUNDS = {
    "manifest reads": 1,  # (7)
    "table opens": 7,  # (20)
    "ledger reads": 7,  # (24)
    "walks through a table": 13,  # (45)
    "folder listings": 80,  # (241)
    "syncs": 36,  # (100)
}


class Counts(Counter[str]):
    """Counts calls by name while a patch is in place."""

    def watch(self, patch: pytest.MonkeyPatch, owner: Any, function: str, name: str) -> None:
        real = getattr(owner, function)

        def call(*arguments: Any, **options: Any) -> Any:
            if self.counts(name, *arguments):
                self[name] += 1
            return real(*arguments, **options)

        patch.setattr(owner, function, call)

    def counts(self, name: str, *arguments: Any) -> bool:
        if name == "manifest reads":
            return bool(arguments[0].name == "manifest")
        if name == "folder listings":
            return isinstance(arguments[0], (str, Path)) and "gallery" in Path(arguments[0]).parts
        return True


def test_one_new_picture_costs_few_reads_and_syncs(tmp_path: Path) -> None:
    for number in range(5):
        paint(tmp_path / "in" / f"{number}.png", number)
    place = tmp_path / "gallery"
    fill(Gallery.create(place), tmp_path / "in", "color shape", StandIn())
    paint(tmp_path / "in" / "5.png", 5)
    counts = Counts()
    with pytest.MonkeyPatch.context() as patch:
        counts.watch(patch, Table, "read", "manifest reads")
        counts.watch(patch, Table, "__init__", "table opens")
        counts.watch(patch, Ledger, "__init__", "ledger reads")
        counts.watch(patch, Ledger, "files", "walks through a table")
        counts.watch(patch, os, "scandir", "folder listings")
        counts.watch(patch, os, "listdir", "folder listings")
        counts.watch(patch, os, "fsync", "syncs")
        report = fill(Gallery.open(place), tmp_path / "in", "", StandIn())
    assert report.embedded == 1
    print(dict(counts))
    assert {name: n for name, n in counts.items() if n > BOUNDS[name]} == {}
    # Each call is counted: no name is missing because a function was renamed.
    assert counts.keys() == BOUNDS.keys()


def test_entries_of_another_process_are_seen(tmp_path: Path) -> None:
    """The entries that an opened gallery keeps are not older than the table."""
    paint(tmp_path / "in" / "0.png", 0)
    gallery = Gallery.create(tmp_path / "gallery")
    assert gallery.conditions() == []
    fill(Gallery.open(gallery.path), tmp_path / "in", "color", StandIn())
    assert [table.name for table in gallery.conditions()] == ["color"]
    with gallery.writer() as writer:
        writer.put_words("mood", {"words": ["calm"]})
        assert (
            gallery.words() == Gallery.open(gallery.path).words() == {"mood": {"words": ["calm"]}}
        )
        writer.forget_words("mood")
    assert gallery.words() == {} and len(gallery.sources()) == 1


def test_many_small_ingests_are_compacted_in_time(tmp_path: Path, soak: bool) -> None:
    """Little that was written is not compacted each time, and files do not pile up."""
    gallery = Gallery.create(tmp_path / "gallery")
    count = 40 if soak else 22
    for number in range(count):
        paint(tmp_path / "in" / f"{number}.png", number)
        fill(gallery, tmp_path / "in", "color", StandIn())
        name = gallery.conditions()[0].table
        fragments = gallery._database.open(name)._table.stats()["fragment_stats"]["num_fragments"]
        assert fragments <= 16
    assert len(gallery.keys(gallery.conditions()[0])) == count
