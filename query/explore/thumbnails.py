"""Small pictures for the pages, kept in the user's cache, which may be emptied at any time."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path, PurePath

from PIL import Image

from indexes.errors import UsageError
from ingest.read.images import UnreadableImage, decode
from ingest.sources.factory import file_at

#: Longest side in pixels.
THUMBNAIL = 176

#: Bytes of thumbnails kept, about twenty thousand; the oldest go first.
LIMIT = 128 * 2**20


def folder() -> Path:
    """Where thumbnails are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("cies", appauthor=False)) / "thumbnails"


def thumbnail(path: str | Path, key: str = "") -> bytes | None:
    """A picture as a small JPEG.

    Args:
        path: of its file, wherever that lies.
        key: its content key, under which it is kept; without one it is made each time.

    Returns:
        The file's bytes, or ``None`` if the picture is not kept and cannot be read any more.
    """
    data = kept(key)
    if data is not None:
        return data
    try:
        content = file_at(str(path)).read()
        image = decode(content.data, THUMBNAIL, PurePath(path).suffix.lower()).image
    except (UnreadableImage, UsageError):
        return None
    data = as_jpeg(image)
    # A file that changed since is another picture, and is shown but not kept.
    if content.key == key:
        _keep(_place(key), data)
    return data


def kept(key: str) -> bytes | None:
    """The thumbnail kept of a picture, or ``None``."""
    if key:
        with suppress(OSError):
            data = _place(key).read_bytes()
            # Cut short by a crash, it would show nothing.
            if data.endswith(b"\xff\xd9"):
                return data
    return None


def as_jpeg(image: Image.Image) -> bytes:
    """A small picture as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _place(key: str) -> Path:
    return folder() / key[:2] / f"{key}.jpg"


def _keep(place: Path, data: bytes) -> None:
    """Write a thumbnail down; a cache that cannot be written to is no reason to fail."""
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(data)
        fresh.replace(place)


def prune(limit: int = LIMIT) -> None:
    """Drop the oldest thumbnails until the rest are within a number of bytes."""
    found = []
    for path in folder().rglob("*.jpg"):
        with suppress(OSError):
            about = path.stat()
            found.append((about.st_mtime_ns, about.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            return
        with suppress(OSError):
            path.unlink()
            total -= size
