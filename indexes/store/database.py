"""A folder of Lance tables, with recovery of tables after a power cut.

The files of a commit are recorded in the table's ledger once they are synced; only then is the
commit acknowledged. After a power cut an unrecorded commit may be on the disk in part: the name of
its manifest without the content, or the manifest without the rows it refers to. The first process
that opens such a table, reader or writer, moves the commit into quarantine under the writer's
lock; the next ingest then does that work again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from indexes.errors import GalleryError
from indexes.store.lance import lancedb
from indexes.store.ledger import Ledger
from indexes.store.locking import locked
from indexes.store.tables import Table, is_storage_error, manifest_version, writing

#: The last bytes of files that were written completely, by suffix. Other files have no such mark.
_ENDS = {".manifest": b"LANC", ".lance": b"LANC", ".arrow": b"ARROW1"}


class Database:
    """A folder of Lance tables."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._connection = lancedb().connect(str(folder))
        self._recovered: set[str] = set()
        self._in_session = False
        self._tables: dict[str, Table] = {}
        self._ledgers: dict[str, Ledger] = {}

    def names(self) -> set[str]:
        """The names of the tables."""
        return {path.stem for path in self.folder.glob("*.lance") if path.is_dir()}

    def exists(self, name: str) -> bool:
        """Whether there is a table of this name."""
        return self._folder(name).is_dir()

    def _folder(self, name: str) -> Path:
        return self.folder / f"{name}.lance"

    def open(self, name: str) -> Table:
        """Open a table that exists.

        Raises:
            GalleryError: if Lance cannot read it.
        """
        if name in self._tables:
            return self._tables[name]
        table = self.open_separately(name)
        if self._in_session:
            self._tables[name] = table
        return table

    def open_separately(self, name: str) -> Table:
        """Open a table that exists, with a handle that no other caller gets.

        Raises:
            GalleryError: if Lance cannot read it.
        """
        self._recover_once(name)
        try:
            return Table(self._connection, name, self._folder(name), lambda: self.ledger(name))
        except Exception as error:
            if not (is_storage_error(error) or isinstance(error, ValueError)):
                raise
            raise GalleryError(
                f"Table {name} in {self.folder} cannot be opened "
                f"({str(error).splitlines()[0][:200]}); `cies repair` steps back to its last "
                "whole state, and the next ingest adds what is then missing."
            ) from error

    def ledger(self, name: str) -> Ledger:
        """The checksums of a table's files: in a session one object, else as they are on disk."""
        if name in self._ledgers:
            return self._ledgers[name]
        ledger = Ledger(self.folder / "checksums" / f"{name}.txt", self._folder(name))
        if self._in_session:
            self._ledgers[name] = ledger
        return ledger

    def manifests(self, name: str) -> list[Path]:
        """A table's manifests, one for each version, the newest first."""
        found = (self._folder(name) / "_versions").glob("*.manifest")
        return sorted(found, key=lambda path: -manifest_version(path))

    def quarantine(self, name: str, path: Path) -> Path:
        """Move a table or one of its files into ``quarantine``; returns the new path."""
        folder = self.folder / "quarantine" / name
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / path.name
        number = 1
        while target.exists():
            number += 1
            target = folder / f"{path.name}.{number}"
        return path.replace(target)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Recover all tables, and use one handle and one ledger of each until the block ends.

        The caller holds the writer's lock, so that no other process changes the ledgers.

        Raises:
            GalleryError: if the folder cannot be written.
        """
        self._in_session = True
        try:
            for name in sorted(self.names()):
                self.recover(name)
            yield
        finally:
            self._in_session = False
            self._tables.clear()
            self._ledgers.clear()

    def recover(self, name: str) -> None:
        """Make a table ready for writing after an interrupted commit; needs the writer's lock.

        Files that are not in the ledger belong to commits that were not acknowledged. Commits
        with a truncated file are moved into quarantine, and the next ingest does that work
        again; the other commits are whole, and are synced now.

        Raises:
            GalleryError: if the folder cannot be written.
        """
        folder = self._folder(name)
        with writing(folder):
            ledger = self.ledger(name)
            files = ledger.files()
            broken = _incomplete_commits(ledger, files)
            for path in broken:
                self.quarantine(name, path)
            whole = set(_manifests(folder, files)) - set(broken)
            if folder.is_dir() and not ledger.entries and not whole:
                # Power was lost while the table was created.
                self.quarantine(name, folder)
            else:
                ledger.record_new(files)
        self._recovered.add(name)

    def _recover_once(self, name: str) -> None:
        """Recover a table with an incomplete commit, when it is opened for the first time."""
        if name in self._recovered:
            return
        self._recovered.add(name)
        ledger = self.ledger(name)
        if _incomplete_commits(ledger, ledger.files()):
            # A running writer has recovered the table, and what is incomplete is its current
            # commit. On a read-only disk, reading the table reports the damage.
            with suppress(GalleryError), locked(self.folder):
                self.recover(name)

    def ensure(self, name: str, schema: pa.Schema) -> Table:
        """Open a table; create it first if it does not exist.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        if not self.exists(name):
            with writing(self.folder):
                self._connection.create_table(name, schema=schema)
                self.ledger(name).record_new()
        return self.open(name)


def _manifests(folder: Path, files: Sequence[str]) -> list[Path]:
    """The manifests among a table's files, the newest first."""
    paths = [folder / name for name in files if name.endswith(".manifest")]
    return sorted(paths, key=lambda path: -manifest_version(path))


def _incomplete_commits(ledger: Ledger, files: Sequence[str]) -> list[Path]:
    """The files of commits that are on the disk in part: manifests, and what they refer to.

    Args:
        ledger: the ledger of the table.
        files: the table's files.
    """
    folder = ledger.folder
    unrecorded = [folder / name for name in files if name not in ledger.entries]
    truncated = [path for path in unrecorded if _is_truncated(path)]
    found: list[Path] = []
    for path in _manifests(folder, files):
        recorded = path.relative_to(folder).as_posix() in ledger.entries
        if path in truncated or (recorded and _size(path) == 0):
            found.append(path)
        elif truncated and not recorded:
            referenced = _referenced_files(path, truncated)
            if referenced:
                found += [path, *(file for file in referenced if file not in found)]
    return found


def _referenced_files(manifest: Path, files: list[Path]) -> list[Path]:
    """Which of these files a manifest refers to: data by name, deletions in any case.

    The manifest holds the names of deletion files as numbers, so that they cannot be searched for.
    """
    try:
        content = manifest.read_bytes()
    except FileNotFoundError:
        return []
    return [
        path
        for path in files
        if path.parent.name == "_deletions"
        or (path.parent.name == "data" and path.name.encode() in content)
    ]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _is_truncated(path: Path) -> bool:
    """Whether the end of a file is missing; ``False`` for a file that was just deleted."""
    end = _ENDS.get(path.suffix)
    if end is None:
        return False
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(end)))
            return file.read() != end
    except FileNotFoundError:
        return False
