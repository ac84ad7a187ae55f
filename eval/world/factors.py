"""The factors of the rendered world: what can differ between two of its pictures.

Every picture is one value of every factor, all combinations are possible, and no factor tells
anything about another. That independence is what makes the world a benchmark: whatever a search
by color finds out about shape, it should not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Mapping

import numpy as np

Color = tuple[int, int, int]

#: Base red, green, blue (0 to 255) of each color word; pictures vary around it.
PALETTE: Mapping[str, Color] = MappingProxyType(
    {
        "red": (208, 36, 40),
        "orange": (242, 132, 28),
        "yellow": (240, 216, 52),
        "green": (48, 148, 62),
        "blue": (40, 92, 206),
        "purple": (124, 52, 164),
        "pink": (242, 142, 182),
        "brown": (118, 74, 42),
        "black": (26, 26, 28),
        "white": (242, 242, 240),
        "gray": (130, 130, 132),
        "beige": (216, 196, 160),
    }
)

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "cross",
    "ring",
    "heart",
    "diamond",
    "hexagon",
    "crescent",
    "arrow",
    "ellipse",
)

#: Factor name to its values. The names are the columns of ``labels.csv`` and the conditions one
#: asks for; the values are the words a model is taught to answer with.
FACTORS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "color": tuple(PALETTE),
        "shape": SHAPES,
        "pattern": ("plain", "striped", "checked", "dotted", "printed"),
        "background": tuple(PALETTE),
        "size": ("small", "medium", "large"),
        "count": ("one", "two", "three", "four"),
        "style": ("photo", "flat", "outline", "pixelated"),
    }
)


@dataclass(frozen=True)
class Scene:
    """One picture to be rendered.

    Attributes:
        labels: factor name to value, one entry for each of :data:`FACTORS`.
        seed: decides everything the labels leave open (place, tilt, light, noise, clutter).
    """

    labels: Mapping[str, str]
    seed: int


def sample_scenes(count: int, seed: int) -> list[Scene]:
    """Draw scenes whose labels are balanced and independent.

    Each factor's values are dealt out evenly (counts differ by at most one) and shuffled on their
    own, so that no factor carries information about another.

    Args:
        count: how many scenes, at least 1.
        seed: equal seeds give equal scenes on every machine.

    Raises:
        ValueError: if ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"a world needs at least one picture, not {count}")
    generator = np.random.default_rng(seed)
    columns: dict[str, list[str]] = {}
    for name, values in FACTORS.items():
        dealt = np.arange(count) % len(values)
        order = generator.permutation(len(values))
        columns[name] = [values[order[i]] for i in generator.permutation(dealt)]
    seeds = generator.integers(0, 2**63 - 1, size=count)
    return [
        Scene({name: columns[name][i] for name in FACTORS}, int(seeds[i])) for i in range(count)
    ]
