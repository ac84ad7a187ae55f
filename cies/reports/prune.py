"""``cies prune``: says what would be forgotten, and forgets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cies.console import print_json, say
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.fill.prune import LARGEST_SHARE, PrunePlan, find_gone, forget
from query.hits import SCHEMA_VERSION

#: Files named on stderr; all of them are in the JSON document.
_SHOWN = 10


def run_prune(place: Path, source: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Forget what is gone.

    Args:
        place: the gallery's folder.
        source: forget what is not there any more of this source, too.
        dry_run: only say what would be done.
        yes: forget even a large share.
        as_json: print one JSON document.

    Raises:
        GalleryMissing: if there is no gallery.
        GalleryLocked: if another process is writing.
        UsageError: if more than a tenth would be forgotten and ``yes`` is not given.
    """
    gallery = Gallery.open(place)
    if dry_run:
        what = find_gone(gallery, source)
        _tell(what, as_json, place, done=False)
        return
    with gallery.writer() as writer:
        what = find_gone(gallery, source)
        if what.share > LARGEST_SHARE and not yes:
            _show(what)
            raise UsageError(
                f"That is {what.share:.0%} of the gallery at {place}; if no drive is unplugged "
                "and it is meant, add --yes."
            )
        forget(gallery, writer, what)
    _tell(what, as_json, place, done=True)


def _show(what: PrunePlan) -> None:
    for path in what.paths[:_SHOWN]:
        say(f"gone: {path!r}")
    if len(what.paths) > _SHOWN:
        say(f"... and {len(what.paths) - _SHOWN} more; `cies status --gone` lists all of them.")
    say(
        f"Gone: {len(what.paths)} of {what.files} files; {len(what.keys)} of {what.pictures} "
        "pictures have no file left, and would be forgotten with their vectors."
    )


def _tell(what: PrunePlan, as_json: bool, place: Path, done: bool) -> None:
    if not as_json:
        _show(what)
        nothing = not (what.paths or what.keys or what.source)
        say("Nothing to forget." if nothing else "Forgotten." if done else "Nothing was changed.")
        return
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "gallery": str(place),
        "done": done,
        "paths": what.paths,
        "keys": what.keys,
        "files": what.files,
        "pictures": what.pictures,
        "share": round(what.share, 6),
    }
    print_json(document)
