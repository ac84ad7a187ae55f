"""From an opened picture to upright RGB pixels in sRGB: the one way for all pictures.

The vectors of a gallery depend on this, so what is done has a version. A gallery keeps the version
that its vectors were made with, for its queries and new pictures too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from ingest.read.samples import Levels

#: The version of today. In version 1, color profiles were not applied, deep samples were scaled by
#: their largest value, and the first page of a TIFF was taken.
PIXELS = 2

#: Modes of Pillow whose samples have more than 8 bits.
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")

#: Pixels from which on a picture is made smaller in bands.
_MANY_PIXELS = 16_000_000

_ORIENTATION = 0x0112

#: The TIFF tag of the kind of samples, and its values for signed numbers.
_SAMPLE_FORMAT, _SIGNED = 339, (2, (2,))

#: EXIF orientations to the operation that turns a picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class UprightPixels:
    """The pixels of a picture as viewers show them.

    Attributes:
        image: RGB, without metadata.
        sideways: whether width and height were exchanged to turn it upright.
        notes: what was ignored.
    """

    image: Image.Image
    sideways: bool
    notes: tuple[str, ...]


def upright_rgb(
    image: Image.Image,
    side: int | None,
    version: int = PIXELS,
    default_orientation: int = 1,
    may_change: bool = False,
) -> UprightPixels:
    """The pixels of a picture as viewers show them.

    Upright by its EXIF orientation, samples of more than 8 bits scaled, colors in sRGB by its color
    profile, transparent parts on white.

    Args:
        image: as Pillow opened it, of any mode.
        side: longest side in pixels to which a larger picture is reduced.
        version: see :data:`PIXELS`.
        default_orientation: the EXIF orientation of a picture that has none itself.
        may_change: whether ``image`` itself may be reduced, which saves a copy.

    Raises:
        UnknownSamples: if nothing says what its samples mean.
    """
    image.load()
    orientation = _orientation(image, default_orientation)
    turn = _TURNS.get(orientation)
    note = ""
    if version == 1:
        rgb = _flattened(_deep_version_1(image))
        rgb = rgb.transpose(turn) if turn is not None else rgb
    else:
        plain = _plain(image) if side is None else _plain_and_smaller(image, side)
        profile = image.info.get("icc_profile")
        if isinstance(profile, bytes) and profile:
            # Converting colors takes longer than anything else, so the picture is reduced first.
            from ingest.read.profiles import to_srgb

            keep = plain is image and not may_change
            plain, note = to_srgb(_fitted(plain, side, keep), profile)
        rgb = _flattened(plain)
        rgb = rgb.transpose(turn) if turn is not None else rgb
    rgb = _fitted(rgb, side, rgb is image and not may_change)
    if rgb is image and not may_change:
        rgb = rgb.copy()
    rgb.info = {}
    notes = (note,) if note else ()
    return UprightPixels(rgb, turn is not None and orientation >= 5, notes)


def _orientation(image: Image.Image, default: int) -> int:
    """The EXIF orientation; TIFF files are turned by Pillow, which then has none left."""
    try:
        number = image.getexif().get(_ORIENTATION, default)
    except Exception:  # noqa: BLE001
        # Damaged EXIF data raise many exceptions, and a closed TIFF has no file to read it from.
        return default
    return number if isinstance(number, int) else default


def _fitted(image: Image.Image, side: int | None, keep: bool) -> Image.Image:
    """The picture reduced to this many pixels on its longest side; in place unless it is kept."""
    if side is None or max(image.size) <= side:
        return image
    small = image.copy() if keep else image
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _plain_and_smaller(image: Image.Image, side: int) -> Image.Image:
    """As :func:`_plain`; a picture of many pixels is made smaller on the way, in bands of rows.

    So there is never a second copy of a large picture in memory. The result is at least twice as
    large as ``side``.
    """
    factor = max(image.size) // (2 * side)
    if image.width * image.height <= _MANY_PIXELS or factor < 2:
        return _plain(image)
    levels = None
    if _is_deep(image):
        from ingest.read.samples import levels_of

        levels = levels_of(image)
    rows = factor * max(1, _MANY_PIXELS // (8 * image.width * factor))
    small: Image.Image | None = None
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        reduced = _plain(band, levels).reduce(factor)
        if small is None:
            small = Image.new(reduced.mode, (reduced.width, -(-image.height // factor)))
        small.paste(reduced, (0, top // factor))
    assert small is not None
    return small


def _is_deep(image: Image.Image) -> bool:
    """Whether samples must be scaled: they have more than 8 bits, or are signed bytes of a TIFF."""
    tags = getattr(image, "tag_v2", None) if image.mode == "L" else None
    return image.mode in _DEEP_MODES or (tags is not None and tags.get(_SAMPLE_FORMAT) in _SIGNED)


def _plain(image: Image.Image, levels: Levels | None = None) -> Image.Image:
    """A picture as L, LA, RGB, RGBA or CMYK.

    Args:
        image: of any mode.
        levels: what deep samples mean; found in the picture itself by default.
    """
    if levels is not None or _is_deep(image):
        from ingest.read.samples import levels_of, to_8_bits

        return to_8_bits(image, levels or levels_of(image))
    if image.mode in ("LA", "RGBA", "CMYK"):
        return image
    if image.mode in ("La", "RGBa"):
        return image.convert("LA" if image.mode == "La" else "RGBA")
    if image.mode == "PA" or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _flattened(image: Image.Image) -> Image.Image:
    """As RGB, with transparent parts on white."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _deep_version_1(image: Image.Image) -> Image.Image:
    """Deep grey as L, scaled as in version 1."""
    if image.mode not in _DEEP_MODES:
        return image
    import numpy as np

    grey = np.asarray(image, dtype=np.float32)
    top = 65535.0 if image.mode.startswith("I;16") or grey.max() > 255 else 255.0
    return Image.fromarray(np.clip(grey * (255 / top), 0, 255).astype(np.uint8))
