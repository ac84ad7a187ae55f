"""Tables in Arrow and Parquet whose cells hold the pictures or name them.

Read with pyarrow alone: what the ``datasets`` library writes to disk is Arrow files, in which a
picture is a struct of bytes and path. A picture in a cell is stored as
``data.arrow!/COLUMN/ROW``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from indexes.errors import UsageError
from indexes.store.records import inside, is_address
from ingest.read.images import MAX_BYTES, FileBytes, UnreadableImage, read_bytes
from ingest.sources.base import Found, SourceOptions
from ingest.sources.remote import open_binary, size_and_version
from ingest.sources.tables import Listing, guess_image_column
from ingest.sources.values import Value

#: Rows looked at at once while listing.
_ROWS = 1000

#: Parquet is decoded a row group at a time; the last few are kept. One lock, because several
#: threads asking for neighbouring rows shall decode their row group once.
_LOCK = Lock()


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether cells of this type hold pictures: bytes, or a struct of bytes and path."""
    if pa.types.is_struct(kind):
        names = {kind.field(number).name for number in range(kind.num_fields)}
        return "bytes" in names and pa.types.is_binary(_plain(kind.field("bytes").type))
    return bool(pa.types.is_binary(_plain(kind)))


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.binary() if pa.types.is_large_binary(kind) else kind


class CellFile:
    """One Arrow or Parquet file, open for reading by rows."""

    def __init__(self, location: str):
        """Open it.

        Raises:
            OSError: if it cannot be had.
            pa.ArrowInvalid: if it is damaged or of another kind.
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
        """The rows in order, some columns of them."""
        if self._table is not None:
            yield from self._table.select(columns).to_batches(max_chunksize=_ROWS)
        else:
            yield from self._parquet.iter_batches(batch_size=_ROWS, columns=columns)

    @property
    def cheap(self) -> bool:
        """Whether the lengths of the pictures can be had without decoding them."""
        return self._table is not None

    def cell(self, column: str, row: int) -> Any:
        """One value.

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
        if (group, column) != getattr(self, "_kept", None):
            read = self._parquet.read_row_group(group, columns=[column])
            self._kept, self._column = (group, column), read.column(column)
        return self._column


def _arrow_table(location: str) -> pa.Table:
    """Mapped into memory where it is local, so that cells are read from disk when asked for."""
    opened = pa.PythonFile(open_binary(location)) if is_address(location) else None
    source = opened or pa.memory_map(location)
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source).read_all()


@lru_cache(maxsize=4)
def opened(location: str, version: int) -> CellFile:
    """A file kept open as long as it does not change."""
    return CellFile(location)


@dataclass(frozen=True, slots=True)
class Cells:
    """The pictures in one column of one file; ``where`` of what is found is the row."""

    location: str
    column: str

    def read(self, found: Found) -> FileBytes:
        """See :meth:`ingest.sources.base.Found.read`."""
        try:
            _, version = size_and_version(self.location)
            if version != found.mtime_ns:
                raise UnreadableImage("changed", "the file was changed while it was read")
            value = opened(self.location, version).cell(self.column, found.where)
        except FileNotFoundError:
            raise UnreadableImage("vanished", "there is no such file") from None
        except (OSError, pa.ArrowException, IndexError, KeyError) as error:
            text = str(error).splitlines() or [type(error).__name__]
            raise UnreadableImage("unreadable", text[0][:200]) from None
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data and isinstance(value, dict) and value.get("path"):
            # Only named, not held: relative to the table, as everywhere.
            return self._named(found, str(value["path"]))
        if not data:
            raise UnreadableImage("empty", "the cell is empty")
        if len(data) > MAX_BYTES:
            raise UnreadableImage("too_large", f"larger than {MAX_BYTES // 2**20} MB")
        key = hashlib.sha256(data).hexdigest()
        return FileBytes(data, key, len(data), found.mtime_ns)

    def _named(self, found: Found, path: str) -> FileBytes:
        if is_address(self.location) or is_address(path):
            raise UnreadableImage("unsupported", f"the cell holds no bytes, only the path {path}")
        content = read_bytes(Path(self.location).absolute().parent / path)
        return FileBytes(content.data, content.key, content.size, found.mtime_ns)


def cell_at(path: str, location: str, values: tuple[Value, ...] | None = None) -> Found:
    """A picture of an Arrow or Parquet file by its stored path.

    Args:
        path: the stored path.
        location: of the file.
        values: the user's columns.
    """
    parts = inside(path)
    column, _, row = (parts[1] if parts else "").rpartition("/")
    try:
        _, version = size_and_version(location)
    except FileNotFoundError:
        return Found(path, status="vanished", reason="there is no such file")
    except OSError as error:
        return Found(path, status="unreadable", reason=(error.strerror or str(error)).lower())
    if not (column and row.isdigit()):
        return Found(path, status="vanished", reason="no such row")
    return Found(path, 0, version, values=values, place=Cells(location, column), where=int(row))


