"""Vectors that another program made, with the picture of each: NumPy files, tables, LanceDB.

Everything is checked before a row is given out: NumPy files are read without pickle, every vector
has the same length, none is zero or not finite, and there are as many pictures as vectors.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.store.attributes import RESERVED, column_name
from indexes.store.lance import lancedb
from indexes.store.tables import is_storage_error
from indexes.vectors import Vectors
from ingest.read.images import error_text
from ingest.sources.base import SourceFile, SourceOptions, suffix_of
from ingest.sources.cells import CellReader, contains_pictures, open_cells
from ingest.sources.remote import first_line, size_and_version
from ingest.sources.rows import as_texts, read_rows
from ingest.sources.tables import TableSource, guess_image_column
from ingest.sources.text_tables import Row, open_text
from ingest.sources.values import text_type

#: Columns that are taken to hold the vectors, if several could.
VECTOR_COLUMNS = ("vector", "embedding", "embeddings", "image_embedding", "emb")

#: The column with a picture's word, and that with its probability, as `cies export` writes them.
WORD, WORD_PROBABILITY = "word", "word_probability"

#: Most numbers of a vector.
MAX_DIMENSION = 65_536

#: Rows read at once.
_ROWS = 8192

_FORMS = (
    "a .npy file with --paths, a .parquet or .arrow file, a folder of clip-retrieval (img_emb and "
    "metadata), or a LanceDB table"
)

#: The number in the name of a part of clip-retrieval's files.
_PART = re.compile(r"_(\d+)\.(?:npy|parquet)$")


@dataclass(frozen=True)
class VectorOptions:
    """How files of vectors are read.

    Attributes:
        paths: the file that names the picture of each row of a ``.npy`` file.
        table: the table of a LanceDB database.
        vector_column: the column of a table with the vectors; guessed if only one can be meant.
        word_column: the column with the word of each picture; ``word`` if there is one.
    """

    paths: str | None = None
    table: str | None = None
    vector_column: str | None = None
    word_column: str | None = None


@dataclass(frozen=True)
class _Opened:
    """Vectors and rows that belong together.

    Attributes:
        folder: what relative paths of pictures start from.
        columns: the columns of the rows, without the vectors.
        rows: reads the rows from the start; values are texts.
        parts: the vectors, float [n, dim] each, mapped from a file.
        pictures: the column whose cells contain the pictures; empty if rows name files.
    """

    folder: str
    columns: list[str]
    rows: Callable[[], Iterator[Row]]
    parts: list[NDArray[np.floating]]
    pictures: str = ""


class VectorRows(TableSource):
    """Rows that name a picture and have a vector; a file's ``position`` is the number of its row.

    Attributes:
        dimension: length of the vectors.
        words: the word of each row, or ``None`` if the rows have none.
        word_probabilities: float32 [rows]; 1 where a word has no probability, 0 without a word.
    """

    def __init__(self, location: str, root: Path, options: SourceOptions, vectors: VectorOptions):
        """Open the files and check every vector.

        Args:
            location: a file or folder, see the module's docstring.
            root: the gallery's root, for stored paths.
            options: how the rows are read.
            vectors: how the vectors are read.

        Raises:
            UsageError: naming the file and what is wrong with it.
        """
        self._opened = opened = _open(location, options.image_column, vectors)
        given = options if options.root else replace(options, root=opened.folder)
        super().__init__(location, root, given)
        self._version = size_and_version(location)[1] if opened.pictures else 0
        if not opened.pictures:
            self._column = guess_image_column(opened.columns, options.image_column, location)
        self.dimension = _checked(opened.parts, location)
        self._ends = np.cumsum([len(part) for part in opened.parts])
        self.words: list[str] | None = None
        self.word_probabilities = np.zeros(len(self), dtype=np.float32)
        self._read_columns(vectors.word_column, options.columns or ())

    def __len__(self) -> int:
        """The number of rows."""
        return int(self._ends[-1])

    def vectors(self, rows: Sequence[int]) -> Vectors:
        """The vectors of some rows, as they are in the files: float32 [n, dim]."""
        wanted = np.asarray(rows, dtype=np.int64)
        found: Vectors = np.empty((len(wanted), self.dimension), dtype=np.float32)
        part_of = np.searchsorted(self._ends, wanted, side="right")
        for number in np.unique(part_of):
            mine = part_of == number
            start = self._ends[number] - len(self._opened.parts[number])
            found[mine] = self._opened.parts[number][wanted[mine] - start]
        return found

    def _rows(self) -> Iterator[Row]:
        for number, (_, values) in enumerate(self._opened.rows()):
            yield f"row {number}", values

    def _named_file(self, values: Mapping[str, Any]) -> str:
        return "" if self._opened.pictures else super()._named_file(values)

    def _file(self, row: str, values: Mapping[str, Any]) -> SourceFile:
        number = int(row.removeprefix("row "))
        if not self._opened.pictures:
            return replace(super()._file(row, values), position=number)
        column = self._opened.pictures
        path = f"{self.name}!/{column}/{number}"
        try:
            typed = self.typed_values(values)
        except ValueError as error:
            return SourceFile(path, status="bad_value", reason=str(error), position=number)
        reader = CellReader(self._location, column)
        return SourceFile(path, 0, self._version, values=typed, reader=reader, position=number)

    def _read_columns(self, word_column: str | None, wanted: Sequence[str]) -> None:
        """Read through the rows once: the words, the types of the user's columns, the count."""
        columns, name = self._opened.columns, self._location
        if word_column is not None and word_column not in columns:
            raise UsageError(
                f"{name} has no column '{word_column}' (it has: {', '.join(columns)}); correct "
                "--word-column."
            )
        word = word_column or (WORD if WORD in columns else None)
        probability = WORD_PROBABILITY if word == WORD and WORD_PROBABILITY in columns else None
        asked = {text.partition(":")[0] for text in wanted}
        own = [
            column
            for column in columns
            if column not in (self._column, word, probability)
            and (column in asked or column_name(column) not in {f"user_{r}" for r in RESERVED})
        ]
        words: list[str] = []
        chances: list[float] = []
        count = 0
        for count, (_, values) in enumerate(self._opened.rows(), start=1):  # noqa: B007
            if isinstance(values, str):
                values = {}
            for column in own:
                self._types.observe(column, text_type(str(values.get(column, ""))))
            if word is not None:
                text = " ".join(str(values.get(word, "")).split())
                words.append(text)
                given = str(values.get(probability, "")) if probability else ""
                chances.append(_probability(given) if text else 0.0)
        if count != len(self):
            raise UsageError(
                f"{name} has {len(self)} vectors and {count} pictures that they belong to; give "
                "one picture for each vector, in the same order."
            )
        self.columns, self.column_names = self._types.resolve(own)
        if word is not None:
            self.words = words
            self.word_probabilities = np.array(chances, dtype=np.float32)


