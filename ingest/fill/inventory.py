"""What a gallery has of each picture, kept in memory while it is filled."""

from __future__ import annotations

from typing import Sequence

from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.fill.embedding import Embedded
from ingest.scan.known_files import KnownKeys


class Inventory:
    """Answers by content key; safe to be asked by many threads while one adds."""

    def __init__(self, gallery: Gallery, tables: Sequence[VectorTable]):
        """Read the keys of every table.

        Args:
            gallery: the one that is filled.
            tables: its conditions, of all makers.

        Raises:
            GalleryError: if a table is damaged.
        """
        self.tables = tuple(tables)
        self.keys = KnownKeys(gallery.stored_keys(table) for table in tables)
        self._numbers = {table.table: number for number, table in enumerate(tables)}
        self._images = {_short(key) for key in gallery.image_keys()}
        self._refused: dict[str, dict[int, str]] = {}

    def known(self, key: str) -> bool:
        """Whether a picture is embedded under any condition."""
        return self.keys.known(key)

    def needed(self, key: str) -> bool:
        """Whether the picture must be looked at: to be embedded, or to learn its size."""
        return _short(key) not in self._images or bool(self.keys.missing(key))

    def share(self, tables: Sequence[VectorTable]) -> Share:
        """The part of one maker."""
        return Share(self, frozenset(self._numbers[table.table] for table in tables))

    def add(self, part: Embedded) -> int:
        """Count in what was just embedded and will be stored.

        Returns:
            How many of these pictures nobody had embedded before since this was made.
        """
        numbers = [self._numbers[table.table] for table in part.tables]
        for number in numbers:
            self.keys.add(number, part.keys)
        for key in self._refused.keys() & set(part.keys) if self._refused else ():
            for number in numbers:
                self._refused[key].pop(number, None)
        self._images.update(map(_short, part.keys))
        for key, reason in part.refused.items():
            self._refused.setdefault(key, {}).update(dict.fromkeys(numbers, reason))
        return self.keys.count_new(part.keys) if numbers else 0

    def refused(self, key: str) -> str:
        """Why an encoder gave no vector for a picture; empty if none has refused it."""
        return next(iter(self._refused.get(key, {}).values()), "")

    def waits(self, key: str) -> bool:
        """Whether a picture lacks a condition that it was not refused under."""
        missing = self.keys.missing(key)
        if not missing or key not in self._refused:
            return bool(missing)
        return any(number not in self._refused[key] for number in missing)

    def known_image(self, key: str) -> bool:
        """Whether its size and format are known."""
        return _short(key) in self._images


class Share:
    """The tables that one maker fills."""

    def __init__(self, inventory: Inventory, numbers: frozenset[int]):
        self._inventory = inventory
        self._numbers = numbers
        self._of: dict[tuple[int, ...], tuple[VectorTable, ...]] = {}

    def missing(self, key: str) -> tuple[VectorTable, ...]:
        """Those that a picture is not in yet."""
        numbers = self._inventory.keys.missing(key)
        if numbers not in self._of:
            tables = self._inventory.tables
            self._of[numbers] = tuple(tables[n] for n in numbers if n in self._numbers)
        return self._of[numbers]

    def needed(self, key: str) -> bool:
        """Whether the picture must be looked at for it."""
        return not self._inventory.known_image(key) or bool(self.missing(key))


def _short(key: str) -> bytes:
    """Half of a key, which tells pictures apart as well and takes a quarter of the memory."""
    return bytes.fromhex(key[:32])
