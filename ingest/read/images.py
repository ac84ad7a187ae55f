"""Reads and decodes untrusted picture files. The only module that decodes.

Files are opened without blocking and without following links, only regular files are read, and
the bytes are read once for both the key and the decoder. The list of formats is closed, and every
file gets one outcome code. The module is light to import, because every decoder process imports it.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

#: Pillow decoders that may be used; none that runs other programs (EPS) or is not needed. HEIF is
#: added where pi-heif is installed.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

#: Suffixes of camera raw files, which are recognised by name because most have a TIFF header. Only
#: the preview that the camera stored in them is read.
RAW_SUFFIXES = frozenset(".cr2 .cr3 .nef .arw .dng .orf .rw2 .raf .pef .srw".split())

#: Suffixes of file names that are read as pictures.
SUFFIXES = (
    frozenset(".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .dib .tif .tiff .avif".split())
    | frozenset(".heic .heif .hif".split())
    | RAW_SUFFIXES
)

#: Suffixes of picture formats that are not read, with the reason shown to users.
UNSUPPORTED = {
    suffix: f"{suffix[1:].upper()} pictures are not read yet; convert them to JPEG"
    for suffix in ".jxl .svg .psd".split()
}

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000
MAX_ASPECT = 200

#: Shortest side in pixels to which the JPEG decoder itself may reduce a picture.
_DRAFT_SIDE = 512

#: Major brands in the header of HEIF files.
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif")

#: LibRaw's ``flip`` values to EXIF orientations.
_FLIP_TO_ORIENTATION = {3: 3, 5: 8, 6: 6}


class UnreadableImage(Exception):
    """A file that cannot be read as a picture.

    Attributes:
        status: the outcome code, such as ``truncated``.
        reason: explains the status to people.
    """

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class FileBytes:
    """A file's content at one moment.

    Attributes:
        data: the bytes.
        key: hexadecimal SHA-256 of ``data``, the content key.
        size: bytes.
        mtime_ns: time of the last change, nanoseconds since 1970, or any number that changes with
            the content.
    """

    data: bytes
    key: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image: RGB, upright, alpha composited onto white; reduced if a longest side was given.
        format: Pillow's name of the file's format, or ``RAW``.
        taken_at: seconds since 1970 in the camera's local time, or ``None``.
        size: width and height of the upright picture before reduction, in pixels.
        orientation: the file's EXIF orientation, 1 (upright) to 8.
    """

    image: Image.Image
    format: str
    taken_at: int | None
    size: tuple[int, int]
    orientation: int = 1


def error_text(error: OSError) -> str:
    """The operating system's words for an error, in lower case."""
    return (error.strerror or str(error)).lower()


def check_size(size: int, name: str = "file") -> None:
    """Refuse an empty or too large file.

    Raises:
        UnreadableImage: ``empty`` or ``too_large``.
    """
    if size == 0:
        raise UnreadableImage("empty", f"the {name} is empty")
    if size > MAX_BYTES:
        raise UnreadableImage("too_large", f"larger than {MAX_BYTES // 2**20} MB")


def file_bytes(data: bytes, mtime_ns: int, name: str = "file") -> FileBytes:
    """Bytes that were read, with their size and content key.

    Raises:
        UnreadableImage: if there are none or too many.
    """
    check_size(len(data), name)
    return FileBytes(data, hashlib.sha256(data).hexdigest(), len(data), mtime_ns)


def read_bytes(path: Path) -> FileBytes:
    """Read a regular file once.

    Raises:
        UnreadableImage: if it is not a regular file, a link, empty, too large, missing, or not
            permitted to be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise UnreadableImage("vanished", "there is no such file") from None
    except OSError as error:
        if path.is_symlink():
            raise UnreadableImage("link", "a symbolic link, which is not followed") from None
        raise UnreadableImage("unreadable", error_text(error)) from None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise UnreadableImage("not_a_file", "not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        check_size(about.st_size)
        try:
            data = file.read()
        except OSError as error:
            raise UnreadableImage("unreadable", error_text(error)) from None
    return FileBytes(data, hashlib.sha256(data).hexdigest(), about.st_size, about.st_mtime_ns)


def decode(data: bytes, side: int | None = None, suffix: str = "") -> Picture:
    """Decode a picture's bytes.

    Args:
        data: the file's content.
        side: longest side in pixels to which larger pictures are reduced. A JPEG is then decoded
            at the smallest of 1/1, 1/2, 1/4 and 1/8 of its size that is large enough, which is
            many times faster and differs little; other formats are decoded in full first.
        suffix: the suffix of the file's name in lower case, by which raw files are recognised.

    Raises:
        UnreadableImage: if no allowed decoder reads the whole picture, or its size or aspect
            ratio exceeds the limits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        try:
            if suffix in RAW_SUFFIXES:
                return _preview(data, side, suffix)
            return _decode(data, side)
        except UnreadableImage:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise UnreadableImage("bomb", "more pixels than are safe to decode") from None
        except UnidentifiedImageError:
            raise UnreadableImage("not_an_image", "not a picture in a format we read") from None
        except MemoryError:
            raise UnreadableImage("too_large", "not enough memory to decode it") from None
        except Exception as error:  # noqa: BLE001
            # Decoders raise many exceptions on damaged files (OSError, SyntaxError, ValueError,
            # struct.error, IndexError ...); each means that this one file cannot be read.
            text = str(error) or type(error).__name__
            status = "truncated" if "runcated" in text else "damaged"
            raise UnreadableImage(status, text.splitlines()[0][:120]) from None


