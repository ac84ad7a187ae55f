"""Sentences for pseudo-words: templates, names of concepts, and what may be said of one.

The words are those of our own lists (``configs/words``); what is done with them stands in
``configs/inversion.toml``.
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
from ingest.vocabularies import shipped

#: Where a concept's name goes in a phrase.
CONCEPT = "{concept}"

_LISTED = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Phrases:
    """What is said with pseudo-words to one model.

    Attributes:
        single: a text about the pseudo-word alone.
        coarse: a word that suits every picture.
        templates: texts about the pseudo-word alone, of which one is drawn at each step.
        concepts: names of what pictures may show.
        forms: phrases with :data:`CONCEPT` and lists of words in braces.
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
        """Those for a model, of words that its tokenizer has whole.

        A CLIP of few words spells all others, and understands none of them.
        """
        own = _section(words.name)
        names = {name for form in own["phrases"] for name in _LISTED.findall(form)} - {"concept"}
        lists = {name: _whole(words, shipped()[name].vocabulary.words) for name in names}
        forms = tuple(
            form for form in own["phrases"] if all(lists.get(n, ("",)) for n in _listed(form))
        )
        every = [word for name in own["concepts"] for word in shipped()[name].vocabulary.words]
        concepts = _whole(words, tuple(dict.fromkeys(every)))
        return cls(own["single"], own["coarse"], tuple(own["templates"]), concepts, forms, lists)

    def drawn(self, random: np.random.Generator) -> str:
        """A phrase with :data:`CONCEPT` left open."""
        form = self.forms[int(random.integers(len(self.forms)))]
        for name in _listed(form):
            chosen = self.lists[name][int(random.integers(len(self.lists[name])))]
            form = form.replace(f"{{{name}}}", chosen, 1)
        return form

    def check(self, model: str) -> None:
        """Refuse a model to which nothing can be said about what pictures show.

        Raises:
            ModelError: naming the composers that need no names.
        """
        if not self.concepts or not self.forms:
            raise ModelError(
                f"The tokenizer of {model} has none of our words whole, which searle, searle-oti "
                "and palavra need; choose pic2word, lincir or sum."
            )

    def alone(self, concept: str) -> str:
        """A text about a concept alone."""
        return self.single.replace(PLACE, concept)


def single_of(model: str) -> str:
    """A text about a pseudo-word alone, as a model reads it best."""
    return str(_section(model)["single"])


def query_of(model: str, change: str) -> str:
    """The text of a question to a model, with :data:`PLACE` for the picture."""
    return str(_section(model)["query"]).replace("{change}", change)


def _listed(form: str) -> list[str]:
    return [name for name in _LISTED.findall(form) if name != "concept"]


def _whole(words: PseudoWords, names: tuple[str, ...]) -> tuple[str, ...]:
    counts = words.counts(names)
    return tuple(
        name for name, count in zip(names, counts, strict=True) if count == len(name.split())
    )


def _section(model: str) -> dict[str, Any]:
    plain = model.lower().replace("_", "").replace("-", "")
    every = _settings()
    marks = [mark for mark in every if mark != "default" and mark in plain]
    return dict(every[marks[0] if marks else "default"])


@cache
def _settings() -> dict[str, Any]:
    text = resources.files("configs").joinpath("inversion.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