def _probability(text: str) -> float:
    """A probability of a word; 1 if there is none, or it is no number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        return 1.0
    return value if 0 <= value <= 1 else 1.0


def _open(location: str, image_column: str | None, options: VectorOptions) -> _Opened:
    """Open vectors by the form of their file or folder.

    Raises:
        UsageError: if there is nothing, or it has no such form.
    """
    if not os.path.exists(location):
        raise UsageError(f"There is no file or folder {location}; check the path.")
    suffix = suffix_of(location)
    plain = os.path.isfile(location)
    if options.paths is not None and not (plain and suffix == ".npy"):
        raise UsageError(f"--paths belongs to a .npy file, and {location} is none; leave it out.")
    if plain and suffix == ".npy":
        return _open_npy(location, options.paths)
    if plain and suffix in (".parquet", ".arrow"):
        return _open_cells(location, image_column, options.vector_column)
    if os.path.isdir(os.path.join(location, "img_emb")):
        return _open_clip_retrieval(location)
    if os.path.isdir(location) and (
        suffix == ".lance" or glob.glob(os.path.join(glob.escape(location), "*.lance"))
    ):
        return _open_lance(location, options)
    raise UsageError(f"{location} holds no vectors in a form that can be read; give {_FORMS}.")


def _open_npy(location: str, paths: str | None) -> _Opened:
    if paths is None:
        raise UsageError(
            f"{location} has vectors without names; give the file that names the picture of each "
            "row with --paths, a text file with one path a line or a table."
        )
    if not os.path.isfile(paths):
        raise UsageError(f"There is no file {paths}; correct --paths.")
    part = _read_npy(location)
    folder = os.path.dirname(os.path.abspath(paths))
    if suffix_of(paths) in (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow"):
        columns = read_rows(paths)[0]
        return _Opened(folder, columns, lambda: read_rows(paths)[1], [part])
    return _Opened(folder, ["path"], lambda: _lines(paths), [part])


def _lines(location: str) -> Iterator[Row]:
    """The lines of a text file as rows with one column, ``path``."""
    with open_text(location) as lines:
        try:
            for number, line in enumerate(lines, start=1):
                yield f"line {number}", {"path": line.strip("\r\n")}
        except UnicodeError as error:
            raise UsageError(
                f"{location} is not text in UTF-8; save it as UTF-8, with one path a line."
            ) from error


def _read_npy(location: str) -> NDArray[np.floating]:
    """A matrix of a NumPy file, mapped and not read.

    Raises:
        UsageError: if it is none, is damaged, or contains Python objects.
    """
    try:
        # Pickled objects would run code of the file.
        matrix: NDArray[Any] = np.load(location, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError, MemoryError) as error:
        why = first_line(error)
        if "pickle" in why.lower():  # what NumPy also says of a file of any other kind
            why = "it is no NumPy file, or holds Python objects"
        raise UsageError(
            f"{location} cannot be read as a matrix of numbers ({why.rstrip('.')}); write it again "
            "with numpy.save."
        ) from error
    _check_matrix(matrix, location)
    return matrix


def _check_matrix(matrix: Any, location: str) -> None:
    """Refuse what is no matrix of floating point numbers."""
    kind = getattr(matrix, "dtype", np.dtype(object))
    if np.ndim(matrix) != 2 or kind.kind != "f" or kind.itemsize > 8:
        shape = " x ".join(map(str, np.shape(matrix))) or "no"
        raise UsageError(
            f"{location} holds {shape} numbers of type {kind}; a matrix [pictures, numbers] of "
            "float16, float32 or float64 is needed."
        )
    if not len(matrix):
        raise UsageError(f"{location} holds no vectors; give a file with at least one.")


def _open_clip_retrieval(location: str) -> _Opened:
    """A folder that ``clip-retrieval inference`` writes: parts of vectors and of their rows."""
    matrices = _numbered(location, "img_emb", "npy")
    tables = _numbered(location, "metadata", "parquet")
    if not matrices or matrices.keys() != tables.keys():
        lacking = sorted(matrices.keys() ^ tables.keys())
        what = f"part {lacking[0]} is only in one of them" if lacking else "there are no parts"
        raise UsageError(
            f"The folders img_emb and metadata of {location} do not belong together: {what}; "
            "let clip-retrieval write them again."
        )
    parts = [_read_npy(matrices[number]) for number in sorted(matrices)]
    ordered = [tables[number] for number in sorted(tables)]
    columns = list(dict.fromkeys(c for table in ordered for c in read_rows(table)[0]))

    def rows() -> Iterator[Row]:
        for table, part in zip(ordered, parts, strict=True):
            count = 0
            for row in read_rows(table)[1]:
                count += 1
                yield row
            if count != len(part):
                raise UsageError(
                    f"{table} has {count} rows, and its part of img_emb {len(part)} vectors; let "
                    "clip-retrieval write both again."
                )

    return _Opened(os.path.abspath(location), columns, rows, parts)


def _numbered(location: str, folder: str, suffix: str) -> dict[int, str]:
    """The parts in one of clip-retrieval's folders, by number."""
    pattern = os.path.join(glob.escape(location), folder, f"{folder}_*.{suffix}")
    found = [(match, path) for path in glob.glob(pattern) if (match := _PART.search(path))]
    return {int(match[1]): path for match, path in found}


