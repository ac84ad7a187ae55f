"""Hits as a notebook shows them: a fragment of HTML with its pictures inside and no script."""

from __future__ import annotations

import base64
import html
from pathlib import PurePath
from typing import TYPE_CHECKING

from query.explore.thumbnails import thumbnail

if TYPE_CHECKING:
    from query.hits import Hit, Hits

#: Hits shown; the rest are counted. A thumbnail is about 6 kB in the notebook's file.
SHOWN = 50

_GRID = "display:flex;flex-wrap:wrap;gap:8px"
_CARD = "width:120px;margin:0;font-size:12px;line-height:1.3;overflow-wrap:anywhere"
_IMAGE = "width:120px;height:120px;object-fit:contain;background:#8881;border-radius:4px"


def hits_html(hits: Hits) -> str:
    """A line about the query and a picture of each of the first hits."""
    asked = getattr(hits.query, "image", "") or getattr(hits.query, "text", "")
    said = f" ({html.escape(hits.query.word)})" if hits.query.word else ""
    head = (
        f"<div>{len(hits)} alike in <b>{html.escape(hits.query.condition)}</b> to "
        f"{html.escape(asked)}{said}</div>"
    )
    cards = "".join(_card(hit) for hit in hits[:SHOWN])
    rest = len(hits) - SHOWN
    more = f"<div>... and {rest} more</div>" if rest > 0 else ""
    return f'<div>{head}<div style="{_GRID}">{cards}</div>{more}</div>'


def _card(hit: Hit) -> str:
    name = html.escape(hit.path, quote=True)
    data = thumbnail(hit.path, hit.key)
    if data is None:
        picture = f'<div style="{_IMAGE}" title="{name}">not readable now</div>'
    else:
        address = "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
        short = html.escape(PurePath(hit.path).name, quote=True)
        picture = f'<img style="{_IMAGE}" src="{address}" alt="{short}" title="{name}">'
    word = f"<b>{html.escape(hit.word)}</b> " if hit.word else ""
    return (
        f'<figure style="{_CARD}">{picture}<figcaption>{hit.rank}. {word}'
        f"{hit.score:.3f}</figcaption></figure>"
    )
