"""Samples of more than 8 bits, scaled to 8 bits by what the file says about them.

Unsigned 16-bit samples, and TIFF samples of fewer bits, have the full range of their bits. Signed,
32-bit and floating-point samples name no white level. For those the smallest customary full scale
is taken that 99 % of the samples reach (1 for floats, 255, 1000, 4095, 10000, 65535), so that one
bright pixel does not make a picture black. Beyond these scales, and for negative samples, the 1st
and the 99th percentile become black and white.
"""

from __future__ import annotations

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

#: Samples that percentiles are taken of.
_SAMPLED = 1_000_000


def to_8_bits(image: Image.Image) -> Image.Image:
    """A picture of one deep channel as L, or as LA if one of its values means transparent.

    Args:
        image: of mode I;16, I or F; a TIFF as it was opened, with its tags.

    Raises:
        UnknownSamples: if no sample is a finite number.
    """
    tags: Any = getattr(image, "tag_v2", None) or {}
    samples = np.asarray(image)
    if image.mode == "I" and _bits_and_format(tags) == (32, _UNSIGNED):
        samples = samples.view(np.uint32)  # Pillow has no mode of its own for these.
    low, high = _levels(image, tags, samples)
    scaled = np.nan_to_num(samples.astype(np.float32), nan=low, posinf=high, neginf=low)
    scaled -= low
    scaled *= 255 / (high - low)
    np.clip(scaled, 0, 255, out=scaled)
    if tags.get(_PHOTOMETRIC) == 0:  # WhiteIsZero, which Pillow applies to 8 bits only.
        np.subtract(255, scaled, out=scaled)
    np.rint(scaled, out=scaled)
    grey = Image.fromarray(scaled.astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(samples == key, 0, 255).astype(np.uint8)))
    return grey


def _levels(image: Image.Image, tags: Any, samples: NDArray[Any]) -> tuple[float, float]:
    """The samples that mean black and white."""
    bits, _ = _bits_and_format(tags)
    if image.mode.startswith("I;16"):
        return 0.0, float(2 ** (bits if 8 < bits < 16 else 16) - 1)
    if image.mode == "I" and image.format in ("PNG", "PPM", "JPEG2000"):
        return 0.0, 65535.0
    is_float = image.mode == "F"
    full = (-(2.0**15), 2.0**15 - 1) if bits == 16 else (-(2.0**31), 2.0**31 - 1)
    if samples.dtype == np.uint32:
        full = 0.0, 2.0**32 - 1
    low, high, top = _percentiles(samples)
    if low < 0:
        # A picture that uses a good part of the range of its type was made for that range.
        if not is_float and high - low > (full[1] - full[0]) / 16:
            return full
        return (low, high) if high > low else (low, low + 1)
    reached = high or top
    for scale in (1.0, *_SCALES) if is_float else _SCALES:
        if reached <= scale:
            return 0.0, scale if reached > scale / 255 else max(reached, 1e-30)
    if not is_float and high > full[1] / 16:
        return 0.0, full[1]
    return 0.0, reached


def _bits_and_format(tags: Any) -> tuple[int, int]:
    """Bits of a TIFF's sample, 0 if it does not say, and its format; unsigned by default."""

    def first(value: Any, default: int) -> int:
        one = value[0] if isinstance(value, tuple) and value else value
        return one if isinstance(one, int) else default

    return first(tags.get(_BITS), 0), first(tags.get(_SAMPLE_FORMAT), _UNSIGNED)


def _percentiles(samples: NDArray[Any]) -> tuple[float, float, float]:
    """The 1st and 99th percentile and the largest of the finite samples.

    Raises:
        UnknownSamples: if there is none.
    """
    flat = samples.reshape(-1)
    some = flat[:: max(1, len(flat) // _SAMPLED)]
    some = some[np.isfinite(some)]
    finite = flat[np.isfinite(flat)] if samples.dtype.kind == "f" else flat
    if not len(some) or not len(finite):
        raise UnknownSamples("no sample of it is a finite number")
    low = float(np.percentile(some, 1, method="higher"))
    high = float(np.percentile(some, 99, method="lower"))
    return min(low, high), max(low, high), float(finite.max())
