"""Contact sheets: one page with all its pictures inside. It fetches nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cies.html.rendering import jpeg_address, render
from indexes.errors import CiesError
from query.explore.thumbnails import prune_thumbnails, thumbnail
from query.hits import Hits


@dataclass(frozen=True)
class SheetRow:
    """One row of a contact sheet: a search and its hits."""

    title: str
    note: str
    hits: Hits


def render_page(title: str, introduction: str, query: str, rows: Sequence[SheetRow]) -> str:
    """A page of searches for one picture.

    Args:
        title: the heading.
        introduction: a sentence below it.
        query: path of the query's picture, or empty.
        rows: one search each.
    """
    addresses: dict[tuple[str, str], str | None] = {}

    def picture(path: str, key: str = "") -> dict[str, str | None]:
        if (path, key) not in addresses:
            data = thumbnail(path, key) if path else None
            addresses[path, key] = None if data is None else jpeg_address(data)
        return {"path": path, "name": Path(path).name, "address": addresses[path, key]}

    def values(row: SheetRow) -> dict[str, Any]:
        hits = [
            {
                "picture": picture(hit.path, hit.key),
                "word": hit.word,
                "score": hit.score,
                "percentile": min(hit.percentile, 99.9),
            }
            for hit in row.hits
        ]
        return {"title": row.title, "note": row.note, "word": row.hits.query.word, "hits": hits}

    return render(
        "contact_sheet.html.j2",
        root=None,
        title=title,
        heading=title,
        introduction=introduction,
        query=picture(query) if query else None,
        rows=[values(row) for row in rows],
    )


def write_page(path: Path, page: str) -> None:
    """Write a page.

    Raises:
        CiesError: if the file cannot be written.
    """
    try:
        path.write_text(page, encoding="utf-8", errors="replace")
        prune_thumbnails()
    except OSError as error:
        raise CiesError(
            f"Cannot write {path}: {(error.strerror or str(error)).lower()}; choose another "
            "place with --html."
        ) from error
