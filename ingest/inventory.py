"""What a gallery has of each picture, kept in memory while it is filled."""

from __future__ import annotations

from typing import Sequence

from indexes.gallery import Gallery
from indexes.records import VectorTable
from ingest.embedding import Embedded
from ingest.known import KnownKeys


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
        self.keys = KnownKeys(gallery.stored_keys(table) for table in tables)
        self._numbers = {table.table: number for number, table in enumerate(tables)}
        self._images = {_short(key) for key in gallery.image_keys()}

    def missing(self, key: str) -> tuple[VectorTable, ...]:
        """The conditions a picture is not yet embedded under."""
        return tuple(self.tables[number] for number in self.keys.missing(key))

    def known(self, key: str) -> bool:
        """Whether a picture is embedded under any condition."""
        return self.keys.known(key)

    def needed(self, key: str) -> bool:
        """Whether the picture must be looked at: to be embedded, or to learn its size."""
        return _short(key) not in self._images or bool(self.keys.missing(key))

    def add(self, part: Embedded) -> None:
        """Count in what was just embedded and will be stored."""
        for table in part.tables:
            self.keys.add(self._numbers[table.table], part.keys)
        self._images.update(map(_short, part.keys))


def _short(key: str) -> bytes:
    """Half of a key, which tells pictures apart as well and takes a quarter of the memory."""
    return bytes.fromhex(key[:32])
