"""The columns of a gallery's files: filters over them, values to leave out, and those of hits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.compact_columns import Keys, positions, raw_keys
from indexes.search.open_table import OpenTable
from indexes.store.attributes import TYPES, attributes, listed_rows, user_columns
from indexes.store.gallery import Gallery
from indexes.store.records import IMAGES, LISTINGS
from ingest.scan.known_files import PathIndex
from query.filters.where import matching
from query.question import shortened, similar_names

#: The columns of every gallery that hits can have besides the user's.
PICTURE_COLUMNS = ("size", "mtime_ns", *(name for name in IMAGES.names if name != "key"))

#: One row of the user's tables, or of a file that none names: column to value.
Row = dict[str, Any]


@dataclass(frozen=True)
class FileTable:
    """The table that filters refer to: a row for each file, or for each row that names it.

    Attributes:
        table: the columns, sorted by path.
        codes: for each row, the number of its picture: int64 [rows].
        keys: the content keys of the pictures, [pictures].
    """

    table: pa.Table
    codes: NDArray[np.int64]
    keys: pa.Array

    @classmethod
    def of(cls, table: pa.Table) -> FileTable:
        """The table of attributes with its pictures numbered."""
        coded = table.column("key").combine_chunks().dictionary_encode()
        return cls(table, coded.indices.to_numpy().astype(np.int64), coded.dictionary)

    def rows_in(self, words: OpenTable) -> NDArray[np.int64]:
        """The row of each picture in a condition's table, -1 if it is not there: int64."""
        if isinstance(words.keys, Keys) and len(self.keys):
            return positions(words.keys.raw, raw_keys(pa.chunked_array([self.keys])))
        rows = [words.row(key) for key in self.keys.to_pylist()]
        return np.array([-1 if row is None else row for row in rows], dtype=np.int64)


@dataclass(frozen=True)
class Allowed:
    """The pictures that may be returned.

    Attributes:
        files: the table that was filtered.
        chosen: bool [rows], the rows that pass the filter.
        mask: bool [rows of the condition's table], the pictures that may be returned.
    """

    files: FileTable
    chosen: NDArray[np.bool_]
    mask: NDArray[np.bool_]

    def rows(self, key: str) -> list[int]:
        """The rows of a picture that pass the filter, in path order."""
        code = pc.index(self.files.keys, pa.scalar(key, pa.string())).as_py()
        return np.flatnonzero(self.chosen & (self.files.codes == code)).tolist()

    def paths_of(self, key: str) -> list[str]:
        """The stored paths of a picture's files that pass the filter, in path order."""
        column = self.files.table.column("path")
        return list(dict.fromkeys(column[row].as_py() for row in self.rows(key)))

    @property
    def paths(self) -> dict[str, str]:
        """Content key to the first path, as stored, of the pictures that pass the filter."""
        rows = np.flatnonzero(self.chosen)
        _, first = np.unique(self.files.codes[rows], return_index=True)
        taken = pa.array(rows[np.sort(first)])
        keys, paths = (
            self.files.table.column(name).take(taken).to_pylist() for name in ("key", "path")
        )
        return dict(zip(keys, paths, strict=True))


