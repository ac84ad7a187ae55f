"""The gallery: a folder of Lance tables with the embeddings of pictures.

==========  ==================================================================================
manifest    key, value (JSON): format version and geometry, and one entry for each vector table,
            each source, and each condition with a list of words of its own
files       path -> content key, size, time, and status
images      content key -> size, format and other properties of the picture
listings    path -> the user's table that lists it, and the columns of that table
statistics  vector table -> mean and standard deviation of its vectors
c_...       one for each condition: content key -> vector, word, word probability, checksum
==========  ==================================================================================

A picture is identified by its content: the key is the SHA-256 of its bytes, so that a renamed,
moved or copied file is the same picture. What is missing from a table is a difference of keys.
Readers take no lock; there is one writer at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from indexes.errors import (
    GalleryError,
    GalleryMismatch,
    GalleryMissing,
    UsageError,
)
from indexes.geometry import GEOMETRIES, Statistics
from indexes.store.database import Database
from indexes.store.locking import locked
from indexes.store.manifest import MANIFEST_COPY, Manifest
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
    vector_column,
)
from indexes.store.tables import Table
from indexes.store.writer import Writer
from indexes.vectors import Vectors, unit

FORMAT = 1

#: Rows in a batch where a whole table may not fit in memory.
_ROWS = 8192

#: Names in a gallery's folder that are not tables.
_OWN = frozenset(
    {"lock", "checksums", "quarantine", "indexes", MANIFEST_COPY, f"{MANIFEST_COPY}.new"}
)
#: How the name of an unfinished manifest copy begins, which a killed writer leaves.
_LEFT = f".{Path(MANIFEST_COPY).stem}."


#: How a new gallery compares vectors by default; measured in docs/geometry.md.
DEFAULT_GEOMETRY = "raw"


class Gallery:
    """A collection of embedded pictures on disk. Open one with :meth:`open`."""

    def __init__(self, path: Path, database: Database):
        self.path = path
        self._database = database
        self._manifest = Manifest(database)

    @property
    def geometry(self) -> str:
        """How vectors are compared: one of :data:`indexes.geometry.GEOMETRIES`."""
        return str(self._manifest.entries()["gallery"]["geometry"])

    @property
    def root(self) -> Path:
        """The folder that stored paths are relative to, so that it can be moved as a whole."""
        return self.path.parent

    @property
    def indexes(self) -> Path:
        """The folder of caches and indexes; it may be deleted at any time."""
        return self.path / "indexes"

    def frozen(self, name: str) -> tuple[Table, str]:
        """A table that stays in its newest state, and the identifier of that state.

        Raises:
            GalleryError: if the table cannot be read.
        """
        table = self._database.open_separately(name)
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
        about = gallery._manifest.entries().get("gallery") if gallery else None
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
        """Open a gallery; create an empty one first if there is none.

        Args:
            path: the gallery's folder.
            geometry: how a new gallery compares vectors.

        Raises:
            UsageError: if there is no such geometry.
            GalleryError: if the folder cannot be created or holds other files.
            GalleryMismatch: if the gallery exists and has another geometry.
        """
        if geometry is not None and geometry not in GEOMETRIES:
            raise UsageError(
                f"There is no geometry '{geometry}'; choose one of {', '.join(GEOMETRIES)}."
            )
        path = Path(path).absolute()
        _refuse_lost_manifest(path)
        if (path / "manifest.lance").is_dir():
            # A manifest without its first entry: creating the gallery was interrupted; continue.
            with suppress(GalleryMissing):
                return cls._opened_as(path, geometry)
        try:
            path.mkdir(parents=True, exist_ok=True)
            names = [p.name for p in path.iterdir() if not p.name.startswith(_LEFT)]
            foreign = [name for name in names if name not in _OWN]
        except OSError as error:
            raise GalleryError(
                f"Cannot create a gallery at {path}: {error.strerror}; choose another folder "
                "with --gallery."
            ) from error
        if foreign and not all(name.endswith(".lance") for name in foreign):
            raise GalleryError(
                f"{path} holds other files ({foreign[0]}); name an empty or new folder "
                "with --gallery."
            )
        gallery = cls(path, Database(path))
        with gallery.writer():
            # The manifest is written last: without it there is no gallery, so that a crash
            # leaves no half-made gallery.
            database = gallery._database
            database.ensure("files", FILES)
            database.ensure("images", IMAGES)
            database.ensure("statistics", STATISTICS)
            database.ensure("manifest", MANIFEST)
            about = {"format": FORMAT, "geometry": geometry or DEFAULT_GEOMETRY}
            gallery._manifest.put("gallery", about)
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

    def _entries(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Entries of the manifest whose key begins with a prefix, by the rest of the key."""
        entries = sorted(self._manifest.entries().items())
        return {k.removeprefix(prefix): v for k, v in entries if k.startswith(prefix)}

    def conditions(self) -> list[VectorTable]:
        """The vector tables, in the order they were declared.

        In a gallery with several methods or models some have the same name; they differ in
        ``made_by``.
        """
        entries = [v for k, v in self._manifest.entries().items() if k.startswith("condition:")]
        entries.sort(key=lambda entry: entry["order"])
        return [VectorTable.from_entry(entry) for entry in entries]

    def read(self, name: str, schema: pa.Schema) -> pa.Table:
        """All rows of one of the gallery's own tables.

        Args:
            name: ``files``, ``images`` or ``listings``.
            schema: the columns that the table has in this version. Columns that an earlier
                version did not write are null; the user's columns follow.
        """
        if not self._database.exists(name):
            return schema.empty_table()
        return completed(self._database.open(name).read(), schema)

    def files(self) -> list[FileRecord]:
        """The records of all files, in path order."""
        return file_records(self.read("files", FILES))

    def images(self) -> list[ImageRecord]:
        """The records of all pictures, in key order."""
        table = self.read("images", IMAGES)
        seconds = table.column("taken_at").cast(pa.int64()).to_pylist()
        rows = table.drop_columns(["taken_at"]).to_pylist()
        records = [ImageRecord(**row, taken_at=at) for row, at in zip(rows, seconds, strict=True)]
        return sorted(records, key=lambda record: record.key)

    def sources(self) -> dict[str, dict[str, Any]]:
        """The sources that were ingested, by stored path, with the options of their scan."""
        return self._entries("source:")

    def words(self) -> dict[str, dict[str, Any]]:
        """The lists of words that were created or edited for this gallery, by condition."""
        return self._entries("words:")

    def paths(self, gone: bool = False) -> Paths:
        """Content key to the files with this content, in path order.

        Args:
            gone: whether to add files that were missing at the last scan, after the others.
        """
        table = self._database.open("files").read(["path", "key", "status"])
        return Paths(table, ["done", "gone"] if gone else ["done"])

    def absolute(self, path: str) -> Path:
        """The absolute path of a stored path; not for addresses on other systems."""
        return self.root / unescaped(path)

    def location(self, path: str) -> str:
        """The absolute path of a stored path; an address is returned as it is."""
        return path if is_address(path) else str(self.absolute(path))

    def stored(self, path: str | Path) -> str:
        """A path as the gallery stores it: relative to the root where it lies below the root."""
        return stored_path(path, self.root)

    def keys(self, table: VectorTable) -> set[str]:
        """The keys of the pictures that are embedded under a condition."""
        return set(self.stored_keys(table).to_pylist())

    def stored_keys(self, table: VectorTable) -> pa.ChunkedArray:
        """As :meth:`keys`, in no order and without a Python object for each key."""
        if not self._database.exists(table.table):
            return pa.chunked_array([], pa.string())
        return self._database.open(table.table).read(["key"]).column("key")

    def read_keys(self) -> set[str]:
        """The keys of all pictures with a record or a vector, whether a file is left or not."""
        images = set(self.read("images", IMAGES).column("key").to_pylist())
        return images.union(*(self.keys(table) for table in self.conditions()))

    def image_keys(self) -> set[str]:
        """The keys of the pictures with known size and format."""
        return set(self._database.open("images").read(["key"]).column("key").to_pylist())

    def vector_parts(self, table: VectorTable) -> Iterator[Vectors]:
        """A condition's vectors in batches, float32 [n, dim], unit rows, in no order."""
        for batch in self._database.open(table.table).batches(["vector"], _ROWS):
            if len(batch):
                flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
                yield unit(flat.astype(np.float32).reshape(len(batch), table.dimension))

    def rows(self, table: VectorTable, columns: Iterable[str]) -> Iterator[pa.RecordBatch]:
        """A condition's rows as they are stored, in batches, in no order."""
        yield from self._database.open(table.table).batches(columns, _ROWS)

    def column(self, table: VectorTable) -> VectorColumn:
        """All rows of a condition's table, in key order.

        Raises:
            GalleryError: if the stored vectors are damaged.
        """
        return vector_column(self._database.open(table.table).read(), table, self.path)

    def statistics(self, table: VectorTable) -> Statistics | None:
        """Stored mean and standard deviation of a condition's vectors; ``None`` if missing."""
        for row in self._database.open("statistics").read().to_pylist():
            if row["table"] == table.table:
                mean, std = (np.array(row[name], dtype=np.float32) for name in ("mean", "std"))
                return Statistics(mean, std, row["count"])
        return None

    def computed_statistics(self, table: VectorTable) -> Statistics:
        """Mean and standard deviation of a condition's vectors, computed from all of them."""
        return Statistics.of_parts(self.vector_parts(table), table.dimension)

    # -- writing ---------------------------------------------------------------------------

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Hold the writer's lock, and recover from an interrupted write.

        Raises:
            GalleryLocked: if another process holds the lock; raised at once.
            GalleryError: if the gallery cannot be written to.
        """
        with locked(self.path):
            for left in self.path.glob(f"{_LEFT}*"):
                left.unlink(missing_ok=True)
            with self._database.session():
                yield Writer(self._database, self._manifest)


def _refuse_lost_manifest(path: Path) -> None:
    if (path / MANIFEST_COPY).is_file() and not (path / "manifest.lance").is_dir():
        raise GalleryError(
            f"The gallery at {path} has lost its table manifest; `cies repair` restores it "
            f"from {MANIFEST_COPY}."
        )
