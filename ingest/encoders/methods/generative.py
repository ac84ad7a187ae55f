"""Generative: an LVLM's answer about an image, embedded by a sentence encoder.

The baseline that Kawarada et al. (WACV 2026) compare DIOR with: the same prompt, at most 16
tokens generated greedily, and the answer embedded by a sentence encoder. Only the generated tokens
are decoded; the prompt, which names the condition and not the value, is not embedded. The published
code embeds prompt and answer together, which ``compat`` reproduces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from indexes.vectors import Vectors
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
    CHOICES = (
        "max_side",
        "attention",
        "compat",
        "system",
        "sentences",
        "answer_tokens",
        "temperature",
    )
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
            "answer_tokens": self.answer_tokens,
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
        self,
        prepared: Iterable[Prepared],
        shape: tuple[int, int],
        words: bool,
        questions: int,
        layers: Sequence[int],
    ) -> list[Embeddings]:
        prompts: list[tuple[tuple[int, ...], ...]] = []
        whole = [[""] * shape[1] for _ in range(shape[0])]

        def read(
            row: int, number: int, tokens: Sequence[int], probabilities: Sequence[float]
        ) -> tuple[str, float]:
            ids = [*prompts[row][number], *self._lvlm.answer_ids(tokens)]
            whole[row][number] = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
            return self._lvlm.full_answer(tokens, probabilities)

        # The vectors are made of the answers, so the words are needed in any case.
        [answers] = self._states(_noted(prepared, prompts), shape, True, layers, read)
        texts = answers.words if self._options.compat is None else whole
        # The lengths are those of the model's states, not of the sentences' vectors.
        unknown = np.full(shape, np.nan, dtype=np.float32)
        return [replace(answers, vectors=self._vectors_of(texts, shape), norms=unknown)]

    def _vectors_of(self, texts: Sequence[Sequence[str]], shape: tuple[int, int]) -> Vectors:
        """Unit vectors of texts, each different one embedded once: float32 [*shape, dim]."""
        different = sorted({text for row in texts for text in row})
        number_of = {text: number for number, text in enumerate(different)}
        vectors = self._sentences.encode_texts(different)
        numbers = np.array([number_of[text] for row in texts for text in row], dtype=np.int64)
        rows: Vectors = vectors[numbers].reshape(*shape, self.dimension)
        return rows


def _noted(
    prepared: Iterable[Prepared], prompts: list[tuple[tuple[int, ...], ...]]
) -> Iterator[Prepared]:
    """Pass on what is prepared, and append its prompts to a list."""
    for one in prepared:
        prompts.append(one.prompts)
        yield one
