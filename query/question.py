"""A question: examples, weighted conditions, filters, and how the hits are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from query.composers.modification import Modification, ModifyOptions, take_modification


@dataclass(frozen=True)
class NamedPicture:
    """A picture that was named to another process, which has read its file.

    Attributes:
        name: as it was given: a file, or a path or key of the gallery.
        path: the same as an absolute path.
        data: the file's bytes; ``None`` if there is no such file.
    """

    name: str
    path: Path
    data: bytes | None


#: A picture as an example: a file, a path or key of the gallery, a file's bytes, or a picture in
#: memory (a PIL image, or an array; see :func:`ingest.read.isolated.picture_of`).
Picture = str | Path | bytes | Image.Image | NDArray[Any] | NamedPicture

#: One condition, several, or several with weights.
Conditions = str | Sequence[str] | Mapping[str, float]

#: The ways to move a query. The first is the default; measured in docs/query.md.
FEEDBACK = {
    "rocchio": "towards the mean of the liked pictures, away from that of the disliked ones",
    "ridge": "a ridge regression on the rated pictures, drawn to the query",
}

#: How the scores of several examples are combined.
COMBINE = {"mean": "their mean", "any": "the greatest of them", "all": "the least of them"}

#: Orders of hits, besides the columns.
SORT = {"score": "most alike first", "date": "newest by EXIF first", "path": "by path"}

#: If the best hit lies below this percentile, a note says that nothing is really alike. Measured on
#: 1,000 rendered pictures under seven conditions (docs/query.md): 66 % of the searches for a value
#: that the gallery does not have end below it, and 1.2 % of those for a value that it has.
ALIKE_ABOVE = 92.0

#: The largest weight of a condition. Sums of weights stay far from the limits of float32.
MAX_WEIGHT = 1_000_000


def parse_conditions(given: Conditions, option: str = "--condition") -> dict[str, float]:
    """Conditions with their weights. Weights of the same condition are added; 0 is kept.

    A text may contain its weight: ``color=2``. A name that itself ends in ``=2`` can be given in a
    mapping, or as ``name=2=1``.

    Args:
        given: a text, several, or a mapping from name to weight.
        option: the option's name on the command line, for errors.

    Raises:
        UsageError: if a name is no text, or a weight is no number, negative or too large.
    """
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, Iterable) or not all(isinstance(text, str) for text in texts):
            raise UsageError(f"{option} takes names of conditions, not {shortened(repr(given))}.")
        pairs = [_weight_of(text) for text in texts]
    weights: dict[str, float] = {}
    for name, weight in pairs:
        number = _weight_number(weight)
        if not isinstance(name, str) or not 0 <= number <= MAX_WEIGHT:
            raise UsageError(
                f"{option} {shortened(str(name))} has the weight {_shown(weight)}; give a number "
                f"of at least 0 and at most {MAX_WEIGHT:,}, such as `{option} color=2`, and "
                "`--not` for what shall differ."
            )
        weights[name] = weights.get(name, 0.0) + number
    return weights


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else shortened(str(value))


def _weight_number(weight: Any) -> float:
    """A weight as a number; NaN if it is none."""
    try:
        return math.nan if isinstance(weight, (str, bytes)) else float(weight)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _whole(option: str, value: Any, least: int) -> int:
    """A whole number that is at least ``least``, and small enough for an array's length.

    Raises:
        UsageError: if it is anything else.
    """
    try:
        number = value.item() if isinstance(value, np.integer) else value
        if not isinstance(number, int) or isinstance(number, bool):
            raise UsageError(f"{option} must be a whole number, not {shortened(repr(value))}.")
        if number < least:
            raise UsageError(f"{option} must be at least {least}, not {number}.")
        return min(number, 2**31)
    except ValueError as error:  # an integer of more digits than Python prints
        raise UsageError(f"{option} is no such number.") from error


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


def similar_names(name: str, known: Iterable[str]) -> str:
    """A question whether a known name was meant, to follow a sentence; empty if none is similar."""
    found = get_close_matches(name.casefold(), [one.casefold() for one in known], 1)
    names = {one.casefold(): one for one in known}
    return f" (did you mean '{names[found[0]]}'?)" if found else ""


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
        like: pictures that the user likes, such as hits of an earlier search: they move the query
            towards them under each condition, and are not found again. Without an example or a
            text they are the examples.
        dislike: pictures that move the query away from them, and are not found again.
        feedback: how they move it, one of :data:`FEEDBACK`.
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
        sort: the order of the ``k`` best: ``score``, ``date`` (EXIF, newest first), ``path``, or a
            column, ascending, or descending as ``-price``. Hits without a value come last. A hit's
            rank stays that of its score.
        by: ``COLUMN=VALUE``: the examples are the pictures that have this value, in place of or
            besides the pictures that are given.
        show: the columns that hits carry; all of the user's by default.
        offset: how many of the best to leave out, for page after page. If it is given, 0 included,
            all vectors are compared, so that pages neither repeat nor miss a picture.
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

    like: Picture | Sequence[Picture]
    dislike: Picture | Sequence[Picture]
    feedback: str
    unlike: Conditions
    combine: str
    crop: str | Sequence[float] | None
    where: str | None
    exclude_same: str | None
    min_percentile: float
    sort: str
    by: str | Sequence[str] | None
    show: str | Sequence[str] | None
    offset: int | None
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
        sort: one of :data:`SORT`, or a column, with a minus for descending.
        by: columns with the values that examples have there.
        show: the columns that hits carry; ``None`` for all of the user's.
        offset: how many of the best to leave out; ``None`` for none, with an index allowed.
        methods: each ``METHOD`` or ``METHOD:MODEL``, none twice; empty for the default.
        rerank: ``None`` if not given, which the engine takes for 0.
        verify: how many of the best a model looks at together with the query, which puts them in
            its order; those of a change are in ``modification``.
        lvlm: that model; if empty, the gallery's own LVLM, or else the built-in one.
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
    by: tuple[tuple[str, str], ...] = ()
    show: tuple[str, ...] | None = None
    offset: int | None = None
    group_duplicates: bool = False
    alike_above: float = ALIKE_ABOVE
    methods: tuple[str, ...] = ()
    fuse: bool = False
    rerank: int | None = None
    rerank_model: str = ""
    verify: int = 0
    lvlm: str = ""
    fill: bool = False
    modification: Modification | None = None
    like: tuple[Picture, ...] = ()
    dislike: tuple[Picture, ...] = ()
    feedback: str = next(iter(FEEDBACK))

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
        plain["by"] = _column_values(plain.get("by") or ())
        for rated in ("like", "dislike"):
            given: Any = plain.get(rated, ())
            is_empty = given is None or (isinstance(given, (list, tuple)) and not given)
            plain[rated] = () if is_empty else as_pictures(given)
        show = plain.get("show")
        plain["show"] = show if show is None else _names(show)
        plain["modification"] = take_modification(plain)
        plain["rerank_model"] = plain.get("rerank_model") or ""
        return cls(pictures, parse_conditions(condition), text, unlike, k, region=region, **plain)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: if a value is not allowed; the message says what to do.
        """
        object.__setattr__(self, "k", _whole("-k", self.k, 1))
        object.__setattr__(self, "verify", _whole("--verify", self.verify, 0))
        if self.rerank is not None:
            object.__setattr__(self, "rerank", _whole("--rerank", self.rerank, 0))
        if self.rerank_model:
            from ingest.encoders.embedders.presets import reranker_preset_of

            if reranker_preset_of(self.rerank_model):
                self._verify_by_reranker()
        for option, text in (
            ("text", self.text),
            ("where", self.where),
            ("exclude-same", self.exclude_same),
            ("combine", self.combine),
            ("sort", self.sort),
            ("feedback", self.feedback),
        ):
            if text is not None and not isinstance(text, str):
                raise UsageError(f"--{option} takes a text, not {shortened(repr(text))}.")
        if not any(self.conditions.values()) and self.modification is None:
            raise UsageError(
                "No condition has a weight above 0; name one, such as `--condition color`."
            )
        if self.combine not in COMBINE:
            raise UsageError(
                f"There is no --combine {shortened(self.combine)}; choose one of "
                f"{', '.join(COMBINE)}."
            )
        if self.feedback not in FEEDBACK:
            raise UsageError(
                f"There is no --feedback {shortened(self.feedback)}; choose one of "
                f"{', '.join(FEEDBACK)}."
            )
        if self.offset is not None:
            object.__setattr__(self, "offset", _whole("--offset", self.offset, 0))
            if self.verify or (self.modification is not None and self.modification.verify):
                raise UsageError("--verify puts hits in an order of its own; leave --offset out.")
        for option, number in (
            ("min-percentile", self.min_percentile),
            ("alike-above", self.alike_above),
        ):
            if not 0 <= _weight_number(number) <= 100:
                raise UsageError(
                    f"--{option} is {shortened(str(number))}; give a percentile from 0 to 100."
                )
        if self.fuse and self.methods:
            raise UsageError(
                "--fuse takes all that the gallery has; leave it out and repeat --method for some."
            )
        if self.text and self.region:
            raise UsageError("--crop takes a part of a picture; leave it out with --text.")

    def _verify_by_reranker(self) -> None:
        """Turn a re-ranking by a reranker, which embeds nothing, into a look at the best hits.

        Raises:
            UsageError: if it is not said how many, or all pictures should be embedded.
        """
        count, model = self.rerank, self.rerank_model
        if count is None or self.fill:
            raise UsageError(
                f"{model} embeds nothing, it looks at the query and each of the best hits; say at "
                "how many, such as --rerank 20, and leave --fill out."
            )
        object.__setattr__(self, "rerank", None)
        object.__setattr__(self, "rerank_model", "")
        change = self.modification
        if change is None:
            object.__setattr__(self, "verify", self.verify or count)
            object.__setattr__(self, "lvlm", self.lvlm or model)
        else:
            change = replace(change, verify=change.verify or count, lvlm=change.lvlm or model)
            object.__setattr__(self, "modification", change)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    """Names of columns, each once; a text may contain several, separated by commas."""
    texts = [given] if isinstance(given, str) else list(given)
    names = [name.strip() for text in texts for name in str(text).split(",")]
    return tuple(dict.fromkeys(name for name in names if name))


def _column_values(given: str | Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Columns with values, from texts such as ``sku=00005``.

    Raises:
        UsageError: if a text has no equals sign.
    """
    pairs = []
    for text in [given] if isinstance(given, str) else given:
        column, sign, value = str(text).partition("=")
        if not sign or not column.strip():
            raise UsageError(
                f"--by {shortened(str(text))} names no column and value; write --by sku=00005."
            )
        pairs.append((column.strip(), value.strip()))
    return tuple(pairs)


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
        if not isinstance(picture, (str, Path, bytes, Image.Image, np.ndarray, NamedPicture)):
            raise UsageError(
                f"A {type(picture).__name__} cannot be used as a picture; give a file's name, its "
                "bytes, a PIL image, an array, or a path or key of the gallery."
            )
    return pictures
