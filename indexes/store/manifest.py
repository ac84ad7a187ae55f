"""The manifest of a gallery: named entries with JSON values, in a table and in a copy.

The table ``manifest`` is the original. The file ``gallery.json`` is a copy of it, from which
``cies repair`` restores entries that the table has lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from indexes.errors import GalleryError
from indexes.files import write_atomic
from indexes.store.database import Database
from indexes.store.records import MANIFEST

#: Name of the copy, in the gallery's folder.
MANIFEST_COPY = "gallery.json"


class Manifest:
    """Reads and writes the entries of one gallery's manifest.

    The entries are read once and kept until the table has another set of versions, so that many
    questions cost one read, and entries that another process wrote are still seen.
    """

    def __init__(self, database: Database):
        self._database = database
        self._folder = database.folder / "manifest.lance"
        self._snapshot: tuple[object, dict[str, Any]] | None = None

    def entries(self) -> Mapping[str, Any]:
        """The entries by key; not to be changed by the caller.

        Raises:
            GalleryError: if the table cannot be read, or an entry is not JSON.
        """
        state = self._state()
        if state is not None and self._snapshot is not None and self._snapshot[0] == state:
            return self._snapshot[1]
        try:
            rows = self._rows()
        except GalleryError:
            if self._folder.is_dir():
                raise
            # Creating the gallery was interrupted, and opening the table has just removed it.
            return {}
        try:
            entries = {row["key"]: json.loads(row["value"]) for row in rows}
        except ValueError as error:
            raise GalleryError(
                f"The manifest of {self._database.folder} is damaged ({error}); `cies repair` "
                f"restores it from {MANIFEST_COPY}."
            ) from error
        self._snapshot = (state, entries)
        return entries

    def readable_entries(self) -> dict[str, Any]:
        """The entries by key, without those that are not JSON.

        Raises:
            GalleryError: if the table cannot be read.
        """
        entries: dict[str, Any] = {}
        for row in self._rows():
            try:
                entries[row["key"]] = json.loads(row["value"])
            except (ValueError, TypeError):
                continue
        return entries

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Add or replace an entry, in the table and in the copy; durable on return.

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        self.put_row(key, value)
        self.write_copy()

    def put_row(self, key: str, value: Mapping[str, Any]) -> None:
        """As :meth:`put`, in the table alone."""
        row = manifest_row(key, value)
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

        Raises:
            GalleryError: if the disk is full or the folder cannot be written.
        """
        self._database.open("manifest").delete([key])
        self.write_copy()

    def write_copy(self) -> None:
        """Replace the copy with the entries of the table.

        Raises:
            GalleryError: if it cannot be written.
        """
        text = json.dumps(self.entries(), indent=1, sort_keys=True)
        try:
            write_atomic(self._database.folder / MANIFEST_COPY, text.encode())
        except OSError as error:
            raise GalleryError(
                f"Cannot write to {self._database.folder}: "
                f"{(error.strerror or str(error)).lower()}. What was stored before is safe; run "
                "the same command again to continue."
            ) from error

    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._database.open("manifest").read().to_pylist()
        return rows

    def _state(self) -> object:
        """Identifies the committed versions of the table; ``None`` if that is not possible."""
        try:
            names = sorted(path.name for path in (self._folder / "_versions").iterdir())
            return self._folder.stat().st_ino, names
        except OSError:
            return None


def manifest_row(key: str, value: Mapping[str, Any]) -> pa.Table:
    """An entry of the manifest as a row of its table."""
    text = json.dumps(dict(value), sort_keys=True)
    return pa.Table.from_pylist([{"key": key, "value": text}], schema=MANIFEST)


def read_copy(folder: Path) -> dict[str, Any]:
    """The entries in the manifest's copy; empty if the copy is missing or damaged."""
    try:
        document = json.loads((folder / MANIFEST_COPY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
