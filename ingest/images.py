"""Reading a picture that may be anything. The only module that decodes.

Opened without blocking and without following links, regular files only, the bytes read once for
both the key and the decoder, a closed list of formats, and one outcome code per file.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

#: Decoders that are used; never those that run other programs (EPS) or have no need here.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

#: File names that are taken for pictures.
SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .dib .tif .tiff .avif".split())

#: Picture formats that are known but not read, with the reason given.
UNSUPPORTED = {
    suffix: f"{suffix[1:].upper()} pictures are not read yet; convert them to JPEG"
    for suffix in ".heic .heif .jxl .svg .psd .cr2 .nef .arw .dng".split()
}

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000
MAX_ASPECT = 200


class UnreadableImage(Exception):
    """A file that cannot be taken in as a picture.

    Attributes:
        status: the outcome code, such as ``truncated``.
        reason: for people.
    """

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class FileBytes:
    """A file's content as it was at one moment."""

    data: bytes
    key: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image: RGB, upright, alpha laid on white.
        format: the decoder's name for the file's format.
        taken_at: seconds since 1970 in the camera's own time, or ``None``.
        orientation: EXIF's number for how the file holds it, 1 (upright) to 8.
    """

    image: Image.Image
    format: str
    taken_at: int | None
    orientation: int = 1


def read_bytes(path: Path) -> FileBytes:
    """Read a regular file once.

    Raises:
        UnreadableImage: if it is no regular file, a link, empty, too large, gone or forbidden.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise UnreadableImage("vanished", "there is no such file") from None
    except OSError as error:
        if path.is_symlink():
            raise UnreadableImage("link", "a symbolic link, which is not followed") from None
        raise UnreadableImage("unreadable", (error.strerror or str(error)).lower()) from None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise UnreadableImage("not_a_file", "not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if about.st_size == 0:
            raise UnreadableImage("empty", "the file is empty")
        if about.st_size > MAX_BYTES:
            raise UnreadableImage("too_large", f"larger than {MAX_BYTES // 2**20} MB")
        try:
            data = file.read()
        except OSError as error:
            raise UnreadableImage("unreadable", (error.strerror or str(error)).lower()) from None
    return FileBytes(data, hashlib.sha256(data).hexdigest(), about.st_size, about.st_mtime_ns)


def decode(data: bytes) -> Picture:
    """Decode a picture's bytes.

    Raises:
        UnreadableImage: if no allowed decoder reads them whole, or the picture is outlandish.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            form = image.format or ""
            _refuse_outlandish(image)
            taken_at, orientation = _taken_at(image), _orientation(image)
            image.load()
            upright = ImageOps.exif_transpose(image)
            return Picture(_to_rgb(upright), form, taken_at, orientation)
        except UnreadableImage:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise UnreadableImage("bomb", "more pixels than are safe to decode") from None
        except UnidentifiedImageError:
            raise UnreadableImage("not_an_image", "not a picture in a format we read") from None
        except MemoryError:
            raise UnreadableImage("too_large", "not enough memory to decode it") from None
        except Exception as error:  # noqa: BLE001
            # Decoders raise anything at all on damaged files (OSError, SyntaxError, ValueError,
            # struct.error, IndexError ...); each means that this one file cannot be read.
            text = str(error) or type(error).__name__
            status = "truncated" if "runcated" in text else "damaged"
            raise UnreadableImage(status, text.splitlines()[0][:120]) from None


def _refuse_outlandish(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImage("bomb", f"{width} x {height} is more pixels than are safe to decode")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadableImage("outlandish", f"{width} x {height} is too thin to be looked at")


def _orientation(image: Image.Image) -> int:
    number = image.getexif().get(0x0112)
    return number if isinstance(number, int) and 1 <= number <= 8 else 1


def _taken_at(image: Image.Image) -> int | None:
    exif = image.getexif()
    text = exif.get_ifd(0x8769).get(0x9003) or exif.get(0x0132)
    try:
        moment = datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    return int(moment.replace(tzinfo=UTC).timestamp())


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB as a person sees it: 16-bit grey scaled, not clipped, and alpha laid on white."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        grey = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode.startswith("I;16") or grey.max() > 255 else 255.0
        return Image.fromarray(np.clip(grey * 255 / top, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def load(path: Path) -> Picture:
    """Read and decode a file.

    Raises:
        UnreadableImage: with the reason.
    """
    return decode(read_bytes(path).data)
