"""The one writer of a gallery."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexes.errors import GalleryError
from indexes.search.geometry import Statistics
from indexes.search.vectors import Vectors, checksums
from indexes.store.database import Database
from indexes.store.ledger import sync
from indexes.store.records import (
    FILES,
    IMAGES,
    LISTINGS,
    MANIFEST,
    STATISTICS,
    FileRecord,
    ImageRecord,
    VectorTable,
    completed,
    vector_schema,
)
from indexes.store.tables import Table

#: A copy of the manifest, from which ``cies repair`` makes it anew if it is lost.
COPY = "gallery.json"

#: Disk that maintenance leaves free beside what it needs.
_SPARE_BYTES = 64 * 2**20

#: Tables whose columns grow from version to version.
_SCHEMAS = {"files": FILES, "images": IMAGES}

#: Keys in one deletion, whose condition Lance must parse.
_DELETED_AT_ONCE = 2000


class Writer:
    """The one writer of a gallery; every method is durable when it returns."""

    def __init__(self, database: Database):
        self._database = database
        self._tables: dict[str, Table] = {}
        self._declared: set[str] | None = None

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            self._tables[name] = self._database.open(name)
            if name in _SCHEMAS:
                # A gallery of an earlier version gets the columns that came since.
                self._tables[name].add_missing_columns(_SCHEMAS[name])
        return self._tables[name]

    def declare(self, table: VectorTable, order: int | None = None) -> None:
        """Make a condition's table and enter it in the manifest, or change its entry.

        Args:
            table: what it is called, how it is made, and whether it is partial.
            order: its place among the tables; by default the one it has, or after all others.
        """
        self.ensure(table)
        key = f"condition:{table.table}"
        if order is None:
            rows = self._table("manifest").read().to_pylist()
            places = {
                row["key"]: json.loads(row["value"])["order"]
                for row in rows
                if row["key"].startswith("condition:")
            }
            order = places.get(key, max(places.values(), default=-1) + 1)
        self._table("manifest").upsert(manifest_row(key, table.entry(order)))
        write_copy(self._database)
        self._declared = None

    def ensure(self, table: VectorTable) -> None:
        """Make a condition's table if it is not there, as for a new one or after a repair."""
        self._database.ensure(table.table, vector_schema(table.dimension))

    def declared(self) -> set[str]:
        """Names of the vector tables in the manifest."""
        if self._declared is None:
            rows = self._table("manifest").read(["key"]).column("key").to_pylist()
            entries = [key.partition(":") for key in rows]
            self._declared = {name for kind, _, name in entries if kind == "condition"}
        return self._declared

    def put_vectors(
        self,
        table: VectorTable,
        keys: Sequence[str],
        vectors: Vectors,
        words: Sequence[str],
        word_probabilities: NDArray[np.float32],
    ) -> None:
        """Store pictures' vectors under a condition.

        Args:
            table: an entry that was declared.
            keys: content keys, [n], without repetition.
            vectors: float32 [n, dim], unit rows; kept as fp16.
            words: the model's word for each, or empty strings.
            word_probabilities: float32 [n].

        Raises:
            ValueError: if a vector is not of unit length, which is checked before writing.
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
        }
        rows = pa.table(columns, schema=vector_schema(table.dimension))
        self._table(table.table).upsert(rows)

    def put_statistics(self, table: VectorTable, statistics: Statistics) -> None:
        """Store mean and standard deviation of a condition's vectors."""
        row = {
            "table": table.table,
            "mean": statistics.mean.tolist(),
            "std": statistics.std.tolist(),
            "count": statistics.count,
        }
        self._table("statistics").upsert(pa.Table.from_pylist([row], schema=STATISTICS))

    def put_images(self, images: Sequence[ImageRecord]) -> None:
        """Store what is known of pictures."""
        rows = [vars(image) for image in images]
        self._table("images").upsert(pa.Table.from_pylist(rows, schema=IMAGES))

    def put_files(self, files: Sequence[FileRecord]) -> None:
        """Store what became of files."""
        rows = [vars(record) for record in files]
        self._table("files").upsert(pa.Table.from_pylist(rows, schema=FILES))

    def put_source(self, source: str, options: Mapping[str, Any]) -> None:
        """Remember what was ingested, and by which options it was scanned."""
        self._table("manifest").upsert(manifest_row(f"source:{source}", options))
        write_copy(self._database)

    def forget_source(self, source: str) -> None:
        """Scan a source no more when none is named."""
        self._table("manifest").delete([f"source:{source}"])
        write_copy(self._database)

    def put_words(self, condition: str, entry: Mapping[str, Any]) -> None:
        """Remember a condition's list of words, in place of the one there was."""
        self._table("manifest").upsert(manifest_row(f"words:{condition}", entry))
        write_copy(self._database)

    def forget_words(self, condition: str) -> None:
        """Forget a condition's list of words."""
        self._table("manifest").delete([f"words:{condition}"])
        write_copy(self._database)

    def put_listings(self, rows: pa.Table) -> None:
        """Store what the user's tables say of files.

        Args:
            rows: path, source, and any columns; those new to the gallery are added to it. A
                column that is left out becomes empty in these rows.
        """
        if "listings" not in self._tables:
            self._tables["listings"] = self._database.ensure("listings", LISTINGS)
        table = self._tables["listings"]
        table.add_missing_columns(rows.schema)
        table.upsert(completed(rows, table.schema))

    def forget_files(self, paths: Sequence[str]) -> None:
        """Drop files from the record; pictures and vectors stay."""
        if "listings" in self._database.names():
            self._delete("listings", paths)
        self._delete("files", paths)

    def forget_pictures(self, keys: Sequence[str], tables: Sequence[VectorTable]) -> None:
        """Drop pictures and their vectors; the vectors first, so that a crash leaves no orphan."""
        for table in tables:
            self._delete(table.table, keys)
        self._delete("images", keys)

    def _delete(self, name: str, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            self._table(name).delete(keys[start : start + _DELETED_AT_ONCE])

    def maintain(self, due_only: bool = True) -> str | None:
        """Merge the small files that many commits leave behind, and drop old versions.

        Safe at any time: what a reader may still use stays for an hour.

        Args:
            due_only: pass over tables that saw few commits since the last time.

        Returns:
            Why it was put off, if it was: it needs room on the disk, and can wait.
        """
        for name in sorted(self._tables if due_only else self._database.names()):
            table = self._table(name)
            if due_only and not table.grown():
                continue
            if not (table.grown() or table.scattered()):
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


def write_copy(database: Database) -> None:
    """Write the manifest down a second time, whole or not at all."""
    rows = database.open("manifest").read().to_pylist()
    document = {row["key"]: json.loads(row["value"]) for row in rows}
    fresh = database.folder / f"{COPY}.new"
    try:
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(database.folder / COPY)
        sync(database.folder)
    except OSError as error:
        raise GalleryError(
            f"Cannot write to {database.folder}: {(error.strerror or str(error)).lower()}. "
            "What was stored before is safe; run the same command again to go on."
        ) from error


def manifest_row(key: str, value: Mapping[str, Any]) -> pa.Table:
    """An entry of the manifest as a row of its table."""
    text = json.dumps(dict(value), sort_keys=True)
    return pa.Table.from_pylist([{"key": key, "value": text}], schema=MANIFEST)
