"""Deletes gone files and their pictures from a gallery. Nothing else deletes pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.caches import forget_caches
from indexes.store.attributes import accepted_paths, attributes
from indexes.store.gallery import Gallery
from indexes.store.records import (
    FILES,
    LISTINGS,
    file_records,
    is_address,
    stored_path,
    unescaped,
)
from indexes.store.writer import Writer
from ingest.scan.known_files import KnownFiles, KnownListings
from ingest.sources.base import MissingSource
from ingest.sources.factory import stored_file
from ingest.sources.patterns import expand_braces, has_wildcard

#: Losing a larger share of the pictures needs a confirmation: more likely a drive is not plugged
#: in.
LARGEST_SHARE = 0.1

Mask = NDArray[np.bool_]

#: Which rows of a table of attributes a filter accepts: bool [rows].
Matching = Callable[[pa.Table], NDArray[np.bool_]]

#: The reason of a file whose removal is in progress; its picture is not found any more.
REMOVED = "removed"

#: File records in one commit.
_RECORDS = 20_000


@dataclass(frozen=True)
class Removal:
    """What to delete from a gallery.

    Attributes:
        paths: stored paths of files.
        keys: pictures that have no other file.
        files: number of files in the gallery.
        pictures: number of pictures in the gallery.
        source: name of a remembered source, named by the user, that has no file any more; empty
            if there is none.
        absent: names of other remembered sources that do not exist and have no file any more.
        returning: files that are still in a remembered source, so that the next ingest adds them
            again: name of the source to number of files.
    """

    paths: list[str]
    keys: list[str]
    files: int
    pictures: int
    source: str = ""
    absent: tuple[str, ...] = ()
    returning: Mapping[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The share of the pictures that is lost: 0 to 1."""
        return len(self.keys) / max(1, self.pictures)


def find_gone(
    gallery: Gallery, source: str | None = None, matching: Matching | None = None
) -> Removal:
    """Find the files that are gone, and the pictures that have no other file.

    Without a filter, sources that do not exist any more and have no other file are found as well.

    Args:
        gallery: the gallery.
        source: a folder, table or shard whose missing files count as gone although no scan has
            marked them, as when all of it was deleted.
        matching: accepts rows of :func:`indexes.store.attributes.attributes`; only files are
            found of which it accepts all rows.

    Raises:
        UsageError: if the gallery has no file from ``source``.
    """
    files = gallery.read("files", FILES)
    known = KnownFiles(files)
    gone = known.gone.copy()
    name = ""
    if source is not None:
        name = source.rstrip("/") if is_address(source) else stored_path(source, gallery.root)
        from_source, missing = _files_of_source(gallery, known, name)
        gone |= missing
        name = name if name in gallery.sources() and not (from_source & ~gone).any() else ""
    if matching is not None:
        name = ""
        rows = attributes(gallery, gone=True)
        accepted = accepted_paths(rows, matching(rows))
        gone &= pc.is_in(files.column("path"), accepted).to_numpy().astype(np.bool_)
    kept_keys = {key for key in known.keys(np.flatnonzero(~gone)) if key}
    every = gallery.read_keys()
    lost = every - kept_keys
    if matching is not None:
        lost &= set(known.keys(np.flatnonzero(gone)))
    paths = known.paths(np.flatnonzero(gone))
    absent: set[str] = set()
    if matching is None:
        absent = sources_without_files(gallery) - {name}
    return Removal(sorted(paths), sorted(lost), len(known), len(every), name, tuple(sorted(absent)))


def sources_without_files(gallery: Gallery) -> set[str]:
    """Remembered local sources that do not exist now, and of which every file is gone."""
    absent = [
        name
        for name in gallery.sources()
        if not is_address(name)
        and not has_wildcard(name)
        and expand_braces(name) == [name]
        and not os.path.lexists(gallery.root / unescaped(name))
    ]
    if not absent:
        return set()
    listings = KnownListings(gallery.read("listings", LISTINGS))
    files = gallery.read("files", FILES)
    existing = files.filter(pc.not_equal(files.column("status"), "gone"))
    kept = set(existing.column("path").to_pylist())
    return {
        name
        for name in absent
        if kept.isdisjoint(listings.listed_by(name))
        and not any(map(MissingSource(name).covers, kept))
    }


def _files_of_source(gallery: Gallery, known: KnownFiles, name: str) -> tuple[Mask, Mask]:
    """Which known files are from a source, and which of them do not exist now: bool [n] each."""
    covers = MissingSource(name).covers
    listed = set(KnownListings(gallery.read("listings", LISTINGS)).listed_by(name))
    from_source = np.zeros(len(known), dtype=bool)
    missing = np.zeros(len(known), dtype=bool)
    for rows, paths in known.paths_in_chunks(np.arange(len(known))):
        for row, path in zip(rows.tolist(), paths, strict=True):
            if covers(path) or path in listed:
                from_source[row] = True
                missing[row] = stored_file(path, gallery.root).status == "vanished"
    if not from_source.any() and name not in gallery.sources():
        raise UsageError(
            f"The gallery at {gallery.path} knows no file from {name}; `cies status` lists its "
            "sources."
        )
    return from_source, missing


def delete_gone(gallery: Gallery, writer: Writer, removal: Removal) -> None:
    """Delete files, and pictures with their vectors; all of it is on the disk on return.

    The files are first marked as gone, so that their pictures disappear under all conditions at
    once, then vectors are deleted, and files last. If this is interrupted, nothing is damaged,
    and the next removal, prune or ingest continues it.

    Args:
        gallery: the gallery.
        writer: the writer of the same gallery.
        removal: the plan, made while ``writer`` was held.
    """
    tables = gallery.conditions()
    _mark(gallery, writer, removal.paths)
    writer.forget_pictures(removal.keys, tables)
    writer.forget_files(removal.paths)
    for source in (removal.source, *removal.absent):
        if source:
            writer.forget_source(source)
    if removal.keys:
        forget_caches(gallery.indexes, [table.table for table in tables])
    writer.put_statistics(gallery.outdated_statistics())
    writer.maintain(due_only=False)


def _mark(gallery: Gallery, writer: Writer, paths: Sequence[str]) -> None:
    """Mark files that are not gone as gone."""
    files = gallery.read("files", FILES)
    existing = files.filter(
        pc.and_(
            pc.is_in(files.column("path"), pa.array(paths, pa.string())),
            pc.not_equal(files.column("status"), "gone"),
        )
    )
    now = int(time.time())
    for start in range(0, existing.num_rows, _RECORDS):
        records = file_records(existing.slice(start, _RECORDS))
        writer.put_files(
            [replace(record, status="gone", reason=REMOVED, gone_at=now) for record in records]
        )
