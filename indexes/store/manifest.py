"""The manifest of a gallery: named entries with JSON values, in a table and in a copy.

The table ``manifest`` is the original. The file ``gallery.json`` is a copy of it, which is read
while the table is damaged, and from which ``cies repair`` restores the table.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa

from indexes.documents import (
    DamagedDocument,
    GalleryEntry,
    checked,
    checked_entry,
    parse_entry,
)
from indexes.errors import GalleryDamaged, GalleryError
from indexes.store.database import Database
from indexes.store.manifest_copy import MANIFEST_COPY, read_copy, write_copy
from indexes.store.records import MANIFEST

_logger = logging.getLogger("cies")
_warned: set[str] = set()


class Manifest:
    """Reads and writes the entries of one gallery's manifest.

    The entries are read once and kept until the table has another set of versions, so that many
    questions cost one read, and entries that another process wrote are still seen.
    """

    def __init__(self, database: Database, fixed: bool = False):
        """Store the arguments; nothing is read yet.

        Args:
            database: the tables of the gallery.
            fixed: whether these never change, so that the entries are read once.
        """
        self._database = database
        self._fixed = fixed
        self._folder = database.folder / "manifest.lance"
        self._snapshot: tuple[object, dict[str, Any]] | None = None

    def entries(self) -> Mapping[str, Any]:
        """The entries by key; not to be changed by the caller. Each has the type of its key.

        If the table is damaged, the entries of the copy are returned, and a warning is logged.

        Raises:
            GalleryError: if the table and its copy are damaged.
        """
        state = self._state()
        if state is not None and self._snapshot is not None and self._snapshot[0] == state:
            return self._snapshot[1]
        try:
            entries = self._table_entries()
        except GalleryError as error:
            if not self._folder.is_dir():
                # Creating the gallery was interrupted, and opening the table has just removed it.
                return {}
            copy = read_copy(self._database.folder)
            if copy is None:
                raise
            _warn_once(
                f"The table manifest of {self._database.folder} is damaged, so that its copy "
                f"{MANIFEST_COPY} is used; `cies repair` restores the table."
            )
            _logger.debug("%s", error)
            entries = dict(copy.entries)
        self._snapshot = (state, entries)
        return entries

    def _table_entries(self) -> dict[str, Any]:
        """The entries of the table.

        Raises:
            GalleryError: if the table cannot be read, or an entry has not the type of its key.
        """
        try:
            return {row["key"]: parse_entry(row["key"], row["value"]) for row in self._rows()}
        except (DamagedDocument, KeyError) as error:
            raise GalleryDamaged(
                f"The manifest of {self._database.folder} is damaged ({error}); `cies repair` "
                f"restores it from {MANIFEST_COPY}."
            ) from error

    def readable_entries(self) -> tuple[dict[str, Any], list[str]]:
        """The undamaged entries by key, and the keys of the others.

        Raises:
            GalleryError: if the table cannot be read.
        """
        entries: dict[str, Any] = {}
        others: list[str] = []
        for row in self._rows():
            try:
                entries[row["key"]] = parse_entry(row["key"], row["value"])
            except (DamagedDocument, KeyError):
                others.append(str(row.get("key")))
        return entries, others

    def about(self) -> GalleryEntry | None:
        """The entry of the gallery as a whole; ``None`` if creating it was interrupted."""
        entry = self.entries().get("gallery")
        return None if entry is None else checked(entry, GalleryEntry)

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Add or replace an entry, in the table and in the copy; durable on return.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        self.put_row(key, value)
        self.write_copy()

    def put_row(self, key: str, value: Mapping[str, Any]) -> None:
        """As :meth:`put`, in the table alone."""
        row = manifest_row(key, checked_entry(key, dict(value)))
        snapshot = self._snapshot
        is_newest = snapshot is not None and snapshot[0] == self._state()
        self._database.open("manifest").upsert(row)
        self._snapshot = None
        if snapshot is not None and is_newest:
            # The caller holds the writer's lock: no other process has committed in between.
            entries = {k: v for k, v in snapshot[1].items() if k != key}
            entries[key] = json.loads(row.column("value")[0].as_py())
            self._snapshot = (self._state(), entries)

    def remove(self, key: str) -> None:
        """Remove an entry from the table and the copy; durable on return.

        The copy comes first: after a crash between the two, the entry is still there, and the
        copy does not bring back an entry that the table has lost on purpose.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        table = self._database.open("manifest")
        self._write_copy({k: v for k, v in self.entries().items() if k != key})
        table.delete([key])

    def write_copy(self) -> None:
        """Replace the copy with the entries of the table.

        Raises:
            GalleryError: if it cannot be written.
        """
        self._write_copy(self.entries())

    def _write_copy(self, entries: Mapping[str, Any], durable: bool = True) -> None:
        try:
            write_copy(self._database.folder, entries, self._database.guards(), durable)
        except OSError as error:
            raise GalleryError(
                f"Cannot write to {self._database.folder}: "
                f"{(error.strerror or str(error)).lower()}. What was stored before is safe; run "
                "the same command again to continue."
            ) from error

    def record_ledgers(self) -> None:
        """Store count and hash of every ledger in the copy, if they have changed; and write the
        copy again if it is missing or damaged. The caller holds the writer's lock.

        Raises:
            GalleryError: if it cannot be written.
        """
        entries = self.entries()
        if "gallery" not in entries:
            return
        copy = None
        with suppress(GalleryDamaged):
            copy = read_copy(self._database.folder)
        if copy is None or dict(copy.guards) != self._database.guards():
            self._write_copy(entries, durable=False)

    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._database.open("manifest").read().to_pylist()
        return rows

    def _state(self) -> object:
        """Identifies the committed versions of the table; ``None`` if that is not possible."""
        if self._fixed:
            return "fixed"
        try:
            return self._folder.stat().st_ino, self._database.version_names("manifest")
        except OSError:
            return None


def manifest_row(key: str, value: Mapping[str, Any]) -> pa.Table:
    """An entry of the manifest as a row of its table."""
    text = json.dumps(dict(value), sort_keys=True)
    return pa.Table.from_pylist([{"key": key, "value": text}], schema=MANIFEST)


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        _logger.warning(text)
