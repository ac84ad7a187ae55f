"""Checksums of a table's files, so that damage to any file is found.

Lance never changes a file after writing it, and never verifies a file when reading it: a flipped
bit is returned as a wrong vector. Length and CRC-32 of each file are therefore recorded here,
after the file is synced to the disk. A file that is not recorded belongs to a commit that was
never acknowledged.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from indexes.files import sync, write_atomic

#: Rewritten by Lance in place, and only a hint; it may be lost safely.
_HINT = "latest_version_hint.json"

_CHUNK = 2**20


@dataclass(frozen=True)
class FileChecksum:
    """A file at the time it was synced.

    Attributes:
        size: bytes.
        crc: CRC-32 of its content.
    """

    size: int
    crc: int


def file_checksum(path: Path) -> FileChecksum:
    """Read a file and compute its checksum.

    Raises:
        OSError: if the file cannot be read.
    """
    crc = size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
    return FileChecksum(size, crc)


class Ledger:
    """The checksums of one table's files, kept in a text file outside of the table's folder.

    Each line holds a file's path below the table's folder, its size, its CRC-32, and the CRC-32
    of the line up to there. Lines that are truncated or damaged are ignored and counted.
    """

    def __init__(self, path: Path, folder: Path):
        """Read the list, if it exists.

        Args:
            path: the text file.
            folder: the table's folder.
        """
        self.path = path
        self.folder = folder
        self.entries: dict[str, FileChecksum] = {}
        self.broken_lines = 0
        if path.is_file():
            for line in path.read_bytes().splitlines():
                self._parse(line)

    def _parse(self, line: bytes) -> None:
        content, _, check = line.rpartition(b" ")
        parts = content.rsplit(b" ", 2)
        try:
            if len(parts) != 3 or int(check, 16) != zlib.crc32(content):
                raise ValueError("the line is damaged")
            name = parts[0].decode()
            self.entries[name] = FileChecksum(int(parts[1]), int(parts[2], 16))
        except ValueError:
            self.broken_lines += 1

    def files(self) -> list[str]:
        """The table's files on the disk, as paths below its folder, temporary files left out."""
        found = []
        for root, _, names in os.walk(self.folder):
            below = Path(root).relative_to(self.folder)
            found += [
                (below / name).as_posix() for name in names if name != _HINT and ".tmp" not in name
            ]
        return found

    def record_new(self, files: Iterable[str] | None = None) -> dict[str, FileChecksum]:
        """Sync every file that is not recorded, with its folder, and record it.

        Files that a killed process has written are synced as well, because later commits refer
        to them.

        Args:
            files: the table's files, if the caller has listed them already.

        Returns:
            The new entries.

        Raises:
            OSError: if the disk reports an error.
        """
        lines: dict[str, FileChecksum] = {}
        for name in self.files() if files is None else files:
            if name in self.entries:
                continue
            path = self.folder / name
            try:
                sync(path)
                lines[name] = file_checksum(path)
            except FileNotFoundError:
                continue
        if not lines:
            return lines
        for folder in self._changed_folders(lines):
            sync(folder)
        is_new = not self.path.is_file()
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("ab") as file:
            file.write(_lines(lines))
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync(self.path.parent)
            sync(self.folder.parent)
        self.entries.update(lines)
        return lines

    def _changed_folders(self, names: Iterable[str]) -> set[Path]:
        """The folders of new files and, if such a folder is new itself, those that hold it.

        A folder with a recorded file was synced into the folder above when that was recorded.
        """
        synced = {(self.folder / name).parent for name in self.entries}
        changed = {(self.folder / name).parent for name in names}
        for folder in changed - synced:
            while folder != self.folder:
                folder = folder.parent
                changed.add(folder)
        return changed

    def remove(self, names: Iterable[str]) -> None:
        """Remove the entries of files that are deleted, or damaged and repaired; atomic.

        Raises:
            OSError: if the list cannot be written.
        """
        removed = set(names) & self.entries.keys()
        if not removed and not self.broken_lines:
            return
        for name in removed:
            del self.entries[name]
        if not self.path.parent.is_dir():
            return
        write_atomic(self.path, _lines(self.entries))
        self.broken_lines = 0

    def clear(self) -> None:
        """Remove all entries, for a table that is created again."""
        self.entries.clear()
        self.path.unlink(missing_ok=True)

    def damaged(self) -> dict[str, str]:
        """Recorded files that have changed: path to a description of the damage.

        A file that a writer has deleted and removed from the list meanwhile is not reported.
        """
        found: dict[str, str] = {}
        for name, entry in self.entries.items():
            path = self.folder / name
            try:
                now = file_checksum(path)
            except FileNotFoundError:
                found[name] = "is missing"
            except OSError as error:
                found[name] = f"cannot be read ({(error.strerror or str(error)).lower()})"
            else:
                if now.size != entry.size:
                    found[name] = f"has {now.size} bytes instead of {entry.size}"
                elif now.crc != entry.crc:
                    found[name] = "has changed content"
        recorded = Ledger(self.path, self.folder).entries if found else {}
        return {name: damage for name, damage in found.items() if name in recorded}


def _lines(entries: Mapping[str, FileChecksum]) -> bytes:
    lines = []
    for name, entry in entries.items():
        content = f"{name} {entry.size} {entry.crc:08x}".encode()
        lines.append(content + f" {zlib.crc32(content):08x}\n".encode())
    return b"".join(lines)
