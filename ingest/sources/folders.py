"""Local pictures: folders, single files, and lists of paths."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, Iterator

from indexes.store.records import escaped, is_address, stored_path, unescaped
from ingest.read.images import FileBytes, read_bytes
from ingest.sources.base import (
    Found,
    Source,
    SourceOptions,
    container_of,
    looks_like_picture,
    unsupported,
)
from ingest.sources.patterns import matches
from ingest.sources.values import Value

#: Folders that systems make for themselves.
_JUNK = frozenset({"@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"})


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """The files of this machine, whose stored paths are relative to ``root``."""

    root: str

    def read(self, found: Found) -> FileBytes:
        """See :meth:`ingest.sources.base.Found.read`."""
        return read_bytes(Path(os.path.join(self.root, unescaped(found.path))))


def local_file(location: str | Path, root: Path, values: tuple[Value, ...] | None = None) -> Found:
    """One file of this machine, as it is now.

    Args:
        location: where it lies.
        root: the gallery's, for the stored path.
        values: the user's columns.
    """
    path = stored_path(location, root)
    known = unsupported(path, values)
    if known:
        return known
    try:
        about = os.lstat(location)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", "") or str(error)).lower()
        status = "vanished" if _absent(error) else "unreadable"
        return Found(path, status=status, reason=reason, values=values)
    return Found(
        path,
        about.st_size,
        about.st_mtime_ns,
        values=values,
        place=LocalFiles(str(root)),
    )


def _absent(error: Exception) -> bool:
    return isinstance(error, (FileNotFoundError, NotADirectoryError))


def is_absent(path: str, root: Path) -> bool:
    """Whether the local file of a stored path, or the one that holds it, is surely not there."""
    try:
        os.lstat(os.path.join(root, unescaped(container_of(path))))
    except (OSError, ValueError) as error:
        return _absent(error)
    return False


class Folder(Source):
    """A folder and all below it.

    Hidden and system files are passed over, links are not followed, and files whose name is not
    that of a picture are left out.
    """

    def __init__(self, location: str | Path, root: Path, options: SourceOptions):
        self._location = str(location)
        super().__init__(stored_path(os.path.abspath(location), root))
        self._root = root
        self._options = options
        self._files = LocalFiles(str(root))

    def scan(self) -> Iterator[Found]:
        """Walk the folder in name order."""
        self.complete = True
        prefix = "" if self.name == "." else self.name.rstrip("/") + "/"
        yield from self._walk(self._location, prefix, "")

    def _walk(self, location: str, prefix: str, below: str) -> Iterator[Found]:
        try:
            with os.scandir(location) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.complete = False
            reason = (error.strerror or str(error)).lower()
            yield Found(prefix.rstrip("/") or ".", status="unreadable", reason=reason)
            return
        include, exclude = self._options.include, self._options.exclude
        for entry in ordered:
            name = entry.name
            if name.startswith(".") or name in _JUNK:
                continue
            inner = below + name
            if exclude and matches(inner, exclude):
                continue
            path = prefix + escaped(name)
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(entry.path, path + "/", inner + "/")
            elif looks_like_picture(name) and (not include or matches(inner, include)):
                yield self._look(entry, path)

    def _look(self, entry: os.DirEntry[str], path: str) -> Found:
        known = unsupported(path)
        if known:
            return known
        try:
            about = entry.stat(follow_symlinks=False)
        except OSError as error:
            status = "vanished" if _absent(error) else "unreadable"
            return Found(path, status=status, reason=(error.strerror or str(error)).lower())
        return Found(path, about.st_size, about.st_mtime_ns, place=self._files)

    def covers(self, path: str) -> bool:
        """The folder and everything below it."""
        if self.name == ".":
            return not path.startswith("/") and not is_address(path)
        return path == self.name or path.startswith(self.name.rstrip("/") + "/")

    def gone(self, path: str) -> str:
        """A file that was passed over this time, by a pattern say, is not gone."""
        if is_absent(path, self._root):
            return "there is no such file"
        # A folder is known only if it could not be looked into, which it can be now.
        folder = os.path.isdir(os.path.join(self._root, unescaped(path)))
        return "a folder" if folder and self.complete else ""


class Files(Source):
    """Local files named one by one, on the command line, by a pattern or on stdin."""

    def __init__(
        self,
        name: str,
        locations: Iterable[str],
        root: Path,
        covered: Callable[[str], bool] | None = None,
    ):
        """Look at nothing yet.

        Args:
            name: as the gallery stores it.
            locations: the files.
            root: the gallery's.
            covered: which stored paths the list would hold if they were there; only those
                listed by default.
        """
        super().__init__(name)
        self._locations = locations
        self._root = root
        self._covered = covered

    def scan(self) -> Iterator[Found]:
        """The files, in the order in which they were named; folders are searched through."""
        for location in self._locations:
            try:
                folder = stat.S_ISDIR(os.lstat(location).st_mode)
            except (OSError, ValueError):
                folder = False
            if folder:
                yield from Folder(location, self._root, SourceOptions()).scan()
            else:
                yield local_file(location, self._root)

    def covers(self, path: str) -> bool:
        """As told at the start."""
        return self._covered is not None and self._covered(path)

    def gone(self, path: str) -> str:
        """See :meth:`Folder.gone`."""
        return "there is no such file" if is_absent(path, self._root) else ""
