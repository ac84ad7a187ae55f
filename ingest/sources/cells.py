"""Arrow and Parquet tables whose cells contain pictures or name picture files.

Read with pyarrow alone: the ``datasets`` library writes Arrow files to disk, in which a picture is
a struct of bytes and path. The stored path of a picture in a cell is ``data.arrow!/COLUMN/ROW``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from indexes.errors import UsageError
from indexes.store.records import inside, is_address
from ingest.read.images import FileBytes, UnreadableImage, error_text, file_bytes, read_bytes
from ingest.sources.base import SourceFile, SourceOptions
from ingest.sources.remote import first_line, open_binary, size_and_version
from ingest.sources.tables import TableSource, guess_image_column
from ingest.sources.text_tables import Row
from ingest.sources.values import UnusableCell

#: Rows read at once while listing.
_ROWS = 1000

#: Parquet is decoded one row group at a time and the last column of one is cached. One lock for
#: all files, so that threads which read neighbouring rows decode their row group once.
_LOCK = Lock()


def contains_pictures(kind: pa.DataType) -> bool:
    """Whether cells of this type contain pictures: bytes, or a struct of bytes and path."""
    if pa.types.is_struct(kind):
        names = {kind.field(number).name for number in range(kind.num_fields)}
        return "bytes" in names and _is_binary(kind.field("bytes").type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


class CellFile:
    """One Arrow or Parquet file, open for reading rows."""

    def __init__(self, location: str):
        """Open the file.

        Raises:
            OSError: if it cannot be opened.
            pa.ArrowInvalid: if it is damaged or of another format.
        """
        self.location = location
        self._parquet: Any = None
        self._table: pa.Table | None = None
        if location.lower().endswith(".arrow"):
            self._table = _arrow_table(location)
            self.schema = self._table.schema
            self.rows = self._table.num_rows
        else:
            from pyarrow import parquet

            self._parquet = parquet.ParquetFile(
                location if not is_address(location) else pa.PythonFile(open_binary(location))
            )
            self.schema = self._parquet.schema_arrow
            about = self._parquet.metadata
            counts = [about.row_group(n).num_rows for n in range(about.num_row_groups)]
            self._ends = [sum(counts[: n + 1]) for n in range(len(counts))]
            self.rows = about.num_rows

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """All rows in order, with some of their columns."""
        if self._table is not None:
            yield from self._table.select(columns).to_batches(max_chunksize=_ROWS)
        else:
            yield from self._parquet.iter_batches(batch_size=_ROWS, columns=columns)

    @property
    def has_cheap_sizes(self) -> bool:
        """Whether the sizes of the pictures can be read without decoding the pictures."""
        return self._table is not None

    def cell(self, column: str, row: int) -> Any:
        """The value of one cell.

        Raises:
            IndexError: if there is no such row.
        """
        if not 0 <= row < self.rows:
            raise IndexError(row)
        if self._table is not None:
            return self._table.column(column)[row].as_py()
        group = next(n for n, end in enumerate(self._ends) if row < end)
        start = self._ends[group - 1] if group else 0
        with _LOCK:
            return self._group(group, column)[row - start].as_py()

    def _group(self, group: int, column: str) -> pa.ChunkedArray:
        if (group, column) != getattr(self, "_cached", None):
            read = self._parquet.read_row_group(group, columns=[column])
            self._cached, self._column = (group, column), read.column(column)
        return self._column


def _arrow_table(location: str) -> pa.Table:
    """Open an Arrow file; a local one is memory-mapped, so cells are read from disk on demand."""
    remote = is_address(location)
    source = pa.PythonFile(open_binary(location)) if remote else pa.memory_map(location)
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source).read_all()


@lru_cache(maxsize=4)
def open_cells(location: str, version: int) -> CellFile:
    """Open a file, or return the one that is already open if its version is the same."""
    return CellFile(location)


@dataclass(frozen=True, slots=True)
class CellReader:
    """Reads the pictures in one column of one file; a file's ``position`` is the row."""

    location: str
    column: str

    def read(self, file: SourceFile) -> FileBytes:
        """See :meth:`ingest.sources.base.SourceFile.read`."""
        try:
            _, version = size_and_version(self.location)
            if version != file.mtime_ns:
                raise UnreadableImage("changed", "the file was changed while it was read")
            value = open_cells(self.location, version).cell(self.column, file.position)
        except FileNotFoundError:
            raise UnreadableImage("vanished", "there is no such file") from None
        except (OSError, pa.ArrowException, IndexError, KeyError) as error:
            raise UnreadableImage("unreadable", first_line(error)) from None
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data and isinstance(value, dict) and value.get("path"):
            return self._named_file(file, str(value["path"]))
        if not data:
            raise UnreadableImage("empty", "the cell is empty")
        return file_bytes(data, file.mtime_ns)

    def _named_file(self, file: SourceFile, path: str) -> FileBytes:
        """The file that a cell without bytes names, relative to the table."""
        if is_address(self.location) or is_address(path):
            raise UnreadableImage("unsupported", f"the cell holds no bytes, only the path {path}")
        folder = os.path.dirname(os.path.abspath(self.location))
        named = os.path.normpath(os.path.join(folder, path))
        if not os.path.isabs(path) and not named.startswith(folder.rstrip(os.sep) + os.sep):
            raise UnreadableImage("refused", f"the path {path} leaves the folder of the table")
        content = read_bytes(Path(named))
        return FileBytes(content.data, content.key, content.size, file.mtime_ns)


