"""What a gallery's tables hold: their columns, and the values that travel."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Mapping

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
    ]
)
IMAGES = pa.schema(
    [
        ("key", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("taken_at", pa.timestamp("s")),
    ]
)
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
    """

    name: str
    dimension: int
    made_by: Mapping[str, Any]

    @property
    def table(self) -> str:
        """The Lance table's name: ``c_`` and 26 hexadecimal digits."""
        content = json.dumps(dict(self.made_by), sort_keys=True, ensure_ascii=True)
        return "c_" + hashlib.sha256(content.encode()).hexdigest()[:26]


@dataclass(frozen=True)
class FileRecord:
    """One file the gallery has seen.

    Attributes:
        path: relative to the gallery's root where it lies below it, else absolute.
        key: SHA-256 of its bytes in hexadecimal; empty if they could not be read.
        size: bytes.
        mtime_ns: time of last change, nanoseconds since 1970.
        status: ``done``, or an outcome code such as ``truncated``.
        reason: for people, empty when done.
    """

    path: str
    key: str
    size: int
    mtime_ns: int
    status: str
    reason: str = ""


@dataclass(frozen=True)
class ImageRecord:
    """One picture, by content.

    Attributes:
        key: SHA-256 of its bytes in hexadecimal.
        width: pixels, as it is shown.
        height: pixels, as it is shown.
        format: the decoder's name for it, such as ``JPEG``.
        taken_at: seconds since 1970 in the camera's own time, or ``None``.
    """

    key: str
    width: int
    height: int
    format: str
    taken_at: int | None = None


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


def escaped(path: str) -> str:
    """A path as valid Unicode. Bytes of a name that are not UTF-8 become NUL and two digits,
    which no path can hold, so that the name can be had back.
    """
    return "".join(f"\0{ord(c) - 0xDC00:02x}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in path)


def unescaped(path: str) -> str:
    """The inverse of :func:`escaped`."""
    first, *rest = path.split("\0")
    return first + "".join(chr(0xDC00 + int(part[:2], 16)) + part[2:] for part in rest)
