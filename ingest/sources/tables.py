"""Tables that name picture files, with the user's columns: CSV, TSV and JSONL."""

from __future__ import annotations

import csv
import io
import json
import os
from abc import abstractmethod
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping

from indexes.errors import UsageError
from indexes.store.records import inside, is_address, stored_path
from ingest.read.images import error_text
from ingest.sources.base import Source, SourceFile, SourceOptions
from ingest.sources.folders import is_absent, local_file
from ingest.sources.remote import open_binary, remote_file
from ingest.sources.values import ColumnTypes, json_type, text_type

#: Columns that are taken to name the picture, if a table has exactly one of them.
IMAGE_COLUMNS = frozenset(
    "file path image img picture photo image_path file_path filename file_name image_file "
    "filepath image_filename".split()
)


def guess_image_column(columns: Iterable[str], given: str | None, name: str) -> str:
    """The column that names or contains the picture.

    Args:
        columns: the table's columns.
        given: the column named by the user, or ``None``.
        name: the name of the table, for messages.

    Raises:
        UsageError: if that column does not exist, or none was named and the choice is unclear.
    """
    existing = list(columns)
    listed = ", ".join(existing) or "none"
    if given is not None:
        if given in existing:
            return given
        raise UsageError(
            f"{name} has no column '{given}' (it has: {listed}); correct --image-column."
        )
    likely = [c for c in existing if c.strip().casefold().replace(" ", "_") in IMAGE_COLUMNS]
    if len(likely) != 1:
        why = f"both {' and '.join(likely)} could" if likely else "none clearly does"
        raise UsageError(
            f"Which column of {name} names the picture? Of {listed}, {why}; name it with "
            "--image-column."
        )
    return likely[0]


def row_name(table: str, row: str) -> str:
    """The path under which a row that names no file is reported as a failure."""
    return f"{table}!/{row}"


class TableSource(Source):
    """A table whose rows name picture files anywhere.

    A row that cannot be used is reported as a failure named after the table and the row.
    """

    def __init__(self, location: str, root: Path, options: SourceOptions):
        """Read through the table once to find its columns and their types.

        Raises:
            UsageError: if the table cannot be read or has no column with pictures.
        """
        super().__init__(location if is_address(location) else stored_path(location, root))
        self._location = location
        self._root = root
        self._options = options
        base = options.root or _folder_of(location)
        self._base = base if is_address(base) else os.path.abspath(base)
        self._column = ""
        self._types = ColumnTypes(location, options.columns)

    @abstractmethod
    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
        """The name of every row with its values by column, or with the reason if it has none."""

    @property
    def owns_named_files(self) -> bool:
        """True: files belong to the table that names them."""
        return True

    def scan(self) -> Iterator[SourceFile]:
        """The files that the rows name, in the order of the rows."""
        self.complete = True
        seen: dict[str, int] = {}
        for row, values in self._rows():
            if isinstance(values, str):
                yield SourceFile(row_name(self.name, row), status="bad_row", reason=values)
                continue
            file = self._file(row, values)
            row_hash = hash(file.values)
            if seen.setdefault(file.path, row_hash) != row_hash:
                yield SourceFile(
                    row_name(self.name, row),
                    status="repeated",
                    reason=f"names {file.path} again, with other values; the first row counts",
                )
            else:
                yield file

    def _file(self, row: str, values: Mapping[str, Any]) -> SourceFile:
        failure = row_name(self.name, row)
        given = values.get(self._column)
        text = given.strip() if isinstance(given, str) else given
        if not text:
            return SourceFile(failure, status="no_path", reason=f"'{self._column}' is empty")
        if not isinstance(text, str):
            return SourceFile(failure, status="no_path", reason=f"'{self._column}' holds no path")
        if "\0" in text:
            return SourceFile(failure, status="no_path", reason="the path contains a NUL character")
        try:
            typed = self.typed_values(values)
        except ValueError as error:
            return SourceFile(failure, status="bad_value", reason=str(error))
        location = text if is_address(text) else _joined(self._base, text)
        if location.startswith(("http://", "https://")) or text.startswith("data:"):
            reason = "a web address; download the pictures and name their files"
            return SourceFile(failure, status="unsupported", reason=reason)
        if location.startswith("file://"):
            location = location.removeprefix("file://")
        if is_address(location):
            return remote_file(location, typed)
        return local_file(location, self._root, typed)

    def covers(self, path: str) -> bool:
        """The rows that could not be used at an earlier scan."""
        return path.startswith(self.name + "!/")

    def reason_gone(self, path: str) -> str:
        """A picture is gone when its row or its file is gone."""
        if inside(path) is None and not is_address(path) and is_absent(path, self._root):
            return "there is no such file"
        return super().reason_gone(path)


