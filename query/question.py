"""A question: examples, weighted conditions, filters, and how the hits are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from query.composers.modification import Modification, ModifyOptions, take_modification

#: A picture as an example: a file, a path or key of the gallery, a file's bytes, or a picture in
#: memory (a PIL image, or an array; see :func:`ingest.read.images.picture_of`).
Picture = str | Path | bytes | Image.Image | NDArray[Any]

#: One condition, several, or several with weights.
Conditions = str | Sequence[str] | Mapping[str, float]

#: How the scores of several examples are combined.
COMBINE = {"mean": "their mean", "any": "the greatest of them", "all": "the least of them"}

#: Orders of hits.
SORT = {"score": "most alike first", "date": "newest by EXIF first", "path": "by path"}

#: If the best hit lies below this percentile, a note says that nothing is really alike. Measured on
#: 1,000 rendered pictures under seven conditions (docs/query.md): 66 % of the searches for a value
#: that the gallery does not have end below it, and 1.2 % of those for a value that it has.
ALIKE_ABOVE = 92.0


def parse_conditions(given: Conditions, option: str = "--condition") -> dict[str, float]:
    """Conditions with their weights. Weights of the same condition are added; 0 is kept.

    A text may contain its weight: ``color=2``. A name that itself ends in ``=2`` can be given in a
    mapping, or as ``name=2=1``.

    Args:
        given: a text, several, or a mapping from name to weight.
        option: the option's name on the command line, for errors.

    Raises:
        UsageError: if a weight is negative or not finite.
    """
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        pairs = [_weight_of(text) for text in ([given] if isinstance(given, str) else given)]
    weights: dict[str, float] = {}
    for name, weight in pairs:
        number = float(weight)
        if not math.isfinite(number) or number < 0:
            raise UsageError(
                f"{option} {shortened(name)} has the weight {number:g}; give a number of at least "
                f"0, such as `{option} color=2`, and `--not` for what shall differ."
            )
        weights[name] = weights.get(name, 0.0) + number
    return weights


def _weight_of(text: str) -> tuple[str, float]:
    name, sign, number = text.rpartition("=")
    if sign and name.strip():
        try:
            return name.strip(), float(number)
        except ValueError:
            pass
    return text, 1.0


def shortened(text: str, length: int = 80) -> str:
    """A text for a message: quoted, cut if it is long, control characters escaped."""
    cut = text if len(text) <= length else text[:length] + "..."
    return f"'{cut}'" if cut.isprintable() else repr(cut)


@dataclass(frozen=True)
class Region:
    """A region of a picture, as the picture is shown (upright).

    Attributes:
        x: left edge.
        y: upper edge.
        width: the width of the region.
        height: the height of the region.

    If all four are at most 1 they are fractions of the picture's width and height, else pixels.
    """

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def parse(cls, given: str | Sequence[float]) -> Region:
        """Read ``x,y,w,h``.

        Raises:
            UsageError: unless these are four numbers that describe a region.
        """
        parts = given.split(",") if isinstance(given, str) else list(given)
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        sound = len(numbers) == 4 and all(math.isfinite(n) and n >= 0 for n in numbers)
        if not sound or min(numbers[2:]) <= 0:
            raise UsageError(
                f"--crop {shortened(str(given))} is not a part of a picture; give x,y,w,h in "
                "pixels, such as 40,60,200,120, or in fractions of the picture, such as "
                "0.2,0,0.5,1."
            )
        return cls(*numbers)

    def of(self, picture: Image.Image) -> Image.Image:
        """The region of a picture.

        Raises:
            UsageError: if it is not inside the picture.
        """
        wide, high = picture.size
        fractions = max(self.x, self.y, self.width, self.height) <= 1
        across, down = (wide, high) if fractions else (1, 1)
        left, upper = round(self.x * across), round(self.y * down)
        right = round((self.x + self.width) * across)
        lower = round((self.y + self.height) * down)
        if right > wide or lower > high or right <= left or lower <= upper:
            raise UsageError(
                f"--crop {self} does not lie inside the picture, which has {wide} x {high} pixels."
            )
        return picture.crop((left, upper, right, lower))

    def __str__(self) -> str:
        return ",".join(f"{n:g}" for n in (self.x, self.y, self.width, self.height))


class Options(ModifyOptions, total=False):
    """The options of a search besides examples, conditions and ``k``; those of a change included.

    Attributes:
        unlike: conditions under which hits must differ from the examples; see ``condition`` of
            :meth:`query.engine.Engine.search` for the forms.
        combine: how the scores of several examples are combined: ``mean``, ``any`` (the greatest)
            or ``all`` (the least).
        crop: the region of the pictures to compare, ``(x, y, width, height)`` or the same as a
            text: fractions of the picture if all four are at most 1, else pixels.
        where: a filter such as ``"brand = 'acme' AND taken_at >= '2024'"``, exact and applied
            before the search; see :mod:`query.filters.where`.
        exclude_same: a column; pictures with a value that an example has there are left out.
        min_percentile: hits below are left out, so that there may be fewer than ``k``.
        sort: the order of the ``k`` best: ``score``, ``date`` (EXIF, newest first, those without a
            date last) or ``path``. A hit's rank stays that of its score.
        group_duplicates: fold near-duplicates, alike under all conditions of the gallery (see
            :mod:`query.explore.duplicates`), into the best of them.
        alike_above: if the best hit lies below this percentile, a note says that nothing is
            really alike.
        method: the method that answers the conditions, ``METHOD`` or ``METHOD:MODEL``: one that
            the gallery has vectors of (dior, generative, regional, clip), or a projection of its
            base vectors (clay, crl, indirect); several are fused. By default the gallery's
            preferred one, and a projection if no table has the condition.
        fuse: fuse all methods of the gallery that answer the conditions
            (:mod:`query.ranking.fusion`).
        rerank: of a projection's best hits, how many are embedded by a large model and put in its
            order; 0 for none, ``None`` for what is worth its time (:mod:`query.ranking.reranking`).
        rerank_model: the large model, if the gallery has none of its own.
        fill: let the next ingest embed the whole gallery under the condition.
    """

    unlike: Conditions
    combine: str
    crop: str | Sequence[float] | None
    where: str | None
    exclude_same: str | None
    min_percentile: float
    sort: str
    group_duplicates: bool
    alike_above: float
    method: str | Sequence[str] | None
    fuse: bool
    rerank: int | None
    rerank_model: str | None
    fill: bool


@dataclass(frozen=True)
class Question:
    """A question to a gallery; see :class:`Options` for the fields that are not explained here.

    Attributes:
        pictures: the examples; empty if the question has a text.
        conditions: condition to weight, as typed; at least one is above 0.
        text: what to look for in words, in place of pictures.
        unlike: conditions under which hits must differ, to weight.
        k: how many hits.
        combine: one of :data:`COMBINE`.
        region: the region of the examples to compare.
        sort: one of :data:`SORT`.
        methods: each ``METHOD`` or ``METHOD:MODEL``, none twice; empty for the default.
        rerank: ``None`` if not given, which the engine takes for 0.
        modification: a change of the picture; conditions may then be left out.
    """

    pictures: tuple[Picture, ...]
    conditions: Mapping[str, float]
    text: str = ""
    unlike: Mapping[str, float] = field(default_factory=dict)
    k: int = 10
    combine: str = "mean"
    region: Region | None = None
    where: str | None = None
    exclude_same: str | None = None
    min_percentile: float = 0.0
    sort: str = "score"
    group_duplicates: bool = False
    alike_above: float = ALIKE_ABOVE
    methods: tuple[str, ...] = ()
    fuse: bool = False
    rerank: int | None = None
    rerank_model: str = ""
    fill: bool = False
    modification: Modification | None = None

    @classmethod
    def of(
        cls,
        pictures: tuple[Picture, ...],
        condition: Conditions,
        k: int = 10,
        text: str = "",
        **more: Unpack[Options],
    ) -> Question:
        """A question from the values that Python or the command line gives.

        Raises:
            UsageError: if a value is wrong.
        """
        plain: dict[str, Any] = dict(more)
        unlike = parse_conditions(plain.pop("unlike", None) or (), "--not")
        crop = plain.pop("crop", None)
        region = Region.parse(crop) if crop is not None else None
        method = plain.pop("method", None) or ()
        plain["methods"] = tuple(dict.fromkeys([method] if isinstance(method, str) else method))
        plain["modification"] = take_modification(plain)
        plain["rerank_model"] = plain.get("rerank_model") or ""
        return cls(pictures, parse_conditions(condition), text, unlike, k, region=region, **plain)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: if a value is not allowed; the message says what to do.
        """
        if self.k < 1:
            raise UsageError(f"-k must be at least 1, not {self.k}.")
        if not any(self.conditions.values()) and self.modification is None:
            raise UsageError(
                "No condition has a weight above 0; name one, such as `--condition color`."
            )
        for option, value, words in (("combine", self.combine, COMBINE), ("sort", self.sort, SORT)):
            if value not in words:
                raise UsageError(
                    f"There is no --{option} {shortened(value)}; choose one of {', '.join(words)}."
                )
        for option, number in (
            ("min-percentile", self.min_percentile),
            ("alike-above", self.alike_above),
        ):
            if not 0 <= number <= 100:
                raise UsageError(f"--{option} is {number:g}; give a percentile from 0 to 100.")
        if self.rerank is not None and self.rerank < 0:
            raise UsageError(f"--rerank must be at least 0, not {self.rerank}.")
        if self.fuse and self.methods:
            raise UsageError(
                "--fuse takes all that the gallery has; leave it out and repeat --method for some."
            )
        if self.text and self.region:
            raise UsageError("--crop takes a part of a picture; leave it out with --text.")


def as_pictures(given: Picture | Sequence[Picture]) -> tuple[Picture, ...]:
    """One picture or several, as a tuple.

    Raises:
        UsageError: if there are no pictures, or an item is not a picture.
    """
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        pictures = tuple(given)
    else:
        pictures = (given,)
    if not pictures:
        raise UsageError("There is no picture to search with; give one or more.")
    for picture in pictures:
        if not isinstance(picture, (str, Path, bytes, Image.Image, np.ndarray)):
            raise UsageError(
                f"A {type(picture).__name__} cannot be used as a picture; give a file's name, its "
                "bytes, a PIL image, an array, or a path or key of the gallery."
            )
    return pictures
