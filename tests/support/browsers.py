"""A real browser, where the machine has one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: Names and places of browsers that playwright can lead.
_NAMES = "chromium chromium-browser google-chrome google-chrome-stable chrome microsoft-edge msedge"
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)


def find_browser() -> str | None:
    """The program of a browser: ``CIES_TEST_BROWSER``, or one that is installed."""
    given = os.environ.get("CIES_TEST_BROWSER")
    found = [shutil.which(name) for name in _NAMES.split()]
    found += [place for place in _PLACES if Path(place).is_file()]
    return given or next(filter(None, found), None)


@contextmanager
def running() -> Iterator[Any]:
    """A page of a headless browser, led by playwright; skips the test where there is none."""
    program = find_browser()
    if program is None:
        pytest.skip(
            "no browser is installed; install Chromium, Chrome or Edge (on Debian: apt install "
            "chromium), or name one in CIES_TEST_BROWSER"
        )
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    # Its sandbox refuses to run for root, as tests in containers do.
    as_root = getattr(os, "geteuid", lambda: 1)() == 0
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--disable-gpu", *(["--no-sandbox"] if as_root else [])]
        )
        page = browser.new_page()
        page.set_default_timeout(120_000)  # a busy machine is no failure
        yield page
        browser.close()


#: Run in a page: all pictures are asked for at once, and waited for.
_LOAD = """async () => {
  const images = [...document.images];
  for (const image of images) image.loading = 'eager';
  await Promise.all(images.map(image => image.decode().catch(() => null)));
  return images.map(image => [image.src.slice(0, 200), image.naturalWidth, image.alt]);
}"""

#: Run in a page: texts whose contrast with what lies behind them is below 4.5 (WCAG 2.2, AA).
_CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const known = new Map();
  const rgb = color => {
    if (!known.has(color)) known.set(color, paint(color));
    return known.get(color);
  };
  const paint = color => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = color => {
    const [r, g, b] = [...rgb(color)].slice(0, 3).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (rgb(color)[3] === 255) return color;
    }
    return dark ? '#121212' : '#ffffff';
  };
  const poor = [];
  for (const e of document.body.querySelectorAll('*')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push([e.tagName, e.textContent.slice(0, 40)]);
  }
  return poor;
}"""


class Seen:
    """What a browser did on one page.

    Attributes:
        images: address, natural width and alternative text of each picture.
        links: the addresses that links lead to, without what follows ``#``.
    """

    def __init__(self, page: Any, address: str, width: int = 1400, scheme: str = "light"):
        """Open an address and look at all of it; what a page must never do fails the test."""
        # What the page before still fetches is broken off now, and counts for none.
        page.goto("about:blank")
        wrong: list[str] = []
        asked: list[str] = []
        listeners = {
            "console": lambda message: wrong.append(f"console: {message.text}"),
            "pageerror": lambda error: wrong.append(f"error: {error}"),
            "requestfailed": lambda request: wrong.append(f"failed: {request.url[:200]}"),
            "request": lambda request: asked.append(request.url),
        }
        for event, listener in listeners.items():
            page.on(event, listener)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.goto(address)
        self.images = [tuple(image) for image in page.evaluate(_LOAD)]
        self.title = page.title()
        self.links = page.eval_on_selector_all(
            "a[href]", "all => all.map(a => a.href.split('#')[0])"
        )
        self.wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        self.poor = page.evaluate(_CONTRAST)
        self.unnamed = page.eval_on_selector_all(
            "a[href]",
            "all => all.filter(a => !a.textContent.trim() && !a.getAttribute('aria-label')"
            " && ![...a.querySelectorAll('img')].some(i => i.alt)).map(a => a.href)",
        )
        self.headings = page.eval_on_selector_all(
            "h1, h2, h3, h4", "all => all.map(h => Number(h.tagName[1]))"
        )
        self.scripts = len(page.query_selector_all("script"))
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
        assert wrong == [], wrong
        assert {url.split(":")[0] for url in asked} <= {"file", "data"}
        assert [image for image in self.images if image[1] == 0] == []
        assert self.wide <= 0, f"{address} is {self.wide} pixels too wide for {width}"
        assert self.poor == [] and self.unnamed == [] and self.scripts == 0
        # One heading of the first level, and none that skips a level below it.
        assert self.headings[0] == 1 and self.headings.count(1) == 1
        assert all(b <= a + 1 for a, b in zip(self.headings, self.headings[1:], strict=False))
