"""Deletes gone files and their pictures from a gallery. Nothing else deletes pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.caches import forget_caches
from indexes.store.gallery import Gallery
from indexes.store.records import FILES, LISTINGS, is_address, stored_path
from indexes.store.writer import Writer
from ingest.scan.known_files import KnownFiles, KnownListings
from ingest.sources.base import MissingSource
from ingest.sources.factory import stored_file

#: Deleting a larger share of a gallery needs a confirmation: more likely a drive is not plugged in.
LARGEST_SHARE = 0.1

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PrunePlan:
    """What to delete from a gallery.

    Attributes:
        paths: stored paths of files that are gone.
        keys: pictures that have no other file.
        files: number of files in the gallery.
        pictures: number of pictures in the gallery.
        source: name of a remembered source that has no file any more; empty if there is none.
    """

    paths: list[str]
    keys: list[str]
    files: int
    pictures: int
    source: str = ""

    @property
    def share(self) -> float:
        """The share of the files or of the pictures, whichever is larger, to delete: 0 to 1."""
        return max(len(self.paths) / max(1, self.files), len(self.keys) / max(1, self.pictures))


def find_gone(gallery: Gallery, source: str | None = None) -> PrunePlan:
    """Find the files that are gone, and the pictures that have no other file.

    Args:
        gallery: the gallery.
        source: a folder, table or shard whose missing files count as gone although no scan has
            marked them, as when all of it was deleted.

    Raises:
        UsageError: if the gallery has no file from ``source``.
    """
    known = KnownFiles(gallery.read("files", FILES))
    gone = known.gone.copy()
    name = ""
    if source is not None:
        name = source.rstrip("/") if is_address(source) else stored_path(source, gallery.root)
        from_source, missing = _files_of_source(gallery, known, name)
        gone |= missing
        name = name if name in gallery.sources() and not (from_source & ~gone).any() else ""
    kept_keys = {key for key in known.keys(np.flatnonzero(~gone)) if key}
    keys: set[str] = set(gallery.read_keys())
    paths = known.paths(np.flatnonzero(gone))
    return PrunePlan(sorted(paths), sorted(keys - kept_keys), len(known), len(keys), name)


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


def delete_gone(gallery: Gallery, writer: Writer, plan: PrunePlan) -> None:
    """Delete the files of a plan, and its pictures with their vectors.

    Vectors are deleted first and files last: if this is interrupted, the next run finds the rest.

    Args:
        gallery: the gallery.
        writer: the writer of the same gallery.
        plan: the plan from :func:`find_gone`, made while ``writer`` was held.
    """
    tables = gallery.conditions()
    writer.forget_pictures(plan.keys, tables)
    writer.forget_files(plan.paths)
    if plan.source:
        writer.forget_source(plan.source)
    if plan.keys:
        forget_caches(gallery.indexes, [table.table for table in tables])
        writer.put_statistics({t.table: gallery.computed_statistics(t) for t in tables})
        writer.maintain(due_only=False)
