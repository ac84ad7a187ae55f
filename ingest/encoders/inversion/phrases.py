"""Sentences for pseudo-words: templates, names of concepts, and phrases about one.

The words are those of the shipped lists (``configs/words``); ``configs/inversion.toml`` says how
they are used.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from indexes.errors import ModelError
from ingest.encoders.inversion.pseudo_words import PLACE, PseudoWords
from ingest.vocabularies import shipped_vocabularies

#: The placeholder of a concept's name in a phrase.
CONCEPT = "{concept}"

_LISTED = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Phrases:
    """Texts with pseudo-words for one model.

    Caches store a digest of this object's text, so its fields keep their names and order.

    Attributes:
        single: a text about the pseudo-word alone.
        coarse: a word that suits every image.
        templates: texts about the pseudo-word alone; one is drawn at each step.
        concepts: names of what images may show.
        forms: phrases with :data:`CONCEPT` and names of word lists in braces.
        lists: name to words.
    """

    single: str
    coarse: str
    templates: tuple[str, ...]
    concepts: tuple[str, ...]
    forms: tuple[str, ...]
    lists: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, words: PseudoWords) -> Phrases:
        """The texts for a model, with only the words that are single tokens to its tokenizer.

        A CLIP with a small vocabulary splits all others, and does not understand them.
        """
        settings = _section(words.name)
        names = {n for form in settings["phrases"] for n in _LISTED.findall(form)} - {"concept"}
        lists = {
            name: _single_tokens(words, shipped_vocabularies()[name].vocabulary.words)
            for name in names
        }
        forms = tuple(
            form
            for form in settings["phrases"]
            if all(lists.get(n, ("",)) for n in _lists_in(form))
        )
        every = [
            word
            for name in settings["concepts"]
            for word in shipped_vocabularies()[name].vocabulary.words
        ]
        concepts = _single_tokens(words, tuple(dict.fromkeys(every)))
        templates = tuple(settings["templates"])
        return cls(settings["single"], settings["coarse"], templates, concepts, forms, lists)

    def draw(self, random: np.random.Generator) -> str:
        """A random phrase, with :data:`CONCEPT` still in it."""
        form = self.forms[int(random.integers(len(self.forms)))]
        for name in _lists_in(form):
            chosen = self.lists[name][int(random.integers(len(self.lists[name])))]
            form = form.replace(f"{{{name}}}", chosen, 1)
        return form

    def check(self, model: str) -> None:
        """Refuse a model whose tokenizer has no names for what images show.

        Raises:
            ModelError: naming the composers that need no names.
        """
        if not self.concepts or not self.forms:
            raise ModelError(
                f"The tokenizer of {model} has none of the words of CIES as single tokens, which "
                "searle, searle-oti and palavra need; choose pic2word, lincir or sum."
            )

    def alone(self, concept: str) -> str:
        """A text about a concept alone."""
        return self.single.replace(PLACE, concept)


def query_text(model: str, composer: str, change: str) -> str:
    """The text of a query for a model, with :data:`PLACE` for the image.

    Args:
        model: the CLIP's name.
        composer: whose query it is; Pic2Word was published with another text than the others.
        change: the user's.
    """
    section = _section(model)
    text = section.get("queries", {}).get(composer, section["query"])
    return str(text).replace("{change}", change)


def _lists_in(form: str) -> list[str]:
    return [name for name in _LISTED.findall(form) if name != "concept"]


def _single_tokens(words: PseudoWords, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names whose words are one token each."""
    counts = words.token_counts(names)
    return tuple(
        name for name, count in zip(names, counts, strict=True) if count == len(name.split())
    )


def _section(model: str) -> dict[str, Any]:
    sections = _sections()
    return dict(sections.get(model, sections["default"]))


@cache
def _sections() -> dict[str, Any]:
    text = resources.files("configs").joinpath("inversion.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
