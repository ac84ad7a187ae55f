"""Contact sheets: one page with the thumbnails inside. It fetches nothing and runs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from cies.html.links import file_address, write_copies
from cies.html.rendering import jpeg_address, render
from indexes.errors import CiesError
from query.explore.thumbnails import prune_thumbnails, thumbnail
from query.hits import Hits

#: What is below each picture.
LEGEND = (
    "Below each picture: the model's word for it; its score, the cosine with the query (1 for the "
    "same vector; under several conditions a total of them; higher is more alike); its percentile, "
    "the share of all pairs of pictures in this gallery that are less alike; and the name of the "
    "file, which opens it."
)


@dataclass(frozen=True)
class SheetRow:
    """One row of a contact sheet: a search and its hits."""

    title: str
    note: str
    hits: Hits


def render_page(
    title: str,
    introduction: str,
    query: str,
    rows: Sequence[SheetRow],
    columns: Sequence[str] = (),
    legend: str = LEGEND,
    folder: Path | None = None,
    copies: Mapping[str, str] | None = None,
) -> str:
    """A page of searches for one picture.

    Args:
        title: the heading.
        introduction: a sentence below it.
        query: path of the query's picture, or empty.
        rows: one search each.
        columns: names of the columns of the hits to show.
        legend: explains what is below each picture.
        folder: the folder of the page, for links to the files; ``None`` for no links.
        copies: content key to the address of the copy of a picture that browsers can show.
    """
    shown: dict[tuple[str, str], dict[str, str | None]] = {}

    def picture(path: str, key: str = "") -> dict[str, str | None]:
        if (path, key) not in shown:
            data = thumbnail(path, key) if path else None
            link = file_address(path, folder) if folder is not None else ""
            shown[path, key] = {
                "path": path,
                "name": PurePath(path).name,
                "address": None if data is None else jpeg_address(data),
                "link": link,
                "view": (copies or {}).get(key) or link,
            }
        return shown[path, key]

    def values(row: SheetRow) -> dict[str, Any]:
        hits = [
            {
                "picture": picture(hit.path, hit.key),
                "word": hit.word,
                "score": hit.score,
                "percentile": min(hit.percentile, 99.9),
                "columns": [(name, hit.column_text(name)) for name in columns],
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
        legend=legend,
        query=picture(query) if query else None,
        rows=[values(row) for row in rows],
    )


def write_sheet(
    path: Path,
    title: str,
    introduction: str,
    query: str,
    rows: Sequence[SheetRow],
    columns: Sequence[str] = (),
    legend: str = LEGEND,
) -> None:
    """Write a page of :func:`render_page`, with links to the files. Beside it, ``PAGE.files`` gets
    a JPEG of each picture whose file browsers do not show, such as HEIC and raw files.

    Raises:
        CiesError: if a file cannot be written.
    """
    folder = path.with_suffix(".files")
    paths = {hit.key: [hit.path] for row in rows for hit in row.hits}
    try:
        copies = write_copies(paths, folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    addresses = {key: f"{quote(folder.name)}/{name}" for key, name in copies.items()}
    page = render_page(
        title, introduction, query, rows, columns, legend, path.absolute().parent, addresses
    )
    write_page(path, page)


def write_page(path: Path, page: str) -> None:
    """Write a page.

    Raises:
        CiesError: if the file cannot be written.
    """
    try:
        path.write_text(page, encoding="utf-8", errors="replace")
        prune_thumbnails()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> CiesError:
    return CiesError(
        f"Cannot write {path}: {(error.strerror or str(error)).lower()}; choose another place with "
        "--html."
    )
