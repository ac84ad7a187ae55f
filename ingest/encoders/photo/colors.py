"""Colors as people see them: CIE Lab, and the everyday name of a color.

Lab: CIE 15:2004, of sRGB (IEC 61966-2-1) under D65, computed by the published formulas. The names
and their tones are in ``configs/photo.toml``; we chose them ourselves.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ingest.encoders.photo.settings import photo_settings

_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]],
    dtype=np.float32,
)
_WHITE = np.array([0.9505, 1.0, 1.089], dtype=np.float32)


def _linear_values() -> NDArray[np.float32]:
    """The linear value of each of the 256 values of an sRGB channel."""
    value = np.arange(256) / 255
    curved = ((value + 0.055) / 1.055) ** 2.4
    return np.where(value <= 0.04045, value / 12.92, curved).astype(np.float32)


_LINEAR = _linear_values()


def lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Lightness 0 to 100, and the axes green to red and blue to yellow, about -110 to 110.

    Args:
        pixels: uint8 [..., 3], red, green, blue.

    Returns:
        float32 [..., 3].
    """
    xyz = _LINEAR[pixels] @ _TO_XYZ.T / _WHITE
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


@cache
def named_tones() -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.float32]]:
    """The color names; of each tone the number of its name; and the tones, float32 [tones, 3]."""
    tones = photo_settings()["colors"]
    names = tuple(tones)
    codes = [(number, code) for number, name in enumerate(names) for code in tones[name].split()]
    pixels = np.array([list(bytes.fromhex(code)) for _, code in codes], dtype=np.uint8)
    return names, np.array([number for number, _ in codes]), lab(pixels)


def shares_of_names(
    colors: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """How much of a picture has each name: the share of its weight that is nearest to it.

    Args:
        colors: float32 [pixels, 3], Lab.
        weights: float32 [pixels], not all zero.

    Returns:
        float32 [names], of sum 1, in the order of :func:`named_tones`.
    """
    names, owners, tones = named_tones()
    squares = (colors**2).sum(1)[:, None] + (tones**2).sum(1) - 2 * colors @ tones.T
    nearest = owners[squares.argmin(1)]
    total = np.bincount(nearest, weights=weights, minlength=len(names))
    return np.asarray(total / total.sum(), dtype=np.float32)
