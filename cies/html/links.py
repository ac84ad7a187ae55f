"""Links from pages to the pictures' files, and copies of those that browsers cannot show."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from urllib.parse import quote

from indexes.errors import UsageError
from indexes.files import write_atomic
from indexes.store.records import inside, is_address
from ingest.read.readers import Readers
from ingest.sources.base import SourceFile
from ingest.sources.factory import file_at
from query.explore.thumbnails import as_jpeg

#: Suffixes of the files that every browser shows.
_SHOWN_BY_BROWSERS = frozenset(".jpg .jpeg .jpe .jfif .png .apng .gif .webp .bmp .avif".split())

#: Longest side of a copy in pixels.
COPY = 1600


def file_address(path: str, folder: Path) -> str:
    """The address of a picture's file for a page, or an empty text if there is none to link to.

    Args:
        path: where the file is on this machine, or its address.
        folder: the folder of the page; addresses are relative to it where the drive is the same.
    """
    if is_address(path):
        return quote(path, safe=":/?&=%#@+,;~") if path.startswith(("http://", "https://")) else ""
    if not path or inside(path) or not Path(path).is_file():
        return ""
    try:
        way = os.path.relpath(path, folder.resolve())
    except ValueError:  # another drive of Windows
        return Path(path).as_uri()
    return quote(os.fsencode(way).replace(os.fsencode(os.sep), b"/"))


def needs_copy(path: str) -> bool:
    """Whether browsers do not show a file of this name: HEIC, TIFF, raw files of cameras."""
    return PurePath(path).suffix.lower() not in _SHOWN_BY_BROWSERS


def write_copies(paths: Mapping[str, Sequence[str]], folder: Path) -> dict[str, str]:
    """Write a JPEG of each picture whose file browsers do not show; existing ones are kept.

    Args:
        paths: content key to where the files of the picture are.
        folder: the folder of the copies; created if there are any.

    Returns:
        Content key to the name of the copy, of those that could be written.

    Raises:
        OSError: if a copy cannot be written.
    """
    wanted = {key: own for key, own in paths.items() if own and needs_copy(own[0])}
    names = {key: f"{key[:32]}.jpg" for key in wanted}
    missing = [key for key in wanted if not (folder / names[key]).is_file()]
    found = {key: names[key] for key in wanted if key not in missing}
    readers = Readers[SourceFile](lambda key: True, COPY)
    files = (_source_file(wanted[key][0]) for key in missing)
    for key, result in zip(missing, readers.read_all(files), strict=True):
        if result.picture is not None:
            write_atomic(folder / names[key], as_jpeg(result.picture.image), durable=False)
            found[key] = names[key]
    return found


def _source_file(location: str) -> SourceFile:
    try:
        return file_at(location)
    except UsageError as error:
        return SourceFile(location, status="unreadable", reason=str(error))
