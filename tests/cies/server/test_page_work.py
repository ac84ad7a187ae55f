"""What the page lets one do with hits: rate, pick, collect, correct a change, and see the map."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from support.browsers import running
from support.served import Served, served

import cies
from indexes.progress import published_progress
from indexes.store.gallery import Gallery
from ingest.encoders.methods.dior import DiorEncoder


@pytest.fixture(scope="module")
def server(
    world: Path, world_gallery: Path, builtin: DiorEncoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server with --edit over a copy of the gallery."""
    place = tmp_path_factory.mktemp("edited") / "gallery"
    shutil.copytree(world_gallery, place)
    with served(place, builtin, edit=True) as one:
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
    browser.goto("about:blank")
    browser.goto(server.address)
    browser.wait_for_selector(".tile img.loaded")
    browser.set_default_timeout(15_000)
    yield browser
    assert not errors


def until(page: Any, condition: str) -> None:
    """Wait until an expression is true; the page's policy forbids playwright's own way."""
    end = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def names(page: Any) -> list[str]:
    return [str(name) for name in page.locator(".tile .file").all_inner_texts()]


def start(page: Any, number: int) -> str:
    """Click "Like this" of a picture; returns its key."""
    page.locator(".tile .start").nth(number).click(force=True)
    page.wait_for_selector(".tile .about")
    return parse_qs(urlsplit(page.url).query)["key"][0]


def first_is(page: Any, name: str) -> None:
    until(page, f"document.querySelector('.tile .file')?.textContent === '{name}'")


def expected(server: Served, **question: Any) -> list[str]:
    found = server.post("search", {"k": 48, "offset": 0, "conditions": {"color": 1}, **question})
    return [hit["path"] for hit in found.json["hits"]]


def test_one_click_rates_a_hit(page: Any, server: Served) -> None:
    key = start(page, 4)
    shown = names(page)
    page.get_by_role("button", name=f"More like {shown[2]}", exact=True).click(force=True)
    until(page, "location.search.includes('like=')")
    page.get_by_role("button", name=f"Less like {shown[0]}", exact=True).click(force=True)
    until(page, "location.search.includes('dislike=')")
    given = parse_qs(urlsplit(page.url).query)
    rated = {"like": given["like"], "dislike": given["dislike"]}
    wanted = expected(server, pictures=[key], **rated)
    first_is(page, wanted[0])
    page.wait_for_timeout(300)
    assert names(page) == wanted and not {shown[0], shown[2]} & set(wanted)
    page.locator("#dislike .rated").click()
    first_is(page, expected(server, pictures=[key], like=given["like"])[0])
    # A link shows the same.
    address, before = page.url, names(page)
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector(".tile .about")
    assert names(page) == before and page.locator("#like .rated").count() == 1


def test_picked_pictures_become_a_collection(page: Any, server: Served) -> None:
    shown = names(page)
    for number in (1, 3, 5):
        page.get_by_role("checkbox", name=f"Pick {shown[number]}").check(force=True)
    assert page.inner_text("#picked-count") == "3 pictures picked"
    page.fill("#picked-name", "my mugs")
    page.get_by_role("button", name="Add", exact=True).click()
    until(page, "document.querySelector('#collections button')?.textContent === 'my mugs3'")
    assert not page.locator("#picked").is_visible()
    kept = Gallery.open(server.service.engine.gallery.path).collections()["my mugs"]
    page.get_by_role("button", name="my mugs").click()
    until(page, "document.querySelectorAll('.tile').length === 3")
    assert names(page) == [shown[1], shown[3], shown[5]]
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    sheet = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in sheet[1:]] == kept
    page.get_by_role("button", name="Search like these").first.click()
    page.wait_for_selector(".tile .about")
    assert names(page) == expected(server, like=["@my mugs"])
    # The list is deleted after a question.
    page.get_by_role("button", name="my mugs").click()
    page.get_by_role("button", name="Delete the list").click()
    page.get_by_role("button", name="No", exact=True).click()
    assert server.get("collections").json["collections"] == {"my mugs": 3}
    page.get_by_role("button", name="Delete the list").click()
    page.get_by_role("button", name="Yes", exact=True).click()
    until(page, "document.querySelectorAll('.tile').length > 40")
    assert server.get("collections").json["collections"] == {}


def test_a_removal_asks_first(page: Any, server: Served) -> None:
    before = server.get("gallery").json["pictures"]
    last = names(page)[-1]
    page.get_by_role("checkbox", name=f"Pick {last}").check(force=True)
    page.get_by_role("button", name="Remove from the gallery").click()
    page.wait_for_selector("#confirm[open]")
    assert "Remove 1 pictures from the gallery? Their files stay." in page.inner_text("#confirm")
    page.get_by_role("button", name="No", exact=True).click()
    assert server.get("gallery").json["pictures"] == before
    page.get_by_role("button", name="Remove from the gallery").click()
    page.get_by_role("button", name="Yes", exact=True).click()
    until(page, f"document.getElementById('count').textContent === '{before - 1} pictures'")
    until(
        page,
        f"[...document.querySelectorAll('.tile .file')].every(e => e.textContent !== '{last}')",
    )


def test_what_was_understood_is_shown_and_can_be_corrected(page: Any, server: Served) -> None:
    key = start(page, 4)
    page.fill("#change", "in red")
    page.wait_for_selector("#understanding:not([hidden])")
    asked = {"pictures": [key], "modify": "in red"}
    composed = server.post("search", {"conditions": {"color": 1}, **asked}).json["query"][
        "composed"
    ]
    assert page.locator("#composer").input_value() == composed["composer"] == "dior-split"
    assert page.inner_text("#understood").split("\n")[:2] == [
        "color",
        composed["conditions"]["color"],
    ]
    page.locator("#composer").select_option("dior")
    until(page, "location.search.includes('composer=dior')")
    page.wait_for_timeout(1500)
    assert page.locator("#composer").input_value() == "dior"
    assert names(page) == expected(server, **asked, composer="dior")


