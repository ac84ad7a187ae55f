"""The lock of a gallery's writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexes.errors import GalleryError, GalleryLocked


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the writer's lock of the gallery in a folder. The gallery itself is not opened.

    Raises:
        GalleryLocked: if another process holds the lock; raised at once.
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
            f"({(error.strerror or str(error)).lower()}); it can still be searched."
        ) from error
    try:
        yield
    finally:
        lock.release()
