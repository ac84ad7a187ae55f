"""Writes the pages of a gallery into a folder of their own, and keeps them there up to date."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cies.html.gallery import THUMBNAILS, Pictures, Section, page_names, pages
from cies.html.pictures import drop_other_thumbnails, write_thumbnails, write_whole
from cies.html.style import STYLE, STYLE_NAME
from indexes.errors import CiesError, UsageError
from indexes.store.gallery import Gallery
from indexes.store.records import is_address
from ingest.fill.pipeline import Progress
from query.hits import SCHEMA_VERSION

#: The file by which a folder is known as one of ours, and that says what is in it.
MARKER = "cies-gallery.json"

#: Pages are taken away by the names in that file, so these must be names we give.
_PAGE = re.compile(r"(?:[a-z0-9-]+/)?[a-z0-9-]+(?:\.\d+)?\.html")


def check_folder(folder: Path, gallery: Gallery) -> None:
    """Refuse a folder in which pages would be in the way, before any work is done.

    Raises:
        UsageError: if it holds other files, is no folder, or lies where pictures are ingested
            from, which would take the thumbnails for pictures.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the pages with --html.")
    ours = {f"{MARKER}.partial"}  # all that a run leaves that was killed at once
    known = not folder.is_dir() or (folder / MARKER).is_file()
    if not known and any(path.name not in ours for path in folder.iterdir()):
        raise UsageError(
            f"{folder} holds other files; name a new folder, an empty one, or one that "
            "`cies gallery` made."
        )
    whole = folder.resolve()
    for name in gallery.sources():
        source = Path(gallery.location(name)).resolve()
        if not is_address(name) and source.is_dir() and whole.is_relative_to(source):
            raise UsageError(
                f"{folder} lies in {source}, from which the gallery's pictures come, and its "
                "thumbnails would be ingested as pictures; choose a folder elsewhere."
            )
    if whole.is_relative_to(gallery.path.resolve()):
        raise UsageError(f"{folder} lies in the gallery's own folder; choose one elsewhere.")


def write_folder(
    folder: Path,
    gallery: Gallery,
    sections: Sequence[Section],
    originals: bool = False,
    progress: Callable[[Progress], None] = lambda state: None,
) -> dict[str, Any]:
    """Write or renew all pages and thumbnails.

    Thumbnails that are there stay. Every file is replaced whole, the overview last, and what is
    not wanted any more goes only then: at any moment, every link leads somewhere. A run that is
    killed is gone on with by the next.

    Args:
        folder: passed :func:`check_folder`; made if it is not there.
        gallery: the pictures'.
        sections: the conditions and their groups.
        originals: whether pictures link to their files.
        progress: told after each thumbnail.

    Returns:
        What the marker says: conditions, groups with their words, pages and sizes, and the keys
        that cannot be shown.

    Raises:
        CiesError: if the folder cannot be written to.
    """
    stored = gallery.paths(gone=True)
    keys = {s.table.keys[row] for s in sections for g in s.groups for row in [*g.sure, *g.likely]}
    paths = {key: [gallery.location(path) for path in stored.get(key, [])] for key in sorted(keys)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _pages_there(folder)
        written = set(page_names(sections))
        # If this run is killed, the next one knows the folder and all that may lie in it.
        _mark(folder, {"schema_version": SCHEMA_VERSION, "pages": sorted(before | written)})
        unreadable = write_thumbnails(paths, folder / THUMBNAILS, progress)
        shown = Pictures(paths, unreadable, folder.resolve() if originals else None)
        write_whole(folder / STYLE_NAME, STYLE.encode())
        for name, page in pages(sections, shown):
            write_whole(folder / name, page.encode())
        about = {
            "schema_version": SCHEMA_VERSION,
            "conditions": [_summary(section) for section in sections],
            "unreadable": sorted(unreadable),
            "pages": sorted(written),
        }
        _mark(folder, about)
        _take_away(folder, before - written)
        drop_other_thumbnails(folder / THUMBNAILS, paths)
    except OSError as error:
        raise CiesError(
            f"Cannot write into {folder}: {(error.strerror or str(error)).lower()}; choose another "
            "place with --html, or run the same command again to go on."
        ) from error
    return about


def _summary(section: Section) -> dict[str, Any]:
    groups = [
        {
            "word": group.word,
            "words": [vars(word) for word in group.facet.words],
            "pictures": group.pictures,
            "placed_by_likeness": len(group.likely),
            "page": f"{section.folder}/{section.page(place)}",
        }
        for place, group in enumerate(section.groups)
    ]
    return {"condition": section.condition, "pictures": section.pictures, "groups": groups}


def _mark(folder: Path, about: dict[str, Any]) -> None:
    write_whole(folder / MARKER, (json.dumps(about, indent=1) + "\n").encode())


def _pages_there(folder: Path) -> set[str]:
    """The pages that earlier runs wrote."""
    try:
        listed = json.loads((folder / MARKER).read_bytes())["pages"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in listed if isinstance(name, str) and _PAGE.fullmatch(name)}


def _take_away(folder: Path, names: set[str]) -> None:
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: other pages are in it
            path.parent.rmdir()
