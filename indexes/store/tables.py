"""Lance tables on disk.

LanceDB survives a killed process but never syncs to the disk. After every commit the new files
and their folders are therefore synced here: when a method that writes returns, its commit is on
the disk.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from indexes.errors import GalleryError, GalleryExpired
from indexes.store.ledger import FileChecksum, Ledger
from indexes.store.verified import VerifiedFiles

#: Commits after which a table's small files are merged into larger ones.
COMMITS_PER_COMPACTION = 100

#: Data files up to which a table is left as it is at the end of a run that wrote little to it.
_FRAGMENTS = 16

#: How long old versions stay readable after a compaction, so that no running reader breaks.
RETENTION_SECONDS = 3600.0

#: Attempts at a commit that conflicts with another one.
_TRIES = 5

#: Manifests are named by this number minus their version, so that the newest sorts first.
_NEWEST = 2**64 - 1

#: Files of a table after a compaction: a manifest, a transaction, data and deletions.
_COMPACTED_FILES = 4

#: Where a table's rows are, below its folder.
_DATA = "data/"

#: Keys in one statement.
_KEYS_AT_ONCE = 1000

#: Rows read in one step.
_ROWS = 8192


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn errors of Lance and the disk into a :class:`GalleryError` for a failed read."""
    try:
        yield
    except Exception as error:
        # Damaged data can cause a ValueError anywhere between the file and Arrow.
        if not (is_storage_error(error) or isinstance(error, ValueError)):
            raise
        raise GalleryError(
            f"Cannot read {folder}: {_reason(error)}; `cies verify` says what is damaged, and "
            "`cies repair` removes the damage so that the next ingest embeds it again."
        ) from error


