"""Writes the pages of a gallery into a folder, and renews them there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cies.html.gallery import COPIES, THUMBNAILS, ConditionGroups, Pictures, page_names, pages
from cies.html.links import write_copies
from cies.html.pictures import drop_other_thumbnails, is_temporary, write_thumbnails
from cies.html.rendering import STYLE_NAME, render
from indexes.errors import CiesError, UsageError
from indexes.files import write_atomic
from indexes.store.gallery import Gallery
from indexes.store.records import is_address
from ingest.fill.pipeline import Progress
from query.hits import SCHEMA_VERSION

#: The file that marks a folder as written by ``cies gallery`` and lists its content.
MARKER = "cies-gallery.json"

#: Pages are deleted by the names in that file, so only names that we give are accepted.
_PAGE = re.compile(r"(?:[a-z0-9-]+/)?[a-z0-9-]+(?:\.\d+)?\.html")


def check_folder(folder: Path, gallery: Gallery) -> None:
    """Refuse a folder that is not free for pages, before any work is done.

    Raises:
        UsageError: if it holds other files, is a file, lies in the gallery, or lies in a source of
            the gallery, where the next ingest would embed the thumbnails.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the pages with --html.")
    marked = not folder.is_dir() or (folder / MARKER).is_file()
    # A run that was killed at once leaves only its half-written marker.
    if not marked and not all(is_temporary(path) for path in folder.iterdir()):
        raise UsageError(
            f"{folder} holds other files; name a new folder, an empty one, or one that "
            "`cies gallery` made."
        )
    resolved = folder.resolve()
    for name in gallery.sources():
        source = Path(gallery.location(name)).resolve()
        if not is_address(name) and source.is_dir() and resolved.is_relative_to(source):
            raise UsageError(
                f"{folder} lies in {source}, a source of the gallery, and its thumbnails would be "
                "ingested as pictures; choose a folder elsewhere."
            )
    if resolved.is_relative_to(gallery.path.resolve()):
        raise UsageError(f"{folder} lies in the gallery's own folder; choose one elsewhere.")


def write_folder(
    folder: Path,
    gallery: Gallery,
    sections: Sequence[ConditionGroups],
    originals: bool = False,
    progress: Callable[[Progress], None] = lambda state: None,
) -> dict[str, Any]:
    """Write or renew all pages and thumbnails.

    Existing thumbnails stay. Every file is replaced as a whole, the overview last, and files that
    are not wanted any more are deleted only then: at any moment, every link leads to a file. The
    next run continues one that was killed.

    Args:
        folder: accepted by :func:`check_folder`; created if it does not exist.
        gallery: the one that the groups are of.
        sections: the conditions and their groups.
        originals: whether pictures link to their files.
        progress: called after each thumbnail.

    Returns:
        The content of the marker: conditions, groups with their words, pages and sizes, and the
        keys that cannot be shown.

    Raises:
        CiesError: if a file cannot be written.
    """
    stored = gallery.paths(gone=True)
    keys = {s.table.keys[row] for s in sections for g in s.groups for row in [*g.sure, *g.likely]}
    paths = {key: [gallery.location(path) for path in stored.get(key, [])] for key in sorted(keys)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _listed_pages(folder)
        written = set(page_names(sections))
        # If this run is killed, the next one recognises the folder and every page in it.
        _mark(folder, {"schema_version": SCHEMA_VERSION, "pages": sorted(before | written)})
        unreadable = write_thumbnails(paths, folder / THUMBNAILS, progress)
        copies = write_copies(paths, folder / COPIES) if originals else {}
        shown = Pictures(paths, unreadable, folder.resolve() if originals else None, copies)
        write_atomic(folder / STYLE_NAME, render(STYLE_NAME).encode(), durable=False)
        for name, page in pages(sections, shown):
            write_atomic(folder / name, page.encode(), durable=False)
        about = {
            "schema_version": SCHEMA_VERSION,
            "conditions": [_summary(section) for section in sections],
            "unreadable": sorted(unreadable),
            "pages": sorted(written),
        }
        _mark(folder, about)
        _delete_pages(folder, before - written)
        drop_other_thumbnails(folder / THUMBNAILS, paths)
        for path in (folder / COPIES).glob("*.jpg"):
            if path.name not in copies.values():
                path.unlink(missing_ok=True)
    except OSError as error:
        raise CiesError(
            f"Cannot write into {folder}: {(error.strerror or str(error)).lower()}; choose another "
            "place with --html, or run the same command again to continue."
        ) from error
    return about


def _summary(section: ConditionGroups) -> dict[str, Any]:
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
    document = json.dumps(about, indent=1) + "\n"
    write_atomic(folder / MARKER, document.encode(), durable=False)


def _listed_pages(folder: Path) -> set[str]:
    """The pages that earlier runs wrote, by the marker."""
    try:
        listed = json.loads((folder / MARKER).read_bytes())["pages"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in listed if isinstance(name, str) and _PAGE.fullmatch(name)}


def _delete_pages(folder: Path, names: set[str]) -> None:
    """Delete pages, folders that become empty, and what killed runs left half-written."""
    for path in [*folder.glob("*"), *folder.glob("*/*")]:
        if is_temporary(path):
            path.unlink(missing_ok=True)
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        with suppress(OSError):  # it holds other files
            path.parent.rmdir()
