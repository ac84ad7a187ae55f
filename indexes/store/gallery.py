"""The gallery: a folder of Lance tables that remembers what it holds and how it was made.

==========  ==================================================================================
manifest    key, value (JSON): format version and geometry, one entry a vector table, one a
            source, and one a condition whose list of words is its own
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
from typing import Any, Iterable, Iterator

import numpy as np
import pyarrow as pa

from indexes.errors import (
    GalleryError,
    GalleryMismatch,
    GalleryMissing,
    UsageError,
)
from indexes.search.geometry import GEOMETRIES, Statistics
from indexes.search.vectors import Vectors, unit
from indexes.store.columns import vector_column
from indexes.store.database import Database
from indexes.store.locking import locked
from indexes.store.paths import Paths
from indexes.store.records import (
    FILES,
    IMAGES,
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
)
from indexes.store.tables import Table
from indexes.store.writer import COPY, Writer, manifest_row, write_copy

FORMAT = 1

#: Rows read at once where all of a table would be too much.
_ROWS = 8192

#: What lies in a gallery's folder beside its tables.
_OWN = frozenset({"lock", "checksums", "quarantine", "indexes", COPY, f"{COPY}.new"})
#: How a new gallery compares vectors, unless told otherwise; measured in docs/geometry.md.
DEFAULT_GEOMETRY = "raw"


class Gallery:
    """An embedded collection of pictures on disk. Open one with :meth:`open`."""

    def __init__(self, path: Path, database: Database):
        self.path = path
        self._database = database

    @property
    def geometry(self) -> str:
        """How vectors are compared: one of :data:`indexes.search.geometry.GEOMETRIES`."""
        return str(self._manifest()["gallery"]["geometry"])

    @property
    def root(self) -> Path:
        """Paths below this folder are stored relative to it, so that both can move together."""
        return self.path.parent

    @property
    def indexes(self) -> Path:
        """The folder of what is kept to search faster; it may be deleted at any time."""
        return self.path / "indexes"

    def frozen(self, name: str) -> tuple[Table, str]:
        """A table in its newest state, which it keeps, and that state's name.

        Raises:
            GalleryError: if it cannot be read.
        """
        table = self._database.open(name)
        return table, table.freeze()

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
        try:
            rows = self._database.open("manifest").read().to_pylist()
        except GalleryError:
            if (self.path / "manifest.lance").is_dir():
                raise
            # Power was lost while it was made, and it was set aside just now.
            return {}
        try:
            return {row["key"]: json.loads(row["value"]) for row in rows}
        except ValueError as error:
            raise GalleryError(
                f"The manifest of {self.path} is damaged ({error}); `cies repair` makes it anew "
                f"from {COPY}."
            ) from error

    def conditions(self) -> list[VectorTable]:
        """The vector tables, in the order they were declared.

        Of a gallery with several methods or models some have the same name: what tells them apart
        is what made them.
        """
        entries = [v for k, v in self._manifest().items() if k.startswith("condition:")]
        entries.sort(key=lambda entry: entry["order"])
        return [VectorTable.from_entry(entry) for entry in entries]

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

    def words(self) -> dict[str, dict[str, Any]]:
        """The lists of words that were made or edited for this gallery, by condition."""
        prefix = "words:"
        entries = sorted(self._manifest().items())
        return {k.removeprefix(prefix): v for k, v in entries if k.startswith(prefix)}

    def paths(self, gone: bool = False) -> Paths:
        """Content key to the files that hold it, in path order.

        Args:
            gone: whether files that were not there at the last scan count too, after the others.
        """
        table = self._database.open("files").read(["path", "key", "status"])
        return Paths(table, ["done", "gone"] if gone else ["done"])

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

    def image_keys(self) -> set[str]:
        """The pictures of which size and format are known."""
        return set(self._database.open("images").read(["key"]).column("key").to_pylist())

    def vector_parts(self, table: VectorTable) -> Iterator[Vectors]:
        """A condition's vectors some thousands at a time, float32 [n, dim], in no order."""
        for batch in self._database.open(table.table).batches(["vector"], _ROWS):
            if len(batch):
                flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
                yield unit(flat.astype(np.float32).reshape(len(batch), table.dimension))

    def rows(self, table: VectorTable, columns: Iterable[str]) -> Iterator[pa.RecordBatch]:
        """A condition's rows as they are stored, some thousands at a time, in no order."""
        yield from self._database.open(table.table).batches(columns, _ROWS)

    def column(self, table: VectorTable) -> VectorColumn:
        """Read a condition's whole table.

        Raises:
            GalleryError: if the stored vectors are damaged.
        """
        return vector_column(self._database.open(table.table).read(), table, self.path)

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
        with locked(self.path):
            yield


def _refuse_lost_manifest(path: Path) -> None:
    if (path / COPY).is_file() and not (path / "manifest.lance").is_dir():
        raise GalleryError(
            f"The gallery at {path} has lost its table manifest; `cies repair` makes it anew from "
            f"{COPY}."
        )
