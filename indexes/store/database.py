"""A folder of Lance tables, and what a power cut may have left in it.

Files are entered in a table's ledger once they are synced, and only then is anybody told of the
commit. After a power cut a commit that is in no ledger may therefore be there in part: the name of
its manifest without the manifest, or the manifest without the rows it speaks of. Whoever opens such
a table first, reader or writer, sets the commit aside under the writer's lock; the next ingest
makes it anew.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from indexes.errors import GalleryError
from indexes.store.lance import lancedb
from indexes.store.ledger import Ledger
from indexes.store.locking import locked
from indexes.store.tables import Table, manifest_version, of_lance, told

#: How files end that were written to their end, by suffix. Files of other kinds have no such mark.
_ENDS = {".manifest": b"LANC", ".lance": b"LANC", ".arrow": b"ARROW1"}


class Database:
    """A folder of Lance tables."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._connection = lancedb().connect(str(folder))
        self._looked_at: set[str] = set()

    def names(self) -> set[str]:
        """The tables there are."""
        names: set[str] = set()
        token: str | None = None
        while True:
            page = self._connection.list_tables(page_token=token)
            names.update(page.tables)
            token = page.page_token
            if not token:
                return names

    def open(self, name: str) -> Table:
        """Open a table that exists.

        Raises:
            GalleryError: if Lance cannot read it.
        """
        self._look_at(name)
        try:
            return Table(self._connection, self.folder, name)
        except Exception as error:
            if not (of_lance(error) or isinstance(error, ValueError)):
                raise
            raise GalleryError(
                f"Table {name} in {self.folder} cannot be opened "
                f"({str(error).splitlines()[0][:200]}); `cies repair` steps back to its last "
                "whole state, and the next ingest adds what is then missing."
            ) from error

    def ledger(self, name: str) -> Ledger:
        """The checksums of a table's files, as they are on the disk now."""
        return Ledger(self.folder / "checksums" / f"{name}.txt", self.folder / f"{name}.lance")

    def manifests(self, name: str) -> list[Path]:
        """A table's manifests, one a version, the newest first."""
        found = (self.folder / f"{name}.lance" / "_versions").glob("*.manifest")
        return sorted(found, key=lambda path: -manifest_version(path))

    def set_aside(self, name: str, path: Path) -> Path:
        """Move a file of a table, or a whole one, into ``quarantine``; returns where it is now."""
        aside = self.folder / "quarantine" / name
        aside.mkdir(parents=True, exist_ok=True)
        target = aside / path.name
        number = 1
        while target.exists():
            number += 1
            target = aside / f"{path.name}.{number}"
        return path.replace(target)

    def settle(self, name: str) -> None:
        """Make a table ready for its writer, whatever became of the last one; needs the lock.

        Files that are not in the ledger are of commits nobody was told of. Those commits of which
        a file was cut short are set aside, and the next ingest makes them anew; the others are
        whole, and are synced now.

        Raises:
            GalleryError: if the folder cannot be written.
        """
        folder = self.folder / f"{name}.lance"
        with told(folder):
            for path in self._cut_short(name):
                self.set_aside(name, path)
            ledger = self.ledger(name)
            if folder.is_dir() and not ledger.entries and not self.manifests(name):
                # Power was lost while the table was made.
                self.set_aside(name, folder)
                return
            ledger.enter_new()

    def _look_at(self, name: str) -> None:
        """Settle a table that a power cut left in part, when it is opened for the first time."""
        if name in self._looked_at:
            return
        self._looked_at.add(name)
        if self._cut_short(name):
            # A writer at work has settled it, and what is not whole yet is its next commit; on a
            # disk that cannot be written to, reading says what is wrong.
            with suppress(GalleryError), locked(self.folder):
                self.settle(name)

    def _cut_short(self, name: str) -> list[Path]:
        """The files of commits that are there in part: manifests, and what they speak of."""
        folder = self.folder / f"{name}.lance"
        ledger = self.ledger(name)
        torn = [folder / file for file in ledger.unknown() if _torn(folder / file)]
        found: list[Path] = []
        for path in self.manifests(name):
            known = path.relative_to(folder).as_posix() in ledger.entries
            if path in torn or (known and _size(path) == 0):
                found.append(path)
            elif torn and not known:
                meant = _meant(path, torn)
                found += [path, *(file for file in meant if file not in found)] if meant else []
        return found

    def ensure(self, name: str, schema: pa.Schema) -> Table:
        """Open a table, made empty first if it is not there.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        if name not in self.names():
            with told(self.folder):
                self._connection.create_table(name, schema=schema)
                self.ledger(name).enter_new()
        return self.open(name)


def _meant(manifest: Path, torn: list[Path]) -> list[Path]:
    """Which of these files a manifest speaks of: data by name, deletions by numbers not in it."""
    try:
        content = manifest.read_bytes()
    except FileNotFoundError:
        return []
    return [
        path
        for path in torn
        if path.parent.name == "_deletions"
        or (path.parent.name == "data" and path.name.encode() in content)
    ]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _torn(path: Path) -> bool:
    """Whether a file lacks its end; one that is gone meanwhile does not."""
    end = _ENDS.get(path.suffix)
    if end is None:
        return False
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(end)))
            return file.read() != end
    except FileNotFoundError:
        return False