def _open_cells(location: str, image_column: str | None, vector_column: str | None) -> _Opened:
    try:
        _, version = size_and_version(location)
        cells = open_cells(location, version)
        column = _vector_column(cells.schema, vector_column, location)
        others = _plain_columns(cells.schema)
        holding = [field.name for field in cells.schema if contains_pictures(field.type)]
        pictures = image_column if image_column in holding else None
        if image_column is None and len(holding) == 1:
            pictures = holding[0]
        vectors = (batch.column(0) for batch in cells.batches([column]))
        matrix = _copied(vectors, location, column)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(
            f"{location} cannot be read ({first_line(error)}); it may be damaged or cut short, so "
            "make it again."
        ) from error

    def rows() -> Iterator[Row]:
        yield from _texts(cells.batches(others), others)

    folder = os.path.dirname(os.path.abspath(location))
    return _Opened(folder, others, rows, [matrix], pictures or "")


def _plain_columns(schema: pa.Schema) -> list[str]:
    """The columns whose cells are single values and no pictures."""
    return [
        field.name
        for field in schema
        if not (pa.types.is_nested(field.type) or contains_pictures(field.type))
    ]


def _open_lance(location: str, options: VectorOptions) -> _Opened:
    """A table of a LanceDB database: the database with a name, or the table's own folder."""
    folder, name = location, options.table
    if suffix_of(location.rstrip(os.sep)) == ".lance":
        folder, entry = os.path.split(os.path.abspath(location))
        name = entry.removesuffix(".lance")
    names = sorted(
        Path(path).stem for path in glob.glob(os.path.join(glob.escape(folder), "*.lance"))
    )
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        raise UsageError(
            f"The LanceDB database {folder} has the tables {', '.join(names)}; name one with "
            "--table."
        )
    try:
        table = lancedb().connect(folder).open_table(name)
        column = _vector_column(table.schema, options.vector_column, location)
        others = _plain_columns(table.schema)
        # A table gives its rows in no order, so that one reading must give both.
        batches = table.search().select([column, *others]).to_batches(batch_size=_ROWS)
        schema = pa.schema([table.schema.field(name) for name in others])
        kept = _KeptRows(schema)
        matrix = _copied(kept.vectors(batches, column), location, column)
    except Exception as error:
        if not (is_storage_error(error) or isinstance(error, (ValueError, pa.ArrowException))):
            raise
        raise UsageError(
            f"The LanceDB table {name} in {folder} cannot be read ({first_line(error)}); check it "
            "with LanceDB."
        ) from error
    return _Opened(os.path.abspath(folder), others, kept.rows, [matrix])


