"""Prepares pictures for the network: a square with white bars, and a small copy for colors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.encoders.photo.network import SIDE

#: Side of the small copy in pixels; a pixel of it is the mean of 7 x 7.
SMALL = 32


@dataclass(frozen=True)
class PreparedPictures:
    """Pictures as the descriptors are computed from them.

    Attributes:
        pixels: uint8 [pictures, SIDE, SIDE, 3].
        small: uint8 [pictures, SMALL, SMALL, 3].
        inside: float32 [pictures, SMALL, SMALL], 1 in the picture and 0 in its bars.
        aspects: float32 [pictures], width over the sum of width and height: 0.5 for a square.
    """

    pixels: NDArray[np.uint8]
    small: NDArray[np.uint8]
    inside: NDArray[np.float32]
    aspects: NDArray[np.float32]


def prepare_pictures(images: Sequence[Image.Image]) -> PreparedPictures:
    """Scale pictures to a square with white bars.

    Args:
        images: at least one RGB image of any size.
    """
    pixels = np.full((len(images), SIDE, SIDE, 3), 255, dtype=np.uint8)
    full = np.zeros((len(images), SIDE, SIDE), dtype=np.float32)
    aspects = np.empty(len(images), dtype=np.float32)
    for number, image in enumerate(images):
        width, height = image.size
        scale = SIDE / max(width, height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        scaled = image.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
        left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
        place = (number, slice(top, top + size[1]), slice(left, left + size[0]))
        pixels[place] = np.asarray(scaled)
        full[place] = 1
        aspects[number] = width / (width + height)
    return PreparedPictures(
        pixels,
        np.rint(_block_means(pixels)).astype(np.uint8),
        (_block_means(full[..., None])[..., 0] > 0.5).astype(np.float32),
        aspects,
    )


def _block_means(values: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of blocks: [pictures, SIDE, SIDE, channels] to [pictures, SMALL, SMALL, channels]."""
    count, channels, block = len(values), values.shape[-1], SIDE // SMALL
    blocks = values.reshape(count, SMALL, block, SMALL, block, channels)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))
