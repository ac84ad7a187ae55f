"""Local pictures: folders, single files, and lists of paths."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, Iterator

from indexes.store.records import escaped, is_address, stored_path, unescaped
from ingest.read.images import FileBytes, read_bytes
from ingest.sources.base import (
    HIDDEN,
    HIDDEN_FOLDER,
    LINK,
    PATTERN,
    PATTERN_FOLDER,
    Source,
    SourceFile,
    SourceOptions,
    container_of,
    has_picture_suffix,
    suffix_of,
    unsupported,
)
from ingest.sources.patterns import NameFilter
from ingest.sources.values import Value

#: Folders that operating systems and devices create for themselves.
_SYSTEM_FOLDERS = frozenset(
    {"@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)


#: What is in every gallery; the folder of one has no pictures.
_GALLERY = frozenset({"gallery.json", "manifest.lance", "lock"})


@dataclass(frozen=True, slots=True)
class LocalReader:
    """Reads files of this machine; their stored paths are relative to ``root``."""

    root: str

    def read(self, file: SourceFile) -> FileBytes:
        """See :meth:`ingest.sources.base.SourceFile.read`."""
        return read_bytes(Path(os.path.join(self.root, unescaped(file.path))))


def local_file(
    location: str | Path, root: Path, values: tuple[Value, ...] | None = None
) -> SourceFile:
    """Look up one file of this machine.

    Args:
        location: the file's path.
        root: the gallery's root, for the stored path.
        values: the user's columns.
    """
    path = stored_path(location, root)
    refused = unsupported(path, values)
    if refused:
        return refused
    try:
        about = os.lstat(location)
    except (OSError, ValueError) as error:
        return _failed(path, error, values)
    return SourceFile(
        path,
        about.st_size,
        about.st_mtime_ns,
        values=values,
        reader=LocalReader(str(root)),
    )


def _failed(
    path: str, error: OSError | ValueError, values: tuple[Value, ...] | None = None
) -> SourceFile:
    reason = (getattr(error, "strerror", "") or str(error)).lower()
    status = "vanished" if _means_absent(error) else "unreadable"
    return SourceFile(path, status=status, reason=reason, values=values)


def _means_absent(error: Exception) -> bool:
    return isinstance(error, (FileNotFoundError, NotADirectoryError))


def is_absent(path: str, root: Path) -> bool:
    """Whether the local file behind a stored path certainly does not exist."""
    try:
        os.lstat(os.path.join(root, unescaped(container_of(path))))
    except (OSError, ValueError) as error:
        return _means_absent(error)
    return False


class Folder(Source):
    """A local folder with all its subfolders.

    Hidden and system files are skipped, links are not followed, and files whose name is not that
    of a picture are left out.
    """

    def __init__(self, location: str | Path, root: Path, options: SourceOptions):
        self._location = str(location)
        super().__init__(stored_path(os.path.abspath(location), root))
        self._root = root
        self._filter = NameFilter(options.include, options.exclude)
        self._reader = LocalReader(str(root))

    def scan(self) -> Iterator[SourceFile]:
        """Walk the folder in name order."""
        self.complete = True
        self.left_out.clear()
        prefix = "" if self.name == "." else self.name.rstrip("/") + "/"
        yield from self._walk(self._location, prefix, "")

    def _walk(self, location: str, prefix: str, below: str) -> Iterator[SourceFile]:
        """List one folder.

        Args:
            location: the location of the folder.
            prefix: its stored path with ``/``; empty for the root.
            below: its path relative to the source with ``/``; empty for the source itself.
        """
        try:
            with os.scandir(location) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.complete = False
            reason = (error.strerror or str(error)).lower()
            yield SourceFile(prefix.rstrip("/") or ".", status="unreadable", reason=reason)
            return
        if _GALLERY.issubset(entry.name for entry in ordered):
            return
        for entry in ordered:
            name = entry.name
            if name.startswith(".") or name in _SYSTEM_FOLDERS:
                if not entry.is_dir(follow_symlinks=False):
                    if not name.startswith("._"):  # What macOS adds to files of other systems.
                        self.leave_out(name, HIDDEN)
                elif name not in _SYSTEM_FOLDERS:
                    self.left_out[HIDDEN_FOLDER] += 1
                continue
            relative, path = below + name, prefix + escaped(name)
            if entry.is_dir(follow_symlinks=False):
                if not self._filter.excludes(relative + "/"):
                    yield from self._walk(entry.path, path + "/", relative + "/")
                else:
                    self.left_out[PATTERN_FOLDER] += 1
            elif not has_picture_suffix(name):
                self.leave_out(name, LINK if entry.is_symlink() and entry.is_dir() else "")
            elif self._filter.accepts(relative):
                yield self._file(entry, path)
            else:
                self.leave_out(name, PATTERN)

    def _file(self, entry: os.DirEntry[str], path: str) -> SourceFile:
        refused = unsupported(path)
        if refused:
            return refused
        try:
            about = entry.stat(follow_symlinks=False)
        except OSError as error:
            return _failed(path, error)
        return SourceFile(path, about.st_size, about.st_mtime_ns, reader=self._reader)

    def covers(self, path: str) -> bool:
        """The folder and everything below it."""
        if self.name == ".":
            return not path.startswith("/") and not is_address(path)
        return path == self.name or path.startswith(self.name.rstrip("/") + "/")

    def reason_gone(self, path: str) -> str:
        """A file that this scan left out, for instance by a pattern, is not gone."""
        if is_absent(path, self._root):
            return "there is no such file"
        # A folder is stored only if it could not be listed, which succeeded this time.
        folder = os.path.isdir(os.path.join(self._root, unescaped(path)))
        return "a folder" if folder and self.complete else ""


class FileList(Source):
    """Local files named one by one: on the command line, by a wildcard, or on stdin."""

    def __init__(
        self,
        name: str,
        locations: Iterable[str],
        root: Path,
        covers: Callable[[str], bool] = lambda path: False,
        left_out: Iterable[str] = (),
    ):
        """Look up nothing yet.

        Args:
            name: as the gallery stores it.
            locations: the locations of the files.
            root: the gallery's root.
            covers: which stored paths the list would contain if the files existed; none by
                default.
            left_out: names that a pattern matches as well and that are not those of pictures.
        """
        super().__init__(name)
        self._locations = locations
        self._others = tuple(left_out)
        self._root = root
        self._covers = covers

    def scan(self) -> Iterator[SourceFile]:
        """The files in the order in which they were named; folders are searched."""
        self.left_out = Counter(suffix_of(name) for name in self._others)
        for location in self._locations:
            try:
                folder = stat.S_ISDIR(os.lstat(location).st_mode)
            except (OSError, ValueError):
                folder = False
            if folder:
                inner = Folder(location, self._root, SourceOptions())
                yield from inner.scan()
                self.left_out.update(inner.left_out)
            else:
                yield local_file(location, self._root)

    def covers(self, path: str) -> bool:
        """See the argument ``covers``."""
        return self._covers(path)

    def reason_gone(self, path: str) -> str:
        """See :meth:`Folder.reason_gone`."""
        return "there is no such file" if is_absent(path, self._root) else ""
