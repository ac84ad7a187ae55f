"""Tables that name picture files, with the user's columns: CSV, TSV and JSONL."""

from __future__ import annotations

import os
import posixpath
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping

from indexes.errors import UsageError
from indexes.store.records import inside, is_address, stored_path
from ingest.sources.base import Source, SourceFile, SourceOptions
from ingest.sources.folders import is_absent, local_file
from ingest.sources.remote import remote_file
from ingest.sources.text_tables import DelimitedText, Row, json_lines
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
    likely = [c for c in existing if is_image_column(c)]
    if len(likely) != 1:
        why = f"both {' and '.join(likely)} could" if likely else "none clearly does"
        raise UsageError(
            f"Which column of {name} names the picture? Of {listed}, {why}; name it with "
            "--image-column."
        )
    return likely[0]


def is_image_column(name: str) -> bool:
    """Whether a column's name says that it names pictures."""
    return name.strip().casefold().replace(" ", "_") in IMAGE_COLUMNS


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
        self._refused: set[str] = set()
        self._types = ColumnTypes(location, options.columns)

    @abstractmethod
    def _rows(self) -> Iterator[Row]:
        """The name of every row with its values by column, or with the reason if it has none."""

    @property
    def owns_named_files(self) -> bool:
        """True: files belong to the table that names them."""
        return True

    def scan(self) -> Iterator[SourceFile]:
        """The files that the rows name, in the order of the rows; those that several rows with
        different values name come last, each with all its rows.
        """
        self.complete = True
        repeated = self._repeated() if self.columns else set()
        several: dict[str, SourceFile] = {}
        for row, values in self._rows():
            if isinstance(values, str):
                yield SourceFile(row_name(self.name, row), status="bad_row", reason=values)
                continue
            file = self._file(row, values)
            location = self._named_file(values)
            if location not in repeated or file.values is None:
                yield file
                continue
            first = several.setdefault(location, file)
            if file.values not in (first.values, *first.further):
                several[location] = replace(first, further=(*first.further, file.values))
        yield from several.values()

    def _repeated(self) -> set[str]:
        """The locations that more than one row names."""
        seen: set[int] = set()
        repeated: set[str] = set()
        for _, values in self._rows():
            location = "" if isinstance(values, str) else self._named_file(values)
            # A location that is not repeated takes a number in place of a text.
            number = hash(location)
            if location and number in seen:
                repeated.add(location)
            seen.add(number)
        return repeated

    def _named_file(self, values: Mapping[str, Any]) -> str:
        """The file that a row names, or an empty text."""
        given = values.get(self._column)
        text = given.strip() if isinstance(given, str) else ""
        if not text or "\0" in text:
            return ""
        return self._location_of(text)[0]

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
            os.fsencode(text)
        except UnicodeEncodeError:
            reason = "the path contains half of a character (a lone surrogate)"
            return SourceFile(failure, status="no_path", reason=reason)
        try:
            typed = self.typed_values(values)
        except ValueError as error:
            return SourceFile(failure, status="bad_value", reason=str(error))
        if text.startswith(("http://", "https://", "data:")):
            reason = "a web address; download the pictures and name their files"
            return SourceFile(failure, status="unsupported", reason=reason)
        location, reason = self._location_of(text)
        stored = location if is_address(location) else stored_path(location, self._root)
        if reason:
            self._refused.add(stored)
            return SourceFile(failure, status="refused", reason=reason)
        if is_address(location):
            return remote_file(location, typed)
        return local_file(location, self._root, typed)

    def _location_of(self, text: str) -> tuple[str, str]:
        """Where the picture that a row names is, and why it must not be read, or empty.

        A table may come from anybody, so that a row can name a picture below the table's folder,
        or ``--root``, by a relative path, and anywhere on this machine by an absolute one.
        """
        location, reason = self._named_by(text)
        if "\\" in text and os.sep == "/" and not is_address(location):
            # Programs on Windows write such paths; a name here may hold that character, too.
            other, other_reason = self._named_by(text.replace("\\", "/"))
            if not os.path.lexists(location) and os.path.lexists(other):
                return other, other_reason
        return location, reason

    def _named_by(self, text: str) -> tuple[str, str]:
        """As :meth:`_location_of`, for a path whose folders are separated by slashes."""
        text = text.removeprefix("file://")
        base = self._base
        if is_address(text) or is_address(base):
            below = base.rstrip("/") + "/" + text.removeprefix("./")
            location = text if is_address(text) else below
            scheme, _, rest = location.partition("://")
            plain = f"{scheme}://{posixpath.normpath(rest)}"
            if is_address(base) and plain.startswith(base.rstrip("/") + "/"):
                return location, ""
            reason = "it names an address; if you trust the table, read it with --allow-remote"
            return location, "" if self._options.allow_remote else reason
        named = os.path.expanduser(text)
        location = os.path.normpath(os.path.join(base, named))
        inside_base = location == base or location.startswith(base.rstrip(os.sep) + os.sep)
        if os.path.isabs(named) or inside_base or self._options.allow_outside:
            return location, ""
        return location, (
            f"it leaves the folder {base}; name the folder of all pictures with --root, or if you "
            "trust the table, read it with --allow-outside"
        )

    def covers(self, path: str) -> bool:
        """The rows that could not be used at an earlier scan."""
        return path.startswith(self.name + "!/")

    def reason_gone(self, path: str) -> str:
        """A picture is gone when its row or its file is gone, but not if its row is refused."""
        if path in self._refused:
            return ""
        if inside(path) is None and not is_address(path) and is_absent(path, self._root):
            return "there is no such file"
        return super().reason_gone(path)


def _folder_of(location: str) -> str:
    if is_address(location):
        return location.rpartition("/")[0]
    return os.path.dirname(os.path.abspath(location))


class CsvTable(TableSource):
    """A CSV or TSV file whose first line names the columns."""

    def __init__(self, location: str, root: Path, options: SourceOptions):
        super().__init__(location, root, options)
        self._text = DelimitedText(location)
        names = list(self._text.columns)
        if not names:
            raise UsageError(f"{location} is empty; its first line must name the columns.")
        self._column = guess_image_column(names, options.image_column, location)
        names.remove(self._column)
        for _, values in self._rows():
            if isinstance(values, dict):
                for name in names:
                    self._types.observe(name, text_type(values[name]))
        for name in names:
            self._types.observe(name, "")
        self.columns, self.column_names = self._types.resolve(names)

    def _rows(self) -> Iterator[Row]:
        return self._text.rows()


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

    def _rows(self) -> Iterator[Row]:
        return json_lines(self._location)
