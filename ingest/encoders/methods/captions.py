"""Captions: an LVLM's sentence about an image, embedded by the text tower of a CLIP.

Stored together with the base vectors of the same CLIP, they let a query be compared with an
image's text as well (WeiMoCIR, :mod:`query.composers.arithmetic`). As there, an image has three
captions, and its vector is the mean of theirs, scaled to unit length; the word of an image is the
first of them. The built-in model writes one, because it knows one question.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

from ingest.conditions import PLACEHOLDER, PromptTemplate
from ingest.encoders.base import Embeddings, EncoderSpec
from ingest.encoders.methods.generative import GenerativeEncoder
from ingest.encoders.models.find import ModelSource
from ingest.encoders.models.loading import LoadedModel
from ingest.encoders.options import DEFAULT_OPTIONS, DEFAULT_PROMPT, EncoderOptions
from ingest.encoders.vlm.processors import Prepared

#: The setting that lists an image's questions, where it has several.
QUESTIONS = "questions"


class CaptionsEncoder(GenerativeEncoder):
    """The LVLM's caption, through the text tower of a CLIP; the same under every condition."""

    METHOD = "captions"
    ANSWER_TOKENS = 48

    def __init__(
        self,
        source: ModelSource,
        loaded: LoadedModel,
        prompt: str = DEFAULT_PROMPT,
        force: bool = False,
        options: EncoderOptions = DEFAULT_OPTIONS,
        copies: Sequence[LoadedModel] = (),
        stored: Mapping[str, Any] | None = None,
    ):
        """See :class:`GenerativeEncoder`; the question is read from ``configs/compose.toml``."""
        super().__init__(source, loaded, prompt, force, options, copies, stored)
        text = resources.files("configs").joinpath("compose.toml").read_text(encoding="utf-8")
        kind = "general" if source.declared_conditions() is None else "schooled"
        prompts = tomllib.loads(text)["prompts"][kind]
        asked = [prompts["describe"]]
        # Galleries of earlier versions have one caption of each image.
        if stored is None or QUESTIONS in stored:
            asked += prompts.get("describe_again", [])
        templates = [PromptTemplate(prompt, f"{q} {PLACEHOLDER}", q) for q in asked]
        self._set_template(templates[0])
        self._questions = tuple(templates)

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        spec = super().spec
        if len(self._questions) == 1:
            return spec
        asked = [template.unconditional for template in self._questions]
        return replace(spec, settings={**spec.settings, QUESTIONS: asked})

    @property
    def conditional(self) -> bool:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        return False

    def _embed_prepared(
        self,
        prepared: Iterable[Prepared],
        shape: tuple[int, int],
        words: bool,
        questions: int,
        layers: Sequence[int],
    ) -> list[Embeddings]:
        asked = (shape[0], shape[1] * questions)
        [captions] = super()._embed_prepared(prepared, asked, words, 1, layers)
        if questions == 1:
            return [captions]
        mean = captions.vectors.reshape(*shape, questions, self.dimension).mean(2)
        found = Embeddings.of_features(mean)
        first = slice(None, None, questions)
        return [
            replace(
                found,
                words=[row[first] for row in captions.words],
                word_probabilities=captions.word_probabilities[:, first],
            )
        ]
