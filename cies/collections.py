"""Collections: named lists of pictures that a gallery keeps.

A collection holds content keys, so that renamed and moved files stay in it. Each function that
changes one holds the writer's lock, and what it has changed is on the disk when it returns.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cies.learn import PictureNames
from eval.labels import Labels
from indexes.errors import UsageError
from indexes.printable import plain_cell
from indexes.store.gallery import Gallery
from query.collections import collection_keys
from query.question import shortened

#: The most pictures of a collection: it is one entry of the manifest, which every command reads.
MOST_PICTURES = 100_000

#: The longest name.
_LONGEST = 100


@dataclass(frozen=True)
class CollectionChange:
    """What a command changed.

    Attributes:
        name: the collection.
        changed: how many pictures were added or taken out.
        pictures: how many it has now.
    """

    name: str
    changed: int
    pictures: int


def collections(gallery: Gallery) -> dict[str, int]:
    """The gallery's collections by name, with the number of their pictures that it still has."""
    known = gallery.paths(gone=True)
    return {name: sum(key in known for key in keys) for name, keys in gallery.collections().items()}


def add(gallery: Gallery, name: str, pictures: Iterable[str | Path]) -> CollectionChange:
    """Add pictures to a collection, which is made if there is none; those in it are kept once.

    Args:
        gallery: the gallery.
        name: the collection's name.
        pictures: keys, paths, file names that only one picture has, or ``@NAME`` for all of
            another collection.

    Raises:
        UsageError: if the name cannot be one, or a picture is not in the gallery.
        GalleryLocked: if another process is writing.
    """
    name = _checked(name)
    keys = _keys(gallery, pictures)
    if not keys:
        raise UsageError(f"Name pictures to add to the collection {shortened(name)}.")
    with gallery.writer() as writer:
        before = gallery.collections().get(name, [])
        now = list(dict.fromkeys([*before, *keys]))
        if len(now) > MOST_PICTURES:
            raise UsageError(
                f"A collection has at most {MOST_PICTURES:,} pictures, and {shortened(name)} would "
                f"have {len(now):,}; give these pictures a column by a table instead."
            )
        if now != before:
            writer.put_collection(name, now)
    return CollectionChange(name, len(now) - len(before), len(now))


def take_out(gallery: Gallery, name: str, pictures: Iterable[str | Path]) -> CollectionChange:
    """Take pictures out of a collection; it stays, even if it is empty then.

    Args:
        gallery: the gallery.
        name: the collection's name.
        pictures: as for :func:`add`.

    Raises:
        UsageError: if there is no such collection, or a picture is not in the gallery.
        GalleryLocked: if another process is writing.
    """
    collection_keys(gallery, name)
    gone = set(_keys(gallery, pictures))
    with gallery.writer() as writer:
        before = collection_keys(gallery, name)
        now = [key for key in before if key not in gone]
        if now != before:
            writer.put_collection(name, now)
    return CollectionChange(name, len(before) - len(now), len(now))


def remove(gallery: Gallery, name: str) -> CollectionChange:
    """Remove a collection; its pictures stay in the gallery.

    Raises:
        UsageError: if there is no such collection.
        GalleryLocked: if another process is writing.
    """
    with gallery.writer() as writer:
        before = collection_keys(gallery, name)
        writer.forget_collection(name)
    return CollectionChange(name, len(before), 0)


def members(gallery: Gallery, name: str) -> dict[str, str]:
    """A collection's pictures that the gallery still has: key to path on this machine, in order.

    Raises:
        UsageError: if there is no such collection.
    """
    paths = gallery.paths(gone=True)
    keys = collection_keys(gallery, name)
    return {key: gallery.location(paths[key][0]) for key in keys if key in paths}


def as_csv(rows: Iterable[tuple[str, str]]) -> str:
    """Keys and paths as CSV with the header ``key,path``; no cell is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("key", "path"))
    writer.writerows((key, plain_cell(path)) for key, path in rows)
    return text.getvalue()


def _keys(gallery: Gallery, pictures: Iterable[str | Path]) -> list[str]:
    """The distinct keys of the named pictures.

    Raises:
        UsageError: if one is not in the gallery, or there is no collection of a name.
    """
    names = PictureNames(gallery)
    return list(dict.fromkeys(key for one in pictures for key in names.keys(str(one))))


def _checked(name: str) -> str:
    """A collection's name without spaces around it.

    Raises:
        UsageError: if it cannot be one.
    """
    name = name.strip()
    sound = name and name.isprintable() and len(name) <= _LONGEST
    if not sound or name[0] in "@-" or set(name) & set(",=/\\"):
        raise UsageError(
            f"A collection cannot be called {shortened(name)}; use up to {_LONGEST} letters, "
            "digits and spaces, without , = / \\ and not beginning with @ or -."
        )
    return name


def labels_of(gallery: Gallery, given: Sequence[str]) -> Labels:
    """Collections as the labels of ``cies eval``.

    Args:
        gallery: the gallery.
        given: each ``LABEL=NAME,NAME``: the collections that are the values of a label.

    Raises:
        UsageError: if a text is not of this form, there is no collection of a name, or a picture
            is in two collections of one label.
    """
    paths = gallery.paths()
    columns: list[str] = []
    found: dict[str, dict[str, str]] = {}
    for text in given:
        label, _, names = text.partition("=")
        listed = [name.strip() for name in names.split(",") if name.strip()]
        if not label.strip() or len(listed) < 2:
            raise UsageError(
                f"--collections {shortened(text)} names no label with two collections or more; "
                "write --collections color=red,blue."
            )
        column = label.strip()
        columns.append(column)
        for name in listed:
            for path in (paths[key][0] for key in collection_keys(gallery, name) if key in paths):
                values = found.setdefault(path, {})
                if values.setdefault(column, name) != name:
                    raise UsageError(
                        f"{path} is in the collections {values[column]} and {name}; take it out of "
                        f"one, so that it has one value of '{column}'."
                    )
    distinct = tuple(dict.fromkeys(columns))
    full = {path: {name: own.get(name, "") for name in distinct} for path, own in found.items()}
    return Labels(Path("--collections"), distinct, full)
