"""Which vectors a gallery has of each picture, in memory during an ingest."""

from __future__ import annotations

from typing import Sequence

from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.fill.embedding import EmbeddedBatch
from ingest.scan.known_files import KnownKeys, short_key


class Inventory:
    """Looks up pictures by content key; many threads may read while one adds."""

    def __init__(self, gallery: Gallery, tables: Sequence[VectorTable]):
        """Read the keys of every table.

        Args:
            gallery: the gallery that is filled.
            tables: its conditions, of all vector sources.

        Raises:
            GalleryError: if a table is damaged.
        """
        self.tables = tuple(tables)
        self.keys = KnownKeys(gallery.stored_keys(table) for table in tables)
        self._numbers = {table.table: number for number, table in enumerate(tables)}
        self._images = {short_key(key) for key in gallery.image_keys()}
        self._refused: dict[str, dict[int, str]] = {}

    def known(self, key: str) -> bool:
        """Whether a picture is embedded under any condition."""
        return self.keys.known(key)

    def needed(self, key: str) -> bool:
        """Whether the picture must be decoded: to embed it, or to store its size and format."""
        return not self.has_image(key) or bool(self.keys.missing(key))

    def of_source(self, tables: Sequence[VectorTable]) -> SourceInventory:
        """The part of one vector source, with its tables."""
        return SourceInventory(self, frozenset(self._numbers[table.table] for table in tables))

    def add(self, batch: EmbeddedBatch) -> int:
        """Record pictures that were just embedded and will be stored.

        Returns:
            How many of these pictures no vector source had embedded before in this run.
        """
        numbers = [self._numbers[table.table] for table in batch.tables]
        for number in numbers:
            self.keys.add(number, batch.keys)
        for key in self._refused.keys() & set(batch.keys) if self._refused else ():
            for number in numbers:
                self._refused[key].pop(number, None)
        self._images.update(map(short_key, batch.keys))
        for key, reason in batch.refused.items():
            self._refused.setdefault(key, {}).update(dict.fromkeys(numbers, reason))
        return self.keys.count_new(batch.keys) if numbers else 0

    def refusal(self, key: str) -> str:
        """Why an encoder gave no vector for a picture; empty if none has refused it."""
        return next(iter(self._refused.get(key, {}).values()), "")

    def is_waiting(self, key: str) -> bool:
        """Whether a picture lacks a condition under which no encoder has refused it."""
        missing = self.keys.missing(key)
        if not missing or key not in self._refused:
            return bool(missing)
        return any(number not in self._refused[key] for number in missing)

    def has_image(self, key: str) -> bool:
        """Whether the picture's size and format are stored."""
        return short_key(key) in self._images


class SourceInventory:
    """The tables of one vector source in an :class:`Inventory`."""

    def __init__(self, inventory: Inventory, numbers: frozenset[int]):
        self._inventory = inventory
        self._numbers = numbers
        self._missing: dict[tuple[int, ...], tuple[VectorTable, ...]] = {}

    def missing(self, key: str) -> tuple[VectorTable, ...]:
        """The tables that do not contain a picture yet."""
        numbers = self._inventory.keys.missing(key)
        if numbers not in self._missing:
            tables = self._inventory.tables
            self._missing[numbers] = tuple(tables[n] for n in numbers if n in self._numbers)
        return self._missing[numbers]

    def needed(self, key: str) -> bool:
        """Whether the picture must be decoded for this vector source."""
        return not self._inventory.has_image(key) or bool(self.missing(key))
