"""What every source of pictures is, and what it finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Protocol

from indexes.store.records import inside
from ingest.read.images import SUFFIXES, UNSUPPORTED, FileBytes, UnreadableImage
from ingest.sources.values import Value, converted


class Place(Protocol):
    """Where the bytes of what was found lie; small, and can be sent to another process."""

    def read(self, found: Found) -> FileBytes:
        """See :meth:`Found.read`."""


@dataclass(frozen=True, slots=True)
class Found:
    """A picture file, or something that should be one and cannot be had.

    Attributes:
        path: as the gallery stores it; the same at every scan.
        size: bytes, or 0 where that is not known before reading.
        mtime_ns: time of last change, nanoseconds since 1970, or any number that changes with the
            content; 0 where nothing of the kind is known.
        status: empty if it can be read as far as one sees, else an outcome code.
        reason: for people, with ``status``.
        values: the user's columns, in the order of the source's ``columns``.
        place: what reads it.
        where: a number that helps ``place`` find it: an offset or a row.
    """

    path: str
    size: int = 0
    mtime_ns: int = 0
    status: str = ""
    reason: str = ""
    values: tuple[Value, ...] | None = None
    place: Place | None = None
    where: int = 0

    def read(self) -> FileBytes:
        """The bytes, read once, with their key and the size and time to remember.

        Works in any thread and, after pickling, in any process.

        Raises:
            UnreadableImage: with the outcome code and the reason.
        """
        if self.status or self.place is None:
            raise UnreadableImage(self.status or "unreadable", self.reason)
        return self.place.read(self)


@dataclass(frozen=True)
class SourceOptions:
    """How sources are to be read.

    Attributes:
        include: name patterns; if there are any, only files that match one are taken.
        exclude: name patterns of files and folders that are passed over.
        image_column: the column of tables that names or holds the picture; guessed if obvious.
        root: the folder or address that a table's paths are relative to; the table's own by
            default.
        columns: the user's columns to take, each ``NAME`` or ``NAME:TYPE``; all by default.
        null: whether the paths on stdin end in NUL and not in newline.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    image_column: str | None = None
    root: str | None = None
    columns: tuple[str, ...] | None = None
    null: bool = False

    def to_json(self) -> dict[str, Any]:
        """What a gallery remembers: those that differ from the defaults."""
        default = SourceOptions()
        kept = {k: v for k, v in vars(self).items() if v != getattr(default, k)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in kept.items()}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> SourceOptions:
        """The inverse of :meth:`to_json`."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in entry.items()
            if name in cls.__dataclass_fields__
        }
        return cls(**known)


class Source(ABC):
    """Something that lists pictures.

    Attributes:
        name: as the gallery stores it and people read it.
        columns: the user's columns it brings: the gallery's name to type, one of
            :data:`indexes.store.attributes.TYPES`. A type may be widened between two scans.
        names: the user's names of these columns to the gallery's.
        reason: why it cannot be reached, or empty.
        complete: whether the last scan saw all there is; if not, nothing is called gone.
    """

    def __init__(self, name: str):
        self.name = name
        self.columns: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.complete = True
        self.reason = ""

    @abstractmethod
    def scan(self) -> Iterator[Found]:
        """Everything there is, in an order that is the same at every scan."""

    def covers(self, path: str) -> bool:
        """Whether a scan would list this stored path if it were there."""
        return False

    def gone(self, path: str) -> str:
        """Why a path that is covered and was not listed is gone; empty if it is not gone."""
        return "no longer in " + self.name

    def own_values(self, values: Mapping[str, Any]) -> tuple[Value, ...]:
        """One row's values of the user's columns.

        Args:
            values: by the user's names.

        Raises:
            ValueError: naming the column whose value is not of its type.
        """
        own: list[Value] = []
        for name, stored in self.names.items():
            try:
                own.append(converted(values.get(name), self.columns[stored]))
            except (ValueError, TypeError, OverflowError) as error:
                raise ValueError(f"column '{name}': {error}") from error
        return tuple(own)

    @property
    def lists(self) -> bool:
        """Whether pictures belong to this source because it names them, wherever they lie."""
        return False


class Missing(Source):
    """A source that was ingested before and cannot be reached now; nothing in it is gone."""

    def __init__(self, name: str, reason: str = "is not there"):
        super().__init__(name)
        self.reason = reason
        self.complete = False

    def scan(self) -> Iterator[Found]:
        """Nothing."""
        return iter(())

    def covers(self, path: str) -> bool:
        """All that lies below or in it."""
        return path.startswith((self.name.rstrip("/") + "/", self.name + "!/")) or (
            path == self.name
        )


def looks_like_picture(name: str) -> bool:
    """Whether a file name is that of a picture, read or not."""
    suffix = suffix_of(name)
    return suffix in SUFFIXES or suffix in UNSUPPORTED


def suffix_of(name: str) -> str:
    """The lower-case end of a name from its last dot on."""
    stem, dot, end = name.rpartition(".")
    return dot + end.lower() if stem and "/" not in end else ""


def unsupported(path: str, values: tuple[Value, ...] | None = None) -> Found | None:
    """The outcome for a format that is known and not read, or ``None`` for any other."""
    reason = UNSUPPORTED.get(suffix_of(path))
    return Found(path, status="unsupported", reason=reason, values=values) if reason else None


def container_of(path: str) -> str:
    """The file on disk that a stored path leads to: itself, or the one that holds it."""
    parts = inside(path)
    return parts[0] if parts else path