def test_a_map_is_coloured_moved_and_selected(page: Any, server: Served) -> None:
    page.get_by_role("button", name="Map").click()
    page.wait_for_selector("#map-legend span")
    state = server.get("maps/color").json
    assert state["state"] == "ready" and state["pictures"] == server.get("gallery").json["pictures"]
    data = server.get(f"maps/color/points?version={state['version']}").body
    points = np.frombuffer(data[: 8 * state["pictures"]], dtype="<f4").reshape(-1, 2)
    word = server.get(f"maps/color/colors?version={state['version']}").json["values"][0]
    assert page.locator("#map-legend span").first.inner_text() == (
        f"{word['value']} ({word['pictures']})"
    )
    # A lasso around the left half selects its points.
    page.get_by_role("button", name="Select by drawing").click()
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    page.mouse.down()
    middle = box["x"] + box["width"] / 2
    for x, y in ((middle, box["y"] + 3), (middle, box["y"] + box["height"] - 3)):
        page.mouse.move(x, y, steps=3)
    page.mouse.move(box["x"] + 3, box["y"] + box["height"] - 3, steps=3)
    page.mouse.up()
    page.wait_for_selector("#picked:not([hidden])")
    half = int((points[:, 0] < 0).sum())
    assert abs(int(page.inner_text("#picked-count").split()[0]) - half) <= 1
    page.fill("#picked-name", "left half")
    page.get_by_role("button", name="Add", exact=True).click()
    until(page, "document.querySelector('#collections button') !== null")
    assert abs(server.get("collections").json["collections"]["left half"] - half) <= 1
    # A click on a point shows its picture.
    page.get_by_role("button", name="Select by drawing").click()
    side = min(box["width"], box["height"]) / 2 * 0.94
    alone = points[np.argmax(np.abs(points).sum(axis=1))]
    x, y = float(alone[0]) * side, float(alone[1]) * side
    page.mouse.click(box["x"] + box["width"] / 2 + x, box["y"] + box["height"] / 2 - y)
    page.wait_for_selector("#viewer[open]")
    page.keyboard.press("Escape")


def test_a_hundred_thousand_points_move(page: Any) -> None:
    """At 30 frames a second where WebGL has a GPU; the test's software has a lower bound."""
    count = 100_000
    random = np.random.default_rng(0)
    points = random.uniform(-1, 1, (count, 2)).astype("<f4").tobytes() + random.bytes(32 * count)
    state = {
        "condition": "color",
        "state": "ready",
        "kind": "pca",
        "pictures": count,
        "version": "x",
    }
    colors = {"values": [], "codes": "AAAA" * (count // 3) + "AA=="}
    page.route("**/maps/color", lambda route: route.fulfill(json=state))
    page.route("**/maps/color/points**", lambda route: route.fulfill(body=points))
    page.route("**/maps/color/colors**", lambda route: route.fulfill(json=colors))
    page.get_by_role("button", name="Map").click()
    page.wait_for_selector("#map-legend span")
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    # The pointer moves once a frame, as fast as frames are shown.
    page.evaluate(
        "(() => { const map = document.getElementById('map'); window.drawn = new Set();"
        " let n = 0; const box = map.getBoundingClientRect();"
        " const next = () => { n += 1; map.dispatchEvent(new PointerEvent('pointermove',"
        " { clientX: box.x + 200 + 2 * n % 180, clientY: box.y + 200 }));"
        " window.drawn.add(n + map.firstChild.style.transform); requestAnimationFrame(next); };"
        " requestAnimationFrame(next); })()"
    )
    began = time.monotonic()
    page.wait_for_timeout(2000)
    rate = page.evaluate("window.drawn.size") / (time.monotonic() - began)
    moved = page.evaluate("document.querySelector('#map canvas').style.transform")
    page.mouse.up()
    page.unroute("**/maps/color")
    page.unroute("**/maps/color/points**")
    page.unroute("**/maps/color/colors**")
    print(f"{rate:.0f} frames a second")
    assert rate >= 10 and moved.startswith("translate(")


def test_an_ingest_and_its_failures_appear(page: Any, server: Served, world: Path) -> None:
    gallery = server.service.engine.gallery
    before = server.get("gallery").json["pictures"]
    with published_progress(gallery.indexes) as publish:
        publish(30, 120, 0)
        until(page, "document.getElementById('status').textContent === 'Ingesting 30 of 120'")
        assert page.evaluate("document.getElementById('progress').value") == 30
    folder = gallery.path.parent / "new"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no picture")
    image = (world / "images" / "00008.jpg").read_bytes()
    (folder / "extra.jpg").write_bytes(image + b"\0")
    builtin = server.service.engine.encoders.loaded[0]
    cies.ingest(gallery.path, [folder], model=builtin)
    until(page, f"document.getElementById('count').textContent === '{before + 1} pictures'")
    until(page, "document.getElementById('status').textContent === '1 files failed'")
    page.locator("#status").click()
    cells = page.locator("#failures td").all_inner_texts()
    assert cells[0] == "broken.jpg" and cells[1]
    page.get_by_role("button", name="Close").first.click()


def test_the_first_paint_is_early(page: Any, server: Served) -> None:
    page.goto("about:blank")
    page.goto(server.address)
    page.wait_for_selector(".tile img.loaded")
    first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert first < 1000
