"""The columns of a gallery's tables, and their rows as Python objects and arrays."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexes.errors import GalleryError
from indexes.vectors import Vectors, unit

MANIFEST = pa.schema([("key", pa.string()), ("value", pa.string())])
FILES = pa.schema(
    [
        ("path", pa.string()),
        ("key", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("gone_at", pa.timestamp("s")),
    ]
)
IMAGES = pa.schema(
    [
        ("key", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("taken_at", pa.timestamp("s")),
        ("orientation", pa.int8()),
    ]
)
#: The option of a source, in the manifest, that is a path: where its table's paths start.
ROOT_OPTION = "root"

#: The method of vectors that another program made, which no encoder can add to.
IMPORTED = "imported"

#: Followed by the columns of the user's tables.
LISTINGS = pa.schema([("path", pa.string()), ("source", pa.string())])
#: The column of listings with further rows that name the same file: a JSON list of objects. The
#: table has it once there are any.
FURTHER_ROWS = "_rows"
STATISTICS = pa.schema(
    [
        ("table", pa.string()),
        ("mean", pa.list_(pa.float32())),
        ("std", pa.list_(pa.float32())),
        ("count", pa.int64()),
    ]
)


#: The column with the length that a vector had before it was scaled to unit length; null if it is
#: not known. Tables of earlier versions do not have it.
NORM = "norm"


def vector_schema(dimension: int) -> pa.Schema:
    """Columns of a vector table."""
    return pa.schema(
        [
            ("key", pa.string()),
            ("vector", pa.list_(pa.float16(), dimension)),
            ("word", pa.string()),
            ("word_probability", pa.float32()),
            ("checksum", pa.uint32()),
            (NORM, pa.float32()),
        ]
    )


@dataclass(frozen=True)
class VectorTable:
    """The manifest's entry for one condition.

    Attributes:
        name: the condition as the user typed it.
        dimension: length of its vectors.
        made_by: everything that its vectors depend on (phrase, model, prompt, dtype ...), as JSON
            values. The table's name is a hash of it, never the user's text.
        partial: whether it was filled for some pictures only, as when a search embedded its
            best hits. Not part of the table's identity.
        filling: whether the next ingest completes a partial table.
    """

    name: str
    dimension: int
    made_by: Mapping[str, Any]
    partial: bool = field(default=False, compare=False)
    filling: bool = field(default=False, compare=False)

    @property
    def kept_up(self) -> bool:
        """Whether an ingest embeds the pictures that the table lacks."""
        return (self.filling or not self.partial) and not self.imported

    @property
    def imported(self) -> bool:
        """Whether another program made the vectors, so that no ingest can add any."""
        return self.made_by.get("method") == IMPORTED

    @property
    def table(self) -> str:
        """The Lance table's name: ``c_`` and 26 hexadecimal digits."""
        content = json.dumps(dict(self.made_by), sort_keys=True, ensure_ascii=True)
        return "c_" + hashlib.sha256(content.encode()).hexdigest()[:26]

    @property
    def parts_per_row(self) -> int:
        """The number of vectors in a row; above 1 for methods that embed parts of a picture."""
        settings = self.made_by.get("settings") or {}
        return int(settings.get("parts", 1))

    def entry(self, order: int) -> dict[str, Any]:
        """The table as a value of the manifest. Flags are left out unless they are true, so that
        entries are as in earlier versions.
        """
        entry: dict[str, Any] = {
            "name": self.name,
            "dimension": self.dimension,
            "made_by": dict(self.made_by),
            "order": order,
        }
        return entry | {name: True for name in ("partial", "filling") if getattr(self, name)}

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> VectorTable:
        """The inverse of :meth:`entry`."""
        flags = {name: bool(entry.get(name, False)) for name in ("partial", "filling")}
        return cls(entry["name"], entry["dimension"], entry["made_by"], **flags)


def titles(tables: Iterable[VectorTable]) -> dict[str, str]:
    """Names of tables to titles for people: the condition and, where several methods or models
    have the condition, method and model.
    """
    tables = list(tables)
    counts = Counter(table.name for table in tables)
    return {
        table.table: f"{table.name} ({table.made_by.get('method')} by {table.made_by.get('model')})"
        if counts[table.name] > 1
        else table.name
        for table in tables
    }


@dataclass(frozen=True)
class FileRecord:
    """One file that was ingested.

    Attributes:
        path: relative to the gallery's root where it lies below it, else absolute.
        key: SHA-256 of its bytes in hexadecimal; empty if they could not be read.
        size: bytes.
        mtime_ns: time of last change, nanoseconds since 1970.
        status: ``done``, ``gone``, or an outcome code such as ``truncated``.
        reason: the reason for people; empty when the file is done.
        gone_at: seconds since 1970 when the file was first found missing, or ``None``.
    """

    path: str
    key: str
    size: int
    mtime_ns: int
    status: str
    reason: str = ""
    gone_at: int | None = None


@dataclass(frozen=True)
class ImageRecord:
    """One picture.

    Attributes:
        key: SHA-256 of its bytes in hexadecimal.
        width: pixels, after rotation by ``orientation``.
        height: pixels, after rotation by ``orientation``.
        format: the decoder's name of the format, such as ``JPEG``.
        taken_at: seconds since 1970 in the camera's local time, or ``None``.
        orientation: EXIF orientation of the file, 1 (upright) to 8; ``None`` in galleries of
            earlier versions.
    """

    key: str
    width: int
    height: int
    format: str
    taken_at: int | None = None
    orientation: int | None = None


