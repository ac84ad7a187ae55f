"""Conditions and the prompts that ask a model about them."""

from __future__ import annotations

import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Mapping, Sequence

from indexes.errors import UsageError

#: The name for no condition: the picture as a whole.
UNCONDITIONAL = "unconditional"

MAX_CHARACTERS = 500

#: The text in a prompt template that is replaced by the condition's phrase.
PLACEHOLDER = "{condition}"

#: British spellings and the American ones that replace them when names are compared.
_SPELLINGS = {"colour": "color", "colours": "colors", "grey": "gray", "centre": "center"}


@dataclass(frozen=True)
class Condition:
    """One respect in which pictures can be similar.

    Attributes:
        name: as the user types it.
        phrase: as the prompt contains it; empty for the unconditional prompt.
    """

    name: str
    phrase: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Make a condition from what the user typed.

        Raises:
            UsageError: if it is empty, too long, or contains control characters.
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
                f"The condition {name!r} contains control characters; name it in plain words."
            )
        return cls(name, "" if name == UNCONDITIONAL else name)


def same_name(first: str, second: str) -> bool:
    """Whether two names are equal except for case, spelling (color, colour), separators, and the
    Unicode form of accents.
    """
    return fold_name(first) == fold_name(second)


def new_conditions(wanted: Sequence[Condition], existing: Sequence[str]) -> list[Condition]:
    """The wanted conditions whose names (:func:`same_name`) do not exist yet, each once."""
    names = list(existing)
    new = []
    for condition in wanted:
        if not any(same_name(condition.name, name) for name in names):
            names.append(condition.name)
            new.append(condition)
    return new


def fold_name(name: str) -> str:
    """The form of a name that :func:`same_name` compares."""
    plain = unicodedata.normalize("NFC", name).casefold()
    words = plain.replace("_", " ").replace("-", " ").split()
    return " ".join(_SPELLINGS.get(word, word) for word in words)


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt that asks a model to describe a picture in one word.

    Attributes:
        name: its name in ``configs/prompts.toml``, or the text itself of the user's own prompt.
        conditional: the text with ``{condition}`` in one place.
        unconditional: the text without a condition; empty for the user's own prompt.
    """

    name: str
    conditional: str
    unconditional: str

    def text(self, condition: Condition) -> str:
        """The user's turn of the conversation, without the picture.

        Raises:
            UsageError: if there is no condition and no unconditional text.
        """
        if condition.phrase:
            return self.conditional.replace(PLACEHOLDER, condition.phrase)
        if not self.unconditional:
            raise UsageError(
                f"A prompt of your own has no form without a condition, so '{UNCONDITIONAL}' "
                f"cannot be asked; leave it out, or give --prompt {next(iter(prompt_templates()))}."
            )
        return self.unconditional

    def phrase_start(self, condition: Condition) -> int:
        """Index of the condition's phrase in :meth:`text`; 0 without a condition."""
        return self.conditional.index(PLACEHOLDER) if condition.phrase else 0


@cache
def prompt_templates() -> dict[str, PromptTemplate]:
    """The templates of ``configs/prompts.toml`` by name."""
    text = resources.files("configs").joinpath("prompts.toml").read_text(encoding="utf-8")
    return {name: PromptTemplate(name, **entry) for name, entry in tomllib.loads(text).items()}


def prompt_template(name: str) -> PromptTemplate:
    """A template by name, or the user's own: any text with ``{condition}`` in one place.

    Raises:
        UsageError: if there is no such template, or ``{condition}`` occurs several times.
    """
    count = name.count(PLACEHOLDER)
    if count == 1:
        return PromptTemplate(name, name, "")
    if count:
        raise UsageError(f"The prompt has {PLACEHOLDER} {count} times; write it exactly once.")
    templates = prompt_templates()
    if name not in templates:
        raise UsageError(
            f"There is no prompt '{name}'; choose one of {', '.join(templates)}, or write your "
            f"own text with {PLACEHOLDER} in it."
        )
    return templates[name]


def with_stored_words(template: PromptTemplate, stored: Mapping[str, Any] | None) -> PromptTemplate:
    """A template with the words that a gallery was embedded with, if it stores them."""
    texts = (stored or {}).get("template")
    if isinstance(texts, list) and len(texts) == 2 and all(isinstance(t, str) for t in texts):
        return PromptTemplate(template.name, *texts)
    return template
