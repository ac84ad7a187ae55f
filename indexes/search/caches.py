"""Checks and removes the caches of a whole gallery."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from indexes.search.cache_folder import CHOICE, IndexChoice
from indexes.search.index_files import check_index
from indexes.search.row_cache import (
    HEADER,
    DamagedCache,
    read_checked,
    read_row_cache,
    row_hashes,
)

#: Rows checked at once.
_ROWS = 65_536


def damaged_caches(indexes: Path) -> list[tuple[str, str]]:
    """Check every byte of every cache of a gallery.

    Args:
        indexes: the gallery's folder of caches.

    Returns:
        Table and description of the damage, for each damaged cache.
    """
    found = []
    for choice in sorted(indexes.glob(f"c_*/{CHOICE}")):
        try:
            read_checked(choice, IndexChoice)
        except DamagedCache as error:
            if choice.is_file():
                found.append((choice.parent.name, str(error)))
    for folder in sorted(indexes.glob("c_*/*")):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        table = folder.parent.name
        try:
            cache = read_row_cache(folder)
            for start in range(0, len(cache), _ROWS):
                block = slice(start, start + _ROWS)
                if not np.array_equal(row_hashes(cache.halves[block]), cache.hashes[block]):
                    raise DamagedCache(f"{folder} has changed vectors")
            for header in sorted(folder.glob("index-*.json")):
                check_index(header)
        except DamagedCache as error:
            # Another process may have replaced it while it was read.
            if folder.is_dir():
                found.append((table, str(error)))
    return found


def forget_caches(indexes: Path, tables: Iterable[str]) -> None:
    """Remove all caches, such as after pictures were removed; the choice of an index is kept.

    Args:
        indexes: the gallery's folder of caches.
        tables: names of the gallery's tables; folders of other tables are removed as a whole.
    """
    names = set(tables)
    for folder in indexes.glob("c_*"):
        if folder.name not in names:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        for path in folder.iterdir():
            if path.is_dir():
                # Without its header it is not read, even if the rest cannot be removed yet.
                with suppress(OSError):
                    (path / HEADER).unlink(missing_ok=True)
                shutil.rmtree(path, ignore_errors=True)
