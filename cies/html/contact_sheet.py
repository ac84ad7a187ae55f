"""Self-contained HTML pages: the pictures are inside, nothing is fetched, no script runs."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Sequence

from indexes.errors import CiesError
from query.explore.thumbnails import prune, thumbnail
from query.hits import Hit, Hits

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #5f6068; --good: #1a7f4b; }
@media (prefers-color-scheme: dark) { :root { --quiet: #a3a4ad; --good: #3fbf7f; } }
* { box-sizing: border-box; }
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px;
  padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
p { color: var(--quiet); margin: 0 0 1.25rem; max-width: 60rem; }
section { display: grid; grid-template-columns: 170px 1fr; gap: 1rem; padding: .9rem 0;
  border-top: 1px solid var(--line); align-items: start; }
h2 { font-size: 1.15rem; margin: 0; overflow-wrap: anywhere; }
h2 + div { color: var(--quiet); font-size: .85rem; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fill, minmax(100px, 1fr)); }
figure { margin: 0; }
figure img, .gone { width: 100%; aspect-ratio: 1; object-fit: contain; display: block;
  background: #8881; border-radius: 6px; }
.gone { display: grid; place-items: center; color: var(--quiet); font-size: .8rem; }
figcaption { font-size: .8rem; margin-top: .2rem; overflow-wrap: anywhere; }
figcaption b { font-weight: 600; }
figcaption span { color: var(--quiet); display: block; }
.query { width: 150px; }
.query img { outline: 3px solid var(--good); outline-offset: -3px; }
@media (max-width: 640px) { section { grid-template-columns: 1fr; } }
"""


@dataclass(frozen=True)
class Row:
    """One line of a page: a search and what it found."""

    title: str
    note: str
    hits: Hits


@cache
def _address(path: str, key: str) -> str | None:
    """A picture as a data address, or ``None`` if it cannot be read any more."""
    data = thumbnail(path, key)
    if data is None:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")


def _picture(path: str, key: str = "") -> str:
    address = _address(path, key) if path else None
    name = html.escape(path, quote=True)
    if address is None:
        return f'<div class="gone" title="{name}">not readable now</div>'
    return f'<img src="{address}" alt="{html.escape(Path(path).name, quote=True)}" title="{name}">'


def _figure(hit: Hit) -> str:
    word = f"<b>{html.escape(hit.word)}</b> " if hit.word else ""
    return (
        f"<li><figure>{_picture(hit.path, hit.key)}<figcaption>{word}"
        f'<span title="cosine, and the share of pairs in this gallery that are less alike">'
        f"{hit.score:.2f} &middot; {min(hit.percentile, 99.9):.1f}%</span>"
        "</figcaption></figure></li>"
    )


def _section(row: Row) -> str:
    word = row.hits.query.word
    said = f"the query: <b>{html.escape(word)}</b>" if word else ""
    figures = "".join(_figure(hit) for hit in row.hits)
    return (
        f"<section><div><h2>{html.escape(row.title)}</h2><div>{html.escape(row.note)}</div>"
        f"<div>{said}</div></div><ol>{figures}</ol></section>"
    )


def render_page(title: str, introduction: str, query: str, rows: Sequence[Row]) -> str:
    """A page of searches for one picture.

    Args:
        title: the heading.
        introduction: a sentence below it.
        query: path of the query's picture, or empty.
        rows: one search each.
    """
    shown = (
        "<section><div><h2>the query</h2></div>"
        f'<figure class="query">{_picture(query)}</figure></section>'
        if query
        else ""
    )
    sections = "".join(_section(row) for row in rows)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<main><h1>{html.escape(title)}</h1><p>{html.escape(introduction)}</p>"
        f"{shown}{sections}</main></body></html>\n"
    )


def write_page(path: Path, page: str) -> None:
    """Write a page.

    Raises:
        CiesError: if the place cannot be written to.
    """
    try:
        path.write_text(page, encoding="utf-8", errors="replace")
        prune()
    except OSError as error:
        raise CiesError(
            f"Cannot write {path}: {(error.strerror or str(error)).lower()}; choose another "
            "place with --html."
        ) from error
