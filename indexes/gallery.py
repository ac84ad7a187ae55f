"""The gallery: a folder of Lance tables that remembers what it holds and how it was made.

==========  ==================================================================================
manifest    key, value (JSON): format version and geometry, and one entry a vector table
files       path -> content key, size, time, and what became of it
images      content key -> what is known of the picture
listings    path -> the user's table that lists it, and the columns that table brought
statistics  vector table -> mean and standard deviation of its vectors
c_...       one a condition: content key -> vector, word, word probability, checksum
==========  ==================================================================================

A picture is its bytes: the key is their SHA-256, so a renamed, moved or copied file is the same
picture. What is missing is a difference of keys. Readers take no lock; one writer does.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexes.errors import (
    GalleryError,
    GalleryLocked,
    GalleryMismatch,
    GalleryMissing,
    UsageError,
)
from indexes.geometry import GEOMETRIES, Statistics
from indexes.records import (
    FILES,
    IMAGES,
    LISTINGS,
    MANIFEST,
    STATISTICS,
    FileRecord,
    ImageRecord,
    VectorColumn,
    VectorTable,
    completed,
    file_records,
    is_address,
    stored_path,
    unescaped,
    vector_schema,
)
from indexes.tables import Database, Table
from indexes.vectors import Vectors, checksums, unit

FORMAT = 1

#: Tables whose columns grow from version to version.
_SCHEMAS = {"files": FILES, "images": IMAGES}

#: Keys in one deletion, whose condition Lance must parse.
_DELETED_AT_ONCE = 2000

#: How a new gallery compares vectors, unless told otherwise; measured in docs/geometry.md.
DEFAULT_GEOMETRY = "raw"


class Gallery:
    """An embedded collection of pictures on disk. Open one with :meth:`open`."""

    def __init__(self, path: Path, database: Database):
        self.path = path
        self._database = database

    @property
    def geometry(self) -> str:
        """How vectors are compared: one of :data:`indexes.geometry.GEOMETRIES`."""
        return str(self._manifest()["gallery"]["geometry"])

    @property
    def root(self) -> Path:
        """Paths below this folder are stored relative to it, so that both can move together."""
        return self.path.parent

    @classmethod
    def open(cls, path: str | Path) -> Gallery:
        """Open a gallery that exists.

        Raises:
            GalleryMissing: if there is none at ``path``.
            GalleryMismatch: if a newer version of CIES wrote it.
        """
        path = Path(path).absolute()
        gallery = cls(path, Database(path)) if (path / "manifest.lance").is_dir() else None
        about = gallery._manifest().get("gallery") if gallery else None
        if gallery is None or about is None:
            raise GalleryMissing(
                f"There is no gallery at {path}; make one with "
                f"`cies ingest FOLDER --gallery {path} --condition color`."
            )
        found = about["format"]
        if found != FORMAT:
            raise GalleryMismatch(
                f"The gallery at {path} has format {found}, this version of CIES reads format "
                f"{FORMAT}; install the version that wrote it, or ingest into a new gallery."
            )
        return gallery

    @classmethod
    def create(cls, path: str | Path, geometry: str | None = None) -> Gallery:
        """Open a gallery, made empty first if there is none.

        Args:
            path: its folder.
            geometry: how a new gallery shall compare vectors.

        Raises:
            UsageError: if there is no such geometry.
            GalleryError: if the folder cannot be made or holds something else.
            GalleryMismatch: if there is a gallery and it compares otherwise.
        """
        if geometry is not None and geometry not in GEOMETRIES:
            raise UsageError(
                f"There is no geometry '{geometry}'; choose one of {', '.join(GEOMETRIES)}."
            )
        path = Path(path).absolute()
        if (path / "manifest.lance").is_dir():
            # A manifest without its first entry was interrupted in the making: it is finished.
            with suppress(GalleryMissing):
                return cls._opened_as(path, geometry)
        try:
            path.mkdir(parents=True, exist_ok=True)
            foreign = [p.name for p in path.iterdir() if p.name != "lock"]
        except OSError as error:
            raise GalleryError(
                f"Cannot make a gallery at {path}: {error.strerror}; choose another place "
                "with --gallery."
            ) from error
        if foreign and not all(name.endswith(".lance") for name in foreign):
            raise GalleryError(
                f"{path} holds other files ({foreign[0]}); name an empty or new folder "
                "with --gallery."
            )
        database = Database(path)
        gallery = cls(path, database)
        with gallery.writer():
            # The manifest is written last: without it there is no gallery, so a crash on the
            # way leaves nothing half made.
            database.ensure("files", FILES)
            database.ensure("images", IMAGES)
            database.ensure("statistics", STATISTICS)
            manifest = database.ensure("manifest", MANIFEST)
            about = {"format": FORMAT, "geometry": geometry or DEFAULT_GEOMETRY}
            manifest.upsert(_manifest_row("gallery", about))
        return gallery

    @classmethod
    def _opened_as(cls, path: Path, geometry: str | None) -> Gallery:
        gallery = cls.open(path)
        if geometry not in (None, gallery.geometry):
            raise GalleryMismatch(
                f"The gallery at {path} compares vectors {gallery.geometry}, not {geometry}; "
                "leave --geometry out, or make another gallery with --gallery."
            )
        return gallery

    # -- reading ---------------------------------------------------------------------------

    def _manifest(self) -> dict[str, Any]:
        rows = self._database.open("manifest").read().to_pylist()
        return {row["key"]: json.loads(row["value"]) for row in rows}

    def conditions(self) -> list[VectorTable]:
        """The vector tables, in the order they were declared."""
        entries = [v for k, v in self._manifest().items() if k.startswith("condition:")]
        entries.sort(key=lambda entry: entry["order"])
        return [VectorTable(e["name"], e["dimension"], e["made_by"]) for e in entries]

    def read(self, name: str, schema: pa.Schema) -> pa.Table:
        """One of the gallery's own tables, whole.

        Args:
            name: ``files``, ``images`` or ``listings``.
            schema: the columns it has in this version; those that an earlier version did not
                write are empty, and columns beside them follow.
        """
        if name not in self._database.names():
            return schema.empty_table()
        return completed(self._database.open(name).read(), schema)

    def files(self) -> list[FileRecord]:
        """Every file seen, in path order."""
        return file_records(self.read("files", FILES))

    def images(self) -> list[ImageRecord]:
        """Every picture, in key order."""
        table = self.read("images", IMAGES)
        seconds = table.column("taken_at").cast(pa.int64()).to_pylist()
        rows = table.drop_columns(["taken_at"]).to_pylist()
        records = [ImageRecord(**row, taken_at=at) for row, at in zip(rows, seconds, strict=True)]
        return sorted(records, key=lambda record: record.key)

    def sources(self) -> dict[str, dict[str, Any]]:
        """What was ingested before, by its stored path, with the options it was scanned by."""
        prefix = "source:"
        entries = sorted(self._manifest().items())
        return {k.removeprefix(prefix): v for k, v in entries if k.startswith(prefix)}

    def paths(self, gone: bool = False) -> dict[str, list[str]]:
        """Content key to the files that hold it, in path order.

        Args:
            gone: whether files that were not there at the last scan count too, after the others.
        """
        table = self._database.open("files").read(["path", "key", "status"])
        found: dict[str, list[str]] = {}
        columns = (table.column(name).to_pylist() for name in ("path", "key", "status"))
        rows = sorted(zip(*columns, strict=True))
        for wanted in ("done", "gone") if gone else ("done",):
            for path, key, status in rows:
                if status == wanted and key:
                    found.setdefault(key, []).append(path)
        return found

    def absolute(self, path: str) -> Path:
        """Where a stored path lies on this machine; not for addresses on other systems."""
        return self.root / unescaped(path)

    def location(self, path: str) -> str:
        """A stored path for people and programs: absolute, or an address as it is."""
        return path if is_address(path) else str(self.absolute(path))

    def stored(self, path: str | Path) -> str:
        """How the gallery writes a path down: relative to its root where it lies below it."""
        return stored_path(path, self.root)

    def keys(self, table: VectorTable) -> set[str]:
        """The pictures embedded under a condition."""
        return set(self.stored_keys(table).to_pylist())

    def stored_keys(self, table: VectorTable) -> pa.ChunkedArray:
        """As :meth:`keys`, in no order and without a Python object for each."""
        if table.table not in self._database.names():
            return pa.chunked_array([], pa.string())
        return self._database.open(table.table).read(["key"]).column("key")

    def read_keys(self) -> set[str]:
        """Every picture of which anything is stored, with a file or without."""
        held = set(self.read("images", IMAGES).column("key").to_pylist())
        return held.union(*(self.keys(table) for table in self.conditions()))

    def column(self, table: VectorTable) -> VectorColumn:
        """Read a condition's whole table.

        Raises:
            GalleryError: if the stored vectors are damaged.
        """
        rows = self._database.open(table.table).read().sort_by("key").combine_chunks()
        count = rows.num_rows
        stored = rows.column("vector").combine_chunks()
        flat = stored.flatten() if count else pa.array([], pa.float16())
        half = np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float16)
        half = half.reshape(count, table.dimension)
        try:
            vectors = unit(half.astype(np.float32)) if count else half.astype(np.float32)
        except ValueError as error:
            raise GalleryError(
                f"Damaged vectors under condition '{table.name}' in {self.path}: {error}; "
                "ingest the pictures into a new gallery."
            ) from error
        return VectorColumn(
            keys=rows.column("key").to_pylist(),
            vectors=vectors,
            words=[word or "" for word in rows.column("word").to_pylist()],
            word_probabilities=rows.column("word_probability").to_numpy().astype(np.float32),
        )

    def statistics(self, table: VectorTable) -> Statistics | None:
        """Mean and standard deviation of a condition's vectors, if they were taken."""
        for row in self._database.open("statistics").read().to_pylist():
            if row["table"] == table.table:
                mean, std = (np.array(row[name], dtype=np.float32) for name in ("mean", "std"))
                return Statistics(mean, std, row["count"])
        return None

    # -- writing ---------------------------------------------------------------------------

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Hold the gallery's one writer's lock.

        Raises:
            GalleryLocked: if another process holds it; said at once, nothing is changed.
        """
        import filelock

        lock = filelock.FileLock(str(self.path / "lock"), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise GalleryLocked(
                f"Another process is writing to the gallery at {self.path}; wait for it to "
                "end, searching is possible meanwhile."
            ) from error
        try:
            yield Writer(self._database)
        finally:
            lock.release()


class Writer:
    """The one writer of a gallery; every method is durable when it returns."""

    def __init__(self, database: Database):
        self._database = database
        self._tables: dict[str, Table] = {}

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            self._tables[name] = self._database.open(name)
            if name in _SCHEMAS:
                # A gallery of an earlier version gets the columns that came since.
                self._tables[name].add_missing_columns(_SCHEMAS[name])
        return self._tables[name]

    def declare(self, table: VectorTable, order: int) -> None:
        """Make a condition's table and enter it in the manifest."""
        self._database.ensure(table.table, vector_schema(table.dimension))
        entry = {
            "name": table.name,
            "dimension": table.dimension,
            "made_by": dict(table.made_by),
            "order": order,
        }
        self._table("manifest").upsert(_manifest_row(f"condition:{table.table}", entry))

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
        columns = {
            "key": list(keys),
            "vector": pa.FixedSizeListArray.from_arrays(flat, table.dimension),
            "word": list(words),
            "word_probability": pa.array(word_probabilities, type=pa.float32()),
            "checksum": pa.array(checksums(half), type=pa.uint32()),
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
        self._table("manifest").upsert(_manifest_row(f"source:{source}", options))

    def forget_source(self, source: str) -> None:
        """Scan a source no more when none is named."""
        self._table("manifest").delete([f"source:{source}"])

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

    def compact(self) -> None:
        """Merge the small files that many commits leave behind."""
        for table in self._tables.values():
            table.compact()


def _manifest_row(key: str, value: Mapping[str, Any]) -> pa.Table:
    text = json.dumps(dict(value), sort_keys=True)
    return pa.Table.from_pylist([{"key": key, "value": text}], schema=MANIFEST)
