"""Lance tables on disk. The only module that imports lancedb.

LanceDB survives a killed process but never syncs to the disk, so after every commit the new
files and the folders that hold them are synced here; a commit that returned is on the disk.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Iterable

import pyarrow as pa

from indexes.errors import GalleryError

#: Commits after which a table's small files are merged into larger ones.
COMMITS_PER_COMPACTION = 100

#: How long old versions stay readable after a compaction, so that no running reader breaks.
RETENTION_SECONDS = 3600.0

#: Tries at a commit that another commit got ahead of.
_TRIES = 5


def sync_folder(folder: Path, known: set[str]) -> None:
    """Flush to the disk every file below ``folder`` that is not in ``known``, and its folders.

    Lance never changes a file once written, except for one hint that may be lost safely, so each
    file is synced once; ``known`` is filled on the way.
    """
    for root, _, names in os.walk(folder):
        fresh = [n for n in names if os.path.join(root, n) not in known and ".tmp" not in n]
        for name in fresh:
            path = os.path.join(root, name)
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            known.add(path)
        if fresh:
            descriptor = os.open(root, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


class Table:
    """One Lance table, keyed by its first column."""

    def __init__(self, database: Any, folder: Path, name: str):
        self.name = name
        self._table = database.open_table(name)
        self._folder = folder / f"{name}.lance"
        self._known: set[str] | None = None
        self._commits = 0

    @property
    def schema(self) -> pa.Schema:
        """The table's columns."""
        return self._table.schema

    def __len__(self) -> int:
        return int(self._table.count_rows())

    def read(self, columns: Iterable[str] | None = None) -> pa.Table:
        """All rows of the newest committed state.

        Args:
            columns: names to read; all of them by default.
        """
        self._table.checkout_latest()
        query = self._table.search()
        if columns is not None:
            query = query.select(list(columns))
        return query.to_arrow()

    def upsert(self, rows: pa.Table) -> None:
        """Insert rows, or replace those with the same key; durable when it returns.

        Args:
            rows: the table's schema, keys without repetition.

        Raises:
            ValueError: if a key is repeated, which Lance would store twice.
            GalleryError: if the disk is full or the folder cannot be written.
        """
        if rows.num_rows == 0:
            return
        key = self.schema.names[0]
        if len(set(rows.column(key).to_pylist())) != rows.num_rows:
            raise ValueError(f"repeated keys in one commit to table {self.name}")
        if self._known is None:
            self._known = set()
            for root, _, names in os.walk(self._folder):
                self._known.update(os.path.join(root, name) for name in names)
        self._commit(key, rows)
        sync_folder(self._folder, self._known)
        self._commits += 1
        if self._commits % COMMITS_PER_COMPACTION == 0:
            self.compact()

    def _commit(self, key: str, rows: pa.Table) -> None:
        for attempt in range(_TRIES):
            try:
                merge = self._table.merge_insert(key)
                merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
                return
            except (RuntimeError, OSError) as error:
                text = str(error)
                if "commit conflict" in text and attempt + 1 < _TRIES:
                    time.sleep(0.05 * 2**attempt)
                    self._table.checkout_latest()
                    continue
                reason = "the disk is full" if "No space left" in text else text.splitlines()[0]
                raise GalleryError(
                    f"Cannot write to {self._folder}: {reason}. "
                    "What was stored before is safe; run the same command again to go on."
                ) from error

    def add_missing_columns(self, schema: pa.Schema) -> None:
        """Give the table the columns of a schema it lacks, empty; durable when it returns."""
        missing = [field for field in schema if field.name not in self.schema.names]
        if missing:
            self._table.add_columns(missing)
            sync_folder(self._folder, self._known if self._known is not None else set())

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the rows of these keys; durable when it returns."""
        quoted = ", ".join("'" + key.replace("'", "''") + "'" for key in keys)
        if quoted:
            self._table.delete(f"{self.schema.names[0]} IN ({quoted})")
            sync_folder(self._folder, self._known if self._known is not None else set())

    def compact(self) -> None:
        """Merge small files and drop versions older than the retention time."""
        from datetime import timedelta

        self._table.optimize(cleanup_older_than=timedelta(seconds=RETENTION_SECONDS))
        sync_folder(self._folder, self._known if self._known is not None else set())


class Database:
    """A folder of Lance tables."""

    def __init__(self, folder: Path):
        import lancedb

        self.folder = folder
        self._connection = lancedb.connect(str(folder))

    def names(self) -> set[str]:
        """The tables there are."""
        names: set[str] = set()
        token: str | None = None
        while True:
            page = self._connection.list_tables(page_token=token)
            names.update(page.tables)
            token = page.page_token
            if not token:
                return names

    def open(self, name: str) -> Table:
        """Open a table that exists.

        Raises:
            GalleryError: if Lance cannot read it.
        """
        try:
            return Table(self._connection, self.folder, name)
        except (RuntimeError, OSError, ValueError) as error:
            if self._set_aside_empty_manifests(name):
                return self.open(name)
            raise GalleryError(
                f"Table {name} in {self.folder} cannot be read ({str(error).splitlines()[0]}); "
                "restore the gallery from a backup or ingest into a new one with --gallery."
            ) from error

    def _set_aside_empty_manifests(self, name: str) -> int:
        """Move manifests of no length away, so that the table opens one commit earlier.

        After a power cut the newest manifest may be there by name only. Its commit was never
        acknowledged, since an acknowledged one is synced; without it the table is whole.
        """
        versions = self.folder / f"{name}.lance" / "_versions"
        empty = [path for path in versions.glob("*.manifest") if path.stat().st_size == 0]
        for path in empty:
            aside = self.folder / "quarantine" / name
            aside.mkdir(parents=True, exist_ok=True)
            path.replace(aside / path.name)
        return len(empty)

    def ensure(self, name: str, schema: pa.Schema) -> Table:
        """Open a table, made empty first if it is not there."""
        if name not in self.names():
            self._connection.create_table(name, schema=schema)
            sync_folder(self.folder / f"{name}.lance", set())
            descriptor = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return self.open(name)
