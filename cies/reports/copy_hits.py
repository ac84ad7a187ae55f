"""Copies of hits, or links to them, in a folder of their own."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from cies.console import say
from indexes.errors import CiesError, UsageError
from indexes.store.records import inside, is_address
from ingest.read.images import UnreadableImage
from ingest.sources.factory import file_at
from query.hits import Hit, Hits

#: Files not copied that are named one by one; the rest are counted.
_NAMED = 5


def gather(hits: Hits, folder: Path, link: bool) -> int:
    """Put the hits into a folder, named by rank (``01-mug.jpg``); returns how many.

    A hit in an archive or at an address is copied out of it; such a one cannot be linked to, and
    is said. So is what cannot be read any more. Nothing is overwritten.

    Args:
        hits: whose files are meant.
        folder: made if it is not there.
        link: whether to link to them instead of copying.

    Raises:
        UsageError: if the folder holds a file of one of these names, before anything is written.
        CiesError: if the folder cannot be written to.
    """
    option = "--link-to" if link else "--copy-to"
    digits = len(str(len(hits)))
    names = {hit.rank: f"{hit.rank:0{digits}}-{_name(hit.path)}" for hit in hits}
    there = [name for name in names.values() if os.path.lexists(folder / name)]
    if there:
        raise UsageError(
            f"{folder} holds {there[0]} already, and nothing is overwritten; name an empty or new "
            f"folder with {option}."
        )
    left: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for hit in hits:
            reason = _linked(hit, folder / names[hit.rank]) if link else ""
            if not link:
                reason = _copied(hit, folder / names[hit.rank])
            if reason:
                left.append(f"{hit.path}: {reason}")
    except OSError as error:
        raise CiesError(
            f"Cannot write to {folder}: {(error.strerror or str(error)).lower()}; choose another "
            f"folder with {option}."
        ) from error
    for line in left[:_NAMED]:
        say(f"left out: {line}")
    if len(left) > _NAMED:
        say(f"... and {len(left) - _NAMED} more.")
    done = len(hits) - len(left)
    say(f"{done} {'links made' if link else 'files copied'} in {folder}.")
    return done


def _name(path: str) -> str:
    """A file's own name, in a folder or an archive or at an address; safe on every system."""
    within = inside(path)
    name = PurePosixPath(within[1] if within else path.replace(os.sep, "/")).name
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name)[-150:] or "picture"


def _linked(hit: Hit, place: Path) -> str:
    if is_address(hit.path) or inside(hit.path):
        kind = "at an address" if is_address(hit.path) else "in an archive"
        return f"it lies {kind}, which no link can point into; use --copy-to"
    if not Path(hit.path).is_file():
        return "there is no such file any more"
    place.symlink_to(Path(hit.path).absolute())
    return ""


def _copied(hit: Hit, place: Path) -> str:
    try:
        data = file_at(hit.path).read().data
    except UnreadableImage as error:
        return error.reason
    except UsageError as error:
        return str(error).rstrip(".")
    with place.open("xb") as file:
        file.write(data)
    return ""
