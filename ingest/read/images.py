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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ingest.read.formats import (
    FORMATS,
    RAW_SUFFIXES,
    TooManyParts,
    UnknownSamples,
    is_heif,
    is_other_picture,
    is_raw,
    is_tiff,
    main_page,
    tiff_pages,
    without_texts,
)
from ingest.read.pixels import PIXELS, upright_rgb

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000
MAX_ASPECT = 200

#: Bytes of memory that a decoder may need for one picture.
MAX_DECODER_BYTES = 600 * 2**20

#: Bytes that decoders need for a pixel, where it is more than Pillow's own picture and a copy of
#: it; measured with pictures of 64 million pixels.
_BYTES_PER_PIXEL = {"WEBP": 17, "JPEG2000": 20, "AVIF": 12, "HEIF": 12}

#: Shortest side in pixels to which the JPEG decoder itself may reduce a picture.
_DRAFT_SIDE = 512

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


class LargePicture(UnreadableImage):
    """A picture that needs more memory than it may take without being asked for.

    Attributes:
        bytes: the memory that its decoder needs, estimated.
    """

    def __init__(self, needed: int):
        super().__init__("too_large", f"its decoder needs {needed // 2**20} MB of memory")
        self.bytes = needed


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
        notes: what of the file was ignored, and what libraries complained of.
    """

    image: Image.Image
    format: str
    taken_at: int | None
    size: tuple[int, int]
    orientation: int = 1
    notes: tuple[str, ...] = ()


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


def decode(
    data: bytes,
    side: int | None = None,
    suffix: str = "",
    pixels: int = PIXELS,
    most: int = MAX_DECODER_BYTES,
) -> Picture:
    """Decode a picture's bytes.

    Args:
        data: the file's content.
        side: longest side in pixels to which larger pictures are reduced. A JPEG is then decoded
            at the smallest of 1/1, 1/2, 1/4 and 1/8 of its size that is large enough, which is
            many times faster and differs little; other formats are decoded in full first.
        suffix: the suffix of the file's name in lower case, by which most raw files are
            recognised; all other formats are recognised by their content.
        pixels: the version of the reading, see :data:`ingest.read.pixels.PIXELS`.
        most: bytes of memory that the decoder may need.

    Raises:
        UnreadableImage: if no allowed decoder reads the whole picture, or its size or aspect
            ratio exceeds the limits; :class:`LargePicture` if it needs more memory than ``most``.
    """
    with outcomes(data):
        if suffix in RAW_SUFFIXES or is_raw(data):
            return _decode_raw(data, side, pixels, suffix, most)
        return _decode(data, side, pixels, most)


@contextmanager
def outcomes(data: bytes) -> Iterator[None]:
    """Turn every error of a decoder into the outcome of this one picture.

    Args:
        data: the file's content, or nothing for a picture in memory.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        try:
            yield
        except UnreadableImage:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise UnreadableImage("bomb", "more pixels than are safe to decode") from None
        except UnidentifiedImageError:
            reason = "not a picture in a format we read"
            if is_tiff(data):
                reason = "a TIFF with samples of a kind that is not read"
            raise UnreadableImage("not_an_image", reason) from None
        except MemoryError:
            raise UnreadableImage("too_large", "not enough memory to decode it") from None
        except TooManyParts as error:
            raise UnreadableImage("bomb", str(error)) from None
        except UnknownSamples as error:
            raise UnreadableImage("unsupported", str(error)) from None
        except Exception as error:  # noqa: BLE001
            # Decoders raise many exceptions on damaged files (OSError, SyntaxError, ValueError,
            # struct.error, IndexError ...); each means that this one file cannot be read.
            text = str(error) or type(error).__name__
            status = "truncated" if "runcated" in text else "damaged"
            raise UnreadableImage(status, text.splitlines()[0][:120]) from None