def _folder_of(location: str) -> str:
    if is_address(location):
        return location.rpartition("/")[0]
    return os.path.dirname(os.path.abspath(location))


def _joined(base: str, path: str) -> str:
    if is_address(base):
        return base.rstrip("/") + "/" + path.removeprefix("./")
    return os.path.normpath(os.path.join(base, os.path.expanduser(path)))


def open_text(location: str) -> io.TextIOWrapper:
    """Open a text table in UTF-8 or, if it starts with a byte order mark of it, UTF-16.

    Raises:
        UsageError: if it cannot be opened.
    """
    try:
        stream = open_binary(location)
        start = stream.read(2)
        stream.seek(0)
    except OSError as error:
        raise UsageError(f"Cannot read {location}: {error_text(error)}; check the path.") from error
    encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return io.TextIOWrapper(stream, encoding=encoding, newline="")


def _not_utf8(location: str, line: int, error: UnicodeError) -> UsageError:
    reason = getattr(error, "reason", error)
    return UsageError(
        f"{location} is not text in UTF-8 (line {line + 1} or later: {reason}); save it as UTF-8."
    )


class CsvTable(TableSource):
    """A CSV or TSV file whose first line names the columns; separated by ``,``, ``;`` or tab."""

    def __init__(self, location: str, root: Path, options: SourceOptions):
        super().__init__(location, root, options)
        header: list[str] = []
        for row in self._lines():
            if not header:
                header = row
                self._check_header(header)
                self._header = header
                self._column = guess_image_column(header, options.image_column, location)
            elif len(row) == len(header):
                for name, text in zip(header, row, strict=True):
                    if name != self._column:
                        self._types.observe(name, text_type(text.strip()))
        if not header:
            raise UsageError(f"{location} is empty; its first line must name the columns.")
        for name in header:
            if name != self._column:
                self._types.observe(name, "")
        self.columns, self.column_names = self._types.resolve(
            [name for name in header if name != self._column]
        )

    def _check_header(self, header: list[str]) -> None:
        repeated = [name for name in header if header.count(name) > 1]
        if repeated:
            raise UsageError(
                f"{self._location} names the column '{repeated[0]}' twice; rename one of them."
            )

    def _lines(self) -> Iterator[list[str]]:
        """All rows that are not empty; the first is the header."""
        line = 0
        with open_text(self._location) as file:
            try:
                first = file.readline()
                file.seek(0)
                tabs = self._location.lower().endswith(".tsv")
                delimiter = "\t" if tabs else max(",;\t", key=first.count)
                reader = csv.reader(file, delimiter=delimiter)
                for row in reader:
                    line = self._line = reader.line_num
                    if row and any(row):
                        yield row
            except UnicodeError as error:
                raise _not_utf8(self._location, line, error) from error
            except csv.Error as error:
                raise UsageError(
                    f"{self._location} is not a valid CSV file (after line {line}: {error}); "
                    "correct it."
                ) from error

    _line = 0

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
        rows = self._lines()
        next(rows, None)
        for row in rows:
            name = f"line {self._line}"
            if len(row) != len(self._header):
                yield name, f"{len(row)} values where the first line names {len(self._header)}"
            else:
                yield name, dict(zip(self._header, (text.strip() for text in row), strict=True))


class JsonLines(TableSource):
    """A file with one JSON object on each line."""

    def __init__(self, location: str, root: Path, options: SourceOptions):
        super().__init__(location, root, options)
        names: dict[str, None] = {}
        for _, values in self._rows():
            if isinstance(values, dict):
                names.update(dict.fromkeys(values))
        if not names:
            raise UsageError(f"{location} contains no JSON object; write one on every line.")
        self._column = guess_image_column(names, options.image_column, location)
        names.pop(self._column)
        for _, values in self._rows():
            if isinstance(values, dict):
                for name in names:
                    self._types.observe(name, json_type(values.get(name)))
        self.columns, self.column_names = self._types.resolve(names)

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
        number = 0
        with open_text(self._location) as file:
            try:
                for number, line in enumerate(file, start=1):
                    if not line.strip():
                        continue
                    try:
                        values = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        yield f"line {number}", f"not JSON: {error}"
                        continue
                    if isinstance(values, dict):
                        yield f"line {number}", values
                    else:
                        yield f"line {number}", "a JSON object is expected"
            except UnicodeError as error:
                raise _not_utf8(self._location, number, error) from error
