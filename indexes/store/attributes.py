"""The attributes of a gallery's files: properties of the pictures, and the user's columns.

The user's columns are in a table of their own (``listings``), so that a column that a later
version of CIES adds to the gallery's tables cannot hide one of them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexes.store.gallery import Gallery
from indexes.store.records import FILES, FURTHER_ROWS, IMAGES, LISTINGS

#: Names with a fixed meaning in filters and results.
RESERVED = frozenset(
    {*FILES.names, *IMAGES.names, *LISTINGS.names}
    | set("score percentile rank word word_probability vector checksum condition distance".split())
)

#: A column for the order of rows; no user's column has such a name.
_NUMBER = "_number"

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
    own = {*LISTINGS.names, FURTHER_ROWS}
    return {f.name: f.type for f in table.schema if f.name not in own}


def listed_rows(listings: pa.Table) -> pa.Table:
    """The rows of the user's tables: the path of the file that each names, and its columns.

    A file that several rows name is there several times.

    Args:
        listings: the gallery's table, or some rows of it.
    """
    if FURTHER_ROWS not in listings.schema.names:
        return listings.drop_columns(["source"])
    first = listings.drop_columns(["source", FURTHER_ROWS])
    named = listings.select(["path", FURTHER_ROWS])
    named = named.filter(pc.is_valid(named.column(FURTHER_ROWS)))
    types = {field.name: field.type for field in first.schema if field.name != "path"}
    further = [
        {"path": path, **{name: _from_json(row.get(name), kind) for name, kind in types.items()}}
        for path, text in zip(*(column.to_pylist() for column in named.columns), strict=True)
        for row in json.loads(text)
    ]
    return pa.concat_tables([first, pa.Table.from_pylist(further, schema=first.schema)])


def _from_json(value: Any, kind: pa.DataType) -> Any:
    """A value of a further row, of the type of its column."""
    if not isinstance(value, str):
        return value
    if pa.types.is_date(kind):
        return date.fromisoformat(value)
    return datetime.fromisoformat(value) if pa.types.is_timestamp(kind) else value


def attributes(gallery: Gallery, gone: bool = False) -> pa.Table:
    """The columns that a filter can use, one row for each existing file, or for each row of the
    user's tables that names it.

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
    listings = listed_rows(gallery.read("listings", LISTINGS))
    # A join keeps no order, and the first row of a file comes first.
    listings = listings.append_column(_NUMBER, pa.array(np.arange(listings.num_rows)))
    rows = existing.join(images, "key", join_type="left outer")
    rows = rows.join(listings, "path", join_type="left outer")
    rows = rows.sort_by([("path", "ascending"), (_NUMBER, "ascending")])
    return rows.drop_columns([_NUMBER])


def accepted_paths(rows: pa.Table, accepted: NDArray[np.bool_]) -> pa.Array:
    """The paths of the files of which a filter accepts every row.

    Args:
        rows: from :func:`attributes`.
        accepted: bool [rows], the rows that the filter accepts.
    """
    paths = rows.column("path").combine_chunks()
    refused = paths.filter(pa.array(~accepted)).unique()
    every = paths.unique()
    return every.filter(pc.invert(pc.is_in(every, value_set=refused)))
