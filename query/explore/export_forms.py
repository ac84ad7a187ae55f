"""Exports in the forms of other tools: clip-retrieval, embedding-atlas, Hugging Face datasets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from indexes.errors import CiesError, UsageError
from indexes.files import replacing
from indexes.outputs import check_output
from indexes.search.open_table import OpenTable
from query.engine import Engine
from query.explore.export import check_folder_of, exported_blocks, write_matrix, write_table
from query.explore.layout import layout
from query.explore.thumbnails import thumbnail

if TYPE_CHECKING:
    import pyarrow as pa

#: Nearest neighbours that embedding-atlas is given of each picture.
NEIGHBOURS = 15

#: Rows searched for at once.
_BLOCK = 1024


def export_clip_retrieval(engine: Engine, condition: str, folder: Path, force: bool = False) -> int:
    """Write the folder that ``clip-retrieval index`` and ``back`` read.

    ``img_emb/img_emb_0.npy`` has the vectors, float32 [n, dim], and
    ``metadata/metadata_0.parquet`` one row for each with ``image_path``, ``caption`` (the word)
    and all other columns of :func:`query.explore.export.export`.

    Args:
        engine: a search engine over the gallery.
        condition: one that it answers.
        folder: a new or empty folder.
        force: write into a folder with files too; files of the same names are replaced.

    Returns:
        The number of rows.

    Raises:
        UnknownCondition: if there is no such condition.
        UsageError: if the folder has files, or is a file.
        CiesError: if it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; --clip-retrieval needs a new folder with -o.")
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(
            f"The folder {folder} has files already; name a new one with -o, or add --force."
        )
    check_folder_of(folder)
    dimension = engine.table(condition).dimension
    blocks = exported_blocks(engine, condition, vectors=True)
    with _written(folder):
        table = folder / "metadata" / "metadata_0.parquet"
        with replacing(table, durable=False) as partial:
            return write_matrix(
                _with_metadata(blocks, partial), dimension, folder / "img_emb" / "img_emb_0.npy"
            )


def _with_metadata(blocks: Iterator[pa.Table], path: Path) -> Iterator[pa.Table]:
    """Pass on blocks, and write their rows without the vectors to a Parquet file."""
    from pyarrow import parquet

    writer: Any = None
    names = {"path": "image_path", "word": "caption"}
    try:
        for block in blocks:
            rows = block.drop_columns(["vector"])
            rows = rows.rename_columns([names.get(name, name) for name in rows.column_names])
            writer = writer or parquet.ParquetWriter(str(path), rows.schema)
            writer.write_table(rows)
            yield block
    finally:
        if writer is not None:
            writer.close()


def export_atlas(
    engine: Engine, condition: str, path: Path, force: bool = False, thumbnails: bool = False
) -> int:
    """Write a Parquet file for embedding-atlas: the usual columns, ``x``, ``y``, ``neighbors``.

    ``x`` and ``y`` are those of the map of the live page, see :mod:`query.explore.layout`.
    ``neighbors`` has the numbers of the rows of the nearest pictures and their distances,
    1 - cosine, in the gallery's geometry.

    Args:
        engine: a search engine over the gallery.
        condition: one that it answers.
        path: a file that ends in ``.parquet``.
        force: replace a file that CIES did not make.
        thumbnails: add a column ``image`` with a small JPEG of each picture.

    Returns:
        The number of rows.

    Raises:
        UnknownCondition: if there is no such condition.
        UsageError: if the path is of another form, or a file that CIES did not make.
        CiesError: if it cannot be written.
    """
    _check_parquet(path, "--atlas", force)
    table = engine.opened(condition)
    keys: list[str] = []
    for block in exported_blocks(engine, condition, vectors=False):
        keys += block.column("key").to_pylist()
    at = np.array([row if (row := table.row(key)) is not None else -1 for key in keys], np.int64)
    places = layout(table, engine.gallery.indexes).points
    number_of = np.full(len(table), -1, dtype=np.int64)
    # The first row of a picture stands for all that a user's table has of it.
    last_first = np.flatnonzero(at >= 0)[::-1]
    number_of[at[last_first]] = last_first
    done = 0

    def extended(block: pa.Table) -> pa.Table:
        nonlocal done
        rows = at[done : done + block.num_rows]
        done += block.num_rows
        for column, name in enumerate("xy"):
            block = block.append_column(name, _floats(places[rows, column]))
        block = block.append_column("neighbors", _neighbors(table, rows, number_of))
        return _with_image(block, True) if thumbnails else block

    with _written(path):
        return write_table(map(extended, exported_blocks(engine, condition, vectors=True)), path)


def export_datasets(
    engine: Engine, condition: str, path: Path, force: bool = False, thumbnails: bool = False
) -> int:
    """Write a Parquet file that ``datasets.load_dataset("parquet", ...)`` opens with pictures.

    The column ``image`` has the type of pictures of Hugging Face datasets: the path of the file
    or, with ``thumbnails``, the bytes of a small JPEG. Arguments, result and errors are those of
    :func:`export_atlas`.
    """
    _check_parquet(path, "--datasets", force)
    features = {"info": {"features": {"image": {"_type": "Image"}}}}

    def extended(block: pa.Table) -> pa.Table:
        block = _with_image(block, thumbnails)
        return block.replace_schema_metadata({"huggingface": json.dumps(features)})

    with _written(path):
        return write_table(map(extended, exported_blocks(engine, condition, vectors=True)), path)


#: The option of `cies export` to what it writes into one Parquet file.
FILE_FORMS: dict[str, Callable[[Engine, str, Path, bool, bool], int]] = {
    "--atlas": export_atlas,
    "--datasets": export_datasets,
}


def _neighbors(table: OpenTable, rows: NDArray[np.int64], number_of: NDArray[np.int64]) -> pa.Array:
    """The nearest pictures of some rows: structs of ``ids`` and ``distances``.

    Args:
        table: the condition's.
        rows: int64 [n], rows of the table.
        number_of: int64 [size], the number of each row in the file; -1 if it is not there.
    """
    import pyarrow as pa

    allowed = number_of >= 0
    found: list[dict[str, list[Any]]] = []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        nearest, cosines = table.search(
            table.vectors(block), NEIGHBOURS + 1, None if allowed.all() else allowed
        )
        for row, others, scores in zip(block, nearest, cosines, strict=True):
            kept = [n for n, other in enumerate(others) if other not in (row, -1)][:NEIGHBOURS]
            distances = np.maximum(0, 1 - scores[kept]).tolist()
            found.append({"ids": number_of[others[kept]].tolist(), "distances": distances})
    kind = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
    return pa.array(found, kind)


def _with_image(block: pa.Table, thumbnails: bool) -> pa.Table:
    """A block with the column ``image``, of bytes and path."""
    import pyarrow as pa

    paths, keys = block.column("path").to_pylist(), block.column("key").to_pylist()
    cells = [
        {"bytes": thumbnail(path, key) if thumbnails else None, "path": path}
        for path, key in zip(paths, keys, strict=True)
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return block.append_column("image", pa.array(cells, kind))


def _floats(values: NDArray[np.float32]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.float32())


def _check_parquet(path: Path, option: str, force: bool) -> None:
    if path.suffix != ".parquet":
        raise UsageError(
            f"{option} writes a Parquet file; give -o a name that ends in .parquet, not {path}."
        )
    check_folder_of(path)
    check_output(path, force)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Turn errors of the disk into one sentence."""
    try:
        yield
    except OSError as error:
        raise CiesError(
            f"Cannot write {path}: {(error.strerror or str(error)).lower()}; "
            "choose another place with -o."
        ) from error