class _KeptRows:
    """The rows of a table in a temporary file, which has no name and is gone when this is."""

    def __init__(self, schema: pa.Schema):
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._schema = schema

    def vectors(self, batches: Iterable[pa.RecordBatch], column: str) -> Iterator[pa.Array]:
        """The vectors of batches, whose other columns are kept."""
        names = self._schema.names
        sink = pa.PythonFile(self._file, mode="w")
        with pa.ipc.new_stream(sink, self._schema) as writer:
            for batch in batches:
                writer.write_table(pa.Table.from_batches([batch]).select(names).cast(self._schema))
                yield batch.column(column)
        self._file.flush()

    def rows(self) -> Iterator[Row]:
        """The rows that were kept, in order."""
        self._file.seek(0)
        kept = pa.ipc.open_stream(pa.PythonFile(self._file, mode="r"))
        yield from _texts(kept, self._schema.names)


def _texts(batches: Iterable[pa.RecordBatch], columns: list[str]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for values in batch.to_pylist():
            yield as_texts((f"row {number}", values), columns)
            number += 1


def _vector_column(schema: pa.Schema, given: str | None, location: str) -> str:
    """The column that holds the vectors.

    Raises:
        UsageError: if that column does not exist or holds no vectors, or the choice is unclear.
    """
    holding = [field.name for field in schema if _holds_vectors(field.type)]
    listed = ", ".join(schema.names) or "none"
    if given is not None:
        if given in holding:
            return given
        why = "holds no lists of floating point numbers" if given in schema.names else "is missing"
        raise UsageError(
            f"The column '{given}' of {location} {why} (it has: {listed}); correct --vector-column."
        )
    likely = holding if len(holding) == 1 else [n for n in holding if n in VECTOR_COLUMNS]
    if len(likely) != 1:
        raise UsageError(
            f"Which column of {location} holds the vectors? Of {listed}, "
            f"{f'{len(holding)} could' if holding else 'none does'}; name it with --vector-column."
        )
    return str(likely[0])


def _holds_vectors(kind: pa.DataType) -> bool:
    is_list = (
        pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    )
    return bool(is_list and pa.types.is_floating(kind.value_type))


def _copied(arrays: Iterable[pa.Array], location: str, column: str) -> NDArray[np.floating]:
    """Lists of numbers as a matrix in a temporary file: float32 [n, dim].

    Raises:
        UsageError: if a row has no vector, or they have several lengths.
    """
    # The file has no name, and is gone when the matrix is.
    file = tempfile.TemporaryFile()  # noqa: SIM115
    rows, dimension = 0, 0
    for array in arrays:
        lengths = pc.list_value_length(array)
        first = next((length for length in lengths.to_pylist() if length), 0)
        dimension = dimension or first
        same = pc.fill_null(pc.equal(lengths, dimension), False).to_numpy(zero_copy_only=False)
        if not same.all():
            row = int(np.argmin(same))
            found = lengths[row].as_py()
            what = "no vector" if not found else f"a vector of {found} numbers"
            raise UsageError(
                f"{location} has {what} in column '{column}' of row {rows + row}, and {dimension} "
                "numbers in others; remove such rows."
            )
        values = array.flatten().to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            file.write(np.asarray(values, dtype=np.float32).tobytes())
        rows += len(array)
    if not rows or not dimension:
        raise UsageError(f"{location} holds no vectors; give a file with at least one.")
    file.flush()
    return np.memmap(file, np.float32, "r", shape=(rows, dimension))


def _checked(parts: Sequence[NDArray[np.floating]], location: str) -> int:
    """The length of all vectors.

    Raises:
        UsageError: if they have several, too many numbers, or one is zero or not finite.
    """
    dimensions = {part.shape[1] for part in parts}
    if len(dimensions) > 1:
        listed = " and ".join(map(str, sorted(dimensions)))
        raise UsageError(
            f"The parts of {location} hold vectors of {listed} numbers; one length is needed."
        )
    dimension = int(dimensions.pop())
    if not 1 <= dimension <= MAX_DIMENSION:
        raise UsageError(
            f"{location} holds vectors of {dimension} numbers; 1 to {MAX_DIMENSION} are allowed."
        )
    bad, first, start = 0, -1, 0
    for part in parts:
        for at in range(0, len(part), _ROWS):
            with np.errstate(over="ignore", invalid="ignore"):
                lengths = np.linalg.norm(part[at : at + _ROWS].astype(np.float32), axis=1)
            wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
            if len(wrong) and first < 0:
                first = start + at + int(wrong[0])
            bad += len(wrong)
        start += len(part)
    if bad:
        raise UsageError(
            f"{bad} of the {start} vectors of {location} are zero or not finite, the first in row "
            f"{first}; remove these rows."
        )
    return dimension


def open_vectors(
    location: str, root: Path, options: SourceOptions, vectors: VectorOptions
) -> VectorRows:
    """Open vectors with their pictures; see :class:`VectorRows`.

    Raises:
        UsageError: naming the file and what is wrong with it.
    """
    try:
        return VectorRows(location, root, options, vectors)
    except OSError as error:
        raise UsageError(f"Cannot read {location}: {error_text(error)}; check the file.") from error
