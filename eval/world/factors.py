"""The factors of the rendered world, by which its pictures differ.

Every picture has one value of every factor, all combinations are possible, and the factors are
independent. The independence makes the world a benchmark: if a search by color also finds equal
shapes, the shape has leaked into the vectors. Only the material is empty where objects are drawn in
lines, since lines have no material.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Mapping

import numpy as np

from eval.world.shapes import SHAPES

Color = tuple[int, int, int]

#: Color word to its tones as red, green, blue (0 to 255), the plainest first; pictures vary around
#: each tone.
TONES: Mapping[str, tuple[Color, ...]] = MappingProxyType(
    {
        "red": ((208, 36, 40), (176, 26, 36), (230, 64, 58)),
        "orange": ((242, 132, 28), (228, 112, 40), (250, 158, 62)),
        "yellow": ((240, 216, 52), (250, 228, 112), (228, 196, 32)),
        "green": ((48, 148, 62), (112, 176, 62), (26, 96, 52), (132, 200, 132), (104, 120, 50)),
        "blue": ((40, 92, 206), (28, 46, 112), (98, 168, 228), (32, 128, 168)),
        "purple": ((124, 52, 164), (160, 112, 200), (84, 40, 112)),
        "pink": ((242, 142, 182), (250, 186, 202), (226, 84, 142)),
        "brown": ((118, 74, 42), (86, 54, 36), (150, 104, 68)),
        "black": ((26, 26, 28), (46, 44, 46)),
        "white": ((242, 242, 240), (252, 252, 252), (228, 228, 226)),
        "gray": ((130, 130, 132), (98, 100, 104), (168, 168, 170)),
        "beige": ((216, 196, 160), (228, 214, 190), (196, 176, 142)),
    }
)

#: The plainest tone of each color word.
PALETTE: Mapping[str, Color] = MappingProxyType({name: tones[0] for name, tones in TONES.items()})

#: The stroke of objects that are filled; the others are drawn in lines of a weight.
FILLED = "filled"

#: Factor name to its values. The names are the columns of ``labels.csv`` and the conditions; the
#: values are the words that the built-in models are trained to answer with.
FACTORS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "color": tuple(TONES),
        "shape": SHAPES,
        "pattern": ("plain", "striped", "checked", "dotted", "printed"),
        "material": ("matte", "shiny", "woven", "wooden"),
        "background": tuple(TONES),
        "size": ("small", "medium", "large"),
        "count": ("one", "two", "three", "four", "many"),
        "style": ("photo", "flat", "painting", "sketch", "pixelated"),
        "stroke": (FILLED, "thin", "regular", "bold"),
        "frame": ("none", "circle", "square"),
    }
)

#: How many times as often as other values a value occurs: most real pictures show one object,
#: filled, without a frame.
WEIGHTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {"count": {"one": 3}, "stroke": {FILLED: 4}, "frame": {"none": 3}}
)


@dataclass(frozen=True)
class Scene:
    """One picture to be rendered.

    Attributes:
        labels: factor name to value, one entry for each of :data:`FACTORS`; empty where the
            factor does not apply.
        seed: decides everything that the labels leave open (place, tilt, light, noise, clutter).
        form: if not 0, the number of an unnamed form drawn instead of a shape, and above ``FORMS``
            that of an unnamed object. Only training uses them, so that the models distinguish
            outlines without a word.
        manner: if not 0, the number of an unnamed drawing style instead of a named one; only
            training uses them.
    """

    labels: Mapping[str, str]
    seed: int
    form: int = 0
    manner: int = 0


def sample_scenes(count: int, seed: int) -> list[Scene]:
    """Draw scenes whose labels are balanced and independent.

    The values of each factor occur equally often, or by their :data:`WEIGHTS` (counts differ by at
    most one from their share), and each factor is shuffled separately, so that no factor has
    information about another.

    Args:
        count: number of scenes, at least 1.
        seed: equal seeds give equal scenes on every machine.

    Raises:
        ValueError: if ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"a world needs at least one picture, not {count}")
    generator = np.random.default_rng(seed)
    columns: dict[str, list[str]] = {}
    for name, values in FACTORS.items():
        weights = WEIGHTS.get(name, {})
        deck = [value for value in values for _ in range(weights.get(value, 1))]
        dealt = np.arange(count) % len(deck)
        order = generator.permutation(len(deck))
        columns[name] = [deck[order[i]] for i in generator.permutation(dealt)]
    seeds = generator.integers(0, 2**63 - 1, size=count)
    scenes = []
    for i in range(count):
        labels = {name: columns[name][i] for name in FACTORS}
        if labels["stroke"] != FILLED:
            labels["material"] = ""
        scenes.append(Scene(labels, int(seeds[i])))
    return scenes
