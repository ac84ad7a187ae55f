"""Pages of hits: captions, links to the files, copies for browsers, and tiles that fill rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from support.browsers import running

from cies.html.contact_sheet import SheetRow, write_sheet
from cies.html.rendering import columns
from query.hits import Hit, Hits, Query

_TILES = """() => [...document.querySelectorAll('ol.tiles')].map(list => {
  const rows = {};
  for (const tile of list.children) {
    const place = tile.getBoundingClientRect();
    (rows[Math.round(place.top)] ??= []).push(Math.round(place.right));
  }
  return [Math.round(list.getBoundingClientRect().right), ...Object.values(rows)];
})"""


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """A page beside a folder of twelve pictures, one of which is a TIFF."""
    folder = tmp_path / "my pictures #1"
    folder.mkdir()
    paths = [folder / f"{n}.png" for n in range(11)] + [folder / "scan.tif"]
    for number, path in enumerate(paths):
        Image.new("RGB", (300, 200), (20 * number, 80, 120)).save(path)
    query = Query("q.png", "color", "", True, "red", 0.9)
    rows = []
    for count in (12, 10, 8, 5, 3):
        hits = [
            Hit(
                n,
                f"{n:064d}",
                str(path),
                0.9,
                99.0,
                "red",
                0.9,
                columns={"sku": n},
                rows=({"sku": n}, {"sku": "x"}),
            )
            for n, path in enumerate(paths[-count:], 1)
        ]
        rows.append(SheetRow(f"{count}", "hits", Hits(query, tuple(hits))))
    page = tmp_path / "sheet.html"
    write_sheet(page, "Title", "Introduction.", str(paths[0]), rows, ["sku"])
    return page


def test_captions_and_links(sheet: Path) -> None:
    text = sheet.read_text(encoding="utf-8")
    assert 'href="my%20pictures%20%231/3.png"' in text and ">3.png</a>" in text
    assert text.count('class="legend"') == 1 and "less alike" in text
    assert "sku: 1, x" in text
    # The name of the TIFF leads to the file, its picture to a JPEG of it.
    assert ">scan.tif</a>" in text and 'href="my%20pictures%20%231/scan.tif"' in text
    copies = list(sheet.with_suffix(".files").iterdir())
    assert f'href="sheet.files/{copies[0].name}"' in text
    for copy in copies:
        with Image.open(copy) as image:
            assert (image.format, image.size) == ("JPEG", (300, 200))
    assert "http" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10, 12, 37, 240])
@pytest.mark.parametrize("kind", ["pictures", "groups"])
def test_columns_suit_the_count(count: int, kind: str) -> None:
    chosen = [int(part.split(":")[1]) for part in columns(count, kind).split(";")]
    assert len(chosen) == 5 and 1 <= chosen[0] <= 4 and max(chosen) <= 11
    if count in (10, 12, 240) and kind == "pictures":
        assert all(count % number == 0 for number in chosen)


def test_tiles_fill_their_rows_at_every_width(sheet: Path) -> None:
    with running() as browser:
        browser.goto(sheet.as_uri())
        for width in (360, 520, 700, 900, 1100, 1300, 1600, 2200):
            browser.set_viewport_size({"width": width, "height": 800})
            for right, *rows in browser.evaluate(_TILES):
                assert all(abs(max(row) - right) <= 1 for row in rows), (width, rows)
                assert len({len(row) for row in rows}) == 1, (width, rows)
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
