"""The gallery: a folder of Lance tables with the embeddings of pictures.

==========  ==================================================================================
manifest    key, value (JSON): format version and geometry, and one entry for each vector table,
            each source, each collection, and each condition with a list of words of its own
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
import pyarrow.compute as pc

from indexes.errors import (
    GalleryDamaged,
    GalleryError,
    GalleryMismatch,
    GalleryMissing,
    UsageError,
)
from indexes.geometry import GEOMETRIES, Statistics
from indexes.store.database import Database
from indexes.store.frozen import FrozenDatabase, Moment, newest_moment
from indexes.store.locking import locked
from indexes.store.manifest import Manifest
from indexes.store.manifest_copy import MANIFEST_COPY
from indexes.store.paths import COLUMNS, Paths, paths_at
from indexes.store.records import (
    FILES,
    IMAGES,
    MANIFEST,
    NORM,
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
from indexes.store.writer import (
    COLLECTION,
    COLUMN_CHANGES,
    ROOT,
    SOURCE,
    SOURCE_COLUMNS,
    Writer,
)
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

#: The tables about files; all others are about vectors.
_OF_FILES = frozenset({"files", "images", "listings"})

#: How a new gallery compares vectors by default; measured in docs/geometry.md.
DEFAULT_GEOMETRY = "raw"


class Gallery:
    """A collection of embedded pictures on disk. Open one with :meth:`open`."""

    def __init__(self, path: Path, database: Database, live: Gallery | None = None):
        """Store the arguments; use :meth:`open`, :meth:`create` or :meth:`at_moment`.

        Args:
            path: the gallery's folder.
            database: the tables.
            live: the gallery to write to, if the tables are frozen.
        """
        self.path = path
        self._database = database
        self._manifest = Manifest(database, fixed=live is not None)
        self._live = live

    def newest_moment(self) -> Moment:
        """The newest versions of all tables; it changes with every commit, and takes no reading.

        Raises:
            GalleryMissing: if the gallery is gone.
        """
        return newest_moment(self.path)

    def at_moment(self, moment: Moment | None = None, before: Gallery | None = None) -> Gallery:
        """The gallery as it was at one moment, whatever is written later.

        Its tables are read when they are first used, all as they were at that moment. What is
        written to it goes to the gallery on the disk, and is not seen.

        Args:
            moment: from :meth:`newest_moment`; the newest by default.
            before: the gallery at an earlier moment, whose open tables are used where they have
                not changed.

        Raises:
            GalleryMissing: if the gallery is gone.
        """
        live = self._live or self
        earlier = before._database if before is not None else None
        frozen = FrozenDatabase(
            live._database,
            live.newest_moment() if moment is None else moment,
            earlier if isinstance(earlier, FrozenDatabase) else None,
        )
        return Gallery(self.path, frozen, live)

    def with_newest_vectors(self) -> Gallery:
        """The pictures that this gallery has at its moment, with the vectors that they have now."""
        assert isinstance(self._database, FrozenDatabase)
        kept = {n: v for n, v in self._database.moment.items() if n in _OF_FILES}
        return self.at_moment({**self.newest_moment(), **kept}, self)

    @property
    def geometry(self) -> str:
        """How vectors are compared: one of :data:`indexes.geometry.GEOMETRIES`."""
        about = self._manifest.about()
        if about is None or about.geometry not in GEOMETRIES:
            raise GalleryDamaged(
                f"The manifest of {self.path} is damaged: it names no geometry that this version "
                f"knows; `cies repair` restores it from {MANIFEST_COPY}."
            )
        return about.geometry

    @property
    def root(self) -> Path:
        """The folder that stored paths are relative to, so that it can be moved as a whole."""
        return self.path.parent

    @property
    def indexes(self) -> Path:
        """The folder of caches and indexes; it may be deleted at any time."""
        return self.path / "indexes"

    def frozen(self, name: str) -> Table:
        """A table that stays in its present state.

        Raises:
            GalleryError: if the table cannot be read.
        """
        table = self._database.open_separately(name)
        if self._live is None:
            table.freeze()
        return table

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
        about = gallery._manifest.about() if gallery else None
        if gallery is None or about is None:
            raise GalleryMissing(
                f"There is no gallery at {path}; make one with "
                f"`cies ingest FOLDER --gallery {path} --condition color`."
            )
        if about.format != FORMAT:
            raise GalleryMismatch(
                f"The gallery at {path} has format {about.format}, this version of CIES reads "
                f"format {FORMAT}; install the version that wrote it, or ingest into a new gallery."
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
        return self._entries(SOURCE)

    def source_columns(self) -> dict[str, list[str]]:
        """The user's columns that each source had at its last ingest, by its stored path.

        Galleries of earlier versions have none.
        """
        return {
            name: list(e.get("columns", ())) for name, e in self._entries(SOURCE_COLUMNS).items()
        }

    def column_changes(self) -> dict[str, str | None]:
        """The user's columns that were renamed or removed in this gallery: the name that a table
        gives a column to the one it has here, or ``None`` if it was removed.
        """
        return dict(self._manifest.entries().get(COLUMN_CHANGES) or {})

    def earlier_roots(self) -> list[Path]:
        """The folders that stored paths were relative to before the gallery was moved or copied,
        the latest first.
        """
        paths = (self._manifest.entries().get(ROOT) or {}).get("paths", ())
        roots = [Path(unescaped(path)) for path in paths if isinstance(path, str) and path]
        return [root for root in roots if root != self.root]

    def words(self) -> dict[str, dict[str, Any]]:
        """The lists of words that were created or edited for this gallery, by condition."""
        return self._entries("words:")

    def collections(self) -> dict[str, list[str]]:
        """The collections by name: content keys, in the order in which they were added.

        A key may be of a picture that has been removed from the gallery since.
        """
        return {name: list(entry["keys"]) for name, entry in self._entries(COLLECTION).items()}

    def paths(self, gone: bool = False, before: Paths | None = None) -> Paths:
        """Content key to the files with this content, in path order.

        Args:
            gone: whether to add files that were missing at the last scan, after the others.
            before: the same of the gallery at an earlier moment; then only what has changed since
                is read. The gallery must be at a moment itself.
        """
        table = self._database.open("files")
        if self._live is None:
            return Paths(table.read(COLUMNS), ["done", "gone"] if gone else ["done"])
        return paths_at(table, ["done", "gone"] if gone else ["done"], before)

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
        """A condition's rows as they are stored, in batches, in no order; columns that a table of
        an earlier version lacks are left out.
        """
        stored = self._database.open(table.table)
        names = stored.schema.names
        yield from stored.batches([name for name in columns if name in names], _ROWS)

    def norm(self, table: VectorTable, key: str) -> float | None:
        """The length that a picture's vector had before it was scaled to unit length; ``None`` if
        it was not stored.
        """
        for batch in self.rows(table, ["key", NORM]):
            if NORM not in batch.schema.names:
                return None
            found = batch.filter(pc.equal(batch.column("key"), key)).column(NORM).to_pylist()
            if found:
                return None if found[0] is None else float(found[0])
        return None

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

    def outdated_statistics(self) -> dict[str, Statistics]:
        """Statistics, computed now, of the tables whose stored ones are of another number of
        vectors: by name of the table.
        """
        found = {}
        for table in self.conditions():
            stored, count = self.statistics(table), len(self.stored_keys(table))
            if (stored.count if stored else 0) != count:
                found[table.table] = self.computed_statistics(table)
        return found

    # -- writing ---------------------------------------------------------------------------

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Hold the writer's lock, and recover from an interrupted write.

        Raises:
            GalleryLocked: if another process holds the lock; raised at once.
            GalleryError: if the gallery cannot be written to.
        """
        if self._live is not None:
            with self._live.writer() as writer:
                yield writer
            return
        with locked(self.path):
            for left in self.path.glob(f"{_LEFT}*"):
                left.unlink(missing_ok=True)
            with self._database.session():
                try:
                    yield Writer(self._database, self._manifest)
                finally:
                    # What guards the ledgers may be older than they are, but not newer.
                    with suppress(GalleryError):
                        self._manifest.record_ledgers()


def _refuse_lost_manifest(path: Path) -> None:
    if (path / MANIFEST_COPY).is_file() and not (path / "manifest.lance").is_dir():
        raise GalleryError(
            f"The gallery at {path} has lost its table manifest; `cies repair` restores it "
            f"from {MANIFEST_COPY}."
        )
