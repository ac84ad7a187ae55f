"""Queries that ask for a change to a rendered picture, with every right answer known.

Few factors vary in this world, so that a gallery has several pictures of each combination. A query
is a picture and a change to one of these factors. Every picture is right that has the new value and
is equal in the other varied factors. The remaining factors are fixed, or, in a busy world, vary and
do not count. Published benchmarks know only some of their right answers (CIRCO 4.5 on average, CIRR
one); here all are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from eval.tasks import TaskQuery
from eval.world.captions import change
from eval.world.factors import FACTORS, Scene, sample_scenes

#: The varied factors, drawn uniformly and independently.
VARIED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "color": ("red", "yellow", "green", "blue", "black", "orange"),
        "shape": ("circle", "square", "triangle", "star", "heart", "ring", "flower", "car"),
        "background": ("white", "pink", "brown", "gray"),
        "style": ("photo", "flat", "sketch"),
    }
)

#: The values that all pictures share.
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

#: Least number of right answers of a query.
LEAST_RIGHT = 2


@dataclass(frozen=True)
class Edits:
    """A world and its queries.

    Attributes:
        scenes: the scenes of the gallery; a picture's id is its number with five digits.
        queries: each with the id of its picture, the change in words, and all right answers; the
            picture itself is not ranked.
        factors: the factor that each query changes.
    """

    scenes: tuple[Scene, ...]
    queries: tuple[TaskQuery, ...]
    factors: tuple[str, ...]


def picture_id(number: int) -> str:
    """The id of a scene by its number."""
    return f"{number:05d}"


def make_edits(pictures: int, queries: int, seed: int, busy: bool = False) -> Edits:
    """Draw a world and its queries.

    Args:
        pictures: number of pictures in the gallery.
        queries: number of queries, divided equally between the factors of :data:`VARIED`.
        seed: equal seeds give equal worlds and queries.
        busy: whether the other factors vary, instead of the values of :data:`FIXED`.

    Raises:
        ValueError: if there are too few pictures for the queries to have right answers.
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
    found: list[TaskQuery] = []
    factors: list[str] = []
    for _ in range(200 * queries):
        if len(found) == queries:
            break
        number = int(random.integers(pictures))
        labels, factor = scenes[number].labels, names[len(found) % len(names)]
        values = [value for value in VARIED[factor] if value != labels[factor]]
        wanted = change(factor, str(random.choice(values)), random)
        right = kinds.get(_kind(wanted.applied(labels)), [])
        if len(right) < LEAST_RIGHT:
            continue
        image = picture_id(number)
        relevant = {picture_id(one): 1.0 for one in right}
        found.append(TaskQuery(f"{len(found)}", image, wanted.text, relevant, exclude=(image,)))
        factors.append(factor)
    if len(found) < queries:
        raise ValueError(f"{pictures} pictures are too few for {queries} queries")
    return Edits(tuple(scenes), tuple(found), tuple(factors))


def _kind(labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(labels[name] for name in FACTORS if name in VARIED)
