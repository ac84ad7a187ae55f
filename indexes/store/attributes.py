"""What is known of a gallery's files beside their vectors: their pictures' and the user's columns.

The user's columns are kept apart from the gallery's own (table ``listings``), so that no version
of CIES can ever grow a column that hides one of theirs.
"""

from __future__ import annotations

import re
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc

from indexes.store.gallery import Gallery
from indexes.store.records import FILES, IMAGES, LISTINGS

#: Names with a meaning of their own in filters and answers.
RESERVED = frozenset(
    {*FILES.names, *IMAGES.names, *LISTINGS.names}
    | set("score percentile rank word word_probability vector checksum condition distance".split())
)

#: What a user's column can hold, by the word for it on the command line.
TYPES = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
}


def column_name(name: str) -> str:
    """A user's column as the gallery calls it: a word that a filter takes without quotes.

    Lower case, every run of other characters one underscore; a name that the gallery needs itself
    gets ``user_`` before it (``path`` becomes ``user_path``).
    """
    plain = unicodedata.normalize("NFKC", name).lower()
    word = re.sub(r"\W+", "_", plain).strip("_") or "column"
    if word[0].isdigit():
        word = "_" + word
    return f"user_{word.lstrip('_')}" if word in RESERVED or word.startswith("_") else word


def user_columns(gallery: Gallery) -> dict[str, pa.DataType]:
    """The columns that the user's tables brought, by name, with their types."""
    table = gallery.read("listings", LISTINGS)
    return {f.name: f.type for f in table.schema if f.name not in LISTINGS.names}


def attributes(gallery: Gallery) -> pa.Table:
    """One row for each file that is there: all that a filter may ask about.

    Columns: path, key, size, mtime_ns, those of the picture (width, height, format, taken_at,
    orientation), then the user's. Files that are gone or could not be read are not among them.
    """
    files = gallery.read("files", FILES)
    there = files.filter(pc.equal(files.column("status"), "done"))
    there = there.select(["path", "key", "size", "mtime_ns"])
    images = gallery.read("images", IMAGES)
    listed = gallery.read("listings", LISTINGS).drop_columns(["source"])
    whole = there.join(images, "key", join_type="left outer")
    return whole.join(listed, "path", join_type="left outer").sort_by("path")
