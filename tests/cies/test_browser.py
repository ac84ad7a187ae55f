"""The pages as people meet them: opened from the disk in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image
from support.browsers import Seen, running
from typer.testing import CliRunner

from cies.cli import browse as cli_words
from cies.cli.app import app
from cies.reports.demo import run_demo


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running() as one:
        yield one


@pytest.fixture(scope="module")
def pages(world_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of two conditions, in a folder whose name has to be quoted."""
    folder = tmp_path_factory.mktemp("pages") / "my pages #1 100%"
    cli_words.make_gallery(["color", "shape"], folder, world_gallery, originals=True)
    return folder


def file_of(address: str) -> Path:
    parts = urlsplit(address)
    assert parts.scheme == "file", address
    return Path(unquote(parts.path))


def test_every_page_of_a_gallery(browser: Any, pages: Path, world: Path) -> None:
    """All links are followed from the overview on, and every page and picture is met."""
    todo, seen = [pages / "index.html"], {}
    while todo:
        path = todo.pop()
        if path not in seen:
            seen[path] = Seen(browser, path.as_uri())
            linked = [file_of(address) for address in seen[path].links]
            assert all(place.is_file() for place in linked)
            todo += [place for place in linked if place.suffix == ".html"]
    assert set(seen) == set(pages.rglob("*.html"))
    originals = {
        file_of(address)
        for page in seen.values()
        for address in page.links
        if not address.endswith(".html")
    }
    assert originals == set((world / "images").iterdir())
    shown = [
        Path(file_of(src)).stem for page in seen.values() for src, _, alt in page.images if alt
    ]
    # Each picture once under each condition.
    assert len(shown) == 120 and len(set(shown)) == 60


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1400, "dark")])
def test_a_gallery_on_a_phone_and_in_the_dark(
    browser: Any, pages: Path, width: int, scheme: str
) -> None:
    group = next(path for path in pages.glob("color-*/*.html") if path.name != "index.html")
    for path in (pages / "index.html", group.with_name("index.html"), group):
        assert Seen(browser, path.as_uri(), width, scheme).images


def test_a_gallery_by_keyboard(browser: Any, pages: Path) -> None:
    page = browser
    page.goto((pages / "index.html").as_uri())
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.inner_text() == "Skip to the content" and skip.is_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "color"
    page.keyboard.press("Tab")
    assert "pictures" in page.locator(":focus").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url("**/color-*/*.html")
    assert page.get_by_role("navigation", name="Pages above").get_by_role("listitem").count() == 3
    page.locator("a[rel=next]").first.click()
    page.wait_for_url("**/color-*/*.html")


def test_long_names_and_many_pages(
    browser: Any, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could break the layout: words and file names without a place to break, many pages."""
    from support.clouds import table

    from cies.html.gallery import ConditionGroups, Pictures, pages
    from cies.html.rendering import STYLE_NAME, render
    from query.explore.groups import groups

    monkeypatch.setattr("cies.html.gallery.PER_PAGE", 2)
    evil = '"><img src=http://localhost/x onerror=alert(1)>' + "W" * 300
    opened = table(
        np.array([[1.0, 0.01 * n] for n in range(60)]), [evil] * 40 + [""] * 20, name=evil
    )
    paths = {key: [f"/nowhere/{evil}\udcff.jpg"] for key in opened.keys}
    section = ConditionGroups(opened, groups(opened))
    made = dict(pages([section], Pictures(paths, set(paths))))
    for name, html in made.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(html, encoding="utf-8")
    (tmp_path / STYLE_NAME).write_text(render(STYLE_NAME))
    assert len(made) == 31
    for name in ("index.html", section.folder + "/" + section.page(0, 15)):
        seen = Seen(browser, (tmp_path / name).as_uri(), 390)
        assert all(file_of(address).is_file() for address in seen.links)


def test_a_contact_sheet_and_outliers(
    browser: Any, world_gallery: Path, world: Path, tmp_path: Path
) -> None:
    image, sheet = world / "images" / "00001.jpg", tmp_path / "sheet.html"
    words = ["search", image, "-g", world_gallery, "-c", "color", "-k", 12, "--html", sheet]
    assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0
    cli_words.outliers("shape", world_gallery, k=5, html=tmp_path / "odd.html")
    for name, pictures in (("sheet.html", 13), ("odd.html", 5)):
        for width, scheme in ((1400, "light"), (390, "dark")):
            seen = Seen(browser, (tmp_path / name).as_uri(), width, scheme)
            assert len(seen.images) == pictures


def test_the_demo(browser: Any, tmp_path: Path) -> None:
    run_demo(tmp_path, 24)
    for width, scheme in ((1400, "light"), (390, "dark")):
        seen = Seen(browser, (tmp_path / "index.html").as_uri(), width, scheme)
        assert len(seen.images) == 61


def test_what_these_tests_look_for_is_found(browser: Any, tmp_path: Path) -> None:
    """A page with everything wrong: each thing by itself fails."""
    Image.new("RGB", (8, 8)).save(tmp_path / "fine.png")
    good = '<!doctype html><link rel=icon href="data:,"><h1>Fine</h1><img src=fine.png alt=x>'
    page = tmp_path / "page.html"

    def look(more: str) -> Seen:
        page.write_text(good + more)
        return Seen(browser, page.as_uri())

    assert look("").title == ""
    for wrong in (
        "<img src=none.png alt=x>",
        "<img src=http://127.0.0.1:9/x.png alt=x>",
        "<script>console.log('x')</script>",
        "<div style='width: 2000px'>wide</div>",
        "<p style='color: #999'>faint</p>",
        "<a href=fine.png></a>",
        "<h3>skips a level</h3>",
    ):
        with pytest.raises(AssertionError):
            look(wrong)
