"""The attributes of a gallery's files: properties of the pictures, and the user's columns.

The user's columns are in a table of their own (``listings``), so that a column that a later
version of CIES adds to the gallery's tables cannot hide one of them.
"""

from __future__ import annotations

import re
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc

from indexes.store.gallery import Gallery
from indexes.store.records import FILES, IMAGES, LISTINGS

#: Names with a fixed meaning in filters and results.
RESERVED = frozenset(
    {*FILES.names, *IMAGES.names, *LISTINGS.names}
    | set("score percentile rank word word_probability vector checksum condition distance".split())
)

#: The types of a user's column, by their names on the command line.
TYPES = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
}


def column_name(name: str) -> str:
    """The name of a user's column in the gallery: a word that a filter accepts without quotes.

    Letters become lower case, and every run of other characters becomes one underscore. A
    reserved name gets the prefix ``user_`` (``path`` becomes ``user_path``).
    """
    plain = unicodedata.normalize("NFKC", name).lower()
    word = re.sub(r"\W+", "_", plain).strip("_") or "column"
    if word[0].isdigit():
        word = "_" + word
    return f"user_{word.lstrip('_')}" if word in RESERVED or word.startswith("_") else word


def user_columns(gallery: Gallery) -> dict[str, pa.DataType]:
    """The columns of the user's tables, by name, with their types."""
    table = gallery.read("listings", LISTINGS)
    return {f.name: f.type for f in table.schema if f.name not in LISTINGS.names}


def attributes(gallery: Gallery, gone: bool = False) -> pa.Table:
    """The columns that a filter can use, one row for each existing file.

    Columns: path, key, size, mtime_ns, those of the picture (width, height, format, taken_at,
    orientation), then the user's. Files that are gone or could not be read are left out.

    Args:
        gallery: the gallery.
        gone: whether to add files that are gone, and the column gone_at.
    """
    files = gallery.read("files", FILES)
    statuses = ["done", "gone"] if gone else ["done"]
    existing = files.filter(pc.is_in(files.column("status"), pa.array(statuses)))
    existing = existing.select(["path", "key", "size", "mtime_ns", *(["gone_at"] * gone)])
    images = gallery.read("images", IMAGES)
    listings = gallery.read("listings", LISTINGS).drop_columns(["source"])
    rows = existing.join(images, "key", join_type="left outer")
    return rows.join(listings, "path", join_type="left outer").sort_by("path")
