"""Unnamed objects of several parts, like most real objects: a body, limbs, and marks on it.

Only training uses them. A model that is trained to distinguish them, whatever their color, pattern
and material, also represents the form of objects that have no word in its vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from eval.world.shapes import Outline

#: Number of unnamed objects.
THINGS = 300

#: Tone of a part: the object's own color, a darker or lighter tone of it, or another color.
OWN, DARKER, LIGHTER, OTHER = range(4)

#: Least visible share of the own color, by which the object is labelled.
LEAST_OWN = 0.6

_STEPS = 32


@dataclass(frozen=True)
class ObjectPart:
    """One part of an object; later parts cover earlier ones.

    Attributes:
        line: float64 [corners, 2], a polygon within the unit circle, y downwards.
        tone: :data:`OWN`, :data:`DARKER`, :data:`LIGHTER` or :data:`OTHER`.
    """

    line: Outline
    tone: int


@cache
def thing(number: int) -> tuple[ObjectPart, ...]:
    """The parts of an unnamed object, 1 to :data:`THINGS`, always the same for a number."""
    random = np.random.default_rng([78, number])
    while True:
        parts = _fitted(_assembled(random))
        if own_share(parts) >= LEAST_OWN:
            return parts


def own_share(parts: tuple[ObjectPart, ...]) -> float:
    """The visible share of an object that has its own color, 0 to 1."""
    side = 96
    image = Image.new("L", (side, side), 255)
    draw = ImageDraw.Draw(image)
    for part in parts:
        corners = (part.line + 1) * side / 2
        draw.polygon([(float(x), float(y)) for x, y in corners], fill=part.tone)
    seen = np.asarray(image)
    return float((seen == OWN).sum() / max(1, (seen != 255).sum()))


def _assembled(random: np.random.Generator) -> tuple[ObjectPart, ...]:
    mirrored = random.random() < 0.6
    body = _piece(random, mirrored) * np.array([random.uniform(0.45, 1.0), random.uniform(0.5, 1)])
    parts = []
    for _ in range(int(random.integers(1, 4))):
        at = body[int(random.integers(len(body)))] * random.uniform(0.7, 1.05)
        tone = int(random.choice([OWN, OWN, OWN, DARKER, LIGHTER, OTHER]))
        limb = _piece(random, False) * random.uniform([0.14, 0.2], [0.4, 0.75])
        parts += _placed(limb @ _turned(random.uniform(0, np.pi)), at, tone, mirrored)
    behind = int(random.integers(0, len(parts) + 1))
    marks = []
    for _ in range(int(random.integers(0, 4))):
        at = body[int(random.integers(len(body)))] * random.uniform(0.0, 0.6)
        tone = int(random.choice([DARKER, LIGHTER, OTHER]))
        mark = _piece(random, mirrored) * random.uniform([0.07, 0.07], [0.32, 0.2])
        marks += _placed(mark, at, tone, mirrored and random.random() < 0.6)
    return (*parts[:behind], ObjectPart(body, OWN), *parts[behind:], *marks)


def _piece(random: np.random.Generator, mirrored: bool) -> Outline:
    """A simple form around the origin; a mirrored one is symmetric about the vertical axis."""
    angle = np.linspace(0, 2 * np.pi, _STEPS, endpoint=False)
    kind = int(random.integers(5))
    if kind == 0:
        radius = np.ones_like(angle)
    elif kind == 1:
        # Between a disc and a box, or concave like a cushion.
        power = random.choice([1.2, 3.0, 6.0])
        radius = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1 / power)
        radius = radius / radius.max()
    elif kind == 2:
        radius = np.ones_like(angle)
        for wave in range(1, 5):
            phase = random.choice([0.0, np.pi]) if mirrored else random.uniform(0, 2 * np.pi)
            radius += random.normal(0, 0.32 / wave**0.6) * np.cos(
                wave * (angle - np.pi / 2) + phase
            )
        radius = np.clip(radius, 0.25, None)
        radius = radius / radius.max()
    elif kind == 3:
        wide, narrow = random.uniform(0.6, 1.0), random.uniform(0.1, 0.9)
        corners = np.array([(-narrow, -1.0), (narrow, -1.0), (wide, 1.0), (-wide, 1.0)])
        return np.asarray(corners * random.choice([-1, 1]))
    else:
        half = np.linspace(0, np.pi, _STEPS // 2)
        arc = np.stack([np.cos(half), np.sin(half) * 2 - 1], axis=1)
        return np.asarray(arc * random.choice([-1, 1]))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _placed(line: Outline, at: NDArray[np.float64], tone: int, both: bool) -> list[ObjectPart]:
    """A part at a place, and if ``both`` its mirror image on the other side."""
    placed = line + at
    return (
        [ObjectPart(placed, tone), ObjectPart(placed * [-1, 1], tone)]
        if both
        else [ObjectPart(placed, tone)]
    )


def _fitted(parts: tuple[ObjectPart, ...]) -> tuple[ObjectPart, ...]:
    """Parts scaled into the unit circle, with their middle at the origin."""
    corners = np.concatenate([part.line for part in parts])
    middle = (corners.max(0) + corners.min(0)) / 2
    reach = np.linalg.norm(corners - middle, axis=1).max()
    return tuple(ObjectPart((part.line - middle) / reach, part.tone) for part in parts)


def _turned(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
