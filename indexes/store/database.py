"""A folder of Lance tables, with recovery of tables after a power cut.

The files of a commit are recorded in the table's ledger once they are synced; only then is the
commit acknowledged. After a power cut an unrecorded commit may be on the disk in part: the name of
its manifest without the content, or the manifest without the rows it refers to. The first process
that opens such a table, reader or writer, moves the commit into quarantine under the writer's
lock; the next ingest then does that work again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pyarrow as pa

from indexes.documents import LedgerGuard
from indexes.errors import GalleryDamaged, GalleryError
from indexes.files import sync
from indexes.store.lance import lancedb
from indexes.store.ledger import Ledger
from indexes.store.locking import locked
from indexes.store.manifest_copy import MANIFEST_COPY, read_copy
from indexes.store.tables import Table, is_storage_error, manifest_version, writing
from indexes.store.verified import VerifiedFiles

#: How the folder of a table that is being deleted ends.
_DROPPED = ".dropped"

#: The last bytes of files that were written completely, by suffix. Other files have no such mark.
_ENDS = {".manifest": b"LANC", ".lance": b"LANC", ".arrow": b"ARROW1"}


class Database:
    """A folder of Lance tables."""

    def __init__(self, folder: Path, verified: bool = True):
        """Store the arguments; nothing is read yet.

        Args:
            folder: the gallery's folder.
            verified: whether files are compared with their checksums before they are read. Only
                the search for damage reads damaged files.
        """
        self.folder = folder
        self._is_verified = verified
        self._connection = lancedb().connect(str(folder))
        self._recovered: set[str] = set()
        self._in_session = False
        self._tables: dict[str, Table] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._read_ledgers: dict[str, tuple[object, Ledger]] = {}
        self._read_guards: tuple[object, Mapping[str, LedgerGuard]] | None = None
        self._verified: dict[str, VerifiedFiles] = {}

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
            GalleryDamaged: if its newest manifest or its ledger is damaged.
            GalleryError: if Lance cannot read it.
        """
        self._recover_once(name)
        files = self._verified_files(name) if self._is_verified else None
        if files is not None:
            files.check_newest()
        try:
            ledger = partial(self.ledger, name)
            return Table(self._connection, name, self._folder(name), ledger, files)
        except Exception as error:
            if not (is_storage_error(error) or isinstance(error, ValueError)):
                raise
            raise GalleryError(
                f"Table {name} in {self.folder} cannot be opened "
                f"({str(error).splitlines()[0][:200]}); `cies repair` steps back to its last "
                "whole state, and the next ingest adds what is then missing."
            ) from error

    def _verified_files(self, name: str) -> VerifiedFiles:
        if name not in self._verified:
            ledger = partial(self._undamaged_ledger, name)
            self._verified[name] = VerifiedFiles(
                self._folder(name), ledger, lambda: self._in_session
            )
        return self._verified[name]

    def ledger(self, name: str) -> Ledger:
        """The checksums of a table's files: in a session one object, else as they are on disk.

        Raises:
            GalleryDamaged: if they cannot be read.
        """
        if name in self._ledgers:
            return self._ledgers[name]
        path = self.folder / "checksums" / f"{name}.txt"
        state = _state(path)
        known = self._read_ledgers.get(name)
        if known is not None and known[0] == state and state is not None:
            ledger = known[1]
        else:
            try:
                ledger = Ledger(path, self._folder(name))
            except OSError as error:
                raise self._damaged_ledger(
                    name, f"cannot be read ({(error.strerror or str(error)).lower()})"
                ) from error
            self._read_ledgers[name] = (state, ledger)
        if self._in_session:
            self._ledgers[name] = ledger
        return ledger

    def ledger_damage(self, name: str) -> str | None:
        """What is wrong with a table's ledger; ``None`` if nothing is."""
        # The guard comes first: a ledger only grows, so that it covers the ledger read after it.
        guards = self._guards()
        ledger = self.ledger(name)
        if not ledger.exists and name not in guards:
            return "is missing" if self._had_ledger(name) else None
        return ledger.damage(guards.get(name))

    def _had_ledger(self, name: str) -> bool:
        """Whether a table without ledger and guard must have had one. Galleries of the first
        version have no ledgers and no copy of the manifest, until a writer has recorded all files;
        and a table whose creation was interrupted has no ledger.
        """
        is_newer = (self.folder / MANIFEST_COPY).is_file()
        return is_newer and any(manifest_version(path) > 1 for path in self.manifests(name))

    def _guards(self) -> Mapping[str, LedgerGuard]:
        state = _state(self.folder / MANIFEST_COPY)
        if self._read_guards is None or self._read_guards[0] != state:
            copy = None
            with suppress(GalleryDamaged):
                # The tables are read all the same; `cies verify` reports the copy.
                copy = read_copy(self.folder)
            self._read_guards = (state, copy.guards if copy is not None else {})
        return self._read_guards[1]

    def guards(self) -> dict[str, LedgerGuard]:
        """Count and hash of the ledger of each table, as they are now."""
        names = self._ledgers or self.names()
        ledgers = {name: self.ledger(name) for name in sorted(names)}
        return {name: ledger.guard() for name, ledger in ledgers.items() if ledger.exists}

    def _undamaged_ledger(self, name: str) -> Ledger:
        """A table's ledger.

        Raises:
            GalleryDamaged: if it is damaged.
        """
        if name not in self._ledgers:  # Otherwise it was checked when the session began.
            self._check_ledger(name)
        return self.ledger(name)

    def _check_ledger(self, name: str) -> None:
        damage = self.ledger_damage(name)
        if damage is not None:
            raise self._damaged_ledger(name, damage)

    def _recreate_ledger(self, name: str) -> None:
        """Begin a new list of checksums for a table that is created again."""
        guard = self._guards().get(name)
        ledger = self.ledger(name)
        if ledger.exists or guard is not None:
            ledger.clear(guard)

    def _damaged_ledger(self, name: str, damage: str) -> GalleryDamaged:
        return GalleryDamaged(
            f"The gallery at {self.folder} is damaged: its list of checksums checksums/{name}.txt "
            f"{damage}; `cies repair` restores it."
        )

    def manifests(self, name: str) -> list[Path]:
        """A table's manifests, one for each version, the newest first."""
        found = (self._folder(name) / "_versions").glob("*.manifest")
        return sorted(found, key=lambda path: -manifest_version(path))

    def version_names(self, name: str) -> list[str]:
        """The names of a table's manifests, in order.

        Raises:
            OSError: if the table's folder cannot be listed.
        """
        if name in self._ledgers:
            # In a session all of them are recorded, and no other process commits.
            found = [Path(file).name for file in self._ledgers[name].entries]
        else:
            found = os.listdir(self._folder(name) / "_versions")  # noqa: PTH208
        return sorted(file for file in found if file.endswith(".manifest"))

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

    def drop(self, name: str) -> None:
        """Delete a table with its files and their checksums; the caller holds the writer's lock.

        The folder is renamed first, so that no half-deleted table is ever found.

        Raises:
            GalleryError: if the folder cannot be written.
        """
        self._tables.pop(name, None)
        with writing(self.folder):
            if self.exists(name):
                self._folder(name).replace(self.folder / f".{name}{_DROPPED}")
            self.ledger(name).clear()
            self._ledgers.pop(name, None)
            for left in self.folder.glob(f".*{_DROPPED}"):
                shutil.rmtree(left)
            sync(self.folder)

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
            whole = set(_manifests(folder, files)) - set(broken)
            if folder.is_dir() and not ledger.entries and not whole:
                # Power was lost while the table was created.
                self.quarantine(name, folder)
                self._recreate_ledger(name)
            else:
                self._check_ledger(name)
                for path in broken:
                    self.quarantine(name, path)
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


def _state(path: Path) -> object:
    """Identifies the content of a file that is only replaced or added to; ``None`` if missing."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