class Filters:
    """The columns of a gallery's files at one moment; each table is read once."""

    def __init__(self, gallery: Gallery):
        """Store the arguments; nothing is read yet.

        Args:
            gallery: the gallery at one moment.
        """
        self._gallery = gallery
        self._worded: tuple[str, FileTable] | None = None

    @cached_property
    def files(self) -> FileTable:
        """The attributes of all files."""
        return FileTable.of(attributes(self._gallery))

    @cached_property
    def user_columns(self) -> list[str]:
        """The names of the user's columns."""
        return list(user_columns(self._gallery))

    def table(self, words: OpenTable) -> pa.Table:
        """The table that filters refer to, with the words of a condition's table and their
        probabilities.
        """
        return self._with_words(words).table

    def _with_words(self, words: OpenTable) -> FileTable:
        if self._worded is None or self._worded[0] != words.table.table:
            files = self.files
            rows = files.rows_in(words)
            found = np.maximum(rows, 0)
            if len(words):
                texts = [words.words[int(row)] for row in found]
                chances = np.asarray(words.word_probabilities, dtype=np.float32)[found]
            else:
                texts, chances = [""] * len(rows), np.zeros(len(rows), dtype=np.float32)
            missing = rows < 0
            per_row = pa.array(files.codes)
            word = pa.array(texts, pa.string(), mask=missing).take(per_row)
            chance = pa.array(chances, pa.float32(), mask=missing).take(per_row)
            table = files.table.append_column("word", word)
            table = table.append_column("word_probability", chance)
            self._worded = words.table.table, FileTable(table, files.codes, files.keys)
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
        files = self._with_words(words)
        table = files.table
        chosen = np.ones(table.num_rows, dtype=np.bool_)
        if where is not None:
            chosen = matching(table, where)
        pictures = np.zeros(len(files.keys), dtype=np.bool_)
        pictures[files.codes[chosen]] = True
        if exclude_same is not None:
            pictures[files.codes[_same(table, exclude_same, examples)]] = False
        rows = files.rows_in(words)[pictures]
        mask = np.zeros(len(words), dtype=np.bool_)
        mask[rows[rows >= 0]] = True
        return Allowed(files, chosen, mask)

    def keys_with(self, column: str, text: str) -> list[str]:
        """The keys of the pictures that have a value in a column, in path order.

        Args:
            column: one of the user's columns, or of the picture's.
            text: the value as a user types it.

        Raises:
            UsageError: if there is no such column, or no picture with this value.
        """
        table = self.files.table
        self.check_columns([column], "--by", table.column_names)
        values = table.column(column)
        wanted: Any = text
        if not pa.types.is_string(values.type):
            try:
                wanted = pa.scalar(text).cast(values.type).as_py()
            except pa.ArrowInvalid:
                names = {kind: name for name, kind in TYPES.items()}
                raise UsageError(
                    f"--by {column}={shortened(text)}: the column '{column}' has values of type "
                    f"{names.get(values.type, values.type)}, and this is none."
                ) from None
        found = pc.fill_null(pc.equal(values, pa.scalar(wanted, values.type)), False)
        keys = table.column("key").filter(found).to_pylist()
        if not keys:
            raise UsageError(
                f"No picture of the gallery has {shortened(text)} in the column '{column}'."
            )
        return list(dict.fromkeys(keys))

    # -- the columns of hits ----------------------------------------------------------------

    def check_columns(
        self, names: Sequence[str], option: str, known: Sequence[str] | None = None
    ) -> None:
        """Check that columns exist.

        Raises:
            UsageError: if one does not; the message lists those that do.
        """
        if known is None:
            known = [*self.user_columns, *PICTURE_COLUMNS]
        for name in names:
            if name not in known:
                raise UsageError(
                    f"There is no column {shortened(name)} for {option}{similar_names(name, known)}"
                    f"; the columns are {', '.join(known)}."
                )

    def columns_of(
        self, paths: Sequence[Sequence[str]], names: Sequence[str], keys: Sequence[str]
    ) -> list[list[Row]]:
        """The rows of some pictures: each row of the user's tables that names one of its files.

        Args:
            paths: the stored paths of each picture.
            names: the columns, in the order of the result.
            keys: the content key of each picture.

        Returns:
            For each picture at least one row.
        """
        every = [path for own in paths for path in own]
        listed = self._listed(every) if set(names) & set(self.user_columns) else {}
        about = self._pictures(keys) if set(names) & set(PICTURE_COLUMNS) else {}
        files = self._files(every) if {"size", "mtime_ns"} & set(names) else {}
        found = []
        for own, key in zip(paths, keys, strict=True):
            rows = [
                {**about.get(key, {}), **files.get(path, {}), **row}
                for path in own
                for row in listed.get(path, [{}] if path == own[0] and not listed else [])
            ]
            rows = rows or [{**about.get(key, {}), **files.get(own[0] if own else "", {})}]
            found.append([{name: row.get(name) for name in names} for row in rows])
        return found

    @cached_property
    def _listings(self) -> tuple[PathIndex, pa.Table]:
        table = self._gallery.read("listings", LISTINGS).combine_chunks()
        return PathIndex(table.column("path")), table

    def _listed(self, paths: Sequence[str]) -> dict[str, list[Row]]:
        index, table = self._listings
        rows = index.rows(paths)
        found: dict[str, list[Row]] = {}
        for row in listed_rows(table.take(pa.array(rows[rows >= 0]))).to_pylist():
            found.setdefault(row.pop("path"), []).append(row)
        return found

    def _pictures(self, keys: Sequence[str]) -> dict[str, Row]:
        wanted = pa.array(keys, pa.string())
        table = self._gallery.read("images", IMAGES)
        rows = table.filter(pc.is_in(table.column("key"), wanted)).to_pylist()
        return {row["key"]: row for row in rows}

    def _files(self, paths: Sequence[str]) -> dict[str, Row]:
        files = self.files.table.select(["path", "size", "mtime_ns"])
        rows = files.filter(pc.is_in(files.column("path"), pa.array(paths, pa.string())))
        return {row.pop("path"): row for row in rows.to_pylist()}


def _same(table: pa.Table, column: str, examples: Mapping[str, str]) -> NDArray[np.bool_]:
    """Which rows share a value with an example: bool [rows]."""
    if column not in table.column_names:
        raise UsageError(
            f"There is no column {shortened(column)} for --exclude-same"
            f"{similar_names(column, table.column_names)}; the columns are "
            f"{', '.join(table.column_names)}."
        )
    values = table.column(column)
    of_examples = pc.is_in(table.column("key"), pa.array(list(examples), pa.string()))
    wanted = values.filter(of_examples).drop_null().combine_chunks()
    if not len(wanted):
        names = ", ".join(shortened(name) for name in examples.values()) or "The query"
        raise UsageError(
            f"{names} has no value in the column '{column}', so --exclude-same has nothing to "
            "compare; ask with a picture of the gallery that has one, or leave it out."
        )
    found: NDArray[np.bool_] = pc.is_in(values, wanted).to_numpy()
    return found
