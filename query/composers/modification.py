"""The change that a composed query asks for, and its options."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from indexes.errors import UsageError

#: The longest change, caption or object that is accepted.
MAX_CHARACTERS = 500


@dataclass(frozen=True)
class Modification:
    """A change of a picture, and values that the user sets in place of the composer.

    Attributes:
        text: the change in words: "the same in green".
        composer: the composer's name; ``None`` for the one that suits the question.
        caption: what the wanted picture shows; written by the composer if empty.
        must: objects that it shows; ``None`` for those that the composer finds.
        must_not: objects that it does not show; ``None`` likewise.
        weights: weights of the composer by name, in place of its own.
        verify: how many of the first hits a model looks at together with the query, asked whether
            each is right.
        lvlm: the LVLM that writes captions and verifies; if empty, the gallery's own, or else the
            built-in one.
        rewriter: address of an OpenAI-compatible API that rewrites captions in place of the LVLM.
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
        """Check the values.

        Raises:
            UsageError: if a value is not allowed; the message says what to do.
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
            raise UsageError(f"--verify is {self.verify}; give the number of hits to check.")


class ModifyOptions(TypedDict, total=False):
    """A change among the options of a search.

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
        options: the options; those of a change are removed.

    Raises:
        UsageError: if there are such options without a change, or their values are wrong.
    """
    given = {name: options.pop(name) for name in ModifyOptions.__annotations__ if name in options}
    change = given.pop("modify", None)
    given = {n: v for n, v in given.items() if v != getattr(_DEFAULTS, n)}
    if change is None:
        # These two apply to every search.
        options |= {name: given.pop(name) for name in ("verify", "lvlm") if name in given}
    if change is None or isinstance(change, Modification):
        if given:
            option = "--" + next(iter(given)).replace("_", "-")
            way = "say the change, such as --modify 'the same in green'"
            if change is not None:
                way = "say it in the modification itself"
            raise UsageError(f"{option} needs a change; {way}.")
        return change
    for name in ("must", "must_not"):
        if name in given:
            texts = given[name]
            given[name] = (texts,) if isinstance(texts, str) else tuple(texts)
    return Modification(change, **given)


def parse_composer_weights(texts: Sequence[str]) -> dict[str, float]:
    """Weights as they are typed: ``alpha_i=1.2``.

    Raises:
        UsageError: if one is not a number.
    """
    weights: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            weights[name.strip().replace("-", "_")] = float(number)
        except ValueError:
            raise UsageError(
                f"--weight {text!r} is not a weight; write a name and a number, such as "
                "alpha_i=1.2."
            ) from None
    return weights


def _check(what: str, text: str, example: str) -> None:
    if not text.strip():
        raise UsageError(f"The {what} is empty; say what is wanted, such as {example}.")
    if len(text) > MAX_CHARACTERS:
        raise UsageError(
            f"The {what} has {len(text)} characters, {MAX_CHARACTERS} are allowed; shorten it."
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text):
        raise UsageError(f"The {what} {text!r} holds control characters; write it in plain words.")


_DEFAULTS = Modification("nothing")