def _decode(data: bytes, side: int | None, default_orientation: int | None = None) -> Picture:
    """Decode with Pillow.

    Args:
        data: as for :func:`decode`.
        side: as for :func:`decode`.
        default_orientation: the EXIF orientation of a file that has none itself.
    """
    formats = FORMATS
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        _register_heif()
        formats = (*FORMATS, "HEIF")
    image = Image.open(io.BytesIO(data), formats=formats)
    format_name = image.format or ""
    _check_dimensions(image)
    exif = image.getexif()
    taken_at, orientation = _taken_at(exif), _orientation(exif)
    width, height = image.size
    if side is not None and format_name in ("JPEG", "MPO") and max(width, height) > side:
        # At small sizes the quality of the filter is visible, so Pillow does the last step.
        scale = max(side, min(2 * side, _DRAFT_SIDE)) / max(width, height)
        image.draft(None, (max(1, int(width * scale)), max(1, int(height * scale))))
    image.load()
    if default_orientation is not None and 0x0112 not in exif:
        image.getexif()[0x0112] = default_orientation
    before = image.size
    upright = ImageOps.exif_transpose(image)
    rgb = flattened(upright)
    sideways = upright.size != before
    if side is not None and max(rgb.size) > side:
        rgb.thumbnail((side, side), Image.Resampling.LANCZOS)
    size = (height, width) if sideways else (width, height)
    return Picture(rgb, format_name, taken_at, size, default_orientation or orientation)


def _register_heif() -> None:
    """Register the HEIF decoder with Pillow.

    Raises:
        UnreadableImage: if pi-heif is not installed.
    """
    try:
        import pi_heif
    except ImportError:
        raise UnreadableImage(
            "unsupported", "HEIC needs `pip install 'cies[heif]'`, then --retry-failed"
        ) from None
    pi_heif.register_heif_opener(thumbnails=False)


def _preview(data: bytes, side: int | None, suffix: str) -> Picture:
    """Decode the preview in a raw file, upright.

    Raises:
        UnreadableImage: if rawpy is not installed, or the file has no preview.
    """
    try:
        import rawpy
    except ImportError:
        raise UnreadableImage(
            "unsupported",
            f"{suffix[1:].upper()} needs `pip install 'cies[raw]'`, then --retry-failed",
        ) from None
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            thumbnail: Any = raw.extract_thumb()
            orientation = _FLIP_TO_ORIENTATION.get(int(raw.sizes.flip))
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        raise UnreadableImage("unsupported", "a raw file without a preview") from None
    except rawpy.LibRawFileUnsupportedError:
        raise UnreadableImage("not_an_image", "not a raw file that LibRaw knows") from None
    preview = thumbnail.data
    if thumbnail.format != rawpy.ThumbFormat.JPEG:
        buffer = io.BytesIO()
        Image.fromarray(preview).save(buffer, "BMP")
        preview = buffer.getvalue()
    return replace(_decode(preview, side, orientation), format="RAW")


def _check_dimensions(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImage("bomb", f"{width} x {height} is more pixels than are safe to decode")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadableImage("outlandish", f"{width} x {height} is too narrow to be used")


def _orientation(exif: Image.Exif) -> int:
    number = exif.get(0x0112)
    return number if isinstance(number, int) and 1 <= number <= 8 else 1


def _taken_at(exif: Image.Exif) -> int | None:
    text = exif.get_ifd(0x8769).get(0x9003) or exif.get(0x0132)
    try:
        moment = datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    return int(moment.replace(tzinfo=UTC).timestamp())


def flattened(image: Image.Image) -> Image.Image:
    """Convert to RGB as viewers show it: 16-bit grey scaled, not clipped, and alpha on white."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        import numpy as np

        grey = np.asarray(image, dtype=np.float32)
        top = 65535.0 if image.mode.startswith("I;16") or grey.max() > 255 else 255.0
        return Image.fromarray(np.clip(grey * (255 / top), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("RGB")


def load(path: Path) -> Picture:
    """Read and decode a file.

    Raises:
        UnreadableImage: with the reason.
    """
    return decode(read_bytes(path).data)


def reduced(image: Image.Image, side: int) -> Image.Image:
    """A copy whose longest side is at most ``side`` pixels; the image itself if it is already."""
    if max(image.size) <= side:
        return image
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small
