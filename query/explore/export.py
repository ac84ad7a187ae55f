"""Writes a condition's vectors, words and columns to a file that other tools read.

Rows go through memory some thousands at a time, in the order the gallery stores them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from indexes.errors import CiesError, GalleryError, UsageError
from indexes.search.open_table import OpenTable
from indexes.search.vectors import unit
from indexes.store.attributes import attributes, user_columns
from indexes.store.records import IMAGES, vector_schema
from query.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows written at once.
_ROWS = 8192

#: Ends of names to what is written.
FORMS = {
    ".parquet": "one row a picture: key, path, vector, word, word_probability, columns",
    ".csv": "the same without the vectors",
    ".npy": "the matrix, float32 [n, dim]; beside it FILE.keys.txt, the key of each row",
}


def export(engine: Engine, condition: str, path: Path) -> int:
    """Write a condition to a file, its form by the name's end: see :data:`FORMS`.

    A picture of which no file is left is left out; of copies, the first path is named and its
    columns are taken. The vectors are the stored originals, float32 of unit length, before the
    gallery's geometry.

    Args:
        engine: over the gallery.
        condition: one the gallery has, or one that the engine's method works out; then the
            vectors are those that the view makes of the stored ones.
        path: where to; replaced only once the new file is whole.

    Returns:
        The number of rows.

    Raises:
        UnknownCondition: naming those there are.
        UsageError: if the name ends otherwise, or its folder is not there.
        GalleryError: if stored vectors are damaged.
        CiesError: if the file cannot be written.
    """
    if path.suffix not in FORMS:
        raise UsageError(
            f"Cannot export to {path}: the name must end in {', '.join(list(FORMS)[:-1])} or "
            f"{list(FORMS)[-1]}."
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(f"Cannot write {path}: its folder is not there; make it, or change -o.")
    dimension = engine.table(condition).dimension
    parts = _parts(engine, condition, vectors=path.suffix != ".csv")
    try:
        if path.suffix == ".npy":
            return _write_matrix(parts, dimension, path)
        return _write_table(parts, path)
    except OSError as error:
        raise CiesError(
            f"Cannot write {path}: {(error.strerror or str(error)).lower()}; "
            "choose another place with -o."
        ) from error


def _parts(engine: Engine, condition: str, vectors: bool) -> Iterator[pa.Table]:
    """The rows of a condition, some thousands at a time, with what is known of their files."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = engine.table(condition)
    known = attributes(engine.gallery)
    # Of the files with the same bytes the first in path order, which is how they are sorted.
    first = {key: row for row, key in reversed(list(enumerate(known.column("key").to_pylist())))}
    keys, places = pa.array(first.keys(), pa.string()), np.array(list(first.values()), np.int64)
    pictures = [n for n in IMAGES.names if n != "key"]
    names = [*pictures, *user_columns(engine.gallery)]
    wanted = ["key", "word", "word_probability", *(["vector"] if vectors else [])]

    def joined(batch: pa.RecordBatch) -> pa.Table:
        found = pc.index_in(batch.column("key"), value_set=keys)
        there = batch.filter(pc.is_valid(found))
        rows = known.take(pa.array(places[found.drop_null().to_numpy(zero_copy_only=False)]))
        paths = [_readable(engine.gallery.location(p)) for p in rows.column("path").to_pylist()]
        columns: dict[str, Any] = {"key": there.column("key"), "path": pa.array(paths, pa.string())}
        if vectors:
            columns["vector"] = _unit_rows(there, table.dimension, table.name, engine)
        columns["word"] = pc.fill_null(there.column("word"), "")
        columns["word_probability"] = there.column("word_probability")
        return pa.table(columns | {name: rows.column(name) for name in names})

    nothing = vector_schema(table.dimension).empty_table().select(wanted).to_batches()
    resolved = engine.resolve(condition)
    if resolved.projection is None:
        batches = engine.gallery.rows(resolved.stored, wanted)
    else:
        batches = _worked_out(engine.opened(condition), wanted)
    yield from map(joined, chain([next(batches, *nothing)], batches))


def _worked_out(table: OpenTable, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a table that no gallery stores, as batches of one that does."""
    import pyarrow as pa

    for start in range(0, len(table), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(table)))
        flat = pa.array(table.vectors(rows).reshape(-1))
        columns: dict[str, Any] = {
            "key": pa.array(table.keys[start : start + _ROWS], pa.string()),
            "word": pa.array(table.words[start : start + _ROWS], pa.string()),
            "word_probability": pa.array(table.word_probabilities[rows]),
            "vector": pa.FixedSizeListArray.from_arrays(flat, table.table.dimension),
        }
        yield pa.record_batch({name: columns[name] for name in wanted})


def _unit_rows(
    batch: pa.RecordBatch, dimension: int, condition: str, engine: Engine
) -> pa.FixedSizeListArray:
    """The vectors of a batch: float32 lists of unit length.

    Raises:
        GalleryError: if they are damaged.
    """
    import pyarrow as pa

    flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
    vectors = flat.astype(np.float32).reshape(-1, dimension)
    try:
        whole = unit(vectors) if len(vectors) else vectors
    except ValueError as error:
        raise GalleryError(
            f"Damaged vectors under condition '{condition}' in {engine.gallery.path}: {error}; "
            "`cies repair` drops them, and the next ingest embeds those pictures again."
        ) from error
    return pa.FixedSizeListArray.from_arrays(pa.array(whole.reshape(-1)), dimension)


def _write_table(parts: Iterator[pa.Table], path: Path) -> int:
    """Write Parquet or CSV."""
    from pyarrow import csv, parquet

    opened: Callable[..., Any] = csv.CSVWriter if path.suffix == ".csv" else parquet.ParquetWriter
    count = 0
    with _fresh(path) as partial, ExitStack() as closing:
        writer: Any = None
        for part in parts:
            if writer is None:
                writer = closing.enter_context(opened(str(partial), part.schema))
            writer.write_table(part)
            count += part.num_rows
    return count


def _write_matrix(parts: Iterator[pa.Table], dimension: int, path: Path) -> int:
    """Write NumPy's own format, and the keys of its rows, one a line."""
    count = 0
    with (
        _fresh(path.with_suffix(".keys.txt")) as partial_keys,
        _fresh(path) as partial,
        partial_keys.open("w", encoding="ascii") as keys,
        partial.open("wb") as file,
    ):
        # NumPy leaves room in a header for a first axis of any length, so it is written twice.
        start = _write_header(file, 0, dimension)
        for part in parts:
            vectors: NDArray[np.float32]
            for chunk in part.column("vector").chunks:
                vectors = chunk.flatten().to_numpy()
                file.write(vectors.astype("<f4").tobytes())
            keys.writelines(f"{key}\n" for key in part.column("key").to_pylist())
            count += part.num_rows
        file.seek(0)
        if _write_header(file, count, dimension) != start:
            raise CiesError(f"Cannot write {path}: its header grew; export to .parquet instead.")
    return count


def _write_header(file: BinaryIO, count: int, dimension: int) -> int:
    about = {"descr": "<f4", "fortran_order": False, "shape": (count, dimension)}
    np.lib.format.write_array_header_1_0(file, about)
    return file.tell()


@contextmanager
def _fresh(path: Path) -> Iterator[Path]:
    """A new file beside the old one, put in its place once it is whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _readable(path: str) -> str:
    """A path as valid Unicode; bytes that are not UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
