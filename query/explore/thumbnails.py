"""Thumbnails for pages, cached in the user's cache folder, which may be emptied at any time."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path, PurePath

from PIL import Image

from indexes.errors import UsageError
from indexes.files import write_atomic
from ingest.read.images import UnreadableImage
from ingest.read.isolated import decode_isolated
from ingest.sources.factory import file_at

#: Longest side in pixels.
THUMBNAIL = 176

#: Bytes of the cache, about twenty thousand thumbnails; the oldest are removed first.
LIMIT = 128 * 2**20


def thumbnail_folder() -> Path:
    """The folder of the cached thumbnails."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("cies", appauthor=False)) / "thumbnails"


def thumbnail(path: str | Path, key: str = "") -> bytes | None:
    """A small JPEG of a picture.

    Args:
        path: the path of its file, on any system that sources read.
        key: its content key, by which the thumbnail is cached; without one it is made each time.

    Returns:
        The JPEG's bytes, or ``None`` if there is no cached one and the picture cannot be read.
    """
    data = cached_thumbnail(key)
    if data is not None:
        return data
    try:
        content = file_at(str(path)).read()
        image = decode_isolated(content.data, THUMBNAIL, PurePath(path).suffix.lower()).image
    except (UnreadableImage, UsageError):
        return None
    data = as_jpeg(image)
    # A file that has changed is another picture; its thumbnail is returned but not cached.
    if content.key == key:
        with suppress(OSError):
            write_atomic(_cache_file(key), data, durable=False)
    return data


def cached_thumbnail(key: str) -> bytes | None:
    """The cached thumbnail of a picture, or ``None``."""
    if key:
        with suppress(OSError):
            data = _cache_file(key).read_bytes()
            # The end marker is missing if a crash cut the file short.
            if data.endswith(b"\xff\xd9"):
                return data
    return None


def as_jpeg(image: Image.Image) -> bytes:
    """A small image as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _cache_file(key: str) -> Path:
    return thumbnail_folder() / key[:2] / f"{key}.jpg"


def prune_thumbnails(limit: int = LIMIT) -> None:
    """Remove the oldest thumbnails until the others have at most ``limit`` bytes."""
    found = []
    for path in thumbnail_folder().rglob("*.jpg"):
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
