"""Finding the picture files below a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from ingest.images import SUFFIXES, UNSUPPORTED

#: Folders that systems make for themselves.
_JUNK = frozenset({"@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information"})


@dataclass(frozen=True)
class Found:
    """A file whose name says picture, or a folder or file that cannot be looked into.

    Attributes:
        path: where it lies.
        size: bytes, or 0 where unknown.
        mtime_ns: nanoseconds since 1970, or 0 where unknown.
        status: empty if it can be read as far as one sees, else an outcome code.
        reason: for people, with ``status``.
    """

    path: Path
    size: int = 0
    mtime_ns: int = 0
    status: str = ""
    reason: str = ""


def scan(source: Path) -> Iterator[Found]:
    """Walk a folder in name order, or look at one file.

    Hidden and system files are passed over, links are not followed, and files whose name is not
    that of a picture are left out.

    Args:
        source: a folder or a file.
    """
    if not source.is_dir():
        yield _look(source)
        return
    try:
        with os.scandir(source) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield Found(source, status="unreadable", reason=(error.strerror or str(error)).lower())
        return
    for entry in ordered:
        if entry.name.startswith(".") or entry.name in _JUNK:
            continue
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from scan(path)
        elif path.suffix.lower() in SUFFIXES or path.suffix.lower() in UNSUPPORTED:
            yield _look(path)


def _look(path: Path) -> Found:
    suffix = path.suffix.lower()
    if suffix in UNSUPPORTED:
        return Found(path, status="unsupported", reason=UNSUPPORTED[suffix])
    try:
        about = os.lstat(path)
    except OSError as error:
        return Found(path, status="vanished", reason=(error.strerror or str(error)).lower())
    return Found(path, about.st_size, about.st_mtime_ns)
