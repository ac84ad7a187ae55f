"""Writes a condition's vectors and words to a file other tools read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from indexes.errors import CiesError, UsageError
from query.engine import Engine


def export_parquet(engine: Engine, condition: str, path: Path) -> int:
    """Write a Parquet file: key, path, vector (float32 list), word, word_probability.

    The vectors are the stored originals, of unit length, before the gallery's geometry.

    Args:
        engine: over the gallery.
        condition: one the gallery has.
        path: where to; replaced only once the new file is whole.

    Returns:
        The number of rows.

    Raises:
        UnknownCondition: naming those there are.
        UsageError: if the name does not end in .parquet, or its folder is not there.
        CiesError: if the file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if path.suffix != ".parquet":
        raise UsageError(f"Cannot export to {path}: the name must end in .parquet.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"Cannot write {path}: its folder is not there; make it, or change -o.")
    column = engine.stored(condition)
    flat = pa.array(np.ascontiguousarray(column.vectors).reshape(-1), type=pa.float32())
    table = pa.table(
        {
            "key": column.keys,
            "path": [_readable(engine.path(key)) for key in column.keys],
            "vector": pa.FixedSizeListArray.from_arrays(flat, column.vectors.shape[1]),
            "word": column.words,
            "word_probability": pa.array(column.word_probabilities, type=pa.float32()),
        }
    )
    partial = path.with_name(path.name + ".partial")
    try:
        parquet.write_table(table, partial)
        partial.replace(path)
    except OSError as error:
        raise CiesError(
            f"Cannot write {path}: {(error.strerror or str(error)).lower()}; "
            "choose another place with -o."
        ) from error
    return int(table.num_rows)


def _readable(path: str) -> str:
    """A path as valid Unicode; bytes that are not UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
