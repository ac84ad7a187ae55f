"""Reads text tables of any program: CSV with any separator, and JSON Lines.

Every command that takes a table reads it here: the sources of ``cies ingest``, and the labels and
triplets of ``cies eval`` and the benchmarks.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from indexes.errors import UsageError
from ingest.read.images import error_text
from ingest.sources.remote import open_binary

#: A row as it is read: its name for messages, and its values by column, or why it has none.
Row = tuple[str, dict[str, Any] | str]

#: Separators of columns; the one that is most frequent in the first line is taken.
_SEPARATORS = ",;\t|"

#: A first line in which Excel names the separator.
_NAMED_SEPARATOR = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*', re.IGNORECASE)

_HALF = re.compile("[\ud800-\udfff]")
_QUOTED = re.compile(r'"[^"]*"')


def open_text(location: str) -> io.TextIOWrapper:
    """Open a text table in UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        UsageError: if it cannot be opened.
    """
    try:
        stream = open_binary(location)
        start = stream.read(2)
        stream.seek(0)
    except OSError as error:
        raise UsageError(f"Cannot read {location}: {error_text(error)}; check the path.") from error
    encoding = "utf-8-sig"
    if start in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif len(start) == 2 and 0 in start and any(start):
        # The first character of a table is not NUL, and most likely ASCII.
        encoding = "utf-16-be" if start[0] == 0 else "utf-16-le"
    return io.TextIOWrapper(stream, encoding=encoding, newline="")


def _not_text(location: str, line: int, error: UnicodeError) -> UsageError:
    reason = getattr(error, "reason", error)
    return UsageError(
        f"{location} is not text in UTF-8 (line {line + 1} or later: {reason}); save it as UTF-8."
    )


class _Lines:
    """The lines of a file, for a CSV reader.

    Attributes:
        last: the last line that the reader asked for.
        ended: whether it asked for more than there are, as it does only inside quotation marks.
    """

    def __init__(self, file: io.TextIOWrapper):
        self._file = file
        self.last = ""
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            self.ended = True
            raise StopIteration
        self.last = line
        return line


class DelimitedText:
    """A table whose first line names the columns, separated by ``,``, ``;``, ``|`` or tab.

    Empty lines, a line ``sep=;`` and spaces around names and values are skipped, and so are
    columns without a name.

    Attributes:
        location: where it is.
        columns: the names of the columns; empty if the table is.
    """

    def __init__(self, location: str):
        """Read the first line.

        Raises:
            UsageError: if the table cannot be read, or names a column twice.
        """
        self.location = location
        self._tabs = location.lower().endswith(".tsv")
        _, header = next(self._lines(), (0, []))
        if isinstance(header, str):
            raise UsageError(f"The first line of {location} is not that of a table: {header}.")
        self._header = [name.strip() for name in header]
        self.columns = [name for name in self._header if name]
        repeated = [name for name in self.columns if self.columns.count(name) > 1]
        if repeated:
            raise UsageError(
                f"{location} names the column '{repeated[0]}' twice; rename one of them."
            )

    def rows(self) -> Iterator[Row]:
        """The rows after the first line, with texts as values."""
        lines = self._lines()
        next(lines, None)
        wanted = len(self._header)
        for number, row in lines:
            if isinstance(row, str):
                yield f"line {number}", row
                continue
            if len(row) != wanted:
                reason = f"{wanted} values are expected, as in the first line, not {len(row)}"
                yield f"line {number}", reason
                continue
            texts = zip(self._header, row, strict=True)
            yield f"line {number}", {name: text.strip() for name, text in texts if name}

    def _lines(self) -> Iterator[tuple[int, list[str] | str]]:
        """All lines that are not empty, with their numbers: the cells, or why there are none. The
        first is the header.
        """
        line = 0
        with open_text(self.location) as file:
            try:
                skipped, separator = self._start(file)
                line = skipped
                source = _Lines(file)
                reader = csv.reader(source, delimiter=separator, skipinitialspace=separator != " ")
                while True:
                    first = skipped + reader.line_num + 1
                    try:
                        row = next(reader)
                    except StopIteration:
                        return
                    except csv.Error as error:
                        # The reader goes on at the next line, so that a cell costs one row.
                        line = skipped + reader.line_num
                        if line > first or source.last.count('"') % 2:
                            raise self._open_quote(first) from error
                        yield line, f"not valid CSV ({error})"
                        continue
                    line = skipped + reader.line_num
                    if source.ended:
                        raise self._open_quote(first)
                    if any(text.strip() for text in row):
                        yield line, row
            except UnicodeError as error:
                raise _not_text(self.location, line, error) from error

    def _open_quote(self, line: int) -> UsageError:
        return UsageError(
            f"{self.location} is not a valid CSV file: a quotation mark in line {line} is not "
            "closed, so that the rows after it cannot be told apart; close it."
        )

    def _start(self, file: io.TextIOWrapper) -> tuple[int, str]:
        """Move a file to its header; returns the number of lines before, and the separator."""
        skipped, named = 0, ""
        start = file.tell()
        while text := file.readline():
            found = _NAMED_SEPARATOR.fullmatch(text)
            if found and not named:
                named = found[1]
            elif text.strip():
                break
            skipped += 1
            start = file.tell()
        file.seek(start)
        if self._tabs:
            return skipped, "\t"
        unquoted = _QUOTED.sub("", text)
        return skipped, named or max(_SEPARATORS, key=unquoted.count)


def json_lines(location: str) -> Iterator[Row]:
    """The rows of a file with one JSON object on each line.

    Raises:
        UsageError: if the file cannot be read.
    """
    number = 0
    with open_text(location) as file:
        try:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield f"line {number}", f"not JSON: {error}"
                    continue
                if not isinstance(values, dict):
                    yield f"line {number}", "a JSON object is expected"
                elif any(map(_HALF.search, values)):
                    yield f"line {number}", "a name holds half of a character (a lone surrogate)"
                else:
                    values.pop("", None)  # As in CSV, a column without a name is skipped.
                    yield f"line {number}", values
        except UnicodeError as error:
            raise _not_text(location, number, error) from error
