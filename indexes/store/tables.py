"""Lance tables on disk.

LanceDB survives a killed process but never syncs to the disk, so after every commit the new
files and the folders that hold them are synced here; a commit that returned is on the disk.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Iterable, Iterator

import pyarrow as pa

from indexes.errors import GalleryError
from indexes.store.ledger import Ledger

#: Commits after which a table's small files are merged into larger ones.
COMMITS_PER_COMPACTION = 100

#: How long old versions stay readable after a compaction, so that no running reader breaks.
RETENTION_SECONDS = 3600.0

#: Tries at a commit that another commit got ahead of.
_TRIES = 5

#: Manifests are named by this number less their version, so that the newest sorts first.
_NEWEST = 2**64 - 1

#: Files of a table that was just compacted: a manifest, a transaction, data and deletions.
_FILES_AT_REST = 4

#: Keys in one statement.
_KEYS_AT_ONCE = 1000

#: Rows in one step of reading.
_ROWS = 8192


@contextmanager
def told(folder: Path, doing: str = "Cannot write to") -> Iterator[None]:
    """Turn what Lance and the disk raise into one sentence."""
    try:
        yield
    except Exception as error:
        reading = doing != "Cannot write to"
        # Damaged data shows as a wrong value anywhere between the file and Arrow.
        if not (of_lance(error) or (reading and isinstance(error, ValueError))):
            raise
        text = str(error) or type(error).__name__
        reason = "the disk is full" if "No space left" in text else text.splitlines()[0][:200]
        if not reading:
            raise GalleryError(
                f"Cannot write to {folder}: {reason}. What was stored before is safe; run the "
                "same command again to go on."
            ) from error
        raise GalleryError(
            f"{doing} {folder}: {reason}; `cies verify` says what is damaged, and `cies repair` "
            "drops that so that the next ingest makes it anew."
        ) from error


def of_lance(error: Exception) -> bool:
    """Whether an error is of the tables or the disk; a panic's class cannot be imported."""
    return isinstance(error, (RuntimeError, OSError)) or type(error).__name__ == "RustPanic"


