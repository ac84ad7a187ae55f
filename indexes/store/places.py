"""Where the files of a gallery are on this machine now."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from indexes.store.gallery import Gallery
from indexes.store.records import inside, is_address, unescaped


def existing_path(gallery: Gallery, paths: Sequence[str]) -> tuple[str, bool]:
    """The place of a picture that exists now.

    Relative paths are looked up beside the gallery and, after it was moved or copied alone, where
    it was before. Addresses on other systems are taken to exist.

    Args:
        gallery: the gallery.
        paths: the stored paths of the picture's files, at least one.

    Returns:
        The first location, absolute or an address, that exists, and ``True``; if none does, the
        first location and ``False``.
    """
    for path, location in _locations(gallery, paths):
        if is_address(path) or os.path.lexists(container_location(location)):
            return location, True
    return gallery.location(paths[0]), False


def _locations(gallery: Gallery, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The places where files may be: each stored path with a location."""
    for path in paths:
        yield path, gallery.location(path)
    for before in gallery.earlier_roots():
        for path in paths:
            if not is_address(path) and not Path(path).is_absolute():
                yield path, str(before / unescaped(path))


def container_location(location: str) -> str:
    """The file on disk at a location: the file itself, or the archive or table around it."""
    parts = inside(location)
    return parts[0] if parts else location
