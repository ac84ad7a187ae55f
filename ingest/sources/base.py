"""The interface of every source of pictures, and the files that a source lists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Protocol

from indexes.store.records import inside, is_address
from ingest.read.formats import SUFFIXES, UNSUPPORTED
from ingest.read.images import FileBytes, UnreadableImage
from ingest.sources.values import Value, convert

#: Why an entry of a source is left out, as :attr:`Source.left_out` counts it; a file whose name is
#: not that of a picture is counted by its suffix.
HIDDEN, LINK, PATTERN, PATTERN_FOLDER = "hidden", "link to a folder", "pattern", "excluded folder"
HIDDEN_FOLDER = "hidden folder"


class FileReader(Protocol):
    """Reads the bytes of files of one source; small, and can be pickled to another process."""

    def read(self, file: SourceFile) -> FileBytes:
        """See :meth:`SourceFile.read`."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A picture file that a source lists, or an entry that should be one and is unusable.

    Attributes:
        path: the path stored in the gallery; the same at every scan.
        size: bytes; 0 if that is not known before reading.
        mtime_ns: time of the last change, nanoseconds since 1970, or any number that changes with
            the content; 0 if nothing of the kind is known.
        status: empty if it can be read, else an outcome code.
        reason: explains ``status`` to people.
        values: the user's columns, in the order of the source's ``columns``.
        further: the same of further rows of the source that name this file.
        reader: reads the bytes; ``None`` with a ``status``.
        position: tells the reader where the bytes are: an offset or a row number.
    """

    path: str
    size: int = 0
    mtime_ns: int = 0
    status: str = ""
    reason: str = ""
    values: tuple[Value, ...] | None = None
    further: tuple[tuple[Value, ...], ...] = ()
    reader: FileReader | None = None
    position: int = 0

    def read(self) -> FileBytes:
        """Read the bytes once; also returns their key, and the size and time to store.

        Works in any thread and, after pickling, in any process.

        Raises:
            UnreadableImage: with the outcome code and the reason.
        """
        if self.status or self.reader is None:
            raise UnreadableImage(self.status or "unreadable", self.reason)
        return self.reader.read(self)


@dataclass(frozen=True)
class SourceOptions:
    """Options for reading sources.

    Attributes:
        include: ``.gitignore`` patterns; if there are any, only files that match are taken.
        exclude: ``.gitignore`` patterns of files and folders that are left out.
        image_column: the column of a table that names or contains the picture; guessed if only
            one column can be meant.
        root: the folder or address that a table's paths are relative to; the table's own folder
            by default.
        columns: the user's columns to store, each ``NAME`` or ``NAME:TYPE``; all by default.
        null: whether the paths on stdin end in NUL instead of a newline.
        allow_remote: whether a table's rows may name addresses of remote systems.
        allow_outside: whether relative paths of a table may leave ``root``.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    image_column: str | None = None
    root: str | None = None
    columns: tuple[str, ...] | None = None
    null: bool = False
    allow_remote: bool = False
    allow_outside: bool = False

    def to_json(self) -> dict[str, Any]:
        """The options that differ from the defaults, as a gallery stores them."""
        default = SourceOptions()
        changed = {k: v for k, v in vars(self).items() if v != getattr(default, k)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in changed.items()}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> SourceOptions:
        """The inverse of :meth:`to_json`; unknown options are ignored."""
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in entry.items()
            if name in cls.__dataclass_fields__
        }
        return cls(**options)


class Source(ABC):
    """Something that lists pictures.

    Attributes:
        name: as the gallery stores it and messages show it.
        columns: the user's columns: the gallery's column name to the type, one of
            :data:`indexes.store.attributes.TYPES`. A type may be widened between two scans.
        column_names: the user's column names to the gallery's.
        reason: why the source cannot be reached, or empty.
        complete: whether the last scan saw everything; if not, no file counts as gone.
        left_out: what the last scan left out without a record of its own: a reason, or the suffix
            of files that are not pictures by their names, to how many entries.
    """

    def __init__(self, name: str):
        self.name = name
        self.columns: dict[str, str] = {}
        self.column_names: dict[str, str] = {}
        self.complete = True
        self.reason = ""
        self.left_out: Counter[str] = Counter()

    def leave_out(self, name: str, reason: str = "") -> None:
        """Count an entry that is left out.

        Args:
            name: its name.
            reason: one of :data:`HIDDEN`, :data:`LINK` and :data:`PATTERN`; by default its name
                is not that of a picture. Of the others only pictures by their names are counted.
        """
        if not reason:
            self.left_out[suffix_of(name)] += 1
        elif reason == LINK or has_picture_suffix(name):
            self.left_out[reason] += 1

    @abstractmethod
    def scan(self) -> Iterator[SourceFile]:
        """All files of the source, in the same order at every scan."""

    def covers(self, path: str) -> bool:
        """Whether a scan would list this stored path if the file existed."""
        return False

    def reason_gone(self, path: str) -> str:
        """Why a covered path that the scan did not list is gone; empty if it is not gone."""
        return "no longer in " + self.name

    def typed_values(self, values: Mapping[str, Any]) -> tuple[Value, ...]:
        """The user's columns of one row, converted to the columns' types.

        Args:
            values: by the user's column names.

        Raises:
            ValueError: naming the column whose value is not of its type.
        """
        row: list[Value] = []
        for name, stored in self.column_names.items():
            try:
                row.append(convert(values.get(name), self.columns[stored]))
            except (ValueError, TypeError, OverflowError) as error:
                raise ValueError(f"column '{name}': {error}") from error
        return tuple(row)

    @property
    def owns_named_files(self) -> bool:
        """Whether files belong to the source because a row names them, wherever they are."""
        return False


class MissingSource(Source):
    """A source that was ingested before and cannot be reached now; none of its files is gone."""

    def __init__(self, name: str, reason: str = "is not there"):
        super().__init__(name)
        self.reason = reason
        self.complete = False

    def scan(self) -> Iterator[SourceFile]:
        """No files."""
        return iter(())

    def covers(self, path: str) -> bool:
        """The source itself and every path below or inside it."""
        if self.name == ".":  # The gallery's own root: all relative paths.
            return not path.startswith("/") and not is_address(path)
        return path.startswith((self.name.rstrip("/") + "/", self.name + "!/")) or (
            path == self.name
        )


def has_picture_suffix(name: str) -> bool:
    """Whether a file name ends like a picture's, of a format that is read or not."""
    suffix = suffix_of(name)
    return suffix in SUFFIXES or suffix in UNSUPPORTED


def suffix_of(name: str) -> str:
    """The suffix of a name in lower case, with its dot; empty if there is none."""
    stem, dot, end = name.rpartition(".")
    return dot + end.lower() if stem and "/" not in end else ""


def unsupported(path: str, values: tuple[Value, ...] | None = None) -> SourceFile | None:
    """The outcome for a known format that is not read; ``None`` for any other format."""
    reason = UNSUPPORTED.get(suffix_of(path))
    return SourceFile(path, status="unsupported", reason=reason, values=values) if reason else None


def container_of(path: str) -> str:
    """The file on disk behind a stored path: the file itself, or the archive or table around it."""
    parts = inside(path)
    return parts[0] if parts else path
