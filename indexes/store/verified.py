"""Compares the files of a table with their checksums before Lance reads them.

Lance returns what the disk returns: a flipped bit is a wrong vector, and a changed manifest may be
another table. So the manifest of a version is checked before the version is opened, and the files
that the version consists of before its rows are read. A process checks each file once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from indexes.errors import GalleryDamaged
from indexes.store.ledger import FileChecksum, Ledger, compare

_VERSIONS = "_versions/"
_DATA = "data/"
_DELETIONS = "_deletions/"

#: The newest way of naming manifests: this number minus the version.
_NEWEST = 2**64 - 1

#: Bytes from which on files are read by several threads.
_MANY_BYTES = 2**23

#: Files that this process has compared: path to its entry, and size, time and inode of the file.
_compared: dict[str, tuple[FileChecksum, tuple[int, int, int]]] = {}

#: Number of files at which what was compared is forgotten.
_MOST = 100_000


class VerifiedFiles:
    """Checks the files of one table. Any number of threads may use it."""

    def __init__(self, folder: Path, ledger: Callable[[], Ledger], is_ours: Callable[[], bool]):
        """Store the arguments.

        Args:
            folder: the table's folder.
            ledger: returns the checksums of the table's files, as they are on disk.
            is_ours: returns whether this process is the writer, so that no other one commits.
        """
        self.folder = folder
        self._ledger = ledger
        self._is_ours = is_ours
        self._newest_seen: object = None
        self._whole: set[int] = set()

    def check_newest(self) -> None:
        """Check the newest manifest, which Lance reads when it opens the table.

        Raises:
            GalleryDamaged: if it is damaged or missing.
        """
        # The ledger comes first: every manifest in it was on the disk before.
        recorded = _manifests(self._ledger().entries)
        if recorded and self._is_ours():
            self._compare([recorded[max(recorded)]])
            return
        folder = self.folder / _VERSIONS
        try:
            now = (folder.stat().st_mtime_ns, max(recorded, default=0))
            if now == self._newest_seen:
                return
            present = _manifests(f"{_VERSIONS}{path.name}" for path in folder.iterdir())
        except OSError as error:
            raise self._damaged({_VERSIONS: (error.strerror or str(error)).lower()}) from error
        if max(present, default=0) < max(recorded, default=1):
            self._refuse({recorded[max(recorded)] if recorded else _VERSIONS: "is missing"})
        if present:
            self._compare([present[max(present)]])
        self._newest_seen = now

    def check_version(self, number: int) -> None:
        """Check all files that a version consists of.

        Files that are not recorded belong to a commit that is just being made, or that was never
        acknowledged.

        Raises:
            GalleryDamaged: if a file is damaged or missing.
        """
        if number in self._whole:
            return
        entries = self._ledger().entries
        manifest = _manifests(entries).get(number)
        path = self._manifest_path(number, manifest)
        if manifest is not None:
            self._compare([manifest])
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            # Too old: it was deleted, and removed from the ledger. Reading it says so.
            return
        except OSError as error:
            damage = (error.strerror or str(error)).lower()
            raise self._damaged({path.name: damage}) from error
        self._compare([name for name in entries if is_referenced(name, content)])
        self._whole.add(number)

    def trust(self, number: int) -> None:
        """Take a version as checked: this process has just written and recorded its files."""
        self._whole.add(number)

    def _manifest_path(self, number: int, recorded: str | None) -> Path:
        if recorded is not None:
            return self.folder / recorded
        path = self.folder / _VERSIONS / f"{_NEWEST - number}.manifest"
        return path if path.is_file() else self.folder / _VERSIONS / f"{number}.manifest"

    def _compare(self, names: Iterable[str]) -> None:
        """Compare recorded files with their entries, those that were not compared yet."""
        entries = self._ledger().entries
        damage: dict[str, str] = {}
        todo: dict[str, tuple[FileChecksum, tuple[int, int, int]]] = {}
        for name in names:
            entry = entries.get(name)
            if entry is None:
                continue
            try:
                stat = (self.folder / name).stat()
            except OSError as error:
                missing = isinstance(error, FileNotFoundError)
                reason = (error.strerror or str(error)).lower()
                damage[name] = "is missing" if missing else f"cannot be read ({reason})"
                continue
            state = entry, (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            if _compared.get(str(self.folder / name)) != state:
                todo[name] = state
        for name, found in zip(todo, self._comparisons(todo), strict=True):
            if found is not None:
                damage[name] = found
            else:
                if len(_compared) >= _MOST:
                    _compared.clear()
                _compared[str(self.folder / name)] = todo[name]
        if damage:
            self._refuse(damage)

    def _comparisons(
        self, todo: Mapping[str, tuple[FileChecksum, tuple[int, int, int]]]
    ) -> list[str | None]:
        def compared(name: str) -> str | None:
            return compare(self.folder / name, todo[name][0])

        if sum(entry.size for entry, _ in todo.values()) < _MANY_BYTES:
            return [compared(name) for name in todo]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            return list(threads.map(compared, todo))

    def _refuse(self, damage: Mapping[str, str]) -> None:
        """Raise the error, unless a writer has deleted the files and their entries meanwhile."""
        entries = self._ledger().entries
        left = {name: text for name, text in damage.items() if name in entries or not entries}
        if left:
            raise self._damaged(left)

    def _damaged(self, damage: Mapping[str, str]) -> GalleryDamaged:
        name, text = next(iter(damage.items()))
        more = f", and {len(damage) - 1} more files are damaged" if len(damage) > 1 else ""
        return GalleryDamaged(
            f"The gallery at {self.folder.parent} is damaged: file {name} of table "
            f"{self.folder.stem} {text}{more}; `cies repair` removes the damage, and the next "
            "ingest adds what is then missing."
        )


def _manifests(names: Iterable[str]) -> dict[int, str]:
    """The manifests among a table's files, by version."""
    found = {}
    for name in names:
        stem = name.removeprefix(_VERSIONS).removesuffix(".manifest")
        if name.startswith(_VERSIONS) and name.endswith(".manifest") and stem.isdigit():
            number = int(stem)
            found[_NEWEST - number if number > _NEWEST // 2 else number] = name
    return found


def is_referenced(name: str, manifest: bytes) -> bool:
    """Whether a manifest refers to a file: data by name, deletions by their number.

    Args:
        name: path of the file below the table's folder.
        manifest: the content of the manifest.
    """
    base = name.rpartition("/")[2]
    if name.startswith(_DATA):
        return base.encode() in manifest
    if name.startswith(_DELETIONS):
        number = base.partition(".")[0].rpartition("-")[2]
        return not number.isdigit() or _varint(int(number)) in manifest
    return False


def _varint(number: int) -> bytes:
    """A number as Protocol Buffers encode it."""
    digits = bytearray()
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])
