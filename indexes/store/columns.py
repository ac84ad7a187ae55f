"""Rows of a vector table as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from indexes.errors import GalleryError
from indexes.store.records import VectorColumn, VectorTable
from indexes.vectors import unit


def vector_column(rows: pa.Table, table: VectorTable, place: Path) -> VectorColumn:
    """Rows of a condition's table in key order, their vectors at unit length.

    Args:
        rows: of :func:`indexes.store.records.vector_schema`.
        table: the condition's entry.
        place: the gallery's folder, for the message.

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
        raise damaged_vectors(table, place, error) from error
    return VectorColumn(
        keys=rows.column("key").to_pylist(),
        vectors=vectors,
        words=[word or "" for word in rows.column("word").to_pylist()],
        word_probabilities=rows.column("word_probability").to_numpy().astype(np.float32),
    )


def damaged_vectors(table: VectorTable, place: Path, error: Exception) -> GalleryError:
    """What is said of stored vectors that have no direction."""
    return GalleryError(
        f"Damaged vectors under condition '{table.name}' in {place}: {error}; "
        "`cies repair` drops them, and the next ingest embeds those pictures again."
    )
