"""Forgets what is gone. The only way in which a gallery ever loses anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.caches import forget_caches
from indexes.search.geometry import Statistics
from indexes.store.gallery import Gallery
from indexes.store.records import FILES, LISTINGS, is_address, stored_path
from indexes.store.writer import Writer
from ingest.scan.known_files import KnownFiles, KnownListings
from ingest.sources.base import Missing
from ingest.sources.factory import found_at

#: A larger share of a gallery than this is not forgotten without a word: it is more likely that
#: a drive is not plugged in.
LARGEST_SHARE = 0.1

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Forgetting:
    """What is to be forgotten.

    Attributes:
        paths: stored paths of files that are gone.
        keys: pictures of which no file is left, in a gallery that has forgotten these files.
        files: all the files of the gallery.
        pictures: all its pictures.
        source: name of a remembered source of which no file is left; empty if there is none.
    """

    paths: list[str]
    keys: list[str]
    files: int
    pictures: int
    source: str = ""

    @property
    def share(self) -> float:
        """The larger share, of the files or of the pictures, that would be forgotten: 0 to 1."""
        return max(len(self.paths) / max(1, self.files), len(self.keys) / max(1, self.pictures))


def find_gone(gallery: Gallery, source: str | None = None) -> Forgetting:
    """Look for what can be forgotten.

    Args:
        gallery: where.
        source: forget the files of this folder, table or shard that are not there now, too,
            though no scan has told them gone, as when all of it was deleted.

    Raises:
        UsageError: if the gallery knows nothing from ``source``.
    """
    known = KnownFiles(gallery.read("files", FILES))
    drop = known.gone.copy()
    name = ""
    if source is not None:
        name = source.rstrip("/") if is_address(source) else stored_path(source, gallery.root)
        own, missing = _missing_of(gallery, known, name)
        drop |= missing
        name = name if name in gallery.sources() and not (own & ~drop).any() else ""
    kept = {key for key in known.keys(np.flatnonzero(~drop)) if key}
    held: set[str] = set(gallery.read_keys())
    paths = known.paths(np.flatnonzero(drop))
    return Forgetting(sorted(paths), sorted(held - kept), len(known), len(held), name)


def _missing_of(gallery: Gallery, known: KnownFiles, name: str) -> tuple[Mask, Mask]:
    """The files of a source, and those of them that are not there now."""
    covers = Missing(name).covers
    listed = set(KnownListings(gallery.read("listings", LISTINGS)).listed_by(name))
    own = np.zeros(len(known), dtype=bool)
    missing = np.zeros(len(known), dtype=bool)
    for rows, paths in known.paths_in_chunks(np.arange(len(known))):
        for row, path in zip(rows.tolist(), paths, strict=True):
            if covers(path) or path in listed:
                own[row] = True
                missing[row] = found_at(path, gallery.root).status == "vanished"
    if not own.any() and name not in gallery.sources():
        raise UsageError(
            f"The gallery at {gallery.path} knows no file from {name}; `cies status` lists its "
            "sources."
        )
    return own, missing


def forget(gallery: Gallery, writer: Writer, what: Forgetting) -> None:
    """Forget files, and pictures of which no file is left, with their vectors.

    Vectors go first and files last: if this is interrupted, the next time finds the rest.

    Args:
        gallery: where.
        writer: of the same gallery.
        what: from :func:`find_gone`, found while ``writer`` was held.
    """
    tables = gallery.conditions()
    writer.forget_pictures(what.keys, tables)
    writer.forget_files(what.paths)
    if what.source:
        writer.forget_source(what.source)
    if what.keys:
        forget_caches(gallery.indexes, [table.table for table in tables])
        for table in tables:
            parts = gallery.vector_parts(table)
            writer.put_statistics(table, Statistics.of_parts(parts, table.dimension))
        writer.maintain(due_only=False)
