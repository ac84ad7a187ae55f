"""Samples of more than 8 bits, scaled to 8 bits by what the file says about them.

Unsigned 16-bit samples, and TIFF samples of fewer bits, have the full range of their bits. Signed,
32-bit and floating-point samples name no white level. For those the smallest customary full scale
is taken that 99 % of the samples reach (1 for floats, 255, 1000, 4095, 10000, 65535), so that one
bright pixel does not make a picture black. Beyond these scales, and for negative samples, the 1st
and the 99th percentile become black and white.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.read.formats import UnknownSamples

#: Customary full scales of samples that do not say theirs.
_SCALES = (255.0, 1000.0, 4095.0, 10000.0, 65535.0)

#: Numbers of TIFF tags.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339

#: The value of the TIFF tag SampleFormat for samples without a sign, which is the default.
_UNSIGNED = 1

#: Samples that percentiles are taken of, at least, and pixels that are looked at at once.
_SAMPLED = 1_000_000
_BAND_PIXELS = 4_000_000


@dataclass(frozen=True)
class Levels:
    """What the samples of a picture mean.

    Attributes:
        low: the sample that is black.
        high: the sample that is white.
        inverted: whether it is the other way round.
        unsigned: whether negative samples are large ones.
    """

    low: float
    high: float
    inverted: bool
    unsigned: bool


def to_8_bits(image: Image.Image, levels: Levels) -> Image.Image:
    """A picture of one deep channel as L, or as LA if one of its values means transparent.

    Args:
        image: of mode I;16, I or F, or of signed bytes.
        levels: what its samples mean.
    """
    samples = _samples(image, levels.unsigned)
    scaled = samples.astype(np.float32)
    np.nan_to_num(scaled, copy=False, nan=levels.low, posinf=levels.high, neginf=levels.low)
    scaled -= levels.low
    scaled *= 255 / (levels.high - levels.low)
    np.clip(scaled, 0, 255, out=scaled)
    if levels.inverted:
        np.subtract(255, scaled, out=scaled)
    np.rint(scaled, out=scaled)
    grey = Image.fromarray(scaled.astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(samples == key, 0, 255).astype(np.uint8)))
    return grey


def levels_of(image: Image.Image) -> Levels:
    """What the samples of a picture mean, by what its file says and by their percentiles.

    Args:
        image: of mode I;16, I or F, or L with samples from -128 to 127; a TIFF as it was
            opened, with its tags.

    Raises:
        UnknownSamples: if no sample is a finite number.
    """
    tags: Any = getattr(image, "tag_v2", None) or {}
    # WhiteIsZero is applied by Pillow to samples of 8 bits only.
    inverted = tags.get(_PHOTOMETRIC) == 0
    bits, kind = _bits_and_format(tags)
    if image.mode == "L":
        low, high = _range(image, (-128.0, 127.0), False)
        return Levels(low, high, inverted, False)
    if image.mode.startswith("I;16"):
        return Levels(0.0, float(2 ** (bits if 8 < bits < 16 else 16) - 1), inverted, False)
    if image.mode == "I" and image.format in ("PNG", "PPM", "JPEG2000"):
        return Levels(0.0, 65535.0, inverted, False)
    unsigned = image.mode == "I" and bits == 32 and kind == _UNSIGNED
    full = (-(2.0**15), 2.0**15 - 1) if bits == 16 else (-(2.0**31), 2.0**31 - 1)
    if unsigned:
        full = 0.0, 2.0**32 - 1
    low, high = _range(image, full, unsigned)
    return Levels(low, high, inverted, unsigned)


def _range(image: Image.Image, full: tuple[float, float], unsigned: bool) -> tuple[float, float]:
    """The samples that mean black and white, where the file does not say it.

    Args:
        image: of mode I or F, or of signed bytes.
        full: the range of its type.
        unsigned: see :class:`Levels`.

    Raises:
        UnknownSamples: if no sample is a finite number.
    """
    is_float = image.mode == "F"
    low, high, top = _percentiles(image, unsigned)
    if low < 0:
        # A picture that uses a good part of the range of its type was made for that range.
        if not is_float and high - low > (full[1] - full[0]) / 16:
            return full
        return (low, high) if high > low else (low, low + 1)
    reached = high or top
    for scale in (1.0, *_SCALES) if is_float else _SCALES:
        if reached <= scale and (is_float or scale <= full[1]):
            return 0.0, scale if reached > scale / 255 else max(reached, 1e-30)
    if not is_float and high > full[1] / 16:
        return 0.0, full[1]
    return 0.0, reached


def _samples(image: Image.Image, unsigned: bool) -> NDArray[Any]:
    samples = np.asarray(image)
    # Pillow has no modes for these.
    if image.mode == "L":
        return samples.view(np.int8)
    return samples.view(np.uint32) if unsigned else samples


def _bits_and_format(tags: Any) -> tuple[int, int]:
    """Bits of a TIFF's sample, 0 if it does not say, and its format; unsigned by default."""

    def first(value: Any, default: int) -> int:
        one = value[0] if isinstance(value, tuple) and value else value
        return one if isinstance(one, int) else default

    return first(tags.get(_BITS), 0), first(tags.get(_SAMPLE_FORMAT), _UNSIGNED)


def _percentiles(image: Image.Image, unsigned: bool) -> tuple[float, float, float]:
    """The 1st and 99th percentile and the largest of the finite samples.

    Raises:
        UnknownSamples: if there is none.
    """
    step = max(1, image.width * image.height // _SAMPLED)
    rows = max(1, _BAND_PIXELS // image.width)
    parts, top = [], -np.inf
    for start in range(0, image.height, rows):
        box = (0, start, image.width, min(start + rows, image.height))
        flat = _samples(image.crop(box), unsigned).reshape(-1)
        finite = flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat
        if len(finite):
            top = max(top, float(finite.max()))
            parts.append(finite[::step])
    if not parts:
        raise UnknownSamples("no sample of it is a finite number")
    some = np.concatenate(parts)
    low = float(np.percentile(some, 1, method="higher"))
    high = float(np.percentile(some, 99, method="lower"))
    return min(low, high), max(low, high), top
