"""Changes asked of rendered pictures, with every right answer known.

A world in which few factors vary, so that a gallery holds several pictures of each combination. A
question is a picture and a change to one of these factors; right is every picture that has the new
value and agrees in the others of them. All else is as plain as can be, or, in a busy world, differs
from picture to picture and is of no account. Published benchmarks know a part of their right
answers (CIRCO 4.5 of them on average, CIRR one); here none is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from eval.tasks import TaskQuery
from eval.world.captions import change
from eval.world.factors import FACTORS, Scene, sample_scenes

#: What varies; drawn evenly and independently.
VARIED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "color": ("red", "yellow", "green", "blue", "black", "orange"),
        "shape": ("circle", "square", "triangle", "star", "heart", "ring", "flower", "car"),
        "background": ("white", "pink", "brown", "gray"),
        "style": ("photo", "flat", "sketch"),
    }
)

#: What all pictures have in common.
FIXED: Mapping[str, str] = MappingProxyType(
    {
        "pattern": "plain",
        "material": "matte",
        "size": "large",
        "count": "one",
        "stroke": "filled",
        "frame": "none",
    }
)

#: A question has at least so many right answers.
LEAST_RIGHT = 2


@dataclass(frozen=True)
class Edits:
    """A world and what is asked of it.

    Attributes:
        scenes: of the gallery; a picture's id is its number, written with five digits.
        queries: each with the id of its picture, the change in words, and all right answers; the
            picture itself is not ranked.
        factors: what each query changes.
    """

    scenes: tuple[Scene, ...]
    queries: tuple[TaskQuery, ...]
    factors: tuple[str, ...]


def picture_id(number: int) -> str:
    """The id of a scene, by its place."""
    return f"{number:05d}"


def make_edits(pictures: int, queries: int, seed: int, busy: bool = False) -> Edits:
    """Draw a world and its questions.

    Args:
        pictures: of the gallery.
        queries: as many for each factor of :data:`VARIED`, as far as they can be dealt evenly.
        seed: equal seeds give equal worlds and questions.
        busy: whether the other factors are drawn as well, in place of :data:`FIXED`.

    Raises:
        ValueError: if so few pictures leave a question without right answers.
    """
    random = np.random.default_rng([seed, 9])
    scenes = []
    for scene in sample_scenes(pictures, seed):
        drawn = {name: str(random.choice(values)) for name, values in VARIED.items()}
        others = scene.labels if busy else FIXED
        scenes.append(Scene({**others, **drawn}, scene.seed))
    kinds: dict[tuple[str, ...], list[int]] = {}
    for number, scene in enumerate(scenes):
        kinds.setdefault(_kind(scene.labels), []).append(number)
    names = list(VARIED)
    asked: list[TaskQuery] = []
    factors: list[str] = []
    for _ in range(200 * queries):
        if len(asked) == queries:
            break
        number = int(random.integers(pictures))
        labels, factor = scenes[number].labels, names[len(asked) % len(names)]
        values = [value for value in VARIED[factor] if value != labels[factor]]
        wanted = change(factor, str(random.choice(values)), random)
        right = kinds.get(_kind(wanted.applied(labels)), [])
        if len(right) < LEAST_RIGHT:
            continue
        image = picture_id(number)
        relevant = {picture_id(one): 1.0 for one in right}
        asked.append(TaskQuery(f"{len(asked)}", image, wanted.text, relevant, exclude=(image,)))
        factors.append(factor)
    if len(asked) < queries:
        raise ValueError(f"{pictures} pictures do not suffice for {queries} questions")
    return Edits(tuple(scenes), tuple(asked), tuple(factors))


def _kind(labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(labels[name] for name in FACTORS if name in VARIED)
