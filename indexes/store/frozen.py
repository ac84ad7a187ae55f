"""The tables of a gallery at one moment, for readers while another process writes.

A moment is the newest version of every table, as the names of their manifests show it. Versions
never change, so that tables that are opened later are read as they were at that moment. A writer
keeps what was the newest version within the last hour.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from indexes.errors import GalleryError, GalleryMissing
from indexes.store.database import Database
from indexes.store.tables import Table, version_number

#: Seconds until a gallery that changes all the time is given up. A writer syncs every commit, which
#: takes far longer than two looks at the tables.
_PATIENCE = 30.0


@dataclass(frozen=True)
class TableVersion:
    """One version of a table.

    Attributes:
        folder: the file system's number of the table's folder, which tells a table from an earlier
            one of the same name.
        number: the number of the version.
    """

    folder: int
    number: int


@dataclass(frozen=True)
class ReadRows:
    """How far a frozen table was read.

    Attributes:
        rows: the number of its rows.
        last: the highest of Lance's numbers of them, -1 if there are none.
        inode: see :class:`Table`.
    """

    rows: int
    last: int
    inode: int

    @classmethod
    def of(cls, rows: pa.Table, table: Table) -> ReadRows:
        """How far a table was read, from all its rows with their numbers in ``_rowid``."""
        last = pc.max(rows.column("_rowid")).as_py()
        return cls(rows.num_rows, -1 if last is None else last, table.inode)

    def since(self, table: Table, columns: Sequence[str]) -> tuple[pa.Table, ReadRows] | None:
        """The rows that a later state of the table has in addition.

        Args:
            table: the later state.
            columns: to read.

        Returns:
            The new rows with their numbers as ``_rowid``, and how far the table is read now.
            ``None`` if other rows were changed or deleted: Lance gives new rows higher numbers, and
            an updated row is deleted and added. ``None`` too if it is another table of this name.
        """
        count = len(table)
        if count < self.rows or table.inode != self.inode:
            return None
        new = table.read(columns, row_ids=True, after=self.last)
        if self.rows + new.num_rows != count:
            return None
        return new, ReadRows(count, max(self.last, ReadRows.of(new, table).last), table.inode)


#: The version of each table at one moment, by the table's name.
Moment = Mapping[str, TableVersion]


def newest_moment(folder: Path) -> Moment:
    """The newest version of every table of a gallery at one moment.

    The tables are looked through until two looks in a row agree: between them, nothing was
    committed.

    Args:
        folder: the gallery's folder.

    Raises:
        GalleryMissing: if the gallery is gone.
        GalleryError: if it cannot be read, or changes all the time.
    """
    deadline = time.monotonic() + _PATIENCE
    before: Moment | None = None
    while True:
        now = _versions(folder)
        if now == before:
            return now
        if time.monotonic() > deadline:
            raise GalleryError(f"The gallery at {folder} changes all the time; try again.")
        before = now


def _versions(folder: Path) -> Moment:
    """The newest version of each table, one table after the other."""
    found: dict[str, TableVersion] = {}
    try:
        with os.scandir(folder) as tables:
            for table in tables:
                if not table.name.endswith(".lance"):
                    continue
                try:
                    # A path object for each of a thousand manifests would take ten times as long.
                    names = os.listdir(Path(table.path) / "_versions")  # noqa: PTH208
                except (FileNotFoundError, NotADirectoryError):
                    continue  # The table is being created or deleted.
                numbers = [version_number(n) for n in names if n.endswith(".manifest")]
                if numbers:
                    name = table.name.removesuffix(".lance")
                    found[name] = TableVersion(table.inode(), max(numbers))
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            _gone(folder)
        raise GalleryError(
            f"Cannot read the gallery at {folder}: {(error.strerror or str(error)).lower()}."
        ) from error
    if "manifest" not in found and not (folder / "manifest.lance").is_dir():
        _gone(folder)
    return found


def _gone(folder: Path) -> NoReturn:
    raise GalleryMissing(
        f"The gallery at {folder} is gone; if it is on another drive, connect that and try again."
    )


class FrozenDatabase(Database):
    """The tables of a gallery at one moment. Each is opened when it is first read.

    Attributes:
        moment: the versions that are read.
    """

    def __init__(self, live: Database, moment: Moment, before: FrozenDatabase | None = None):
        """Store the arguments; nothing is read yet.

        Args:
            live: opens tables, and has recovered those that a power cut left incomplete.
            moment: the versions to read.
            before: an earlier moment, whose open tables are used where they have not changed.
        """
        super().__init__(live.folder)
        self.moment = moment
        self._live = live
        self._frozen: dict[str, Table] = {}
        for name, table in (before._frozen if before is not None else {}).items():
            if before is not None and before.moment[name] == moment.get(name):
                self._frozen[name] = table

    def names(self) -> set[str]:
        """The names of the tables."""
        return set(self.moment)

    def exists(self, name: str) -> bool:
        """Whether there was a table of this name."""
        return name in self.moment

    def open(self, name: str) -> Table:
        """A table as it was at the moment.

        Raises:
            GalleryError: if Lance cannot read it, or that version is no longer stored.
        """
        table = self._frozen.get(name)
        if table is None:
            table = self._live.open_separately(name)
            if name in self.moment:
                table.freeze(self.moment[name].number)
            self._frozen[name] = table
        return table

    def open_separately(self, name: str) -> Table:
        """As :meth:`open`: a frozen table does not change, so that callers share it."""
        return self.open(name)
