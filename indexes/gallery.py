"""The gallery: a folder of Lance tables that remembers what it holds and how it was made.

==========  ==================================================================================
manifest    key, value (JSON): format version and geometry, and one entry a vector table
files       path -> content key, size, time, and what became of it
images      content key -> what is known of the picture
statistics  vector table -> mean and standard deviation of its vectors
c_...       one a condition: content key -> vector, word, word probability, checksum
==========  ==================================================================================

A picture is its bytes: the key is their SHA-256, so a renamed, moved or copied file is the same
picture. What is missing is a difference of keys. Readers take no lock; one writer does.
"""

from __future__ import annotations

import json
import os
import shutil
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
from indexes.ledger import sync
from indexes.records import (
    FILES,
    IMAGES,
    MANIFEST,
    STATISTICS,
    FileRecord,
    ImageRecord,
    VectorColumn,
    VectorTable,
    escaped,
    unescaped,
    vector_schema,
)
from indexes.tables import Database, Table
from indexes.vectors import Vectors, checksums, unit

FORMAT = 1

#: A copy of the manifest, from which ``cies repair`` makes it anew if it is lost.
COPY = "gallery.json"

#: Disk that maintenance leaves free beside what it needs.
_SPARE_BYTES = 64 * 2**20

#: Rows read at once where all of a table would be too much.
_ROWS = 8192

#: What lies in a gallery's folder beside its tables.
_OWN = frozenset({"lock", "checksums", "quarantine", COPY, f"{COPY}.new"})

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
        _refuse_lost_manifest(path)
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
        _refuse_lost_manifest(path)
        if (path / "manifest.lance").is_dir():
            # A manifest without its first entry was interrupted in the making: it is finished.
            with suppress(GalleryMissing):
                return cls._opened_as(path, geometry)
        try:
            path.mkdir(parents=True, exist_ok=True)
            foreign = [p.name for p in path.iterdir() if p.name not in _OWN]
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
            manifest.upsert(manifest_row("gallery", about))
            write_copy(database)
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
        try:
            return {row["key"]: json.loads(row["value"]) for row in rows}
        except ValueError as error:
            raise GalleryError(
                f"The manifest of {self.path} is damaged ({error}); `cies repair` makes it anew "
                f"from {COPY}."
            ) from error

    def conditions(self) -> list[VectorTable]:
        """The vector tables, in the order they were declared."""
        entries = [v for k, v in self._manifest().items() if k.startswith("condition:")]
        entries.sort(key=lambda entry: entry["order"])
        return [VectorTable(e["name"], e["dimension"], e["made_by"]) for e in entries]

    def files(self) -> list[FileRecord]:
        """Every file seen, in path order."""
        rows = self._database.open("files").read().to_pylist()
        return sorted((FileRecord(**row) for row in rows), key=lambda record: record.path)

    def images(self) -> list[ImageRecord]:
        """Every picture, in key order."""
        table = self._database.open("images").read()
        seconds = table.column("taken_at").cast(pa.int64()).to_pylist()
        rows = table.drop_columns(["taken_at"]).to_pylist()
        records = [ImageRecord(**row, taken_at=at) for row, at in zip(rows, seconds, strict=True)]
        return sorted(records, key=lambda record: record.key)

    def paths(self) -> dict[str, list[str]]:
        """Content key to the files that hold it, in path order."""
        table = self._database.open("files").read(["path", "key", "status"])
        found: dict[str, list[str]] = {}
        columns = (table.column(name).to_pylist() for name in ("path", "key", "status"))
        for path, key, status in sorted(zip(*columns, strict=True)):
            if status == "done":
                found.setdefault(key, []).append(path)
        return found

    def absolute(self, path: str) -> Path:
        """Where a stored path lies on this machine."""
        return self.root / unescaped(path)

    def stored(self, path: Path) -> str:
        """How the gallery writes a path down: relative to its root where it lies below it."""
        absolute = path.absolute()
        inside = absolute.is_relative_to(self.root)
        return escaped((absolute.relative_to(self.root) if inside else absolute).as_posix())

    def keys(self, table: VectorTable) -> set[str]:
        """The pictures embedded under a condition."""
        if table.table not in self._database.names():
            return set()
        rows = self._database.open(table.table).read(["key"])
        return set(rows.column("key").to_pylist())

    def image_keys(self) -> set[str]:
        """The pictures of which size and format are known."""
        return set(self._database.open("images").read(["key"]).column("key").to_pylist())

    def vector_parts(self, table: VectorTable) -> Iterator[Vectors]:
        """A condition's vectors some thousands at a time, float32 [n, dim], in no order."""
        for batch in self._database.open(table.table).batches(["vector"], _ROWS):
            if len(batch):
                flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
                yield unit(flat.astype(np.float32).reshape(len(batch), table.dimension))

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
                "`cies repair` drops them, and the next ingest embeds those pictures again."
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
        """Hold the gallery's one writer's lock, and put right what the last writer left.

        Raises:
            GalleryLocked: if another process holds it; said at once, nothing is changed.
            GalleryError: if the gallery cannot be written to.
        """
        with self.lock():
            for name in sorted(self._database.names()):
                self._database.settle(name)
            yield Writer(self._database)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock alone, as a repair does, which trusts nothing it finds.

        Raises:
            GalleryLocked: if another process holds it.
            GalleryError: if the gallery cannot be written to.
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
        except OSError as error:
            raise GalleryError(
                f"The gallery at {self.path} cannot be written to "
                f"({(error.strerror or str(error)).lower()}); it can be searched all the same."
            ) from error
        try:
            yield
        finally:
            lock.release()


def _refuse_lost_manifest(path: Path) -> None:
    if (path / COPY).is_file() and not (path / "manifest.lance").is_dir():
        raise GalleryError(
            f"The gallery at {path} has lost its table manifest; `cies repair` makes it anew from "
            f"{COPY}."
        )


class Writer:
    """The one writer of a gallery; every method is durable when it returns."""

    def __init__(self, database: Database):
        self._database = database
        self._tables: dict[str, Table] = {}
        self._declared: set[str] | None = None

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            self._tables[name] = self._database.open(name)
        return self._tables[name]

    def declare(self, table: VectorTable, order: int) -> None:
        """Make a condition's table and enter it in the manifest."""
        self.ensure(table)
        entry = {
            "name": table.name,
            "dimension": table.dimension,
            "made_by": dict(table.made_by),
            "order": order,
        }
        self._table("manifest").upsert(manifest_row(f"condition:{table.table}", entry))
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

    def forget_files(self, paths: Sequence[str]) -> None:
        """Drop files from the record; pictures and vectors stay."""
        if paths:
            self._table("files").delete(paths)

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
