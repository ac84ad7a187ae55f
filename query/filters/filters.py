"""Decides which pictures may be returned: the user's filter, and values to leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from indexes.store.attributes import attributes
from indexes.store.gallery import Gallery
from query.filters.where import matching
from query.question import shortened


@dataclass(frozen=True)
class Allowed:
    """The pictures that may be returned.

    Attributes:
        paths: content key to the first path, as stored, of the pictures that pass the filter.
        left_out: keys that are left out although they pass.
    """

    paths: Mapping[str, str]
    left_out: frozenset[str]

    def mask(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Which of some pictures may be returned: bool [len(keys)]."""
        found = (key in self.paths and key not in self.left_out for key in keys)
        return np.fromiter(found, dtype=np.bool_, count=len(keys))


class Filters:
    """The table that filters refer to, read once.

    It has one row for each file: its attributes, the user's columns, and the model's word under
    the first condition of the question, with its probability.
    """

    def __init__(self, gallery: Gallery):
        self._gallery = gallery
        self._files: pa.Table | None = None
        self._worded: tuple[str, pa.Table] | None = None

    def table(self, words: OpenTable) -> pa.Table:
        """The table, with the words of a condition's table."""
        if self._worded is None or self._worded[0] != words.table.table:
            if self._files is None:
                self._files = attributes(self._gallery)
            rows = [words.row(key) for key in self._files.column("key").to_pylist()]
            word = [None if row is None else words.words[row] for row in rows]
            probability = [
                None if row is None else float(words.word_probabilities[row]) for row in rows
            ]
            table = self._files.append_column("word", pa.array(word, pa.string()))
            table = table.append_column("word_probability", pa.array(probability, pa.float32()))
            self._worded = words.table.table, table
        return self._worded[1]

    def allowed(
        self,
        words: OpenTable,
        where: str | None,
        exclude_same: str | None,
        examples: Mapping[str, str],
    ) -> Allowed:
        """The pictures that may be returned.

        Args:
            words: the table whose words the filter may refer to.
            where: a filter, or ``None`` for all files.
            exclude_same: a column; a picture is left out if a file of it has a value there that a
                file of an example has.
            examples: key to shown name of the examples that have a key.

        Raises:
            UsageError: if the filter cannot be parsed, there is no such column, or no example has
                a value in it.
        """
        table = self.table(words)
        keys = table.column("key").to_pylist()
        paths = table.column("path").to_pylist()
        chosen = np.ones(len(keys), dtype=np.bool_) if where is None else matching(table, where)
        found: dict[str, str] = {}
        # Files are in path order; the first file of a picture is the one that is shown.
        for row in np.flatnonzero(chosen):
            found.setdefault(keys[row], paths[row])
        left_out: frozenset[str] = frozenset()
        if exclude_same is not None:
            left_out = _same(table, exclude_same, examples)
        return Allowed(found, left_out)


def _same(table: pa.Table, column: str, examples: Mapping[str, str]) -> frozenset[str]:
    """Keys of the pictures that share a value with an example."""
    if column not in table.column_names:
        raise UsageError(
            f"There is no column {shortened(column)} for --exclude-same; the columns are "
            f"{', '.join(table.column_names)}."
        )
    keys, values_of = table.column("key").to_pylist(), table.column(column).to_pylist()
    pairs = list(zip(keys, values_of, strict=True))
    values = {value for key, value in pairs if key in examples and value is not None}
    if not values:
        names = ", ".join(shortened(name) for name in examples.values()) or "The query"
        raise UsageError(
            f"{names} has no value in the column '{column}', so --exclude-same has nothing to "
            "compare; ask with a picture of the gallery that has one, or leave it out."
        )
    return frozenset(key for key, value in pairs if value in values)
