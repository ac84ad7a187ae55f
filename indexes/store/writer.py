"""Writes to a gallery; there is one writer at a time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexes.geometry import Statistics
from indexes.store.database import Database
from indexes.store.manifest import Manifest
from indexes.store.records import (
    FILES,
    IMAGES,
    LISTINGS,
    NORM,
    STATISTICS,
    FileRecord,
    ImageRecord,
    VectorTable,
    completed,
    escaped,
    vector_schema,
    with_changed_columns,
)
from indexes.store.tables import Table, is_retained
from indexes.vectors import Vectors, checksums

#: Free space that maintenance leaves on the disk.
_SPARE_BYTES = 64 * 2**20

#: Tables that have got new columns from version to version.
_SCHEMAS = {"files": FILES, "images": IMAGES}

#: Keys in one deletion, whose condition Lance must parse.
_DELETED_AT_ONCE = 2000

#: How the manifest's key of a removed condition begins; the table's name follows.
_REMOVED = "removed:"

#: How the manifest's keys of a source begin: of the options of its scan, and of its columns.
SOURCE = "source:"
SOURCE_COLUMNS = "columns_of:"

#: How the manifest's key of a collection begins; its name follows.
COLLECTION = "collection:"

#: The manifest's key of the columns that the user renamed or removed.
COLUMN_CHANGES = "columns"

#: The manifest's key of the folders that stored paths were relative to when they were written.
ROOT = "root"

#: Folders of this kind that are remembered.
_ROOTS = 5


class Writer:
    """Writes to one gallery; what a method has written is on the disk when it returns."""

    def __init__(self, database: Database, manifest: Manifest):
        self._database = database
        self._manifest = manifest
        self._tables: dict[str, Table] = {}

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            self._tables[name] = self._database.open(name)
            if name in _SCHEMAS:
                # A gallery of an earlier version gets the columns that were added since.
                self._tables[name].add_missing_columns(_SCHEMAS[name])
        return self._tables[name]

    def declare(self, table: VectorTable, order: int | None = None) -> None:
        """Create a condition's table and add it to the manifest, or change its entry.

        A table that the user has renamed stays as it is, whatever name a later run gives it.

        Args:
            table: the new entry.
            order: its position among the tables; by default the one it has, or the last.
        """
        self.ensure(table)
        key, entries = f"condition:{table.table}", self._manifest.entries()
        if key in entries and entries[key]["name"] != table.name:
            return
        if order is None:
            orders = {k: v["order"] for k, v in entries.items() if k.startswith("condition:")}
            order = orders.get(key, max(orders.values(), default=-1) + 1)
        self._manifest.put(key, table.entry(order))
        removed = f"{_REMOVED}{table.table}"
        if removed in self._manifest.entries():
            self._manifest.remove(removed)

    def rename_condition(self, table: VectorTable, name: str) -> None:
        """Give a condition's table another name."""
        key = f"condition:{table.table}"
        order = int(self._manifest.entries()[key]["order"])
        self._manifest.put(key, replace(table, name=name).entry(order))

    def remove_condition(self, table: VectorTable) -> None:
        """Remove a condition's table from the manifest.

        The table itself is deleted by :meth:`maintain` when no reader can be using it any more.
        Until then, declaring it again brings its vectors back.
        """
        self._manifest.put(
            f"{_REMOVED}{table.table}", {"name": table.name, "removed_at": int(time.time())}
        )
        self._manifest.remove(f"condition:{table.table}")

    def _removed_tables(self) -> dict[str, int]:
        """Tables of removed conditions that still exist, and when each was removed."""
        return {
            key.removeprefix(_REMOVED): int(entry.get("removed_at", 0))
            for key, entry in self._manifest.entries().items()
            if key.startswith(_REMOVED)
        }

    def ensure(self, table: VectorTable) -> None:
        """Create a condition's table if it is missing, as for a new one or after a repair."""
        self._database.ensure(table.table, vector_schema(table.dimension))

    def declared(self) -> set[str]:
        """Names of the vector tables in the manifest."""
        entries = [key.partition(":") for key in self._manifest.entries()]
        return {name for kind, _, name in entries if kind == "condition"}

    def put_vectors(
        self,
        table: VectorTable,
        keys: Sequence[str],
        vectors: Vectors,
        words: Sequence[str],
        word_probabilities: NDArray[np.float32],
        norms: NDArray[np.float32] | None = None,
    ) -> None:
        """Store pictures' vectors under a condition.

        Args:
            table: a declared condition.
            keys: distinct content keys, [n].
            vectors: float32 [n, dim], unit rows; stored as float16.
            words: the model's word for each picture, or empty strings, [n].
            word_probabilities: float32 [n].
            norms: float32 [n], the lengths that the vectors had before they were scaled, NaN
                where it is not known. Tables of earlier versions do not keep them.

        Raises:
            ValueError: if a vector is not of unit length; nothing is written then.
        """
        lengths = np.linalg.norm(vectors, axis=1)
        if vectors.shape != (len(keys), table.dimension) or not np.allclose(lengths, 1, atol=1e-3):
            raise ValueError(
                f"expected {len(keys)} unit vectors of {table.dimension} numbers for "
                f"condition '{table.name}', got an array of shape {vectors.shape} with lengths "
                f"{lengths.min():.3f} to {lengths.max():.3f}"
            )
        half = vectors.astype(np.float16)
        flat = pa.array(half.reshape(-1), type=pa.float16())
        sums = checksums(half, keys, words, word_probabilities)
        columns = {
            "key": list(keys),
            "vector": pa.FixedSizeListArray.from_arrays(flat, table.dimension),
            "word": list(words),
            "word_probability": pa.array(word_probabilities, type=pa.float32()),
            "checksum": pa.array(sums, type=pa.uint32()),
            NORM: pa.nulls(len(keys), pa.float32())
            if norms is None
            else pa.array(norms, type=pa.float32(), mask=~np.isfinite(norms)),
        }
        stored = self._table(table.table)
        rows = pa.table(columns, schema=vector_schema(table.dimension))
        stored.upsert(rows.select(stored.schema.names))

    def put_vector_rows(self, table: VectorTable, rows: pa.Table) -> None:
        """Store rows of another gallery's table of the same name as they are.

        Args:
            table: a declared condition.
            rows: with distinct keys, and checked by the caller.
        """
        stored = self._table(table.table)
        whole = completed(rows, vector_schema(table.dimension))
        stored.upsert(whole.select(stored.schema.names))

    def put_statistics(self, statistics: Mapping[str, Statistics]) -> None:
        """Store mean and standard deviation of vectors in one commit, by name of their table."""
        rows = [
            {
                "table": name,
                "mean": one.mean.tolist(),
                "std": one.std.tolist(),
                "count": one.count,
            }
            for name, one in statistics.items()
        ]
        self._table("statistics").upsert(pa.Table.from_pylist(rows, schema=STATISTICS))

    def put_images(self, images: Sequence[ImageRecord]) -> None:
        """Store size, format and other properties of pictures."""
        rows = [vars(image) for image in images]
        self._table("images").upsert(pa.Table.from_pylist(rows, schema=IMAGES))

    def put_image_rows(self, rows: pa.Table) -> None:
        """As :meth:`put_images`, for rows of another gallery."""
        self._table("images").upsert(rows.cast(IMAGES))

    def put_files(self, files: Sequence[FileRecord]) -> None:
        """Store the records of files."""
        rows = [vars(record) for record in files]
        self._table("files").upsert(pa.Table.from_pylist(rows, schema=FILES))

    def put_source(
        self, source: str, options: Mapping[str, Any], columns: Sequence[str] = ()
    ) -> None:
        """Remember a source.

        Args:
            source: its stored path.
            options: the options of its scan.
            columns: the user's columns that it has.
        """
        entries = self._manifest.entries()
        if entries.get(f"{SOURCE}{source}") != options:
            self._manifest.put(f"{SOURCE}{source}", options)
        if columns:
            entry = {"columns": list(columns)}
            if entries.get(f"{SOURCE_COLUMNS}{source}") != entry:
                self._manifest.put(f"{SOURCE_COLUMNS}{source}", entry)
        elif f"{SOURCE_COLUMNS}{source}" in entries:
            self._manifest.remove(f"{SOURCE_COLUMNS}{source}")

    def forget_source(self, source: str) -> None:
        """Remove a source from those that an ingest without sources scans."""
        if f"{SOURCE_COLUMNS}{source}" in self._manifest.entries():
            self._manifest.remove(f"{SOURCE_COLUMNS}{source}")
        self._manifest.remove(f"{SOURCE}{source}")

    def put_words(self, condition: str, entry: Mapping[str, Any]) -> None:
        """Store a condition's list of words, or replace it."""
        self._manifest.put(f"words:{condition}", entry)

    def forget_words(self, condition: str) -> None:
        """Remove a condition's list of words."""
        self._manifest.remove(f"words:{condition}")

    def put_collection(self, name: str, keys: Sequence[str]) -> None:
        """Store a collection, or replace it.

        Args:
            name: its name.
            keys: distinct content keys, in order.
        """
        self._manifest.put(f"{COLLECTION}{name}", {"keys": list(keys)})

    def forget_collection(self, name: str) -> None:
        """Remove a collection; its pictures stay."""
        self._manifest.remove(f"{COLLECTION}{name}")

    def put_listings(self, rows: pa.Table) -> None:
        """Store the rows of the user's tables.

        Args:
            rows: path, source, and any columns; those that are new to the gallery are added to
                it. A column of the gallery that is missing here becomes null in these rows.
        """
        if "listings" not in self._tables:
            self._tables["listings"] = self._database.ensure("listings", LISTINGS)
        table = self._tables["listings"]
        table.add_missing_columns(rows.schema)
        table.upsert(completed(rows, table.schema))

    def change_columns(self, changes: Mapping[str, str | None]) -> None:
        """Rename and remove columns of the user, with their values, in one commit.

        All rows are written again, because Lance only hides a removed column and keeps its values.

        Args:
            changes: a column's name to its new name, or ``None`` to remove it.
        """
        if changes:
            table = self._table("listings")
            table.overwrite(with_changed_columns(table.read(), changes))

    def put_column_changes(self, changes: Mapping[str, str | None]) -> None:
        """Remember which columns the user renamed or removed, for later scans of their tables.

        Args:
            changes: the name that a table's column would have, to the one it has; ``None`` for a
                column that was removed.
        """
        self._manifest.put(COLUMN_CHANGES, changes)

    def put_root(self, root: Path) -> None:
        """Remember the folder that stored paths are relative to now, before those of earlier."""
        path = escaped(str(root))
        known = list((self._manifest.entries().get(ROOT) or {}).get("paths", ()))
        if known[:1] != [path]:
            earlier = [other for other in known if other != path]
            self._manifest.put(ROOT, {"paths": [path, *earlier][:_ROOTS]})

    def forget_files(self, paths: Sequence[str]) -> None:
        """Remove the records of files; pictures and vectors stay."""
        if paths and self._database.exists("listings"):
            self._delete("listings", paths)
        self._delete("files", paths)

    def forget_pictures(self, keys: Sequence[str], tables: Sequence[VectorTable]) -> None:
        """Remove pictures; first their vectors, so that a crash leaves no orphans."""
        names = [table.table for table in tables]
        removed = [name for name in self._removed_tables() if self._database.exists(name)]
        for name in dict.fromkeys([*names, *removed]):
            self._delete(name, keys)
        self._delete("images", keys)

    def _delete(self, name: str, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            self._table(name).delete(keys[start : start + _DELETED_AT_ONCE])

    def maintain(self, due_only: bool = True) -> str | None:
        """Merge the small files of many commits, and delete old versions.

        Safe at any time: what a reader may still use is kept for an hour.

        Args:
            due_only: skip tables that got few commits since their last compaction.

        Returns:
            Why it was put off, if the disk has not enough room for it.
        """
        if not due_only:
            self._delete_removed_tables()
        for name in sorted(self._tables if due_only else self._database.names()):
            table = self._table(name)
            if not (table.has_many_commits() or (not due_only and table.needs_compaction())):
                continue
            needed = 2 * table.size() + _SPARE_BYTES
            free = shutil.disk_usage(self._database.folder).free
            if free < needed:
                return (
                    f"the tables were not compacted, because that needs {needed / 1e6:.0f} MB of "
                    f"disk and {free / 1e6:.0f} MB are free"
                )
            table.compact()
        return None

    def _delete_removed_tables(self) -> None:
        """Delete tables of conditions that were removed so long ago that no reader uses them."""
        for name, removed_at in self._removed_tables().items():
            if not is_retained(removed_at):
                self._tables.pop(name, None)
                self._database.drop(name)
                self._delete("statistics", [name])
                self._manifest.remove(f"{_REMOVED}{name}")