class Table:
    """One Lance table, keyed by its first column."""

    def __init__(self, database: Any, folder: Path, name: str):
        self.name = name
        self.folder = folder / f"{name}.lance"
        self.ledger_path = folder / "checksums" / f"{name}.txt"
        self._table = database.open_table(name)
        self._ledger: Ledger | None = None
        self._commits = 0
        self._frozen = False

    @property
    def schema(self) -> pa.Schema:
        """The table's columns.

        Raises:
            GalleryError: if the newest manifest is damaged.
        """
        with told(self.folder, "Cannot read"):
            return self._table.schema

    @property
    def version(self) -> int:
        """Number of the newest commit."""
        self._table.checkout_latest()
        return int(self._table.version)

    def __len__(self) -> int:
        with told(self.folder, "Cannot read"):
            return int(self._table.count_rows())

    @property
    def ledger(self) -> Ledger:
        """The checksums of the table's files, as the one writer keeps them."""
        if self._ledger is None:
            self._ledger = Ledger(self.ledger_path, self.folder)
        return self._ledger

    # -- reading ---------------------------------------------------------------------------

    def freeze(self) -> str:
        """Keep to the newest committed state from now on, whatever is written later.

        Returns:
            SHA-256 of its manifest, which no other state has: it lists files of random names.

        Raises:
            GalleryError: if the table cannot be read.
        """
        with told(self.folder, "Cannot read"):
            self._table.checkout_latest()
            version = int(self._table.version)
            self._table.checkout(version)
            self._frozen = True
            for path in (self.folder / "_versions").glob("*.manifest"):
                if manifest_version(path) == version:
                    return hashlib.sha256(path.read_bytes()).hexdigest()
            raise FileNotFoundError(f"version {version} has no manifest")

    def _catch_up(self) -> None:
        if not self._frozen:
            self._table.checkout_latest()

    def read(self, columns: Iterable[str] | None = None, numbered: bool = False) -> pa.Table:
        """All rows of the newest committed state.

        Args:
            columns: names to read; all of them by default.
            numbered: with the rows' numbers in ``_rowid``.

        Raises:
            GalleryError: if a file of the table is damaged so that it cannot be read.
        """
        with told(self.folder, "Cannot read"):
            self._catch_up()
            query = self._table.search().with_row_id(numbered)
            if columns is not None:
                query = query.select([*columns, *(["_rowid"] if numbered else [])])
            # In its own steps of 1,024 rows a million take twice as long.
            rows = query.to_batches(batch_size=_ROWS).read_all()
            rows.validate(full=True)
            return rows

    def batches(self, columns: Iterable[str], rows: int) -> Iterator[pa.RecordBatch]:
        """All rows of the newest committed state, so many at a time, in no particular order.

        Raises:
            GalleryError: as for :meth:`read`.
        """
        with told(self.folder, "Cannot read"):
            self._catch_up()
            query = self._table.search().select(list(columns))
            yield from query.to_batches(batch_size=rows)

    def some(self, numbers: list[int], columns: Iterable[str]) -> pa.Table:
        """The rows of these ``_rowid``, in no particular order, of a frozen table."""
        with told(self.folder, "Cannot read"):
            rows = self._table.take_row_ids(numbers).select(list(columns)).to_arrow()
            rows.validate(full=True)
            return rows

    def part(self, start: int, count: int, columns: Iterable[str] | None = None) -> pa.Table:
        """Some rows in the order they are stored, with their numbers in ``_rowid``.

        Only the files that hold them are read, so that the rest of a damaged table can be had.

        Args:
            start: the first one.
            count: how many.
            columns: names to read; all of them by default.

        Raises:
            GalleryError: if these rows cannot be read.
        """
        names = [*(self.schema.names if columns is None else columns), "_rowid"]
        with told(self.folder, "Cannot read"):
            query = self._table.search().with_row_id(True).select(names)
            rows = query.limit(count).offset(start).to_arrow()
            rows.validate(full=True)
            return rows

    # -- writing ---------------------------------------------------------------------------

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
        with told(self.folder):
            self._commit(key, rows)
            self.ledger.enter_new()
        self._commits += 1

    def _commit(self, key: str, rows: pa.Table) -> None:
        for attempt in range(_TRIES):
            try:
                merge = self._table.merge_insert(key)
                merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
                return
            except (RuntimeError, OSError) as error:
                if "commit conflict" not in str(error) or attempt + 1 == _TRIES:
                    raise
                time.sleep(0.05 * 2**attempt)
                self._table.checkout_latest()

    def add_missing_columns(self, schema: pa.Schema) -> None:
        """Give the table the columns of a schema it lacks, empty; durable when it returns."""
        missing = [field for field in schema if field.name not in self.schema.names]
        if missing:
            with told(self.folder):
                self._table.add_columns(missing)
                self.ledger.enter_new()

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the rows of these keys; durable when it returns.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        quoted = ["'" + key.replace("'", "''") + "'" for key in keys]
        name = self.schema.names[0]
        with told(self.folder):
            for start in range(0, len(quoted), _KEYS_AT_ONCE):
                part = ", ".join(quoted[start : start + _KEYS_AT_ONCE])
                self._table.delete(f"{name} IN ({part})")
            self.ledger.enter_new()

    def delete_rows(self, numbers: Iterable[int]) -> None:
        """Remove rows by ``_rowid``, even such as cannot be read; durable when it returns.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        listed = [str(number) for number in numbers]
        with told(self.folder):
            # One statement, since the numbers hold for one version only.
            if listed:
                self._table.delete(f"_rowid IN ({', '.join(listed)})")
            self.ledger.enter_new()

    def grown(self) -> bool:
        """Whether so many commits were made that the table should be compacted."""
        return self._commits >= COMMITS_PER_COMPACTION

    def scattered(self) -> bool:
        """Whether there is anything to compact or to clean up now: small files or old versions."""
        if len(self.ledger.files()) <= _FILES_AT_REST:
            return False
        if self._commits:
            return True
        limit = time.time() - RETENTION_SECONDS
        manifests = list((self.folder / "_versions").glob("*.manifest"))
        return sum(path.stat().st_mtime < limit for path in manifests) > 1

    def size(self) -> int:
        """Bytes on the disk, old versions included."""
        return sum((self.folder / name).stat().st_size for name in self.ledger.files())

    def compact(self) -> None:
        """Merge small files, drop versions older than the retention time, sweep up leftovers.

        Nothing a reader may still use is touched. Leftovers are files of commits that were cut
        short; since the caller holds the one writer's lock, nobody is making them now.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        with told(self.folder):
            keep = timedelta(seconds=RETENTION_SECONDS)
            self._table.optimize(cleanup_older_than=keep, delete_unverified=True)
            for path in self.folder.rglob("*.tmp*"):
                path.unlink(missing_ok=True)
            self.ledger.enter_new()
            there = set(self.ledger.files())
            self.ledger.drop(name for name in list(self.ledger.entries) if name not in there)
        self._commits = 0


def manifest_version(manifest: Path) -> int:
    """The version a manifest describes; old and new ways of naming are told apart by size."""
    number = int(manifest.stem) if manifest.stem.isdigit() else 0
    return _NEWEST - number if number > _NEWEST // 2 else number
