"""The presets of embedders and rerankers: ``configs/embedders.toml``, ``configs/rerankers.toml``.

A preset is the prompt that a publisher trained a model with. It is found by the last part of
the model's name, never by a part of a word of it, or named by the user. Imports nothing heavy.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from indexes.errors import UsageError
from ingest.encoders.models.find import short_name
from ingest.encoders.options import DEFAULT_PROMPT

#: What a prompt is about.
PromptKind = Literal["picture", "words", "composed"]

_PLACE = re.compile(r"\{(text|condition)\}")


@dataclass(frozen=True)
class EmbedderPreset:
    """How one family of embedders is prompted; see ``configs/embedders.toml`` for the fields.

    Attributes:
        name: what ``--prompt`` takes.
        models: hub ids.
        types: model types of transformers.
        licence: as the publisher states it.
        source: the publisher's script, or the page, that the prompts follow.
        picture: the prompt about a picture; ``picture_condition`` under a condition, and so on.
        ours: names of the prompts whose wording is ours.
        matryoshka: the least number of leading numbers of a vector that may be kept; 0 if the
            model was not trained for that.
        square: pixels a side that pictures are resized to; 0 for their own shape.
        one_axis: whether token positions are counted along one axis.
    """

    name: str
    models: tuple[str, ...]
    types: tuple[str, ...]
    licence: str
    source: str
    picture: str
    picture_condition: str
    words: str
    words_condition: str
    composed: str
    composed_condition: str
    ours: tuple[str, ...] = ()
    matryoshka: int = 0
    square: int = 0
    one_axis: bool = False

    def prompt(self, kind: PromptKind, condition: str = "", text: str = "") -> str:
        """A whole prompt, with the mark of the picture in it.

        Args:
            kind: what it is about.
            condition: the condition's phrase; empty for none.
            text: the user's text, for ``words`` and ``composed``.
        """
        form: str = getattr(self, f"{kind}_condition" if condition else kind)
        values = {"text": text, "condition": condition}
        # In one pass, so that braces in the user's words stay what they are.
        return _PLACE.sub(lambda place: values[place[1]], form)

    @property
    def shares_pictures(self) -> bool:
        """Whether the picture stands before the condition, so that conditions share its pass."""
        before = self.picture_condition.partition("{condition}")[0]
        return any(mark in before for mark in PICTURE_MARKS)


#: The texts that stand for a picture in the prompts.
PICTURE_MARKS = ("<|image_pad|>", "<|image|>", "<image>")


@cache
def embedder_presets() -> dict[str, EmbedderPreset]:
    """All presets by name."""
    return {
        name: EmbedderPreset(name, **entry) for name, entry in _entries("embedders.toml").items()
    }


def _entries(file: str) -> dict[str, dict[str, Any]]:
    """The tables of a file of presets by name; lists are tuples."""
    text = resources.files("configs").joinpath(file).read_text(encoding="utf-8")
    return {
        name: {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
        for name, entry in tomllib.loads(text).items()
    }


def preset_of(model: str) -> EmbedderPreset | None:
    """The preset of a model: a hub id, with or without a revision, or a folder of the same name."""
    last = short_name(model)
    for preset in embedder_presets().values():
        if any(short_name(one) == last for one in preset.models):
            return preset
    return None


def find_preset(prompt: str, model: str) -> EmbedderPreset:
    """The preset that the user names, or else that of the model.

    Args:
        prompt: the preset's name; the default of ``--prompt`` for that of the model.
        model: as the user typed it.

    Raises:
        UsageError: if there is none.
    """
    presets = embedder_presets()
    if prompt in presets:
        return presets[prompt]
    names = ", ".join(presets)
    if prompt != DEFAULT_PROMPT:
        raise UsageError(
            f"There is no prompt '{prompt}' of an embedder; choose one of {names}, or leave "
            "--prompt out if the model has the name of its publisher."
        )
    found = preset_of(model)
    if found is None:
        raise UsageError(
            f"How {model} was prompted in its training is not known from its name; name it with "
            f"--prompt: {names}. A model that was not trained to embed works with --method dior."
        )
    return found


@dataclass(frozen=True)
class RerankerPreset:
    """How a family of rerankers is prompted; see ``configs/rerankers.toml`` for the fields."""

    name: str
    models: tuple[str, ...]
    types: tuple[str, ...]
    licence: str
    source: str
    picture: str
    prompt: str
    yes: str
    no: str
    instructions: Mapping[str, str]


@cache
def reranker_presets() -> dict[str, RerankerPreset]:
    """All presets by name."""
    return {
        name: RerankerPreset(name, **entry) for name, entry in _entries("rerankers.toml").items()
    }


def reranker_preset_of(model: str) -> RerankerPreset | None:
    """The preset of a reranker, by the last part of its name; ``None`` for other models."""
    for preset in reranker_presets().values():
        if any(short_name(one) == short_name(model) for one in preset.models):
            return preset
    return None
