"""What a gallery's tables hold: their columns, and the values that travel."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexes.vectors import Vectors

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
#: Beside these two, one column for each that the user's tables brought.
LISTINGS = pa.schema([("path", pa.string()), ("source", pa.string())])
STATISTICS = pa.schema(
    [
        ("table", pa.string()),
        ("mean", pa.list_(pa.float32())),
        ("std", pa.list_(pa.float32())),
        ("count", pa.int64()),
    ]
)


def vector_schema(dimension: int) -> pa.Schema:
    """Columns of a vector table."""
    return pa.schema(
        [
            ("key", pa.string()),
            ("vector", pa.list_(pa.float16(), dimension)),
            ("word", pa.string()),
            ("word_probability", pa.float32()),
            ("checksum", pa.uint32()),
        ]
    )


@dataclass(frozen=True)
class VectorTable:
    """The manifest's entry for one condition.

    Attributes:
        name: the condition as the user typed it.
        dimension: length of its vectors.
        made_by: everything that changes its vectors (phrase, model, prompt, dtype ...), as JSON
            values. The table is named by its hash, never by the user's text.
        partial: whether it was filled for some pictures only, as when a search embedded its
            best hits. No part of the table's identity.
        filling: whether a partial table shall be completed by the next ingest.
    """

    name: str
    dimension: int
    made_by: Mapping[str, Any]
    partial: bool = field(default=False, compare=False)
    filling: bool = field(default=False, compare=False)

    @property
    def kept_up(self) -> bool:
        """Whether an ingest embeds under it what it lacks."""
        return self.filling or not self.partial

    @property
    def table(self) -> str:
        """The Lance table's name: ``c_`` and 26 hexadecimal digits."""
        content = json.dumps(dict(self.made_by), sort_keys=True, ensure_ascii=True)
        return "c_" + hashlib.sha256(content.encode()).hexdigest()[:26]

    def entry(self, order: int) -> dict[str, Any]:
        """As the manifest keeps it. What most tables are not is left out, so that the entries of
        earlier versions read the same.
        """
        kept: dict[str, Any] = {
            "name": self.name,
            "dimension": self.dimension,
            "made_by": dict(self.made_by),
            "order": order,
        }
        return kept | {name: True for name in ("partial", "filling") if getattr(self, name)}

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> VectorTable:
        """The inverse of :meth:`entry`."""
        more = (bool(entry.get(name, False)) for name in ("partial", "filling"))
        return cls(entry["name"], entry["dimension"], entry["made_by"], *more)


def titles(tables: Iterable[VectorTable]) -> dict[str, str]:
    """Tables' names to what people call them: the condition and, where several methods or models
    have it, what made each.
    """
    every = list(tables)
    often = {name for name, count in Counter(table.name for table in every).items() if count > 1}
    return {
        table.table: f"{table.name} ({table.made_by.get('method')} by {table.made_by.get('model')})"
        if table.name in often
        else table.name
        for table in every
    }


@dataclass(frozen=True)
class FileRecord:
    """One file the gallery has seen.

    Attributes:
        path: relative to the gallery's root where it lies below it, else absolute.
        key: SHA-256 of its bytes in hexadecimal; empty if they could not be read.
        size: bytes.
        mtime_ns: time of last change, nanoseconds since 1970.
        status: ``done``, ``gone``, or an outcome code such as ``truncated``.
        reason: for people, empty when done.
        gone_at: seconds since 1970 when the file was first missed, or ``None``.
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
    """One picture, by content.

    Attributes:
        key: SHA-256 of its bytes in hexadecimal.
        width: pixels, as it is shown.
        height: pixels, as it is shown.
        format: the decoder's name for it, such as ``JPEG``.
        taken_at: seconds since 1970 in the camera's own time, or ``None``.
        orientation: EXIF's number for how the file holds it, 1 (upright) to 8; ``None`` in
            galleries of earlier versions. ``width`` and ``height`` are after turning.
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
    """

    keys: list[str]
    vectors: Vectors
    words: list[str]
    word_probabilities: NDArray[np.float32]


def completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table that begins with the columns of a schema; those it lacks are empty."""
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


def file_records(table: pa.Table) -> list[FileRecord]:
    """Rows of the ``files`` table as records, in path order."""
    seconds = table.column("gone_at").cast(pa.int64()).to_pylist()
    names = [name for name in FILES.names if name != "gone_at"]
    rows = table.select(names).to_pylist()
    records = [FileRecord(**row, gone_at=at) for row, at in zip(rows, seconds, strict=True)]
    return sorted(records, key=lambda record: record.path)


#: A file inside another, as a stored path names it: ``shards/000.tar!/cat.jpg``. Only these kinds
#: of file hold pictures, so that a folder whose name ends in ``!`` is not taken for one.
_INSIDE = re.compile(r"(.+?\.(?:tar|arrow|parquet))!/(.+)", re.DOTALL | re.IGNORECASE)

#: How an address on another system begins; one letter would be a drive of Windows.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_address(path: str) -> bool:
    """Whether this is an address such as ``s3://bucket/cat.jpg`` and not a local path."""
    return _ADDRESS.match(path) is not None


def inside(path: str) -> tuple[str, str] | None:
    """The file that holds a file, and its name in there; ``None`` if it lies in a folder."""
    match = _INSIDE.fullmatch(path)
    return (match[1], match[2]) if match else None


def stored_path(path: str | Path, root: Path) -> str:
    """How a gallery writes a local path down: relative to ``root`` where it lies below it."""
    text = os.path.join(os.getcwd(), path)  # noqa: PTH109
    prefix = f"{root}/".replace("//", "/")
    plain = os.sep == "/" and "//" not in text and "/./" not in text and text + "/" != prefix
    if plain and not text.endswith(("/", "/.")):
        # The same without Path, which takes ten times as long: tables name millions of files.
        return escaped(text[len(prefix) :] if text.startswith(prefix) else text)
    absolute = Path(path).absolute()
    below = absolute.is_relative_to(root)
    return escaped((absolute.relative_to(root) if below else absolute).as_posix())


def escaped(path: str) -> str:
    """A path as valid Unicode. Bytes of a name that are not UTF-8 become NUL and two digits,
    which no path can hold, so that the name can be had back.
    """
    if path.isascii():
        return path
    return "".join(f"\0{ord(c) - 0xDC00:02x}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in path)


def unescaped(path: str) -> str:
    """The inverse of :func:`escaped`."""
    first, *rest = path.split("\0")
    return first + "".join(chr(0xDC00 + int(part[:2], 16)) + part[2:] for part in rest)
