"""Atomic replacement of files: a reader finds the old content or the new, never a part."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a file or folder to the disk. Windows cannot flush folders; they are skipped there.

    Raises:
        OSError: if the disk reports an error, or the path does not exist.
    """
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, durable: bool = True, parents: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` that replaces ``path`` when the block ends.

    When the block raises, the temporary file is removed and ``path`` is left as it was. Several
    processes and threads may replace one path.

    Args:
        path: the file to create or replace.
        durable: flush the file and its folder to the disk, so that the new content survives a
            power cut. Caches can do without.
        parents: create the folder if it does not exist.

    Raises:
        OSError: if the file cannot be written.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept, because some libraries choose the format from it.
    name = f".{path.stem}.{os.getpid()}.{threading.get_ident()}{path.suffix}"
    temporary = path.with_name(name)
    try:
        yield temporary
        if durable:
            sync(temporary)
        temporary.replace(path)
        if durable:
            sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes, durable: bool = True, parents: bool = True) -> None:
    """Write a file as a whole; see :func:`replacing` for the arguments and errors."""
    with replacing(path, durable, parents) as temporary:
        temporary.write_bytes(data)