class CellTable(Listing):
    """A Parquet or Arrow file with a column of pictures, or of paths to them."""

    def __init__(self, location: str, root: Path, options: SourceOptions):
        super().__init__(location, root, options)
        try:
            _, self._version = size_and_version(location)
            self._file = opened(location, self._version)
        except (OSError, pa.ArrowException) as error:
            text = (str(error).splitlines() or [""])[0]
            raise UsageError(
                f"{location} cannot be read ({text}); it may be damaged or cut short, so make "
                "it again."
            ) from error
        schema = self._file.schema
        self._column = self._image_column(schema)
        self._cells = holds_bytes(schema.field(self._column).type)
        self._labels = _class_names(schema)
        others = [
            field.name
            for field in schema
            if field.name != self._column and not holds_bytes(field.type)
        ]
        for name in others:
            kind = "string" if name in self._labels else _kind_of(schema.field(name).type)
            self._known.see(name, kind)
        self.columns, self.names = self._known.settle(others)

    def _image_column(self, schema: pa.Schema) -> str:
        names = list(schema.names)
        holding = [field.name for field in schema if holds_bytes(field.type)]
        structs = [name for name in holding if pa.types.is_struct(schema.field(name).type)]
        given = self._options.image_column
        for likely in (structs, holding):
            if given is None and len(likely) == 1:
                return str(likely[0])
        return guess_image_column(names, given, self._location)

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
        number = 0
        for batch in self._file.batches([self._column, *self.names]):
            for values in batch.to_pylist():
                yield f"row {number}", self._labelled(values)
                number += 1

    def _labelled(self, values: dict[str, Any]) -> dict[str, Any]:
        for name, words in self._labels.items():
            number = values.get(name)
            if isinstance(number, int):
                # -1 is how datasets writes that a label is not known.
                values[name] = words[number] if 0 <= number < len(words) else None
        return values

    def scan(self) -> Iterator[Found]:
        """The pictures, in the order of the rows."""
        try:
            if self._cells:
                yield from self._scan_cells()
            else:
                yield from super().scan()
        except (OSError, pa.ArrowException) as error:
            self.complete = False
            text = (str(error).splitlines() or [""])[0]
            yield Found(self.name, status="damaged", reason=f"the table cannot be read on: {text}")

    def _scan_cells(self) -> Iterator[Found]:
        self.complete = True
        place = Cells(self._location, self._column)
        number = 0
        # The pictures themselves are left alone where their lengths cannot be had cheaply.
        wanted = [self._column] if self._file.cheap else []
        for batch in self._rows_of(wanted):
            sizes = self._sizes(batch)
            rows = batch.select(list(self.names)).to_pylist() if self.names else None
            for offset in range(batch.num_rows):
                path = f"{self.name}!/{self._column}/{number}"
                size = (sizes[offset] or 0) if sizes is not None else 0
                try:
                    values = self.own_values(self._labelled(rows[offset])) if rows else None
                except ValueError as error:
                    yield Found(path, status="bad_value", reason=str(error))
                else:
                    yield Found(path, size, self._version, values=values, place=place, where=number)
                number += 1

    def _rows_of(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        chosen = [*columns, *self.names]
        if chosen:
            yield from self._file.batches(chosen)
            return
        for start in range(0, self._file.rows, _ROWS):
            count = min(_ROWS, self._file.rows - start)
            yield pa.record_batch([pa.nulls(count)], names=["none"])

    def _sizes(self, batch: pa.RecordBatch) -> list[int | None] | None:
        """Lengths of the pictures, where they can be had without reading them."""
        if not self._file.cheap:
            return None
        column = batch.column(self._column)
        held = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
        lengths: list[int | None] = pc.binary_length(held).to_pylist()
        return lengths

    @property
    def lists(self) -> bool:
        """Rows that name files own them; cells are the file's own."""
        return not self._cells

    def covers(self, path: str) -> bool:
        """The cells of this file, and itself."""
        return path == self.name or super().covers(path)

    def gone(self, path: str) -> str:
        """What a whole table does not hold is gone."""
        return super().gone(path) if self.complete else ""


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The words behind numbers, as the ``datasets`` library writes them into the schema."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about["info"]["features"]
        return {
            name: [str(word) for word in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _kind_of(kind: pa.DataType) -> str:
    types = pa.types
    if types.is_dictionary(kind):
        return _kind_of(kind.value_type)
    for test, word in (
        (types.is_boolean, "bool"),
        (types.is_integer, "int"),
        (types.is_floating, "float"),
        (types.is_decimal, "float"),
        (types.is_date, "date"),
        (types.is_timestamp, "time"),
    ):
        if test(kind):
            return word
    return "string"
