"""Stores a learned condition: its table is computed from the gallery's other tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from indexes.store.writer import Writer
from ingest.conditions import Condition, same_name
from ingest.encoders.base import EncoderSpec
from ingest.encoders.methods.learned import LearnedCondition
from ingest.fill.vector_sources import CAPTIONS, LEARNED

#: Rows that are computed and written at once.
_ROWS = 4096


def parts_to_learn_from(gallery: Gallery) -> list[VectorTable]:
    """The tables that a learned condition can be computed from: one vector a picture, complete."""
    return [
        table
        for table in gallery.conditions()
        if table.kept_up
        and table.parts_per_row == 1
        and table.made_by["method"] not in (LEARNED, CAPTIONS)
    ]


def check_new_name(gallery: Gallery, name: str) -> Condition:
    """A name for a learned condition.

    Raises:
        UsageError: if the gallery has a condition of that name that was not learned.
    """
    condition = Condition.parse(name)
    for table in gallery.conditions():
        learned = table.made_by["method"] == LEARNED
        if same_name(table.name, condition.name) and not learned:
            raise UsageError(
                f"The gallery has a condition '{table.name}' already; choose another name for what "
                "the examples show."
            )
    return condition


def store_learned(
    gallery: Gallery,
    writer: Writer,
    condition: Condition,
    learned: LearnedCondition,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> VectorTable:
    """Compute and store the vectors of all pictures under a learned condition.

    A condition of the same name that was learned before is replaced after the new one is whole.

    Args:
        gallery: the gallery.
        writer: its writer.
        condition: the name.
        learned: the condition.
        progress: called with the number of pictures done and of all.

    Returns:
        The new table.
    """
    tables = {table.table: table for table in gallery.conditions()}
    sources = [tables[VectorTable("", 0, part.made_by).table] for part in learned.parts]
    columns = [gallery.column(table) for table in sources]
    keys = sorted(set.intersection(*(set(column.keys) for column in columns)))
    rows = [_rows_of(column.keys, keys) for column in columns]
    spec = learned.spec(_max_side(sources))
    # One name has one phrase, so that pictures of later ingests are embedded in the same way.
    table = VectorTable(condition.name, learned.dimension, spec.made_by(condition))
    before = [
        old
        for old in gallery.conditions()
        if same_name(old.name, condition.name) and old.table != table.table
    ]
    # Until all is stored, the table is partial: a killed run leaves nothing that seems whole.
    writer.declare(VectorTable(table.name, table.dimension, table.made_by, partial=True))
    for start in range(0, len(keys), _ROWS):
        end = min(start + _ROWS, len(keys))
        vectors = learned.vectors(
            [column.vectors[of[start:end]] for column, of in zip(columns, rows, strict=True)]
        )
        words, probabilities = learned.nearest_words(vectors)
        writer.put_vectors(table, keys[start:end], vectors, words, probabilities)
        progress(end, len(keys))
    for old in before:
        writer.remove_condition(old)
    writer.declare(table)
    return table


def _rows_of(keys: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64]:
    """The rows of some keys in a sorted list of keys."""
    found: NDArray[np.int64] = np.searchsorted(np.array(keys), np.array(wanted))
    return found


def _max_side(tables: Sequence[VectorTable]) -> int | None:
    """The longest side that all encoders together need; ``None`` if one needs full size."""
    sides = [EncoderSpec.from_made_by(table.made_by).max_side for table in tables]
    known = [side for side in sides if side is not None]
    return max(known) if len(known) == len(sides) else None
