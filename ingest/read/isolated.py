"""Pictures that a user or a program gives, decoded in processes that all of this program share.

A hostile picture can make a decoder crash, exhaust the memory or take an hour. So nothing is
decoded in the process of the caller: an ingest has decoder processes of its own, and all others
use those of this module, which start when they are first needed and end when they are idle.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Any

from PIL import Image

from indexes.errors import UsageError
from ingest.read.decoder_pool import DecoderPool
from ingest.read.formats import FORMATS
from ingest.read.images import MAX_BYTES, Picture, UnreadableImage, check_size, outcomes
from ingest.read.pixels import PIXELS, upright_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Processes at most, and seconds after which an idle one ends.
_PROCESSES, _IDLE_SECONDS = max(2, min(8, os.cpu_count() or 2)), 120.0

_lock = threading.Lock()
_pools: dict[int, DecoderPool] = {}


def _pool() -> DecoderPool:
    """The pool of this process; in a copy that ``fork`` made, another than that of the original."""
    with _lock:
        if os.getpid() not in _pools:
            _pools[os.getpid()] = DecoderPool(processes=_PROCESSES, idle_seconds=_IDLE_SECONDS)
        return _pools[os.getpid()]


def _close() -> None:
    pool = _pools.get(os.getpid())
    if pool is not None:
        pool.close()


def _unlock() -> None:
    global _lock
    _lock = threading.Lock()  # A thread that does not exist in the copy may have locked it.


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def prepare_decoder() -> None:
    """Start a decoder process without waiting for it, so that it is ready when it is needed.

    Raises:
        CiesError: if it cannot be started.
    """
    _pool().prepare()


def decode_isolated(
    data: bytes, side: int | None = None, suffix: str = "", pixels: int = PIXELS
) -> Picture:
    """Decode a picture's bytes in another process.

    Args:
        data: the file's content.
        side: as for :func:`ingest.read.images.decode`.
        suffix: as for :func:`ingest.read.images.decode`.
        pixels: as for :func:`ingest.read.images.decode`.

    Raises:
        UnreadableImage: as :meth:`ingest.read.decoder_pool.DecoderPool.decode`.
        CiesError: if no process can be started.
    """
    check_size(len(data))
    return _pool().decode(data, suffix, side, pixels)


def picture_of(
    given: Image.Image | NDArray[Any] | bytes, side: int | None = None, pixels: int = PIXELS
) -> Picture:
    """A picture that a program gives, read as the same picture in a file.

    Args:
        given: a file's content; a Pillow image, opened from a file or made; or an array, uint8 or
            uint16, [height, width], [height, width, 3] or [height, width, 4] (with alpha), or as
            Pillow makes them of grey pictures: bool, int32 or float32 [height, width].
        side: see :func:`decode_isolated`.
        pixels: see :func:`decode_isolated`.

    Raises:
        UnreadableImage: as :func:`decode_isolated`.
        UsageError: for an array of another kind.
    """
    if isinstance(given, bytes):
        return decode_isolated(given, side, "", pixels)
    image = given if isinstance(given, Image.Image) else _image_of_array(given)
    data = _file_content(image)
    if data is not None:
        return decode_isolated(data, side, "", pixels)
    with outcomes(b""):
        width, height = image.size
        if not width or not height:
            raise UnreadableImage("not_an_image", "the picture has no pixels")
        upright = upright_rgb(image, side, pixels)
        size = (height, width) if upright.sideways else (width, height)
        return Picture(upright.image, image.format or "", None, size, 1, upright.notes)


def _file_content(image: Image.Image) -> bytes | None:
    """The file behind a picture that was opened by Pillow and not used yet; else ``None``."""
    file = getattr(image, "fp", None)
    if not getattr(image, "tile", None) or file is None or image.format not in (*FORMATS, "MPO"):
        return None
    try:
        if image.tell() != 0:
            return None
        position = file.tell()
        file.seek(0)
        data = file.read(MAX_BYTES + 1)
        file.seek(position)
    except (OSError, ValueError, AttributeError):
        return None
    return data if isinstance(data, bytes) and 0 < len(data) <= MAX_BYTES else None


def _image_of_array(array: NDArray[Any]) -> Image.Image:
    """An array as a Pillow image.

    Raises:
        UsageError: if it is of a kind that is not known as a picture.
    """
    import numpy as np

    kind, shape = array.dtype.newbyteorder("="), array.shape
    pixels = np.ascontiguousarray(array.astype(kind, copy=False))
    colors = len(shape) == 3 and shape[2] in (3, 4)
    if array.size and colors and kind == np.uint16:
        # Of 16-bit colors Pillow reads the high byte, from files too.
        return Image.fromarray((pixels >> 8).astype(np.uint8))
    flat = len(shape) == 2 and kind in (np.bool_, np.uint8, np.uint16, np.int32, np.float32)
    if array.size and (flat or (colors and kind == np.uint8)):
        return Image.fromarray(pixels)
    raise UsageError(
        f"An array of {array.dtype} {list(shape)} is not a picture; give uint8 or uint16 "
        "[height, width], [height, width, 3] or [height, width, 4]."
    )
