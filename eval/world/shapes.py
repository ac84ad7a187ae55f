"""Outlines of the world's shapes, as polygons inside the unit circle."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Outline = NDArray[np.float64]

_STEPS = 48


def _circle(radius: float = 1.0) -> Outline:
    angle = np.linspace(0, 2 * np.pi, _STEPS, endpoint=False)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _regular(corners: int, turn: float, inner: float | None = None) -> Outline:
    """A regular polygon, or a star when every second corner is drawn in to ``inner``."""
    points = corners * (1 if inner is None else 2)
    angle = turn + 2 * np.pi * np.arange(points) / points
    radius = np.ones(points)
    if inner is not None:
        radius[1::2] = inner
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _heart() -> Outline:
    angle = np.linspace(0, 2 * np.pi, _STEPS, endpoint=False)
    x = 16 * np.sin(angle) ** 3
    y = -(13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle))
    return np.stack([x / 17, (y - 2.5) / 17], axis=1)


def _crescent() -> Outline:
    outer = np.linspace(0.65, 2 * np.pi - 0.65, 36)
    inner = np.linspace(2 * np.pi - 0.98, 0.98, 36)
    far = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    near = np.stack([0.37 + 0.76 * np.cos(inner), 0.76 * np.sin(inner)], axis=1)
    return np.concatenate([far, near])


def _cross() -> Outline:
    w = 0.34
    return np.array(
        [
            (-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w),
            (w, 1), (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w),
        ],
        dtype=float,
    )  # fmt: skip


def _arrow() -> Outline:
    return np.array(
        [(-1, -0.3), (0.1, -0.3), (0.1, -0.85), (1, 0), (0.1, 0.85), (0.1, 0.3), (-1, 0.3)],
        dtype=float,
    )


@cache
def outline(shape: str) -> Outline:
    """The polygon of a shape.

    Returns:
        float64 [corners, 2], x to the right and y downwards, within about 1 of the origin.

    Raises:
        KeyError: if the shape is not one of :data:`eval.world.factors.SHAPES`.
    """
    ellipse = _circle() * np.array([1.0, 0.56])
    outlines: dict[str, Outline] = {
        "circle": _circle(0.92),
        "square": _regular(4, np.pi / 4),
        "triangle": _regular(3, -np.pi / 2),
        "star": _regular(5, -np.pi / 2, inner=0.42),
        "cross": _cross(),
        "ring": _circle(),
        "heart": _heart(),
        "diamond": np.array([(0, -1), (0.6, 0), (0, 1), (-0.6, 0)], dtype=float),
        "hexagon": _regular(6, 0.0),
        "crescent": _crescent(),
        "arrow": _arrow(),
        "ellipse": ellipse,
    }
    return outlines[shape]


def hole(shape: str) -> Outline | None:
    """The polygon cut out of a shape, or ``None``: only a ring has one."""
    return _circle(0.55) if shape == "ring" else None
