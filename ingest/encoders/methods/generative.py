"""Generative: an LVLM's answer about an image, embedded by a sentence encoder.

The baseline that Kawarada et al. (WACV 2026) compare DIOR with: the same prompt, at most 16
tokens generated greedily, and the answer embedded by a sentence encoder. Only the generated tokens
are decoded; the prompt, which names the condition and not the value, is never embedded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ingest.encoders.base import Embeddings, EncoderSpec
from ingest.encoders.dual.sentences import load_sentences
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.models.find import ModelSource
from ingest.encoders.models.loading import LoadedModel
from ingest.encoders.options import (
    AS_LOADED,
    BUFFERS,
    DEFAULT_OPTIONS,
    DEFAULT_PROMPT,
    EncoderOptions,
)
from ingest.encoders.vlm.processors import Prepared


class GenerativeEncoder(DiorEncoder):
    """The LVLM's answer, embedded by a sentence encoder. Its words are the answers."""

    METHOD = "generative"
    CHOICES = ("max_side", "attention", "system", "sentences")
    ANSWER_TOKENS = 16

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
        """See :class:`DiorEncoder`; loads the sentence encoder ``options.sentences`` too.

        Raises:
            UsageError: as :class:`DiorEncoder`.
            ModelError: if the sentence encoder cannot be loaded.
        """
        super().__init__(source, loaded, prompt, force, options, copies, stored)
        rounded = stored is not None and f"sentences_{BUFFERS}" not in stored
        self._sentences = load_sentences(options.sentences, str(self.lvlm.device), rounded)

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        spec = super().spec
        more = {
            "answer_tokens": self.ANSWER_TOKENS,
            "sentences": self._sentences.source.name,
            "sentences_revision": self._sentences.revision,
            "sentences_dtype": self._sentences.dtype,
        }
        if self._sentences.mixed:
            more[f"sentences_{BUFFERS}"] = AS_LOADED
        return replace(spec, settings={**spec.settings, **more})

    @property
    def dimension(self) -> int:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        return self._sentences.dimension

    @property
    def description(self) -> str:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        return f"{super().description}; answers embedded by {self._sentences.source.name}"

    def _embed_prepared(
        self, prepared: Iterable[Prepared], shape: tuple[int, int], words: bool, questions: int
    ) -> Embeddings:
        # The vectors are made of the answers, so the words are needed in any case.
        states = self._states(prepared, shape, True)
        answers = sorted({answer for row in states.words for answer in row})
        number_of = {answer: number for number, answer in enumerate(answers)}
        vectors = self._sentences.encode_texts(answers)
        numbers = [number_of[answer] for row in states.words for answer in row]
        rows = vectors[np.array(numbers, dtype=np.int64)]
        return replace(states, vectors=rows.reshape(*shape, self.dimension))
