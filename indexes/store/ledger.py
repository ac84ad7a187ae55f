"""A list of the checksums of a table's files, so that damage to any of them can be found.

Lance never changes a file once it is written and never checks one when it reads it: a flipped bit
comes back as a wrong vector. Each file is therefore entered here, with length and CRC-32, once it
is synced to the disk. What is not in the list was never acknowledged to anybody.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping

#: Rewritten by Lance in place, and only a hint; it may be lost safely.
_HINT = "latest_version_hint.json"

_CHUNK = 2**20


@dataclass(frozen=True)
class Entry:
    """What a file was when it was synced.

    Attributes:
        size: bytes.
        crc: CRC-32 of its content.
    """

    size: int
    crc: int


def sync(path: Path) -> None:
    """Flush a file or folder to the disk; Windows has no such thing for folders.

    Raises:
        OSError: if the disk reports an error, or it is gone.
    """
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def entry_of(path: Path) -> Entry:
    """Read a file and take its checksum.

    Raises:
        OSError: if it cannot be read.
    """
    crc = size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
    return Entry(size, crc)


class Ledger:
    """The checksums of one table's files, kept in a text file beside the table.

    One line a file: its path below the table, size, CRC-32, and the CRC-32 of the line so far. A
    line that a crash cut short does not count, nor does one that was damaged.
    """

    def __init__(self, path: Path, folder: Path):
        """Read the list, if there is one.

        Args:
            path: of the list.
            folder: of the table.
        """
        self.path = path
        self.folder = folder
        self.entries: dict[str, Entry] = {}
        self.broken_lines = 0
        if path.is_file():
            for line in path.read_bytes().splitlines():
                self._take(line)

    def _take(self, line: bytes) -> None:
        content, _, check = line.rpartition(b" ")
        parts = content.rsplit(b" ", 2)
        try:
            if len(parts) != 3 or int(check, 16) != zlib.crc32(content):
                raise ValueError("not a line of ours")
            name = parts[0].decode()
            self.entries[name] = Entry(int(parts[1]), int(parts[2], 16))
        except ValueError:
            self.broken_lines += 1

    def files(self) -> list[str]:
        """The table's files on the disk, as paths below it; half-written ones are left out."""
        found = []
        for root, _, names in os.walk(self.folder):
            below = Path(root).relative_to(self.folder)
            found += [
                (below / name).as_posix() for name in names if name != _HINT and ".tmp" not in name
            ]
        return found

    def unknown(self) -> list[str]:
        """Files that were never entered: of commits that nobody was told of."""
        return [name for name in self.files() if name not in self.entries]

    def enter_new(self) -> None:
        """Sync every file that is not in the list, with its folder, and enter it.

        What a run that was killed has written is synced too, because later commits stand on it.

        Raises:
            OSError: if the disk reports an error.
        """
        lines: dict[str, Entry] = {}
        for name in self.unknown():
            path = self.folder / name
            try:
                sync(path)
                lines[name] = entry_of(path)
            except FileNotFoundError:
                continue
        if not lines:
            return
        for parent in {(self.folder / name).parent for name in lines}:
            sync(parent)
        # The folder of the table itself may be new as well.
        sync(self.folder)
        fresh = not self.path.is_file()
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("ab") as file:
            file.write(_lines(lines))
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            sync(self.path.parent)
            sync(self.folder.parent)
        self.entries.update(lines)

    def drop(self, names: Iterable[str]) -> None:
        """Strike files that are gone or were found damaged and dealt with; survives a crash.

        Raises:
            OSError: if the list cannot be written.
        """
        gone = set(names) & self.entries.keys()
        if not gone and not self.broken_lines:
            return
        for name in gone:
            del self.entries[name]
        if not self.path.parent.is_dir():
            return
        fresh = self.path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(_lines(self.entries))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        sync(self.path.parent)
        self.broken_lines = 0

    def drop_all(self) -> None:
        """Strike everything, for a table that is begun anew."""
        self.entries.clear()
        self.path.unlink(missing_ok=True)

    def damaged(self) -> dict[str, str]:
        """Entered files that are not what they were: path to what is wrong with it.

        A file that a writer has cleaned up meanwhile, and struck, is none of them.
        """
        found: dict[str, str] = {}
        for name, entry in self.entries.items():
            path = self.folder / name
            try:
                now = entry_of(path)
            except FileNotFoundError:
                found[name] = "is missing"
            except OSError as error:
                found[name] = f"cannot be read ({(error.strerror or str(error)).lower()})"
            else:
                if now.size != entry.size:
                    found[name] = f"has {now.size} bytes instead of {entry.size}"
                elif now.crc != entry.crc:
                    found[name] = "has changed content"
        now_entered = Ledger(self.path, self.folder).entries if found else {}
        return {name: wrong for name, wrong in found.items() if name in now_entered}


def _lines(entries: Mapping[str, Entry]) -> bytes:
    lines = []
    for name, entry in entries.items():
        content = f"{name} {entry.size} {entry.crc:08x}".encode()
        lines.append(content + f" {zlib.crc32(content):08x}\n".encode())
    return b"".join(lines)
