"""Outlines of the world's shapes, as polygons inside the unit circle.

Geometric shapes are computed; objects are given by a few corners, which are rounded for soft
objects.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Outline = NDArray[np.float64]

_STEPS = 48

_CORNERS: dict[str, tuple[int, str]] = {
    # Name: how often the corners are cut, then x and y in hundredths, y downwards.
    "cross": (
        0,
        "-34,-100 34,-100 34,-34 100,-34 100,34 34,34 34,100 -34,100 -34,34 -100,34 -100,-34 "
        "-34,-34",
    ),
    "arrow": (0, "-100,-30 10,-30 10,-85 100,0 10,85 10,30 -100,30"),
    "diamond": (0, "0,-100 60,0 0,100 -60,0"),
    "house": (0, "-80,95 -80,-5 -98,-5 0,-98 98,-5 80,-5 80,95 22,95 22,35 -22,35 -22,95"),
    "cup": (
        1,
        "-75,-80 50,-80 50,-55 92,-55 95,25 50,25 40,85 -65,85 -75,-80",
    ),
    "bottle": (1, "-18,-100 18,-100 18,-45 44,-15 44,100 -44,100 -44,-15 -18,-45"),
    "shirt": (
        0,
        "-32,-82 -12,-70 12,-70 32,-82 98,-42 76,4 52,-14 52,90 -52,90 -52,-14 -76,4 -98,-42",
    ),
    "sweater": (
        0,
        "-30,-86 -10,-76 10,-76 30,-86 62,-66 96,70 68,80 48,0 48,86 -48,86 -48,0 -68,80 -96,70 "
        "-62,-66",
    ),
    "trousers": (0, "-50,-100 50,-100 66,100 20,100 0,-30 -20,100 -66,100"),
    "shorts": (0, "-66,-60 66,-60 90,66 12,66 0,0 -12,66 -90,66"),
    "dress": (
        1,
        "-36,-100 -20,-100 0,-76 20,-100 36,-100 30,-56 26,-22 72,96 -72,96 -26,-22 -30,-56",
    ),
    "skirt": (0, "-38,-70 38,-70 86,76 -86,76"),
    "shoe": (1, "-95,-50 -30,-55 -10,-12 60,5 98,30 98,52 -98,52"),
    "hat": (1, "-45,-65 45,-65 52,20 100,30 100,52 -100,52 -100,30 -52,20"),
    "bag": (
        0,
        "-80,-10 -45,-10 -45,-62 -30,-88 30,-88 45,-62 45,-10 80,-10 92,88 -92,88",
    ),
    "apple": (
        2,
        "0,-52 10,-98 28,-92 14,-58 62,-70 94,-25 80,50 38,95 0,82 -38,95 -80,50 -94,-25 -62,-70",
    ),
    "pear": (2, "-6,-100 12,-100 30,-52 42,-10 76,40 52,96 -52,96 -76,40 -42,-10 -30,-52"),
    "banana": (
        2,
        "-94,-46 -78,-56 -56,-8 -8,28 52,24 92,-14 100,4 72,58 10,84 -48,66 -86,14",
    ),
    "carrot": (1, "-92,-76 -50,-96 -44,-62 -8,-72 8,-44 34,-8 96,96 -10,36 -46,8 -72,-14 -62,-46"),
    "lemon": (2, "-100,0 -66,-26 -36,-58 36,-58 66,-26 100,0 66,26 36,58 -36,58 -66,26"),
    "mushroom": (2, "0,-92 72,-66 98,0 70,14 28,8 34,92 -34,92 -28,8 -70,14 -98,0 -72,-66"),
    "tree": (
        0,
        "-14,98 -14,55 -78,55 -36,5 -58,5 0,-98 58,5 36,5 78,55 14,55 14,98",
    ),
    "leaf": (2, "0,-100 54,-56 64,6 34,58 7,70 8,100 -8,100 -7,70 -34,58 -64,6 -54,-56"),
    "fish": (1, "-98,0 -40,-48 24,-42 56,-8 98,-50 88,0 98,50 56,8 24,42 -40,48"),
    "bird": (
        1,
        "-98,-34 -70,-44 -52,-66 -24,-62 -12,-28 44,-18 98,-52 82,18 36,44 8,46 8,88 -6,88 -10,44 "
        "-46,22 -62,-24",
    ),
    "cloud": (
        2,
        "-92,46 -100,10 -70,-16 -52,-14 -46,-58 0,-76 34,-44 62,-46 74,-10 100,8 92,46",
    ),
    "drop": (2, "0,-110 36,-36 66,24 50,76 0,100 -50,76 -66,24 -36,-36"),
    "bolt": (0, "20,-100 -60,15 -5,15 -20,100 60,-20 5,-20"),
    "key": (
        0,
        "-96,-20 -78,-42 -52,-42 -34,-14 98,-14 98,34 78,34 78,14 54,14 54,32 36,32 36,14 -34,14 "
        "-52,42 -78,42 -96,20",
    ),
    "bell": (1, "-10,-98 10,-98 16,-82 54,-46 62,30 92,62 92,74 22,74 0,98 -22,74 -92,74 -92,62 "
        "-62,30 -54,-46 -16,-82"),
    "umbrella": (
        1,
        "0,-92 62,-68 98,4 60,-10 8,-2 8,72 -14,96 -38,80 -34,66 -14,78 -8,66 -8,-2 -60,-10 "
        "-98,4 -62,-68",
    ),
    "car": (
        1,
        "-98,30 -92,-8 -54,-16 -28,-56 34,-56 62,-14 98,-4 98,32 74,32 62,54 38,54 26,32 -30,32 "
        "-42,54 -66,54 -78,32",
    ),
}  # fmt: skip

_GEOMETRIC = ("circle", "square", "triangle", "star", "ring", "heart", "hexagon", "crescent")

#: Every named shape: geometric forms first, then objects.
SHAPES = (*_GEOMETRIC, "ellipse", "flower", "face", *_CORNERS)

#: Number of unnamed forms.
FORMS = 100


def _circle(radius: float = 1.0) -> Outline:
    angle = np.linspace(0, 2 * np.pi, _STEPS, endpoint=False)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _regular(corners: int, turn: float, inner: float | None = None) -> Outline:
    """A regular polygon, or a star with every second corner at radius ``inner``."""
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


def _flower() -> Outline:
    angle = np.linspace(0, 2 * np.pi, 2 * _STEPS, endpoint=False)
    radius = 0.72 + 0.28 * np.cos(6 * angle)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _cut(corners: Outline, times: int) -> Outline:
    """Round a polygon by cutting its corners (Chaikin's scheme)."""
    for _ in range(times):
        after = np.roll(corners, -1, axis=0)
        near, far = 0.75 * corners + 0.25 * after, 0.25 * corners + 0.75 * after
        corners = np.stack([near, far], axis=1).reshape(-1, 2)
    return corners


@cache
def outline(shape: str) -> Outline:
    """The polygon of a shape.

    Returns:
        float64 [corners, 2], x to the right and y downwards, within about 1 of the origin.

    Raises:
        KeyError: if the shape is not one of :data:`SHAPES`.
    """
    if shape in _CORNERS:
        times, text = _CORNERS[shape]
        corners = np.array([[float(n) / 100 for n in p.split(",")] for p in text.split()])
        return _cut(corners, times)
    computed: dict[str, Outline] = {
        "circle": _circle(0.92),
        "square": _regular(4, np.pi / 4),
        "triangle": _regular(3, -np.pi / 2),
        "star": _regular(5, -np.pi / 2, inner=0.42),
        "ring": _circle(),
        "heart": _heart(),
        "hexagon": _regular(6, 0.0),
        "crescent": _crescent(),
        "ellipse": _circle() * np.array([1.0, 0.56]),
        "flower": _flower(),
        "face": _circle(0.96),
    }
    return computed[shape]


@cache
def holes(shape: str) -> tuple[Outline, ...]:
    """The polygons cut out of a shape; most shapes have none."""
    if shape == "ring":
        return (_circle(0.55),)
    if shape == "flower":
        return (_circle(0.2),)
    if shape == "bag":
        return (np.array([(-0.3, -0.1), (-0.3, -0.55), (0.3, -0.55), (0.3, -0.1)]),)
    if shape == "key":
        return (_circle(0.16) + np.array([-0.64, 0.0]),)
    if shape == "face":
        eye = _circle(0.13) * np.array([1.0, 1.25])
        smile = np.array([(-0.5, 0.2), (0.5, 0.2), (0.34, 0.5), (0.0, 0.62), (-0.34, 0.5)])
        return (eye + np.array([-0.34, -0.26]), eye + np.array([0.34, -0.26]), smile)
    return ()


@cache
def form(number: int) -> tuple[Outline, tuple[Outline, ...]]:
    """An unnamed form and its holes: one of :data:`FORMS`, always the same for a number."""
    random = np.random.default_rng([77, number])
    angle = np.linspace(0, 2 * np.pi, 2 * _STEPS, endpoint=False)
    radius = np.ones_like(angle)
    if random.random() < 0.6:
        for wave in range(1, 7):
            radius += random.normal(0, 0.34 / wave**0.6) * np.cos(
                wave * angle + random.uniform(0, 2 * np.pi)
            )
        radius = np.maximum(radius, 0.18)
        line = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    else:
        count = int(random.integers(5, 11))
        turns = np.sort(random.uniform(0, 2 * np.pi, count))
        reach = random.uniform(0.3, 1.0, count)
        line = np.stack([reach * np.cos(turns), reach * np.sin(turns)], axis=1)
        line = _cut(line, int(random.integers(0, 3)))
    line = line - (line.max(0) + line.min(0)) / 2
    line = line * np.array([1.0, random.uniform(0.6, 1.0)]) @ _turn(random.uniform(0, np.pi))
    line = line / np.linalg.norm(line, axis=1).max()
    cut: tuple[Outline, ...] = ()
    if random.random() < 0.3:
        cut = (_circle(random.uniform(0.12, 0.2)) + random.uniform(-0.2, 0.2, 2),)
    return line, cut


def _turn(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
