"""Conditions and the prompts that ask a model about them."""

from __future__ import annotations

import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Sequence

from indexes.errors import UsageError

#: The name that asks for no condition at all: the picture as a whole.
UNCONDITIONAL = "unconditional"

MAX_CHARACTERS = 500

#: What a prompt template has where the condition's phrase goes.
PLACE = "{condition}"

#: British spellings and the American ones they are compared as.
_SPELLINGS = {"colour": "color", "colours": "colors", "grey": "gray", "centre": "center"}


@dataclass(frozen=True)
class Condition:
    """One respect in which pictures can be alike.

    Attributes:
        name: what the user types.
        phrase: what the prompt says; empty for the unconditional prompt.
    """

    name: str
    phrase: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition as typed.

        Raises:
            UsageError: if it is empty, too long, or holds control characters.
        """
        name = unicodedata.normalize("NFC", " ".join(text.split()))
        if not name:
            raise UsageError("A condition is empty; name one, such as `--condition color`.")
        if len(name) > MAX_CHARACTERS:
            raise UsageError(
                f"A condition has {len(name)} characters, {MAX_CHARACTERS} are allowed; "
                "name the respect in a few words, such as `--condition color`."
            )
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise UsageError(
                f"The condition {name!r} holds control characters; name it in plain words."
            )
        return cls(name, "" if name == UNCONDITIONAL else name)


def same_name(first: str, second: str) -> bool:
    """Whether two names differ at most in case, spelling (color, colour), separators, and how
    Unicode writes an accent.
    """
    return folded(first) == folded(second)


def new_conditions(wanted: Sequence[Condition], there: Sequence[str]) -> list[Condition]:
    """Those wanted that are not there yet under the same name, each once."""
    names = list(there)
    new = []
    for condition in wanted:
        if not any(same_name(condition.name, name) for name in names):
            names.append(condition.name)
            new.append(condition)
    return new


def folded(name: str) -> str:
    """A name as :func:`same_name` compares it."""
    plain = unicodedata.normalize("NFC", name).casefold()
    words = plain.replace("_", " ").replace("-", " ").split()
    return " ".join(_SPELLINGS.get(word, word) for word in words)


@dataclass(frozen=True)
class PromptTemplate:
    """A way to ask for a picture in one word.

    Attributes:
        name: its name in ``configs/prompts.toml``, or the text itself of a free one.
        conditional: text with ``{condition}`` in one place.
        unconditional: text without; empty for a free one.
    """

    name: str
    conditional: str
    unconditional: str

    def text(self, condition: Condition) -> str:
        """The user's turn, without the picture.

        Raises:
            UsageError: if nothing is known to ask without a condition.
        """
        if condition.phrase:
            return self.conditional.replace(PLACE, condition.phrase)
        if not self.unconditional:
            raise UsageError(
                f"A prompt of your own has no form without a condition, so '{UNCONDITIONAL}' "
                f"cannot be asked; leave it out, or give --prompt {next(iter(prompt_templates()))}."
            )
        return self.unconditional

    def begin(self, condition: Condition) -> int:
        """Where the condition's phrase begins in :meth:`text`; 0 without a condition."""
        return self.conditional.index(PLACE) if condition.phrase else 0


@cache
def prompt_templates() -> dict[str, PromptTemplate]:
    """The templates of ``configs/prompts.toml`` by name."""
    text = resources.files("configs").joinpath("prompts.toml").read_text(encoding="utf-8")
    return {name: PromptTemplate(name, **entry) for name, entry in tomllib.loads(text).items()}


def prompt_template(name: str) -> PromptTemplate:
    """A template by name, or a free one: any text with ``{condition}`` in one place.

    Raises:
        UsageError: naming those there are, or if ``{condition}`` stands in several places.
    """
    places = name.count(PLACE)
    if places == 1:
        return PromptTemplate(name, name, "")
    if places:
        raise UsageError(f"The prompt has {PLACE} {places} times; write it exactly once.")
    templates = prompt_templates()
    if name not in templates:
        raise UsageError(
            f"There is no prompt '{name}'; choose one of {', '.join(templates)}, or write your "
            f"own text with {PLACE} in it."
        )
    return templates[name]
