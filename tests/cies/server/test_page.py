"""The page in a real browser, used by clicking and typing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.browsers import running
from support.served import Served, served

from ingest.encoders.methods.dior import DiorEncoder


@pytest.fixture(scope="module")
def server(world_gallery: Path, builtin: DiorEncoder) -> Iterator[Served]:
    with served(world_gallery, builtin) as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running() as one:
        yield one


@pytest.fixture
def page(browser: Any, server: Served) -> Iterator[Any]:
    """The page at its start; an error of its code fails the test."""
    errors: list[str] = []
    browser.on("pageerror", lambda error: errors.append(str(error)))
    browser.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    browser.goto(server.address)
    browser.wait_for_selector(".tile img.loaded")
    browser.set_default_timeout(15_000)
    yield browser
    assert not [error for error in errors if "400" not in error], errors


def until(page: Any, condition: str) -> None:
    """Wait until an expression is true; the page's policy forbids playwright's own way."""
    end = time.monotonic() + 60
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def hits(page: Any) -> list[str]:
    """The names of the pictures that are shown."""
    return [str(name) for name in page.locator(".tile .file").all_inner_texts()]


def percents(page: Any) -> list[float]:
    texts = page.locator(".tile .about span").all_inner_texts()
    return [float(text.split()[0]) for text in texts]


def like(page: Any, number: int) -> None:
    """Click "Like this" of a picture, and wait for the hits."""
    page.locator(".tile .start").nth(number).click(force=True)
    page.wait_for_selector(".tile .about")


def expected(server: Served, **question: Any) -> list[str]:
    """The names of the hits by the interface."""
    found = server.post("search", {"k": 48, "offset": 0, **question}).json["hits"]
    return [hit["path"] for hit in found]


def test_a_picture_of_the_gallery_is_a_question(page: Any, server: Served) -> None:
    like(page, 4)
    key = parse_qs(urlsplit(page.url).query)["key"][0]
    assert hits(page) == expected(server, pictures=[key], conditions={"color": 1})
    assert percents(page) == sorted(percents(page), reverse=True)


def test_conditions_have_weights_and_can_be_negated(page: Any, server: Served) -> None:
    like(page, 4)
    key = parse_qs(urlsplit(page.url).query)["key"][0]
    page.get_by_role("button", name="shape", exact=True).click()
    page.get_by_role("slider", name="Weight of shape").fill("2.5")
    both = expected(server, pictures=[key], conditions={"color": 1, "shape": 2.5})
    until(page, f"document.querySelector('.tile .file').textContent === '{both[0]}'")
    page.wait_for_timeout(500)
    assert hits(page) == both
    page.get_by_role("button", name="Different in color").click()
    differ = expected(server, pictures=[key], conditions={"shape": 2.5}, unlike={"color": 1})
    until(page, f"document.querySelector('.tile .file').textContent === '{differ[0]}'")
    assert hits(page) == differ


def test_a_dropped_or_picked_picture_is_searched(page: Any, server: Served, world: Path) -> None:
    page.set_input_files("#file", str(world / "images" / "00008.jpg"))
    page.wait_for_selector(".tile .about")
    assert page.locator(".example img").count() == 1
    key = parse_qs(urlsplit(page.url).query)["key"][0]
    assert hits(page) == expected(server, pictures=[key], conditions={"color": 1})
    # A second one is added, and both are combined.
    page.set_input_files("#file", str(world / "images" / "00009.jpg"))
    until(page, "document.querySelectorAll('.example').length === 2")
    page.locator("#combine").select_option("all")
    keys = parse_qs(urlsplit(page.url).query)["key"]
    names = expected(server, pictures=keys, conditions={"color": 1}, combine="all")
    until(page, f"document.querySelector('.tile .file').textContent === '{names[0]}'")
    assert hits(page) == names


def test_words_are_a_question(page: Any, server: Served) -> None:
    page.keyboard.press("/")
    page.keyboard.type("a red heart")
    page.keyboard.press("Enter")
    page.wait_for_selector(".tile .about")
    assert hits(page) == expected(server, text="a red heart", conditions={"color": 1})


def test_a_part_of_the_picture_is_compared(page: Any, server: Served) -> None:
    like(page, 2)
    box = page.locator(".example img").bounding_box()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.7 * box["height"], steps=4)
    page.mouse.up()
    until(page, "location.search.includes('crop=')")
    given = parse_qs(urlsplit(page.url).query)
    crop = [float(part) for part in given["crop"][0].split(",")]
    assert crop == pytest.approx([0.1, 0.1, 0.5, 0.6], abs=0.03)
    names = expected(server, pictures=given["key"], conditions={"color": 1}, crop=crop)
    until(page, f"document.querySelector('.tile .file').textContent === '{names[0]}'")


def test_a_filter_says_what_is_wrong_and_filters(page: Any, server: Served) -> None:
    page.fill("#where", "width >")
    until(page, "document.getElementById('where-error').textContent.length > 0")
    assert "Cannot filter by 'width >'" in page.inner_text("#where-error")
    page.fill("#where", "path LIKE '%00003%'")
    until(page, "document.querySelectorAll('.tile').length === 1")
    assert hits(page) == ["00003.jpg"] and page.inner_text("#where-error") == ""


def test_a_word_shows_its_pictures(page: Any, server: Served) -> None:
    word = server.get("facets/color").json["facets"][0]
    button = page.locator("#facets button").first
    assert button.inner_text().split() == [word["word"], str(word["pictures"])]
    button.click()
    until(page, f"document.querySelectorAll('.tile').length === {word['pictures']}")
    assert page.locator("#facets button[aria-pressed=true]").count() == 1
    page.locator("#facets button").first.click()
    until(page, "document.querySelectorAll('.tile').length > 40")


def test_a_row_for_each_condition(page: Any, server: Served) -> None:
    like(page, 6)
    page.get_by_role("button", name="shape", exact=True).click()
    page.get_by_role("button", name="A row for each condition").click()
    page.wait_for_selector(".row >> nth=1")
    key = parse_qs(urlsplit(page.url).query)["key"][0]
    for number, name in enumerate(("color", "shape")):
        row = page.locator(".row").nth(number)
        assert row.locator("h2").inner_text().startswith(name)
        found = row.locator(".file").all_inner_texts()
        assert found == expected(server, pictures=[key], conditions={name: 1}, k=16)


def test_the_address_holds_the_question(page: Any, browser: Any) -> None:
    like(page, 3)
    page.get_by_role("button", name="Different in shape").click()
    until(page, "location.search.includes('not=')")
    page.wait_for_timeout(700)
    asked, address = hits(page), page.url
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector(".tile .about")
    assert hits(page) == asked
    assert page.locator(".chip.not").count() == 1
    page.go_back()


def test_one_picture_is_shown_with_what_is_known(page: Any) -> None:
    like(page, 1)
    page.locator(".tile .open").first.click()
    page.wait_for_selector("#viewer-large.loaded")
    about = page.inner_text("#viewer-about")
    assert "% of all pairs" in about and "word" in about and "Like this in shape" in about
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    page.locator(".tile .open").nth(1).focus()
    page.keyboard.press("ArrowRight")
    focused = page.evaluate(
        "document.activeElement.closest('.tile').querySelector('.file').textContent"
    )
    assert focused == hits(page)[2]


def test_hits_continue_when_one_scrolls(page: Any, server: Served) -> None:
    like(page, 0)
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    until(page, "document.querySelectorAll('.tile').length === 59")
    assert len(set(hits(page))) == 59


@pytest.mark.parametrize("width", [390, 900, 1440])
def test_nothing_is_wider_than_the_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    like(page, 0)
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size({"width": 1280, "height": 720})
    assert wide <= width
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter(one =>"
        " !(one.textContent.trim() || one.ariaLabel || one.labels?.length"
        " || one.placeholder)).length"
    )
    assert unnamed == 0


def test_names_and_words_are_never_code(browser: Any, server: Served) -> None:
    """The page builds text nodes only, and its policy forbids scripts in the document."""
    own = ("app.js", "elements.js", "picks.js", "search.js")
    for name in (*own, "map.js"):
        code = server.get(f"/page/{name}").body.decode()
        assert "innerHTML" not in code and "eval(" not in code and "document.write" not in code
    size = sum(
        len(server.get(path).body)
        for path in ("/", *(f"/page/{name}" for name in (*own, "page.css", "icon.svg")))
    )
    assert size < 100_000
