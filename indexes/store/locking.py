"""The lock of a gallery's one writer."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from indexes.errors import GalleryError, GalleryLocked


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the one writer's lock of the gallery in a folder; nothing else is looked at.

    Raises:
        GalleryLocked: if somebody holds it; said at once, nothing is changed.
        GalleryError: if the gallery cannot be written to.
    """
    import filelock

    lock = filelock.FileLock(str(folder / "lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise GalleryLocked(
            f"Another process is writing to the gallery at {folder}; wait for it to "
            "end, searching is possible meanwhile."
        ) from error
    except OSError as error:
        raise GalleryError(
            f"The gallery at {folder} cannot be written to "
            f"({(error.strerror or str(error)).lower()}); it can be searched all the same."
        ) from error
    try:
        yield
    finally:
        lock.release()
