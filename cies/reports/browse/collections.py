"""``cies collections``: lists, fills, exports and removes collections."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cies import collections
from cies.collections import CollectionChange
from cies.console import print_document, print_paths, print_table, say
from cies.reports.hits import copy_hits
from indexes.errors import CiesError, UsageError
from indexes.files import replacing
from indexes.outputs import check_output
from indexes.store.gallery import Gallery
from query.collections import collection_keys
from query.hits import Hit, Hits, Query


def run_list(gallery_path: Path, as_json: bool) -> None:
    """Print the collections of a gallery.

    Raises:
        GalleryMissing: if there is no gallery.
    """
    found = collections.collections(Gallery.open(gallery_path))
    if as_json:
        listed = [{"name": name, "pictures": count} for name, count in found.items()]
        print_document({"gallery": str(gallery_path), "collections": listed})
        return
    rows = [[name, str(count)] for name, count in found.items()]
    print_table(["collection", "pictures"], rows, numbers=["pictures"])
    if not found:
        say("There are no collections; make one with `cies collections add NAME PICTURE...`.")


def run_add(
    gallery_path: Path, name: str, pictures: Sequence[str], where: str | None, as_json: bool
) -> None:
    """Add pictures to a collection.

    Args:
        gallery_path: the gallery's folder.
        name: the collection.
        pictures: see :func:`cies.collections.add`; ``-`` for paths on stdin.
        where: a filter, or ``None``.
        as_json: print one JSON document.

    Raises:
        UsageError: if a picture is not in the gallery, or the filter is wrong.
        GalleryLocked: if another process is writing.
    """
    named = [one for given in pictures for one in (_stdin() if given == "-" else [given])]
    if where is not None:
        from cies import api

        named += api.open(gallery_path, follow=False).pictures(where)
    done = collections.add(Gallery.open(gallery_path), name, named)
    _report(gallery_path, done, f"{done.changed} added", as_json)


def run_remove(
    gallery_path: Path, name: str, pictures: Sequence[str], dry_run: bool, as_json: bool
) -> None:
    """Take pictures out of a collection, or remove it if none are named.

    Raises:
        UsageError: if there is no such collection, or a picture is not in the gallery.
        GalleryLocked: if another process is writing.
    """
    gallery = Gallery.open(gallery_path)
    if dry_run:
        count = len(collection_keys(gallery, name))
        what = "it would be removed" if not pictures else f"{len(pictures)} would be taken out"
        _report(gallery_path, CollectionChange(name, 0, count), what, as_json)
    elif pictures:
        named = [one for given in pictures for one in (_stdin() if given == "-" else [given])]
        done = collections.take_out(gallery, name, named)
        _report(gallery_path, done, f"{done.changed} taken out", as_json)
    else:
        done = collections.remove(gallery, name)
        _report(gallery_path, done, f"removed, with {done.changed} pictures", as_json)


def run_export(
    gallery_path: Path,
    name: str,
    csv: Path | None,
    copy_to: Path | None,
    print0: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write a collection: paths on stdout, or as CSV or copies.

    Args:
        gallery_path: the gallery's folder.
        name: the collection.
        csv: the CSV file to write, if any.
        copy_to: the folder to copy the files into, if any.
        print0: end paths with NUL.
        force: replace a file that CIES did not make.
        as_json: print one JSON document in place of paths.

    Raises:
        UsageError: if there is no such collection, or a file would be replaced.
        CiesError: if a file cannot be written.
    """
    found = collections.members(Gallery.open(gallery_path), name)
    if csv is not None:
        check_output(csv, force)
        text = collections.as_csv(found.items()).encode("utf-8", "surrogateescape")
        try:
            with replacing(csv, parents=False) as temporary:
                temporary.write_bytes(text)
        except OSError as error:
            raise CiesError(
                f"Cannot write {csv}: {(error.strerror or str(error)).lower()}; choose another "
                "place with --csv."
            ) from error
        say(f"{len(found)} rows written to {csv}.")
    if copy_to is not None:
        copy_hits(_as_hits(name, found), copy_to)
    if as_json:
        listed = [{"key": key, "path": path} for key, path in found.items()]
        print_document({"gallery": str(gallery_path), "name": name, "pictures": listed})
    elif csv is None and copy_to is None:
        print_paths(found.values(), null=print0)


def _as_hits(name: str, found: dict[str, str]) -> Hits:
    """The pictures of a collection as hits, in its order."""
    hits = tuple(
        Hit(rank, key, path, 0.0, 0.0, "", 0.0)
        for rank, (key, path) in enumerate(found.items(), start=1)
    )
    return Hits(Query(name, "", "", True, "", 0.0), hits)


def _report(gallery_path: Path, done: CollectionChange, what: str, as_json: bool) -> None:
    if as_json:
        print_document({"gallery": str(gallery_path), **vars(done)})
    else:
        say(f"{done.name}: {what}; {done.pictures} pictures now.")


def _stdin() -> list[str]:
    """The paths on stdin, one a line, or each ended by NUL.

    Raises:
        UsageError: if there are none.
    """
    if sys.stdin.isatty():
        raise UsageError(
            "There are no paths on stdin; pipe some in, such as `cies search mug.jpg -c color -q | "
            "cies collections add mugs -`."
        )
    data = sys.stdin.buffer.read()
    parts = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [part.decode("utf-8", "surrogateescape") for part in parts if part.strip()]
