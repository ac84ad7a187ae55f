"""Galleries that an earlier version of CIES wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.first_version import old_gallery
from support.kinds import fill, png, put
from support.scans import engine, gone, versions

from indexes.store.attributes import attributes
from indexes.store.gallery import Gallery
from ingest.fill.prune import find_gone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(20):
        put(tmp_path / "p" / f"{number:02}.png", png(number))
    return tmp_path / "p"


def test_a_gallery_of_the_first_version_opens_and_grows(tmp_path: Path, folder: Path) -> None:
    old_gallery(tmp_path / "old", folder)
    gallery = Gallery.open(tmp_path / "old")
    before = versions(gallery)
    assert [image.orientation for image in gallery.images()] == [None] * 20
    assert {record.gone_at for record in gallery.files()} == {None}
    assert len(engine(gallery).search(folder / "05.png", "color", k=50)) == 19
    assert attributes(gallery).num_rows == 20 and gallery.sources() == {}
    assert find_gone(gallery).paths == []
    assert versions(gallery) == before  # reading changes nothing
    report, passes = fill(gallery, folder)
    assert (report.unchanged, passes) == (20, 0)
    (folder / "00.png").unlink()
    put(folder / "new.png", png(99))
    put(folder / "t.csv", "file,n\nnew.png,1\n")
    report, passes = fill(gallery, folder, folder / "t.csv")
    assert (report.gone, passes) == (1, 1)
    reopened = Gallery.open(tmp_path / "old")
    assert sorted({str(image.orientation) for image in reopened.images()}) == ["1", "None"]
    assert set(gone(reopened)) == {"p/00.png"}
    assert [row["n"] for row in attributes(reopened).to_pylist()].count(1) == 1
