"""Exports a condition's vectors, words and columns to a file for other tools.

Rows are written in blocks of some thousands, in the order in which the gallery stores them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from indexes.errors import CiesError, GalleryError, UsageError
from indexes.files import replacing
from indexes.outputs import check_output
from indexes.printable import plain_cell
from indexes.search.open_table import OpenTable
from indexes.store.attributes import attributes, user_columns
from indexes.store.records import IMAGES, vector_schema
from indexes.vectors import unit
from query.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows in memory at once.
_ROWS = 8192

#: File suffix to what is written.
FORMS = {
    ".parquet": "one row a picture: key, path, vector, word, word_probability, columns",
    ".csv": "the same without the vectors; texts are escaped so that no program runs them",
    ".npy": "the matrix, float32 [n, dim]; beside it FILE.keys.txt, the key of each row",
}


def export(engine: Engine, condition: str, path: Path, force: bool = False) -> int:
    """Export a condition to a file; the suffix decides the format, see :data:`FORMS`.

    Pictures that have no file left are left out. A picture is written once for each row of the
    user's tables that names one of its files; of copies without a row, the first path is written.
    The vectors are the stored ones, float32 of unit length, before the gallery's
    geometry is applied.

    Args:
        engine: a search engine over the gallery.
        condition: one that the gallery has, or one that a projection answers; then the projected
            vectors are written.
        path: the file; it is replaced only when the new one is complete.
        force: replace it even if CIES did not make it.

    Returns:
        The number of rows.

    Raises:
        UnknownCondition: if there is none of that name; the message lists all.
        UsageError: if there is no such format, the folder does not exist, or the file exists and
            CIES did not make it.
        GalleryError: if stored vectors are damaged.
        CiesError: if the file cannot be written.
    """
    if path.suffix not in FORMS:
        raise UsageError(
            f"Cannot export to {path}: the name must end in {', '.join(list(FORMS)[:-1])} or "
            f"{list(FORMS)[-1]}."
        )
    check_folder_of(path)
    check_output(path, force)
    if path.suffix == ".npy":
        check_output(path.with_suffix(".keys.txt"), force)
    dimension = engine.table(condition).dimension
    blocks = exported_blocks(engine, condition, vectors=path.suffix != ".csv")
    try:
        if path.suffix == ".npy":
            return _write_matrix_and_keys(blocks, dimension, path)
        return write_table(map(_plain_cells, blocks) if path.suffix == ".csv" else blocks, path)
    except OSError as error:
        raise CiesError(
            f"Cannot write {path}: {(error.strerror or str(error)).lower()}; "
            "choose another place with -o."
        ) from error


def check_folder_of(path: Path) -> None:
    """Refuse an output whose folder does not exist.

    Raises:
        UsageError: if it does not.
    """
    if not path.absolute().parent.is_dir():
        raise UsageError(f"Cannot write {path}: its folder does not exist; make it, or change -o.")


def exported_blocks(engine: Engine, condition: str, vectors: bool) -> Iterator[pa.Table]:
    """The rows of a condition in blocks, with the columns of their files, see :func:`export`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = engine.table(condition)
    files = attributes(engine.at_moment)
    own = list(user_columns(engine.at_moment))
    rows_of = _exported_rows(files, own)
    keys = pa.array(rows_of, pa.string())
    first = np.cumsum([0, *(len(rows) for rows in rows_of.values())])
    file_rows = np.array([row for rows in rows_of.values() for row in rows], np.int64)
    names = [*(name for name in IMAGES.names if name != "key"), *own]
    wanted = ["key", "word", "word_probability", *(["vector"] if vectors else [])]

    def joined(batch: pa.RecordBatch) -> pa.Table:
        found = pc.index_in(batch.column("key"), value_set=keys)
        at = found.drop_null().to_numpy(zero_copy_only=False)
        # A picture is repeated for each row of the user's tables that names it.
        counts = first[at + 1] - first[at]
        chosen = [file_rows[first[n] : first[n + 1]] for n in at]
        rows = files.take(pa.array(np.concatenate([np.zeros(0, np.int64), *chosen])))
        kept = batch.filter(pc.is_valid(found)).take(
            pa.array(np.repeat(np.arange(len(at)), counts))
        )
        paths = [_readable(engine.gallery.location(p)) for p in rows.column("path").to_pylist()]
        columns: dict[str, Any] = {"key": kept.column("key"), "path": pa.array(paths, pa.string())}
        if vectors:
            columns["vector"] = _unit_rows(kept, table.dimension, table.name, engine)
        columns["word"] = pc.fill_null(kept.column("word"), "")
        columns["word_probability"] = kept.column("word_probability")
        return pa.table(columns | {name: rows.column(name) for name in names})

    empty = vector_schema(table.dimension).empty_table().select(wanted).to_batches()
    resolved = engine.resolve(condition)
    if resolved.projection is None:
        batches = engine.at_moment.rows(resolved.stored, wanted)
    else:
        batches = _projected_rows(engine.opened(condition), wanted)
    yield from map(joined, chain([next(batches, *empty)], batches))


