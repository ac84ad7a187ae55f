"""The folder of a condition's caches: finds, writes and replaces cached rows.

The folder ``indexes`` of a gallery has a folder for each condition, with the condition's rows as
they are searched (:mod:`indexes.search.row_cache`) and indexes over them
(:mod:`indexes.search.index_files`). Cached files are never changed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from indexes.documents import Document
from indexes.errors import UsageError
from indexes.search.compact_columns import Keys, positions
from indexes.search.index_files import IndexProperties, remove_index, stored_indexes
from indexes.search.matrix import VectorMatrix
from indexes.search.row_cache import (
    HEADER,
    DamagedCache,
    RowCache,
    read_checked,
    read_row_cache,
    row_cache_in_memory,
    write_checked,
    write_row_cache,
)
from indexes.search.snapshot import RowDigest, RowTransform, Snapshot
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from indexes.vectors import Vectors

#: The file with the kind of index that was chosen for a condition.
CHOICE = "choice.json"

_logger = logging.getLogger("cies")
_warned: set[str] = set()


class IndexChoice(Document):
    """The content of :data:`CHOICE`: the kind of index that was chosen."""

    kind: str


class ConditionCaches:
    """The caches of one condition with one transformation of its rows.

    Attributes:
        folder: the condition's folder.
    """

    def __init__(
        self,
        gallery: Gallery,
        table: VectorTable,
        transform: RowTransform,
        label: str,
        fingerprint: str,
    ):
        """Store the arguments; nothing is read yet.

        Args:
            gallery: the gallery of the table.
            table: the condition's entry.
            transform: applied to the rows.
            label: the purpose of the caches; a new cache replaces one with the same label.
            fingerprint: identifies the transformation.
        """
        self.folder = gallery.indexes / table.table
        self._gallery = gallery
        self._transform = transform
        self._label = label
        self._prefix = f"{label}-{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}"

    # -- the choice of an index ------------------------------------------------------------

    def _has_choice(self) -> bool:
        """Whether a kind of index was chosen for the condition."""
        return (self.folder / CHOICE).is_file()

    @property
    def choice(self) -> str:
        """The kind of index that was chosen for the condition, or ``auto``."""
        try:
            return read_checked(self.folder / CHOICE, IndexChoice).kind
        except DamagedCache:
            return "auto"

    def choose(self, kind: str) -> None:
        """Store the kind of index to use from now on.

        Raises:
            UsageError: if the gallery cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_checked(self.folder / CHOICE, {"kind": kind})
        except OSError as error:
            raise self._unwritable(error) from error

    # -- the newest cache ------------------------------------------------------------------

    def _folders(self) -> list[Path]:
        """The caches with this transformation, the newest first."""
        with suppress(OSError):
            found = list(self.folder.glob(f"{self._prefix}-*"))
            return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
        return []

    def known(self) -> list[IndexProperties]:
        """The indexes over the newest cached rows."""
        return [built for folder in self._folders()[:1] for built in stored_indexes(folder)]

    def rows_bytes(self) -> int:
        """Bytes on the disk of the newest cached rows, without indexes."""
        files = [path for folder in self._folders()[:1] for path in folder.iterdir()]
        return sum(p.stat().st_size for p in files if not p.name.startswith("index-"))

    def forget(self, kinds: Iterable[str]) -> None:
        """Remove indexes over the newest cached rows."""
        for folder in self._folders()[:1]:
            for kind in kinds:
                remove_index(folder, kind)

    # -- reading and writing ---------------------------------------------------------------

    def _read(self, snapshot: Snapshot) -> RowCache | None:
        """The cached rows of exactly this state, if they exist undamaged."""
        path = self.folder / f"{self._prefix}-{snapshot.state}"
        try:
            return read_row_cache(path) if path.is_dir() else None
        except DamagedCache as error:
            _logger.warning("A cache is damaged and is built again: %s", error)
        return None

    def _read_similar(
        self, snapshot: Snapshot, changed_share: float
    ) -> tuple[RowCache, RowDigest | None]:
        """Cached rows of this or a similar state; written if there are none.

        Args:
            snapshot: the state.
            changed_share: how many rows may be new or deleted, as a share of the cached ones.

        Returns:
            The cached rows, and the rows of the snapshot if these are others.

        Raises:
            ValueError: if the gallery's keys cannot be cached.
        """
        cache = self._read(snapshot)
        if cache is not None:
            return cache, None
        digest = snapshot.digest()
        for path in self._folders():
            with suppress(DamagedCache):
                cache = read_row_cache(path)
                places = positions(cache.keys, digest.keys)
                same = int((cache.checksums[places] == digest.checksums)[places >= 0].sum())
                changed = len(cache) + len(digest.keys) - 2 * same
                if changed <= changed_share * len(cache):
                    return cache, digest
        try:
            return self._write(snapshot), None
        except OSError as error:
            self._warn_unwritable(error)
            return row_cache_in_memory(snapshot, self._transform), None

    def _write(self, snapshot: Snapshot) -> RowCache:
        """Cache the rows of a state.

        Raises:
            OSError: if it cannot be written, or the disk returns other bytes than were written.
            ValueError: if the gallery's keys cannot be cached.
        """
        name = f"{self._prefix}-{snapshot.state}"
        try:
            return write_row_cache(snapshot, self._transform, self.folder, name, self._label)
        except DamagedCache as error:
            raise OSError(str(error)) from error

    def _matrix(
        self, snapshot: Snapshot, cache: RowCache, fresh: Vectors | None = None
    ) -> VectorMatrix:
        """The vectors of cached rows, followed by other rows.

        Args:
            snapshot: a state in which vectors can be read again if the cache is damaged.
            cache: the cached rows.
            fresh: float32 [m, dim], unit rows.
        """
        if fresh is None:
            fresh = np.empty((0, cache.dimension), dtype=np.float32)
        return VectorMatrix(cache, fresh, lambda: self._read_again(snapshot, cache))

    def _read_again(self, snapshot: Snapshot, cache: RowCache) -> Vectors:
        """The vectors of damaged cached rows, from the gallery."""
        _logger.warning("A cache is damaged and is no longer read: %s", cache.folder)
        if cache.folder is not None:
            with suppress(OSError):
                (cache.folder / HEADER).unlink()
        wide = np.zeros((len(cache), cache.dimension), dtype=np.float32)
        for rows in snapshot.batches():
            places = positions(cache.keys, rows.keys)
            same = np.flatnonzero((places >= 0) & (cache.checksums[places] == rows.checksums))
            if len(same):
                stored = snapshot.unit(rows.halves[same])
                wide[places[same]] = self._transform.vectors(Keys(rows.keys[same]), stored)
        return wide

    # -- errors ----------------------------------------------------------------------------

    def _unwritable(self, error: OSError) -> UsageError:
        """The error for an index that cannot be stored."""
        return UsageError(
            f"Cannot write to {self.folder} ({(error.strerror or str(error)).lower()}), so no "
            "index can be stored; searches still work."
        )

    def _warn_unwritable(self, error: OSError) -> None:
        """Log that caches cannot be stored."""
        warn_once(
            f"The gallery at {self._gallery.path} cannot be written to "
            f"({(error.strerror or str(error)).lower()}), so that the cache for quick searches is "
            "built again each time."
        )


def warn_once(text: str) -> None:
    """Log a warning once in a process."""
    if text not in _warned:
        _warned.add(text)
        _logger.warning(text)
