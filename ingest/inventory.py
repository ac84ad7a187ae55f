"""What a gallery has of each picture, kept in memory while it is filled."""

from __future__ import annotations

from typing import Sequence

from indexes.gallery import Gallery
from indexes.records import VectorTable
from ingest.embedding import Embedded


class Inventory:
    """Answers by content key; safe to be asked by many threads while one adds."""

    def __init__(self, gallery: Gallery, tables: Sequence[VectorTable]):
        """Read the keys of every table.

        Args:
            gallery: the one that is filled.
            tables: its conditions.

        Raises:
            GalleryError: if a table is damaged.
        """
        self.tables = tuple(tables)
        self._have = {table.table: gallery.keys(table) for table in tables}
        self._images = gallery.image_keys()

    def missing(self, key: str) -> tuple[VectorTable, ...]:
        """The conditions a picture is not yet embedded under."""
        return tuple(table for table in self.tables if key not in self._have[table.table])

    def known(self, key: str) -> bool:
        """Whether a picture is embedded under any condition."""
        return any(key in keys for keys in self._have.values())

    def needed(self, key: str) -> bool:
        """Whether the picture must be looked at: to be embedded, or to learn its size."""
        return key not in self._images or bool(self.missing(key))

    def add(self, part: Embedded) -> None:
        """Count in what was just embedded and will be stored."""
        for table in part.tables:
            self._have[table.table].update(part.keys)
        self._images.update(part.keys)