@dataclass(frozen=True)
class VectorColumn:
    """All rows of one vector table, in key order.

    Attributes:
        keys: content keys, [n].
        vectors: float32 [n, dim], unit rows.
        words: the model's word for each picture, or empty strings.
        word_probabilities: float32 [n].
        norms: float32 [n], the lengths that the vectors had, NaN where it is not known; ``None``
            if they were not read.
    """

    keys: list[str]
    vectors: Vectors
    words: list[str]
    word_probabilities: NDArray[np.float32]
    norms: NDArray[np.float32] | None = field(default=None, kw_only=True)


def vector_column(rows: pa.Table, table: VectorTable, place: Path) -> VectorColumn:
    """Rows of a condition's table as arrays, in key order, with vectors at unit length.

    Args:
        rows: rows of :func:`vector_schema`.
        table: the condition's entry.
        place: the gallery's folder, for the error message.

    Raises:
        GalleryError: if a stored vector is damaged.
    """
    rows = rows.sort_by("key").combine_chunks()
    count = rows.num_rows
    stored = rows.column("vector").combine_chunks()
    flat = stored.flatten() if count else pa.array([], pa.float16())
    half = np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float16)
    half = half.reshape(count, table.dimension)
    try:
        vectors = unit(half.astype(np.float32)) if count else half.astype(np.float32)
    except ValueError as error:
        raise damaged_vectors_error(table, place, error) from error
    return VectorColumn(
        keys=rows.column("key").to_pylist(),
        vectors=vectors,
        words=[word or "" for word in rows.column("word").to_pylist()],
        word_probabilities=rows.column("word_probability").to_numpy().astype(np.float32),
    )


def damaged_vectors_error(table: VectorTable, place: Path, error: Exception) -> GalleryError:
    """The error for stored vectors that are zero or not finite."""
    return GalleryError(
        f"Damaged vectors under condition '{table.name}' in {place}: {error}; "
        "`cies repair` drops them, and the next ingest embeds those pictures again."
    )


def completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table that begins with the columns of a schema; missing columns are null."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    whole = pa.table(columns, schema=schema)
    for name in table.column_names:
        if name not in schema.names:
            whole = whole.append_column(table.schema.field(name), table.column(name))
    return whole


def with_changed_columns(listings: pa.Table, changes: Mapping[str, str | None]) -> pa.Table:
    """Rows of the user's tables with other names of columns.

    Args:
        listings: rows of the table ``listings``.
        changes: a column's name to its new name, or ``None`` to remove it.
    """
    removed = [name for name, new in changes.items() if new is None]
    rows = listings.drop_columns([name for name in removed if name in listings.column_names])
    rows = rows.rename_columns([changes.get(name) or name for name in rows.column_names])
    if FURTHER_ROWS not in rows.column_names:
        return rows

    def changed(text: str | None) -> str | None:
        if text is None:
            return None
        further = [
            {changes.get(k) or k: v for k, v in row.items() if k not in removed}
            for row in json.loads(text)
        ]
        return json.dumps(further)

    position = rows.schema.get_field_index(FURTHER_ROWS)
    texts = [changed(text) for text in rows.column(FURTHER_ROWS).to_pylist()]
    return rows.set_column(position, FURTHER_ROWS, pa.array(texts, pa.string()))


def file_records(table: pa.Table) -> list[FileRecord]:
    """Rows of the ``files`` table as records, in path order."""
    seconds = table.column("gone_at").cast(pa.int64()).to_pylist()
    names = [name for name in FILES.names if name != "gone_at"]
    rows = table.select(names).to_pylist()
    records = [FileRecord(**row, gone_at=at) for row, at in zip(rows, seconds, strict=True)]
    return sorted(records, key=lambda record: record.path)


#: A file inside another, as in the stored path ``shards/000.tar!/cat.jpg``. Only these kinds of
#: file contain pictures, so that a folder whose name ends in ``!`` is no match.
_INSIDE = re.compile(r"(.+?\.(?:tar|arrow|parquet))!/(.+)", re.DOTALL | re.IGNORECASE)

#: The beginning of an address on another system; a single letter would be a Windows drive.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_address(path: str) -> bool:
    """Whether this is an address such as ``s3://bucket/cat.jpg`` and not a local path."""
    return _ADDRESS.match(path) is not None


def inside(path: str) -> tuple[str, str] | None:
    """The containing file and the name within it; ``None`` for a file in a folder."""
    match = _INSIDE.fullmatch(path)
    return (match[1], match[2]) if match else None


def stored_path(path: str | Path, root: Path) -> str:
    """A local path as a gallery stores it: relative to ``root`` where it lies below it."""
    text = os.path.join(os.getcwd(), path)  # noqa: PTH109
    prefix = f"{root}/".replace("//", "/")
    plain = os.sep == "/" and "//" not in text and "/./" not in text and text + "/" != prefix
    if plain and not text.endswith(("/", "/.")):
        # Without Path, which takes ten times as long: tables have millions of files.
        return escaped(text[len(prefix) :] if text.startswith(prefix) else text)
    absolute = Path(path).absolute()
    below = absolute.is_relative_to(root)
    return escaped((absolute.relative_to(root) if below else absolute).as_posix())


def escaped(path: str) -> str:
    """A path as valid Unicode. Bytes that are not UTF-8 become NUL and two digits, which no
    path contains, so that :func:`unescaped` can restore them.
    """
    if path.isascii():
        return path
    return "".join(f"\0{ord(c) - 0xDC00:02x}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in path)


def unescaped(path: str) -> str:
    """The inverse of :func:`escaped`."""
    first, *rest = path.split("\0")
    return first + "".join(chr(0xDC00 + int(part[:2], 16)) + part[2:] for part in rest)