def table_cell(path: str, location: str) -> SourceFile:
    """Look up a picture of an Arrow or Parquet file.

    Args:
        path: its stored path.
        location: the location of the file.
    """
    parts = inside(path)
    column, _, row = (parts[1] if parts else "").rpartition("/")
    try:
        _, version = size_and_version(location)
    except FileNotFoundError:
        return SourceFile(path, status="vanished", reason="there is no such file")
    except OSError as error:
        return SourceFile(path, status="unreadable", reason=error_text(error))
    if not (column and row.isdigit()):
        return SourceFile(path, status="vanished", reason="no such row")
    reader = CellReader(location, column)
    return SourceFile(path, 0, version, reader=reader, position=int(row))


class CellTable(TableSource):
    """A Parquet or Arrow file with a column of pictures, or of paths of picture files."""

    def __init__(self, location: str, root: Path, options: SourceOptions):
        super().__init__(location, root, options)
        try:
            _, self._version = size_and_version(location)
            self._cells = open_cells(location, self._version)
        except (OSError, pa.ArrowException) as error:
            raise UsageError(
                f"{location} cannot be read ({first_line(error)}); it may be damaged or cut short, "
                "so make it again."
            ) from error
        schema = self._cells.schema
        self._column = self._image_column(schema)
        self._has_pictures = contains_pictures(schema.field(self._column).type)
        self._class_names = _class_names(schema)
        others = [
            field.name
            for field in schema
            if field.name != self._column and not contains_pictures(field.type)
        ]
        for name in others:
            kind = _column_type(schema.field(name).type)
            if name in self._class_names or self._has_large_numbers(schema.field(name)):
                kind = "string"
            self._types.observe(name, kind)
        self.columns, self.column_names = self._types.resolve(others)

    def _has_large_numbers(self, field: pa.Field) -> bool:
        """Whether a column has whole numbers that only 64 bits without a sign hold, as hashes."""
        if not pa.types.is_uint64(field.type):
            return False
        batches = self._cells.batches([field.name])
        highest = (pc.max(batch.column(0)).as_py() for batch in batches)
        return any(number is not None and number >= 2**63 for number in highest)

    def _image_column(self, schema: pa.Schema) -> str:
        names = list(schema.names)
        pictures = [field.name for field in schema if contains_pictures(field.type)]
        structs = [name for name in pictures if pa.types.is_struct(schema.field(name).type)]
        given = self._options.image_column
        for likely in (structs, pictures):
            if given is None and len(likely) == 1:
                return str(likely[0])
        return guess_image_column(names, given, self._location)

    def _rows(self) -> Iterator[Row]:
        number = 0
        for batch in self._cells.batches([self._column, *self.column_names]):
            for values in readable_rows(batch):
                yield f"row {number}", self._with_class_names(values)
                number += 1

    def _with_class_names(self, values: dict[str, Any]) -> dict[str, Any]:
        """Replace label numbers by class names, in place."""
        for name, classes in self._class_names.items():
            number = values.get(name)
            if isinstance(number, int):
                # The datasets library stores an unknown label as -1.
                values[name] = classes[number] if 0 <= number < len(classes) else None
        return values

    def scan(self) -> Iterator[SourceFile]:
        """The pictures, in the order of the rows."""
        try:
            yield from self._scan_cells() if self._has_pictures else super().scan()
        except (OSError, pa.ArrowException) as error:
            self.complete = False
            reason = f"the rest of the table cannot be read: {first_line(error)}"
            yield SourceFile(self.name, status="damaged", reason=reason)

    def _scan_cells(self) -> Iterator[SourceFile]:
        self.complete = True
        reader = CellReader(self._location, self._column)
        number = 0
        # The column of pictures is read only if their sizes need no decoding.
        pictures = [self._column] if self._cells.has_cheap_sizes else []
        for batch in self._batches([*pictures, *self.column_names]):
            sizes = self._sizes(batch) if pictures else [None] * batch.num_rows
            names = list(self.column_names)
            rows = readable_rows(batch.select(names)) if names else [None] * batch.num_rows
            for size, row in zip(sizes, rows, strict=True):
                path = f"{self.name}!/{self._column}/{number}"
                try:
                    values = self.typed_values(self._with_class_names(row)) if row else None
                except ValueError as error:
                    yield SourceFile(path, status="bad_value", reason=str(error))
                else:
                    yield SourceFile(
                        path,
                        size or 0,
                        self._version,
                        values=values,
                        reader=reader,
                        position=number,
                    )
                number += 1

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows; batches of empty rows if there is no column."""
        if columns:
            yield from self._cells.batches(columns)
            return
        for start in range(0, self._cells.rows, _ROWS):
            count = min(_ROWS, self._cells.rows - start)
            yield pa.record_batch([pa.nulls(count)], names=["none"])

    def _sizes(self, batch: pa.RecordBatch) -> list[int | None]:
        """Bytes of each picture; ``None`` for an empty cell."""
        column = batch.column(self._column)
        data = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
        sizes: list[int | None] = pc.binary_length(data).to_pylist()
        return sizes

    @property
    def owns_named_files(self) -> bool:
        """Whether the rows name files; pictures in cells are part of the table anyway."""
        return not self._has_pictures

    def covers(self, path: str) -> bool:
        """The cells of this file, and the file itself."""
        return path == self.name or super().covers(path)

    def reason_gone(self, path: str) -> str:
        """A picture is gone if a complete table does not contain it."""
        return super().reason_gone(path) if self.complete else ""


def readable_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch as Python values; a cell that has none is an :class:`UnusableCell`.

    Times and durations in nanoseconds are cut to whole microseconds, which is what Python and the
    gallery hold.
    """
    columns = {
        field.name: _readable_cells(batch.column(number))
        for number, field in enumerate(batch.schema)
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _readable_cells(column: pa.Array) -> list[Any]:
    """The cells of a column as Python values."""
    column = _in_microseconds(column)
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, ArithmeticError, pa.ArrowException):
        return [_readable_cell(cell) for cell in column]
    return values


