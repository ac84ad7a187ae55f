"""Checksums of a table's files, so that damage to any file is found.

Lance never changes a file after writing it, and never verifies a file when reading it: a flipped
bit is returned as a wrong vector. Length and CRC-32 of each file are therefore recorded here,
after the file is synced to the disk. A file that is not recorded belongs to a commit that was
never acknowledged.

A ledger is guarded itself: the copy of the manifest has the count and the hash of its lines. Lines
are only added to a ledger, so that a guard that is older than the ledger, as after a kill, covers
the first lines. Where entries are removed, it is rewritten with a higher generation.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from indexes.documents import LedgerGuard
from indexes.files import sync, write_atomic

#: Rewritten by Lance in place, and only a hint; it may be lost safely.
_HINT = "latest_version_hint.json"

#: The first line of a rewritten ledger begins with this; the generation follows.
_GENERATION = b"generation"

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
    of the line up to there.

    Attributes:
        path: the text file.
        folder: the table's folder.
        entries: the checksums by path of the file.
        exists: whether the text file exists.
        broken_lines: number of damaged lines, without an unfinished last line.
        generation: how often the ledger was rewritten.
    """

    def __init__(self, path: Path, folder: Path):
        """Read the list, if it exists.

        Args:
            path: the text file.
            folder: the table's folder.

        Raises:
            OSError: if it exists and cannot be read.
        """
        self.path = path
        self.folder = folder
        self.entries: dict[str, FileChecksum] = {}
        self.exists = True
        self.broken_lines = 0
        self.generation = 0
        self._lines: list[bytes] = []
        self._has_tail = False
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            self.exists = False
            return
        # A killed writer leaves the beginning of a line, a power cut zeros instead of it.
        whole = content.rstrip(b"\0")
        last = whole.rfind(b"\n") + 1
        self._has_tail = last < len(content)
        for line in whole[:last].split(b"\n")[:-1]:
            self._parse(line)

    def _parse(self, line: bytes) -> None:
        content, _, check = line.rpartition(b" ")
        parts = content.rsplit(b" ", 2)
        try:
            if int(check, 16) != zlib.crc32(content):
                raise ValueError("the line is damaged")
            if parts[0] == _GENERATION and len(parts) == 2 and not self._lines:
                self.generation = int(parts[1])
                return
            name, size, crc = parts
            self.entries[name.decode()] = FileChecksum(int(size), int(crc, 16))
            self._lines.append(line)
        except ValueError:
            self.broken_lines += 1

    # -- the guard -------------------------------------------------------------------------

    def guard(self) -> LedgerGuard:
        """Count and hash of all lines, for the manifest."""
        return LedgerGuard(
            generation=self.generation, lines=len(self._lines), sha256=_hash(self._lines)
        )

    def damage(self, guard: LedgerGuard | None) -> str | None:
        """What is wrong with the ledger; ``None`` if nothing is.

        Args:
            guard: what the manifest knows about it; ``None`` in galleries of earlier versions.
        """
        if not self.exists:
            return "is missing" if guard is not None and guard.lines else None
        if self.broken_lines:
            return f"has {self.broken_lines} damaged lines"
        if guard is None or self.generation > guard.generation:
            return None
        covered = self._lines[: guard.lines]
        if self.generation < guard.generation or len(covered) < guard.lines:
            return "has lost lines"
        return None if _hash(covered) == guard.sha256 else "has changed content"

    def restore(self, guard: LedgerGuard) -> bool:
        """Record the files as they are, if the guard proves that they are the recorded ones.

        Returns:
            Whether that was so; if not, nothing is changed.

        Raises:
            OSError: if the list cannot be written.
        """
        present: dict[str, FileChecksum] = {}
        for name in self.files():
            try:
                present[name] = file_checksum(self.folder / name)
            except OSError:
                return False
        for candidate in ({**present, **self.entries}, dict(self.entries)):
            lines = [_line(name, entry) for name, entry in candidate.items()]
            if len(lines) == guard.lines and _hash(lines) == guard.sha256:
                self.generation = max(self.generation, guard.generation)
                self._rewrite(candidate)
                return True
        return False

    # -- files -----------------------------------------------------------------------------

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
        new: dict[str, FileChecksum] = {}
        for name in self.files() if files is None else files:
            if name in self.entries:
                continue
            path = self.folder / name
            try:
                sync(path)
                new[name] = file_checksum(path)
            except FileNotFoundError:
                continue
        if not new:
            return new
        for folder in self._changed_folders(new):
            sync(folder)
        if self._has_tail:
            self._rewrite(self.entries)
        is_new = not self.exists
        self.path.parent.mkdir(exist_ok=True)
        lines = [_line(name, entry) for name, entry in new.items()]
        with self.path.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync(self.path.parent)
            sync(self.folder.parent)
        self.exists = True
        self.entries.update(new)
        self._lines += lines
        return new

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
        if removed or self.broken_lines or self._has_tail:
            self._rewrite({name: e for name, e in self.entries.items() if name not in removed})

    def _rewrite(self, entries: Mapping[str, FileChecksum]) -> None:
        """Replace the file, with a higher generation."""
        generation = self.generation + 1
        lines = [_line(name, entry) for name, entry in entries.items()]
        first = _sealed(_GENERATION + f" {generation}".encode())
        write_atomic(self.path, b"".join(line + b"\n" for line in [first, *lines]))
        self.entries, self._lines, self.generation = dict(entries), lines, generation
        self.exists, self.broken_lines, self._has_tail = True, 0, False

    def clear(self, guard: LedgerGuard | None = None) -> None:
        """Remove all entries, for a table that is created again.

        Args:
            guard: what the manifest knows about the ledger, if that may be newer.
        """
        if guard is not None:
            self.generation = max(self.generation, guard.generation)
        self._rewrite({})

    def damaged(self) -> dict[str, str]:
        """Recorded files that have changed: path to a description of the damage.

        A file that a writer has deleted and removed from the list meanwhile is not reported.
        """
        found: dict[str, str] = {}
        for name, entry in self.entries.items():
            damage = compare(self.folder / name, entry)
            if damage is not None:
                found[name] = damage
        recorded = Ledger(self.path, self.folder).entries if found else {}
        return {name: damage for name, damage in found.items() if name in recorded}


def compare(path: Path, entry: FileChecksum) -> str | None:
    """Compare a file with its entry: a description of the damage, ``None`` if there is none."""
    try:
        size = path.stat().st_size
        if size != entry.size:
            return f"has {size} bytes instead of {entry.size}"
        return None if file_checksum(path) == entry else "has changed content"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({(error.strerror or str(error)).lower()})"


def _line(name: str, entry: FileChecksum) -> bytes:
    return _sealed(f"{name} {entry.size} {entry.crc:08x}".encode())


def _sealed(content: bytes) -> bytes:
    """A line with its CRC-32."""
    return content + f" {zlib.crc32(content):08x}".encode()


def _hash(lines: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\n".join(sorted(lines))).hexdigest()
