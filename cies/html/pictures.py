"""The thumbnails of a folder of pages: one file a picture, made once.

Pictures are decoded in processes with limits of memory and time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path

from indexes.errors import UsageError
from indexes.files import write_atomic
from ingest.fill.pipeline import Progress
from ingest.read.readers import Readers
from ingest.sources.base import SourceFile
from ingest.sources.factory import file_at
from query.explore.thumbnails import THUMBNAIL, as_jpeg, cached_thumbnail

#: The last bytes of a JPEG; a file that ends otherwise was cut short.
_END = b"\xff\xd9"

#: Names of files that a killed run left: those of :func:`indexes.files.replacing`, and of earlier
#: versions.
_TEMPORARY = re.compile(
    r"\.[a-z0-9.-]+\.\d+\.\d+\.(html|json|css|jpg)|[a-z0-9.-]+\.(html|json|css|jpg)\.partial"
)


def is_temporary(path: Path) -> bool:
    """Whether a file was left half-written by a run that was killed."""
    return _TEMPORARY.fullmatch(path.name) is not None


def thumbnail_path(key: str) -> str:
    """The path of a picture's thumbnail within the folder of thumbnails."""
    return f"{key[:2]}/{key}.jpg"


def write_thumbnails(
    paths: Mapping[str, Sequence[str]],
    folder: Path,
    progress: Callable[[Progress], None] = lambda state: None,
) -> set[str]:
    """Make the thumbnails that do not exist yet.

    Files are read and decoded as by an ingest. A file that changed since it was embedded is
    another picture and is not shown.

    Args:
        paths: content key to the places of the files that hold it, as
            :meth:`indexes.store.gallery.Gallery.location` gives them.
        folder: the folder of the thumbnails; created if it does not exist.
        progress: called after each picture.

    Returns:
        The keys of pictures that cannot be shown, because none of their files can be read.

    Raises:
        OSError: if a thumbnail cannot be written.
    """
    missing = {key: None for key in paths if not _complete(folder / thumbnail_path(key))}
    done = len(paths) - len(missing)
    made = 0

    def add(key: str, data: bytes) -> None:
        nonlocal done, made
        write_atomic(folder / thumbnail_path(key), data, durable=False)
        del missing[key]
        done, made = done + 1, made + 1
        progress(Progress(done, len(paths), made, 0))

    progress(Progress(done, len(paths), 0, 0))
    for key in list(missing):
        data = cached_thumbnail(key)
        if data is not None:
            add(key, data)
    # First the first file of each picture, then the second of those whose first cannot be shown.
    for copy in range(max((len(paths[key]) for key in missing), default=0)):
        wanted = [key for key in missing if len(paths[key]) > copy]
        readers = Readers[SourceFile](missing.__contains__, THUMBNAIL)
        results = readers.read_all(_source_files(paths[key][copy] for key in wanted))
        for key, result in zip(wanted, results, strict=True):
            if result.picture is not None and result.record.key == key and key in missing:
                add(key, as_jpeg(result.picture.image))
    if missing:
        progress(Progress(len(paths), len(paths), made, len(missing)))
    return set(missing)


def _source_files(locations: Iterator[str]) -> Iterator[SourceFile]:
    for location in locations:
        try:
            yield file_at(location)
        except UsageError as error:
            yield SourceFile(location, status="unreadable", reason=str(error))


def _complete(path: Path) -> bool:
    """Whether a thumbnail exists and is complete."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_END), os.SEEK_END)
            return file.read() == _END
    except OSError:
        return False


def drop_other_thumbnails(folder: Path, wanted: Container[str]) -> None:
    """Delete thumbnails of other pictures, and what killed runs left half-written.

    Args:
        folder: the folder of the thumbnails.
        wanted: content keys of the thumbnails that stay.
    """
    for path in folder.glob("??/*"):
        if is_temporary(path) or (path.suffix == ".jpg" and path.stem not in wanted):
            path.unlink(missing_ok=True)