def _exported_rows(files: pa.Table, own: Sequence[str]) -> dict[str, list[int]]:
    """The rows of the attributes that each picture is exported with, at least one each.

    Args:
        files: the attributes, sorted by path.
        own: the user's columns.
    """
    named = np.zeros(files.num_rows, dtype=np.bool_)
    for name in own:
        named |= files.column(name).is_valid().to_numpy()
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(files.column("key").to_pylist()):
        rows = rows_of.setdefault(key, [])
        if rows and named[row] and not named[rows[0]]:
            rows[:] = [row]
        elif named[row] or not rows:
            rows.append(row)
    return rows_of


def _projected_rows(table: OpenTable, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a projection's table, as batches of a stored table."""
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
        scaled = unit(vectors) if len(vectors) else vectors
    except ValueError as error:
        raise GalleryError(
            f"Damaged vectors under condition '{condition}' in {engine.gallery.path}: {error}; "
            "`cies repair` drops them, and the next ingest embeds those pictures again."
        ) from error
    return pa.FixedSizeListArray.from_arrays(pa.array(scaled.reshape(-1)), dimension)


def _plain_cells(block: pa.Table) -> pa.Table:
    """Rows whose texts are safe cells of a CSV file, see :func:`plain_cell`."""
    import pyarrow as pa

    columns = {}
    for name, column in zip(block.column_names, block.columns, strict=True):
        if pa.types.is_string(column.type):
            cells = [None if text is None else plain_cell(text) for text in column.to_pylist()]
            column = pa.array(cells, pa.string())
        columns[name] = column
    return pa.table(columns)


def write_table(blocks: Iterator[pa.Table], path: Path) -> int:
    """Write Parquet or CSV; returns the number of rows."""
    from pyarrow import csv, parquet

    make: Callable[..., Any] = csv.CSVWriter if path.suffix == ".csv" else parquet.ParquetWriter
    count = 0
    with replacing(path, durable=False) as partial, ExitStack() as closing:
        writer: Any = None
        for block in blocks:
            if writer is None:
                writer = closing.enter_context(make(str(partial), block.schema))
            writer.write_table(block)
            count += block.num_rows
    return count


def _write_matrix_and_keys(blocks: Iterator[pa.Table], dimension: int, path: Path) -> int:
    """Write NumPy's own format, and the keys of its rows, one in each line."""
    with (
        replacing(path.with_suffix(".keys.txt"), durable=False) as partial_keys,
        partial_keys.open("w", encoding="ascii") as keys,
    ):

        def noted() -> Iterator[pa.Table]:
            for block in blocks:
                keys.writelines(f"{key}\n" for key in block.column("key").to_pylist())
                yield block

        return write_matrix(noted(), dimension, path)


def write_matrix(blocks: Iterator[pa.Table], dimension: int, path: Path) -> int:
    """Write the vectors in NumPy's own format; returns the number of rows."""
    count = 0
    with replacing(path, durable=False) as partial, partial.open("wb") as file:
        # NumPy's headers have room for any length of the first axis: this one is rewritten below.
        start = _write_header(file, 0, dimension)
        for block in blocks:
            vectors: NDArray[np.float32]
            for chunk in block.column("vector").chunks:
                vectors = chunk.flatten().to_numpy()
                file.write(vectors.astype("<f4").tobytes())
            count += block.num_rows
        file.seek(0)
        if _write_header(file, count, dimension) != start:
            raise CiesError(f"Cannot write {path}: its header grew; export to .parquet instead.")
    return count


def _write_header(file: BinaryIO, count: int, dimension: int) -> int:
    about = {"descr": "<f4", "fortran_order": False, "shape": (count, dimension)}
    np.lib.format.write_array_header_1_0(file, about)
    return file.tell()


def _readable(path: str) -> str:
    """A path as valid Unicode, with bytes that are not UTF-8 escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
