"""Looks after what is cached of a gallery as a whole: checked on request, dropped when it must."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from indexes.search.files import check_index
from indexes.search.row_cache import HEADER, DamagedCache, read_base, row_hashes

#: Rows checked at once.
_ROWS = 65_536


def damaged_caches(indexes: Path) -> list[tuple[str, str]]:
    """Check every byte of every cache of a gallery.

    Args:
        indexes: the gallery's folder of caches.

    Returns:
        Table and what is wrong, for each cache that is not what it was when it was written.
    """
    found = []
    for folder in sorted(indexes.glob("c_*/*")):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        table = folder.parent.name
        try:
            base = read_base(folder)
            for start in range(0, len(base), _ROWS):
                part = slice(start, start + _ROWS)
                if not np.array_equal(row_hashes(base.halves[part]), base.hashes[part]):
                    raise DamagedCache(f"{folder} has changed vectors")
            for about in sorted(folder.glob("index-*.json")):
                check_index(about)
        except DamagedCache as error:
            # Another process may have replaced it while it was read.
            if folder.is_dir():
                found.append((table, str(error)))
    return found


def forget_caches(indexes: Path, tables: Iterable[str]) -> None:
    """Drop all cached rows, as when pictures are forgotten; the choice of an index is kept.

    Args:
        indexes: the gallery's folder of caches.
        tables: those the gallery has; of others nothing is kept.
    """
    known = set(tables)
    for folder in indexes.glob("c_*"):
        if folder.name not in known:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        for path in folder.iterdir():
            if path.is_dir():
                # Without its header it is read no more, even if the rest cannot be removed yet.
                with suppress(OSError):
                    (path / HEADER).unlink(missing_ok=True)
                shutil.rmtree(path, ignore_errors=True)
