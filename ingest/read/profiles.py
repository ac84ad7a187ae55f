"""Applies the color profiles of pictures: their colors become sRGB, as viewers show them."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

from PIL import Image, ImageChops, ImageCms

#: Bytes of a larger profile are not read.
_MAX_BYTES = 16 * 2**20

#: A profile that moves no color of a grid by more than this is sRGB itself under another name.
_SAME = 2

#: Color spaces of profiles, and the mode that a picture must have for them.
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}

#: The note on a picture whose profile cannot be applied.
BROKEN = "the color profile cannot be used, so its colors were taken as sRGB"


def to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """Convert a picture to sRGB, relative colorimetric.

    Args:
        image: L, LA, RGB, RGBA or CMYK.
        profile: the ICC profile of its colors.

    Returns:
        The picture as RGB, or RGBA if it had alpha; and why the profile was ignored, or an empty
        text. The picture itself if the profile is that of sRGB or is ignored.
    """
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    plain = image.mode.removesuffix("A")
    try:
        space = _space(profile)
        if space == "RGB" and plain == "L":
            plain = "RGB"
        if _MODES.get(space) != plain:
            return image, BROKEN
        transform = _transform(profile, plain)
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return image, BROKEN
    if transform is None:
        return image, ""
    colors = image if image.mode == plain else image.convert(plain)
    moved = ImageCms.applyTransform(colors, transform)
    assert moved is not None
    if alpha is not None:
        moved.putalpha(alpha)
    return moved, ""


@lru_cache(maxsize=32)
def _space(profile: bytes) -> str:
    """The color space of a profile, such as ``RGB``.

    Raises:
        OSError: if it is not a profile.
        ValueError: if it is too large.
    """
    if len(profile) > _MAX_BYTES:
        raise ValueError("too large")
    opened: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    return str(opened.xcolor_space).strip().upper()


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion of pictures of a mode to sRGB; ``None`` if it would change nothing.

    Raises:
        OSError: if it is not a profile.
        ImageCms.PyCMSError: if there is no such conversion.
    """
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    if mode == "CMYK":
        return transform
    colors = _grid() if mode == "RGB" else Image.linear_gradient("L")
    moved = ImageCms.applyTransform(colors, transform)
    assert moved is not None
    difference: Any = ImageChops.difference(colors.convert("RGB"), moved).getextrema()
    largest = max(high for _, high in difference)
    return None if largest <= _SAME else transform


def _grid() -> Image.Image:
    """Colors of the whole RGB cube, 18 steps on each side."""
    steps = range(0, 256, 15)
    colors = bytes(
        value for red in steps for green in steps for blue in steps for value in (red, green, blue)
    )
    return Image.frombytes("RGB", (len(steps) ** 2, len(steps)), colors)
