"""What every composer is: a picture and a change in, what to look for out."""

from __future__ import annotations

import math
import tomllib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from indexes.vectors import Vectors

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
        verify: how many of the first hits a model looks through, asked whether each is right.
    """

    text: str
    composer: str | None = None
    caption: str = ""
    must: tuple[str, ...] | None = None
    must_not: tuple[str, ...] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    verify: int = 0

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


def _check(what: str, text: str, example: str) -> None:
    if not text.strip():
        raise UsageError(f"The {what} is empty; say what is wanted, such as {example}.")
    if len(text) > MAX_CHARACTERS:
        raise UsageError(
            f"The {what} has {len(text)} characters, {MAX_CHARACTERS} are allowed; shorten it."
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text):
        raise UsageError(f"The {what} {text!r} holds control characters; write it in plain words.")


@dataclass(frozen=True)
class Understood:
    """What a composer made of a question; each part can be given in its place next time.

    Attributes:
        composer: its name.
        modification: as asked.
        caption: what the picture shows, as far as the composer asked; else empty.
        target: what the pictures looked for show: the text that was searched with, or empty
            where none was.
        must: objects that were looked for beside.
        must_not: objects that counted against.
        weights: all weights in force, by name.
        notes: what people should know, a sentence each: fallbacks, texts that were cut.
    """

    composer: str
    modification: str
    caption: str = ""
    target: str = ""
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
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
            "weights": dict(self.weights),
        }


@dataclass(frozen=True)
class Asked:
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
class Composed:
    """What to look for.

    Attributes:
        vector: float32 [dim], unit length, compared with the pictures' base vectors.
        understood: how it came about.
        captions: between 0 and 1, how much the likeness to the gallery's own captions counts in
            place of that to its pictures.
    """

    vector: NDArray[np.float32]
    understood: Understood
    captions: float = 0.0


@dataclass(frozen=True)
class Written:
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
class Writer(Protocol):
    """Puts pictures and changes into words."""

    @property
    def name(self) -> str:
        """Which models write."""
        ...

    def caption(self, image: Image.Image) -> str:
        """A picture in one sentence."""
        ...

    def changed(self, image: Image.Image, change: str) -> Written:
        """The picture after a change, in one sentence; the change itself if nothing is written."""
        ...

    def reasoned(self, image: Image.Image, change: str) -> Written:
        """As :meth:`changed`, with what must and must not be there."""
        ...


class Tools(Protocol):
    """What composers work with."""

    @property
    def base_model(self) -> str:
        """Name of the model of the base vectors."""
        ...

    @property
    def writer(self) -> Writer:
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

    def compose(self, asked: Asked, tools: Tools) -> Composed:
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
    """A vector at unit length, worked out with 53 bits so that a unit vector stays as it is.

    Raises:
        UsageError: if nothing is left of it, as of a text taken from itself.
    """
    wide = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(wide))
    if not math.isfinite(length) or length < 1e-6:
        raise UsageError(
            "With these weights nothing is left to look for; change --weight, or leave it out."
        )
    return (wide / length).astype(np.float32)