def _decode(
    data: bytes,
    side: int | None,
    pixels: int,
    most: int = MAX_DECODER_BYTES,
    default_orientation: int | None = None,
) -> Picture:
    """Decode with Pillow.

    Args:
        data: as for :func:`decode`.
        side: as for :func:`decode`.
        pixels: as for :func:`decode`.
        most: as for :func:`decode`.
        default_orientation: the EXIF orientation of a file that has none itself.
    """
    formats = FORMATS
    if is_heif(data):
        _register_heif()
        formats = ("HEIF",)
    page = main_page(data) if is_tiff(data) and pixels > 1 else 0
    image = Image.open(io.BytesIO(without_texts(data)), formats=formats)
    format_name = image.format or ""
    if page:
        image.seek(page)
    _check_dimensions(image)
    exif = image.getexif()
    taken_at, orientation = _taken_at(exif), _orientation(exif)
    width, height = image.size
    if side is not None and format_name in ("JPEG", "MPO") and max(width, height) > side:
        # At small sizes the quality of the filter is visible, so Pillow does the last step.
        scale = max(side, min(2 * side, _DRAFT_SIDE)) / max(width, height)
        image.draft(None, (max(1, int(width * scale)), max(1, int(height * scale))))
    needed = _decoder_bytes(image, width * height)
    if needed > most:
        raise LargePicture(needed)
    if format_name == "PNG":
        _correct_key(image, depth=data[24])
    image.load()
    _check_dimensions(image)  # Again, because a picture inside an ICO has a size of its own.
    upright = upright_rgb(image, side, pixels, default_orientation or 1, may_change=True)
    size = (height, width) if upright.sideways else (width, height)
    orientation = default_orientation or orientation
    return Picture(upright.image, format_name, taken_at, size, orientation, upright.notes)


def _decoder_bytes(image: Image.Image, full: int) -> int:
    """The memory that a decoder needs for a picture, estimated.

    Args:
        image: as it will be loaded.
        full: the pixels of the file, of which a JPEG's decoder may give fewer.
    """
    pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):
        # A progressive JPEG is in memory as a whole before it has any pixel.
        channels = len(image.getbands())
        return 8 * pixels + (2 * channels * full if image.info.get("progressive") else 0)
    return pixels * _BYTES_PER_PIXEL.get(image.format or "", 9)


def _correct_key(image: Image.Image, depth: int) -> None:
    """Scale the transparent value of a PNG as Pillow scales its samples, to 8 bits."""
    key = image.info.get("transparency")
    if isinstance(key, int) and image.mode == "L" and depth in (2, 4):
        image.info["transparency"] = key * (85 if depth == 2 else 17)
    elif isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


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


def _decode_raw(data: bytes, side: int | None, pixels: int, suffix: str, most: int) -> Picture:
    """Decode a file with the name or the content of a raw file.

    Raises:
        UnreadableImage: as :func:`_preview`.
    """
    if is_other_picture(data):
        return _decode(data, side, pixels, most)
    pages = tiff_pages(data) if is_tiff(data) and not is_raw(data) else []
    if pages and not any(page.is_from_camera for page in pages):
        return _decode(data, side, pixels, most)
    return _preview(data, side, pixels, suffix, most)


def _preview(data: bytes, side: int | None, pixels: int, suffix: str, most: int) -> Picture:
    """Decode the preview in a raw file, upright.

    Raises:
        UnreadableImage: if rawpy is not installed, or the file has no preview.
    """
    try:
        import rawpy
    except ImportError:
        name = suffix[1:].upper() if suffix in RAW_SUFFIXES else "a camera's raw file"
        raise UnreadableImage(
            "unsupported", f"{name} needs `pip install 'cies[raw]'`, then --retry-failed"
        ) from None
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            thumbnail: Any = raw.extract_thumb()
            orientation = _FLIP_TO_ORIENTATION.get(int(raw.sizes.flip))
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        raise UnreadableImage("unsupported", "a raw file without a preview") from None
    except rawpy.LibRawFileUnsupportedError:
        try:
            if not is_raw(data):  # Its name is that of a raw file, and its content another.
                return _decode(data, side, pixels, most)
        except UnidentifiedImageError:
            pass
        raise UnreadableImage("not_an_image", "not a raw file that LibRaw knows") from None
    preview = thumbnail.data
    if thumbnail.format != rawpy.ThumbFormat.JPEG:
        buffer = io.BytesIO()
        Image.fromarray(preview).save(buffer, "BMP")
        preview = buffer.getvalue()
    return replace(_decode(preview, side, pixels, most, orientation), format="RAW")


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