#: What Lance says of files that are not as it wrote them, such as a superseded manifest.
_DAMAGE = re.compile("corrupt|magic number|Invalid range|file size is too small", re.IGNORECASE)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn errors of Lance and the disk into a :class:`GalleryError` for a failed write."""
    try:
        yield
    except Exception as error:
        if not is_storage_error(error):
            raise
        if _DAMAGE.search(str(error)):
            raise GalleryError(
                f"Cannot write to {folder}, which is damaged ({_reason(error)}); `cies repair` "
                "removes the damage, and what was stored before is safe."
            ) from error
        raise GalleryError(
            f"Cannot write to {folder}: {_reason(error)}. What was stored before is safe; run the "
            "same command again to continue."
        ) from error


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return "the disk is full" if "No space left" in text else text.splitlines()[0][:200]


def is_storage_error(error: Exception) -> bool:
    """Whether Lance or the disk raised an error; the class of a Rust panic cannot be imported."""
    return isinstance(error, (RuntimeError, OSError)) or type(error).__name__ == "RustPanic"


class Table:
    """One Lance table, keyed by its first column."""

    def __init__(
        self,
        connection: Any,
        name: str,
        folder: Path,
        ledger: Callable[[], Ledger],
        files: VerifiedFiles | None = None,
    ):
        """Open a table.

        Args:
            connection: LanceDB's connection to the gallery's folder.
            name: the table's name.
            folder: the table's folder.
            ledger: returns the checksums of the table's files; called before the first write.
            files: checks the table's files before they are read; ``None`` to read damaged files.
        """
        self.name = name
        self.folder = folder
        self._connection = connection
        self._table = connection.open_table(name)
        #: The file system's number of the folder, which tells the table from a later one of its
        #: name.
        self.inode = folder.stat().st_ino
        self._open_ledger = ledger
        self._files = files
        self._commits = 0
        self._written_bytes = 0
        self._has_deletions = False
        self._frozen: int | None = None

    @property
    def schema(self) -> pa.Schema:
        """The table's columns.

        Raises:
            GalleryError: if the newest manifest is damaged.
        """
        with reading(self.folder):
            return self._table.schema

    @property
    def version(self) -> int:
        """Number of the newest commit."""
        self._table.checkout_latest()
        return int(self._table.version)

    def __len__(self) -> int:
        with self._reading():
            return int(self._table.count_rows())

    @cached_property
    def _ledger(self) -> Ledger:
        return self._open_ledger()

    def _record_files(self) -> None:
        """Sync the files of a commit and record their checksums."""
        new = self._ledger.record_new()
        self._written_bytes += _data_bytes(new)
        if self._files is not None:
            # What was there before was checked, and the rest was just read for its checksum.
            self._files.trust(int(self._table.version))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """As :func:`writing`, after a check of the state that the commit is based on."""
        with writing(self.folder):
            if self._files is not None:
                self._files.check_version(int(self._table.version))
            yield

    # -- reading ---------------------------------------------------------------------------

    def freeze(self, version: int | None = None) -> None:
        """Read one committed state from now on, whatever is written later.

        Args:
            version: the state; the newest by default.

        Raises:
            GalleryError: if the table cannot be read, or that version is no longer stored.
        """
        with reading(self.folder):
            if version is None:
                self._table.checkout_latest()
                version = int(self._table.version)
            self._frozen = version
        with self._reading():
            self._table.checkout(version)

    @cached_property
    def state(self) -> str:
        """SHA-256 of the manifest of a frozen table, which identifies the state: it lists files of
        random names.

        Raises:
            GalleryError: if the manifest cannot be read.
        """
        with self._reading():
            path = self._frozen_manifest()
            if path is None:
                raise FileNotFoundError(f"version {self._frozen} has no manifest")
            return hashlib.sha256(path.read_bytes()).hexdigest()

    def _frozen_manifest(self) -> Path | None:
        """The manifest of the frozen version, if it is still stored."""
        for path in (self.folder / "_versions").glob("*.manifest"):
            if manifest_version(path) == self._frozen:
                return path
        return None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """As :func:`reading`; says so if the frozen version is no longer stored."""
        try:
            with reading(self.folder):
                yield
        except GalleryError as error:
            if self._frozen is None or self._frozen_manifest() is not None:
                raise
            raise GalleryExpired(
                f"The state in which the gallery at {self.folder.parent} was opened is no longer "
                "stored, because it was written to for more than an hour since; open it again, or "
                "call refresh()."
            ) from error

    def _catch_up(self) -> None:
        if self._frozen is None:
            if self._files is not None:
                self._files.check_newest()
            self._table.checkout_latest()
        if self._files is not None:
            self._files.check_version(int(self._table.version))

    def read(
        self, columns: Iterable[str] | None = None, row_ids: bool = False, after: int | None = None
    ) -> pa.Table:
        """All rows of the newest committed state.

        Args:
            columns: names of the columns to read; all by default.
            row_ids: whether to add the rows' numbers as column ``_rowid``.
            after: read only rows with a higher number than this.

        Raises:
            GalleryError: if a file of the table is damaged so that it cannot be read.
        """
        with self._reading():
            self._catch_up()
            query = self._table.search().with_row_id(row_ids)
            if columns is not None:
                query = query.select([*columns, *(["_rowid"] if row_ids else [])])
            if after is not None:
                query = query.where(f"_rowid > {after}")
            # In Lance's default steps of 1,024 rows a million rows take twice as long.
            rows = query.to_batches(batch_size=_ROWS).read_all()
            rows.validate(full=True)
            return rows

    def batches(self, columns: Iterable[str], rows: int) -> Iterator[pa.RecordBatch]:
        """All rows of the newest committed state, in batches, in no particular order.

        Args:
            columns: names of the columns to read.
            rows: in a batch.

        Raises:
            GalleryError: as for :meth:`read`.
        """
        with self._reading():
            self._catch_up()
            query = self._table.search().select(list(columns))
            yield from query.to_batches(batch_size=rows)

    def take(self, row_ids: list[int], columns: Iterable[str]) -> pa.Table:
        """The rows with these ``_rowid``, in no particular order, of a frozen table.

        Raises:
            GalleryError: as for :meth:`read`.
        """
        with self._reading():
            rows = self._table.take_row_ids(row_ids).select(list(columns)).to_arrow()
            rows.validate(full=True)
            return rows

    def read_slice(self, start: int, count: int, columns: Iterable[str] | None = None) -> pa.Table:
        """Rows in the order they are stored, with their numbers in column ``_rowid``.

        Only the files that hold these rows are read, so that a damaged table can be read in part.

        Args:
            start: position of the first row.
            count: number of rows.
            columns: names of the columns to read; all by default.

        Raises:
            GalleryError: if these rows cannot be read.
        """
        names = [*(self.schema.names if columns is None else columns), "_rowid"]
        with reading(self.folder):
            query = self._table.search().with_row_id(True).select(names)
            rows = query.limit(count).offset(start).to_arrow()
            rows.validate(full=True)
            return rows

    # -- writing ---------------------------------------------------------------------------

    def upsert(self, rows: pa.Table) -> None:
        """Insert rows, or replace those with the same key; durable on return.

        Args:
            rows: rows of the table's schema, with distinct keys.

        Raises:
            ValueError: if a key is repeated; Lance would store both rows.
            GalleryError: if the disk is full or the folder cannot be written.
        """
        if rows.num_rows == 0:
            return
        key = self.schema.names[0]
        if len(set(rows.column(key).to_pylist())) != rows.num_rows:
            raise ValueError(f"repeated keys in one commit to table {self.name}")
        with self._writing():
            self._commit(key, rows)
            self._record_files()
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
        """Add the columns of a schema that the table lacks, with null values; durable on return."""
        missing = [field for field in schema if field.name not in self.schema.names]
        if missing:
            with self._writing():
                self._table.add_columns(missing)
                self._record_files()

    def overwrite(self, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Replace all rows, and the columns, in one commit; durable on return.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        with self._writing():
            self._table = self._connection.create_table(self.name, rows, mode="overwrite")
            self._record_files()

    def rewrite(self) -> None:
        """Write all rows again into new files; durable on return.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        with self._writing():
            rows = self._table.search().to_batches(batch_size=_ROWS)
            self._table = self._connection.create_table(self.name, rows, mode="overwrite")
            self._record_files()

    def delete(self, keys: Iterable[str]) -> None:
        """Delete the rows with these keys; durable on return.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        quoted = ["'" + key.replace("'", "''") + "'" for key in keys]
        name = self.schema.names[0]
        self._has_deletions = True
        with self._writing():
            for start in range(0, len(quoted), _KEYS_AT_ONCE):
                part = ", ".join(quoted[start : start + _KEYS_AT_ONCE])
                self._table.delete(f"{name} IN ({part})")
            self._record_files()

    def delete_rows(self, row_ids: Iterable[int]) -> None:
        """Delete rows by ``_rowid``, even unreadable ones; durable on return.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        listed = [str(row_id) for row_id in row_ids]
        with self._writing():
            # One statement, because row ids are valid for one version only.
            if listed:
                self._table.delete(f"_rowid IN ({', '.join(listed)})")
            self._record_files()

    def has_many_commits(self) -> bool:
        """Whether so many commits were made that the table should be compacted at once."""
        return self._commits >= COMMITS_PER_COMPACTION

    def needs_compaction(self) -> bool:
        """Whether a compaction is worth its cost at the end of a run.

        A compaction merges data files. That is worthwhile when there are many of them, or when
        this run wrote at least as many bytes as the table had before: each row is then rewritten
        a logarithmic number of times. It also removes old versions, and rows that this run
        deleted.
        """
        entries = self._ledger.entries
        if len(entries) <= _COMPACTED_FILES:
            return False
        old = self._old_versions()
        if not self._commits:
            return old > 1
        with reading(self.folder):
            statistics = self._table.stats()
        current = int(statistics["total_bytes"])
        return (
            self._has_deletions
            or statistics["fragment_stats"]["num_fragments"] > _FRAGMENTS
            or 2 * self._written_bytes >= current
            or (old > 1 and _data_bytes(entries) > 2 * current)
        )

    def _old_versions(self) -> int:
        """The number of versions that are older than the retention time."""
        manifests = (self.folder / "_versions").glob("*.manifest")
        return sum(not is_retained(path.stat().st_mtime) for path in manifests)

    def _kept_seconds(self) -> float:
        """How old a version may be that a compaction keeps: a reader may still use the one that was
        the newest when the retention time began, however old it is.
        """
        now = time.time()
        manifests = (self.folder / "_versions").glob("*.manifest")
        ages = [now - path.stat().st_mtime for path in manifests]
        older = [age for age in ages if age >= RETENTION_SECONDS]
        return min(older) + 1 if 0 < len(older) < len(ages) else RETENTION_SECONDS

    def size(self) -> int:
        """Bytes on the disk, old versions included."""
        return sum(entry.size for entry in self._ledger.entries.values())

    def compact(self) -> None:
        """Merge small files, and delete versions older than the retention time and leftovers.

        Files that a reader may still use are kept. Leftovers are files of interrupted commits;
        the caller holds the writer's lock, so that no commit is in progress.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        with self._writing():
            keep = timedelta(seconds=self._kept_seconds())
            self._table.optimize(cleanup_older_than=keep, delete_unverified=True)
            for path in self.folder.rglob("*.tmp*"):
                path.unlink(missing_ok=True)
            files = self._ledger.files()
            self._ledger.record_new(files)
            self._ledger.remove(self._ledger.entries.keys() - set(files))
        self._commits = self._written_bytes = 0
        self._has_deletions = False


def is_retained(since: float) -> bool:
    """Whether a reader may still use what was replaced or removed at this time.

    Args:
        since: seconds since 1970.
    """
    return time.time() - since < RETENTION_SECONDS


def _data_bytes(entries: Mapping[str, FileChecksum]) -> int:
    return sum(entry.size for name, entry in entries.items() if name.startswith(_DATA))


def manifest_version(manifest: Path) -> int:
    """The version that a manifest describes, for the old and the new way of naming manifests."""
    return version_number(manifest.name)


def version_number(name: str) -> int:
    """As :func:`manifest_version`, from the name of the manifest."""
    stem = name.partition(".")[0]
    number = int(stem) if stem.isdigit() else 0
    return _NEWEST - number if number > _NEWEST // 2 else number
