"""What every composer is: a picture and a change in, what to look for out."""

from __future__ import annotations

import math
import tomllib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Protocol, TypedDict, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from indexes.search.vectors import Vectors

#: Longest change, caption or object that can be asked for.
MAX_CHARACTERS = 500


@dataclass(frozen=True)
class Modification:
    """A change one asks for, and what one knows better than the composer.

    Attributes:
        text: the change in words: "the same in green".
        composer: by name; ``None`` for the one that suits the question.
        caption: what the picture looked for shows; written by the composer if empty.
        must: objects it shows; ``None`` for what the composer finds out.
        must_not: objects it does not show; ``None`` likewise.
        weights: a composer's weights by name, where its own shall not hold.
        verify: how many of the first hits the LVLM looks through, asked whether each is right.
        lvlm: the LVLM that writes captions and verifies; the gallery's own, or the built-in one,
            if empty.
        rewriter: address of an OpenAI-compatible API that rewrites captions in the LVLM's place.
        rewriter_model: the model there.
        rewriter_timeout: seconds to wait for its answer.
    """

    text: str
    composer: str | None = None
    caption: str = ""
    must: tuple[str, ...] | None = None
    must_not: tuple[str, ...] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    verify: int = 0
    lvlm: str = ""
    rewriter: str = ""
    rewriter_model: str = ""
    rewriter_timeout: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what cannot be asked.

        Raises:
            UsageError: with the way out.
        """
        _check("modification", self.text, "--modify 'the same in green'")
        if self.caption:
            _check("caption", self.caption, "--caption 'a green mug'")
        for option, given in (("must", self.must), ("must-not", self.must_not)):
            for text in given or ():
                _check(f"object of --{option}", text, f"--{option} 'green mug'")
        for name, number in self.weights.items():
            if not math.isfinite(number):
                raise UsageError(f"--weight {name} is {number}; give a finite number.")
        if self.verify < 0:
            raise UsageError(f"--verify is {self.verify}; give the number of hits to look through.")


class ModifyOptions(TypedDict, total=False):
    """A change one asks for, as it stands among the options of a search.

    Attributes:
        modify: the change in words, or all of it as a :class:`Modification`.

    The others are the fields of :class:`Modification`.
    """

    modify: str | Modification | None
    composer: str | None
    caption: str
    must: Sequence[str] | None
    must_not: Sequence[str] | None
    weights: Mapping[str, float]
    verify: int
    lvlm: str
    rewriter: str
    rewriter_model: str
    rewriter_timeout: float


def take_modification(options: dict[str, Any]) -> Modification | None:
    """Take :class:`ModifyOptions` out of the options of a search.

    Args:
        options: of which they are removed.

    Raises:
        UsageError: if there are some without a change, or they cannot be meant.
    """
    given = {name: options.pop(name) for name in ModifyOptions.__annotations__ if name in options}
    change = given.pop("modify", None)
    given = {n: v for n, v in given.items() if v != getattr(_UNCHANGED, n)}
    if change is None or isinstance(change, Modification):
        if given:
            option = "--" + next(iter(given)).replace("_", "-")
            way = "say the change, such as --modify 'the same in green'"
            if change is not None:
                way = "say it in the modification itself"
            raise UsageError(f"{option} belongs to a change that is asked for; {way}.")
        return change
    for name in ("must", "must_not"):
        if name in given:
            texts = given[name]
            given[name] = (texts,) if isinstance(texts, str) else tuple(texts)
    return Modification(change, **given)


def parse_composer_weights(texts: Sequence[str]) -> dict[str, float]:
    """Weights as they are typed: ``alpha_i=1.2``.

    Raises:
        UsageError: if one is no number.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            found[name.strip().replace("-", "_")] = float(number)
        except ValueError:
            raise UsageError(
                f"--weight {text!r} is no weight; write a name and a number, such as alpha_i=1.2."
            ) from None
    return found


def _check(what: str, text: str, example: str) -> None:
    if not text.strip():
        raise UsageError(f"The {what} is empty; say what is wanted, such as {example}.")
    if len(text) > MAX_CHARACTERS:
        raise UsageError(
            f"The {what} has {len(text)} characters, {MAX_CHARACTERS} are allowed; shorten it."
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text):
        raise UsageError(f"The {what} {text!r} holds control characters; write it in plain words.")


_UNCHANGED = Modification("nothing")