def _readable_cell(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError, ArithmeticError, pa.ArrowException) as error:
        return UnusableCell(first_line(error))


def _in_microseconds(column: pa.Array) -> pa.Array:
    """A column of nanoseconds in microseconds, and of local times in UTC; any other as it is."""
    kind = _type_in_microseconds(column.type)
    if kind == column.type:
        return column
    try:
        return column.cast(kind, safe=False)
    except pa.ArrowException:
        return column


def _type_in_microseconds(kind: pa.DataType) -> pa.DataType:
    """A type with microseconds in place of nanoseconds, inside lists and structs too.

    Times of any time zone are in UTC, as Arrow stores them: the zone may be one that this machine
    does not know.
    """
    types = pa.types
    if types.is_dictionary(kind):
        inner = _type_in_microseconds(kind.value_type)
        return kind if inner == kind.value_type else inner
    if types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return pa.struct([field.with_type(_type_in_microseconds(field.type)) for field in fields])
    if types.is_list(kind) or types.is_large_list(kind):
        make = pa.list_ if types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_type_in_microseconds(kind.value_type)))
    if types.is_timestamp(kind):
        return pa.timestamp("us" if kind.unit == "ns" else kind.unit, "UTC" if kind.tz else None)
    if getattr(kind, "unit", "") != "ns":
        return kind
    if types.is_duration(kind):
        return pa.duration("us")
    return pa.time64("us") if types.is_time64(kind) else kind


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Class names by column and label number, which ``datasets`` stores in the schema."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about["info"]["features"]
        return {
            name: [str(label) for label in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _column_type(kind: pa.DataType) -> str:
    """The type of a user's column, one of :data:`indexes.store.attributes.TYPES`."""
    types = pa.types
    if types.is_dictionary(kind):
        return _column_type(kind.value_type)
    for test, name in (
        (types.is_boolean, "bool"),
        (types.is_integer, "int"),
        (types.is_floating, "float"),
        (types.is_decimal, "float"),
        (types.is_date, "date"),
        (types.is_timestamp, "time"),
    ):
        if test(kind):
            return name
    return "string"
