"""The progress of an ingest, for other processes: a small file in the folder of caches.

It is written at most once a second and is not flushed to the disk. A file that a killed process
left is recognised by the number of the process.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from indexes.documents import Count, DamagedDocument, Document, parse
from indexes.files import replacing

_NAME = "ingest.json"

#: Seconds between two writes, and after which a file of another machine is too old.
_INTERVAL, _OLD = 1.0, 600.0


class RunningIngest(Document):
    """The progress of an ingest that runs now.

    Attributes:
        process: the number of its process.
        machine: the name of its machine.
        done: files processed, of ``total``.
        total: files to process; 0 while they are counted.
        failed: files that could not be read.
    """

    process: int
    machine: str
    done: Count = 0
    total: Count = 0
    failed: Count = 0


@contextmanager
def published_progress(folder: Path) -> Iterator[Callable[[int, int, int], None]]:
    """Let other processes see the progress of the ingest that runs in this block.

    Args:
        folder: the gallery's folder of caches. If it cannot be written, nothing is published.

    Yields:
        A function that takes done, total and failed.
    """
    path, written, announced = folder / _NAME, 0.0, -1

    def publish(done: int, total: int, failed: int) -> None:
        nonlocal written, announced
        now = time.monotonic()
        if total == announced and now - written < _INTERVAL and done < total:
            return
        written, announced = now, total
        state = RunningIngest(
            process=os.getpid(),
            machine=socket.gethostname(),
            done=done,
            total=total,
            failed=failed,
        )
        with suppress(OSError), replacing(path, durable=False) as temporary:
            temporary.write_text(state.model_dump_json(), encoding="utf-8")

    publish(0, 0, 0)
    try:
        yield publish
    finally:
        with suppress(OSError):
            path.unlink()


def running_ingest(folder: Path) -> RunningIngest | None:
    """The ingest that another process runs, if there is one.

    Args:
        folder: the gallery's folder of caches.
    """
    path = folder / _NAME
    try:
        found = parse(path.read_bytes()[:4096], RunningIngest)
        age = time.time() - path.stat().st_mtime
    except (OSError, DamagedDocument):
        return None
    if found.machine != socket.gethostname():
        return found if age < _OLD else None
    return found if _is_alive(found.process) else None


def _is_alive(process: int) -> bool:
    if process <= 0:
        return False
    if os.name == "nt":  # there, signal 0 would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