@dataclass(frozen=True)
class Interpretation:
    """What a composer made of a question; each part can be given in its place next time.

    Attributes:
        composer: its name.
        modification: as asked.
        caption: what the picture shows, as far as the composer asked; else empty.
        target: what the pictures looked for show: the text that was searched with, or empty
            where none was.
        must: objects that were looked for beside.
        must_not: objects that counted against.
        conditions: of composers that work in the gallery's own conditions: what is looked for
            under each, and whether it comes from the words or the picture.
        weights: all weights in force, by name.
        notes: what people should know, a sentence each: fallbacks, texts that were cut.
    """

    composer: str
    modification: str
    caption: str = ""
    target: str = ""
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For documents."""
        return {
            "composer": self.composer,
            "modification": self.modification,
            "caption": self.caption,
            "target": self.target,
            "must": list(self.must),
            "must_not": list(self.must_not),
            "conditions": dict(self.conditions),
            "weights": dict(self.weights),
        }

    def lines(self) -> list[str]:
        """For people, a line each."""
        found = [f"Understood by {self.composer}: {self.modification}"]
        for name, said in (("before", self.caption), ("looked for", self.target)):
            found += [f"  {name}: {said}"] if said and said != self.modification else []
        found += [f"  {name}: {value}" for name, value in self.conditions.items()]
        for name, objects in (("must", self.must), ("must not", self.must_not)):
            found += [f"  {name}: {', '.join(objects)}"] if objects else []
        numbers = ", ".join(f"{name} {value:g}" for name, value in self.weights.items())
        return [*found, f"  weights: {numbers}"] if numbers else found


@dataclass(frozen=True)
class ComposerInput:
    """One composed question, as a composer meets it.

    Attributes:
        modification: the change and what the user knows better.
        vector: float32 [dim], the picture's base vector, unit length.
        image: opens the picture itself, for composers whose model looks at it.
    """

    modification: Modification
    vector: NDArray[np.float32]
    image: Callable[[], Image.Image]


@dataclass(frozen=True)
class ComposedQuery:
    """What to look for.

    Attributes:
        vector: float32 [dim], unit length, compared with the pictures' base vectors.
        interpretation: how it came about.
        captions: between 0 and 1, how much the likeness to the gallery's own captions counts in
            place of that to its pictures.
    """

    vector: NDArray[np.float32]
    interpretation: Interpretation
    captions: float = 0.0


@dataclass(frozen=True)
class WrittenCaption:
    """What a language model wrote, read.

    Attributes:
        text: the caption.
        must: objects that it says must be there.
        must_not: objects that it says must not.
        note: what went wrong, a sentence; empty if nothing did.
    """

    text: str
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    note: str = ""


@runtime_checkable
class CaptionWriter(Protocol):
    """Puts pictures and changes into words."""

    @property
    def name(self) -> str:
        """Which models write."""
        ...

    def caption(self, image: Image.Image) -> str:
        """A picture in one sentence."""
        ...

    def changed(self, image: Image.Image, change: str) -> WrittenCaption:
        """The picture after a change, in one sentence; the change itself if nothing is written."""
        ...

    def reasoned(self, image: Image.Image, change: str) -> WrittenCaption:
        """As :meth:`changed`, with what must and must not be there."""
        ...


class Tools(Protocol):
    """What composers work with."""

    @property
    def base_model(self) -> str:
        """Name of the model of the base vectors."""
        ...

    @property
    def writer(self) -> CaptionWriter:
        """What writes captions; its model is loaded when first needed."""
        ...

    @property
    def has_captions(self) -> bool:
        """Whether the gallery keeps captions of its pictures."""
        ...

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Texts as base vectors: float32 [texts, dim], unit rows."""
        ...

    def cut(self, text: str) -> str:
        """A text as far as the base model reads it."""
        ...


class Composer(Protocol):
    """Makes one vector of a picture and a change."""

    name: str
    about: str

    def compose(self, asked: ComposerInput, tools: Tools) -> ComposedQuery:
        """What to look for.

        Raises:
            UsageError: if a weight is unknown or out of range, or the gallery lacks something.
            ModelError: if a model is needed and cannot be had.
        """
        ...


@cache
def settings() -> dict[str, Any]:
    """``configs/compose.toml``."""
    text = resources.files("configs").joinpath("compose.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def weights_of(
    composer: str,
    defaults: Mapping[str, float],
    given: Mapping[str, float],
    least: float = -4.0,
    most: float = 4.0,
) -> dict[str, float]:
    """A composer's weights: its own, and the user's in their place.

    Args:
        composer: its name.
        defaults: all it has.
        given: the user's.
        least: allowed.
        most: allowed.

    Raises:
        UsageError: if it has no such weight, or one is out of range.
    """
    for name, number in given.items():
        if name not in defaults:
            known = ", ".join(defaults) or "none"
            raise UsageError(
                f"The composer {composer} has no weight '{name}' (it has: {known}); leave it out."
            )
        if not least <= number <= most:
            raise UsageError(f"--weight {name} is {number:g}; give {least:g} to {most:g}.")
    return {**defaults, **given}


def published(composer: str, model: str) -> dict[str, float]:
    """The published weights of a composer for a CLIP, else its default ones.

    Args:
        composer: by name.
        model: of the base vectors.
    """
    groups: dict[str, dict[str, float]] = settings()[composer]
    plain = model.lower().replace("_", "-").replace("-", "")
    for mark, values in groups.items():
        if mark != "default" and mark in plain:
            return dict(values)
    return dict(groups["default"])


def direction(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    """A vector at unit length; one that is of that length stays as it is, to the bit.

    Raises:
        UsageError: if nothing is left of it, as of a text taken from itself.
    """
    wide = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(wide))
    if not math.isfinite(length) or length < 1e-6:
        raise UsageError(
            "With these weights nothing is left to look for; change --weight, or leave it out."
        )
    if abs(length - 1) < 1e-6:
        return wide.astype(np.float32)
    return (wide / length).astype(np.float32)
