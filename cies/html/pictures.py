"""A folder's own thumbnails: one file a picture, made once, by processes that may die."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path

from indexes.errors import UsageError
from ingest.fill.pipeline import Progress
from ingest.read.readers import Readers
from ingest.sources.base import Found
from ingest.sources.factory import located
from query.explore.thumbnails import THUMBNAIL, as_jpeg, kept

#: How a JPEG ends; a file that does not was cut short.
_END = b"\xff\xd9"


def place_of(key: str) -> str:
    """Where a picture's thumbnail lies in the folder of thumbnails: two characters, then it."""
    return f"{key[:2]}/{key}.jpg"


def write_thumbnails(
    paths: Mapping[str, Sequence[str]],
    folder: Path,
    progress: Callable[[Progress], None] = lambda state: None,
) -> set[str]:
    """Make the thumbnails that are not there yet.

    Files are read and decoded as an ingest does it, in processes with limits of memory and time.
    A file that changed since it was embedded is another picture and is not shown.

    Args:
        paths: content key to the places of the files that hold it, as
            :meth:`indexes.store.gallery.Gallery.location` gives them.
        folder: of the thumbnails; made if it is not there.
        progress: told after each picture.

    Returns:
        The keys of pictures that cannot be shown, since none of their files can be read any more.

    Raises:
        OSError: if the folder cannot be written to.
    """
    missing = {key: None for key in paths if not _whole(folder / place_of(key))}
    done = len(paths) - len(missing)
    made = 0

    def tell(key: str, data: bytes) -> None:
        nonlocal done, made
        write_whole(folder / place_of(key), data)
        del missing[key]
        done, made = done + 1, made + 1
        progress(Progress(done, len(paths), made, 0))

    progress(Progress(done, len(paths), 0, 0))
    for key in list(missing):
        data = kept(key)
        if data is not None:
            tell(key, data)
    for turn in range(max((len(paths[key]) for key in missing), default=0)):
        asked = [key for key in missing if len(paths[key]) > turn]
        readers = Readers[Found](missing.__contains__, THUMBNAIL)
        taken = readers.ahead(_found(paths[key][turn] for key in asked))
        for key, one in zip(asked, taken, strict=True):
            if one.picture is not None and one.record.key == key and key in missing:
                tell(key, as_jpeg(one.picture.image))
    if missing:
        progress(Progress(len(paths), len(paths), made, len(missing)))
    return set(missing)


def _found(locations: Iterator[str]) -> Iterator[Found]:
    for location in locations:
        try:
            yield located(location)
        except UsageError as error:
            yield Found(location, status="unreadable", reason=str(error))


def _whole(path: Path) -> bool:
    """Whether a thumbnail is there to its end."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_END), os.SEEK_END)
            return file.read() == _END
    except OSError:
        return False


def drop_other_thumbnails(folder: Path, wanted: Container[str]) -> None:
    """Take away thumbnails of other pictures, and what killed runs left half written.

    Args:
        folder: of the thumbnails.
        wanted: content keys of those that stay.
    """
    for path in folder.glob("??/*"):
        if path.suffix == ".partial" or (path.suffix == ".jpg" and path.stem not in wanted):
            path.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that at any moment the old one or the whole new one is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)
