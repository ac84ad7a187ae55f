"""A model that sees a query and a candidate, and says how probably the candidate is right.

Any LVLM is asked in its own chat template to answer yes or no; a reranker is asked in the prompt
that its publisher trained it with (``configs/rerankers.toml``). Both pictures are in one prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from indexes.errors import ModelError
from ingest.encoders.embedders.presets import PICTURE_MARKS, reranker_preset_of
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.vlm.generation import TextGenerator, YesProbabilities

#: The places of a prompt; the two pictures among them.
_PLACE = re.compile(r"\{(instruction|query|candidate|words|conditions)\}")
_PICTURES = re.compile(r"\{(query|candidate)\}")


@dataclass(frozen=True)
class JudgedQuery:
    """What candidates are compared with.

    Attributes:
        picture: the picture of the query; ``None`` for a query in words.
        words: the words of the query, or the change of the picture; may be empty.
        conditions: in what the candidate must be like the picture; may be empty.
    """

    picture: Image.Image | None
    words: str = ""
    conditions: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``search`` for words alone, ``change`` for a changed picture, else ``alike``."""
        if self.picture is None:
            return "search"
        return "change" if self.words else "alike"


class Judge:
    """Compares candidates with a query, one at a time."""

    def __init__(self, encoder: DiorEncoder, questions: Mapping[str, str]):
        """Use the model of an encoder; the encoder can still be used.

        Args:
            encoder: its model.
            questions: for a model that is no reranker, by :attr:`JudgedQuery.kind`; with
                ``{query}`` and ``{candidate}`` for the pictures, ``{words}`` and ``{conditions}``.

        Raises:
            ModelError: if the model was not trained to answer yes or no.
        """
        self._encoder = encoder
        self._generator = TextGenerator(encoder)
        self._questions = questions
        self._preset = reranker_preset_of(self.name)
        kind = encoder.lvlm.model.config.model_type
        if self._preset is not None and kind not in self._preset.types:
            raise ModelError(
                f"{self.name} has the name of a reranker of type "
                f"{' or '.join(self._preset.types)}, and is of type '{kind}'; name another model."
            )
        self._generator.check_answers()

    @property
    def name(self) -> str:
        """The model's name."""
        return self._generator.name

    def judge(self, query: JudgedQuery, candidates: Sequence[Image.Image]) -> YesProbabilities:
        """How probably each candidate is right.

        Args:
            query: what they are compared with.
            candidates: RGB.

        Raises:
            UsageError: if the query holds a special token of the model.
            ModelError: if the model has no token for a word of it, or reads one picture at a time.
        """
        for text in (query.words, *query.conditions):
            self._generator.check_text(text)
            for mark in (one for one in PICTURE_MARKS if one in text):
                raise ModelError(f"The query holds {mark!r}, which marks a picture; leave it out.")
        chat, has_query = self._prompt(query)
        if has_query and self._encoder.lvlm.inputs.cross_attends:
            raise ModelError(
                f"{self.name} reads one picture at a time, so it cannot compare two; name another "
                "--lvlm."
            )
        before = [query.picture] if has_query and query.picture is not None else []
        pairs = [[*before, candidate] for candidate in candidates]
        if self._preset is None:
            return self._generator.yes_of_pictures(chat, pairs)
        answers = self._preset.yes, self._preset.no
        found = self._generator.yes_of_pictures(chat, pairs, answers, raw=True)
        # A reranker was trained on the difference of the two, however probable others are.
        return YesProbabilities(found.yes, np.ones_like(found.mass))

    def _prompt(self, query: JudgedQuery) -> tuple[str, bool]:
        """The whole prompt, and whether the query's picture is in it."""
        preset, kind = self._preset, query.kind
        values: dict[str, str] = {
            "words": query.words,
            "conditions": " and ".join(query.conditions) or "all that they show",
        }
        if preset is None:
            parts = _PICTURES.split(self._questions[kind])
            texts = [None if n % 2 else _filled(part, values) for n, part in enumerate(parts)]
            return self._encoder.chat.render_mixed(texts), "query" in parts[1::2]
        instruction = _filled(preset.instructions[kind], values)
        picture = "" if query.picture is None else preset.picture
        values |= {"query": picture + query.words, "candidate": preset.picture}
        return _filled(preset.prompt, {**values, "instruction": instruction}), bool(picture)


def _filled(form: str, values: Mapping[str, Any]) -> str:
    """A text with its places filled in one pass, so that braces in the values stay as they are."""
    return _PLACE.sub(lambda place: str(values[place[1]]), form)
