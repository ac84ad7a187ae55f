"""Generative: what an LVLM answers about a picture, embedded as a sentence.

The baseline that Kawarada et al. (WACV 2026) measure DIOR against: the same prompt, at most 16
tokens said greedily, and the answer put through a sentence encoder. Only what is said is decoded;
the prompt, which names the condition and not the value, is never embedded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ingest.encoders.base import Embeddings, EncoderSpec
from ingest.encoders.dual.sentences import load_sentences
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.models.find import LoadedModel, ModelSource
from ingest.encoders.options import DiorOptions
from ingest.encoders.vlm.processors import Prepared

_DEFAULT = DiorOptions()


class GenerativeEncoder(DiorEncoder):
    """The LVLM's answer, through a sentence encoder. Its words are the answers."""

    METHOD = "generative"
    CHOICES = ("max_side", "attention", "sentences")
    ANSWER_TOKENS = 16

    def __init__(
        self,
        source: ModelSource,
        loaded: LoadedModel,
        prompt: str = "describe",
        force: bool = False,
        options: DiorOptions = _DEFAULT,
        copies: Sequence[LoadedModel] = (),
    ):
        """See :class:`DiorEncoder`; ``options.sentences`` is loaded too.

        Raises:
            UsageError: as of :class:`DiorEncoder`.
            ModelError: if the sentence encoder cannot be had.
        """
        super().__init__(source, loaded, prompt, force, options, copies)
        place = self.lvlm.device
        self._sentences = load_sentences(options.sentences, str(place))

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        spec = super().spec
        read_by = self._sentences
        more = {
            "answer_tokens": self.ANSWER_TOKENS,
            "sentences": read_by.source.name,
            "sentences_revision": read_by.revision,
            "sentences_dtype": read_by.dtype,
        }
        return replace(spec, settings={**spec.settings, **more})

    @property
    def dimension(self) -> int:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        return self._sentences.dimension

    @property
    def description(self) -> str:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        return f"{super().description}; answers embedded by {self._sentences.source.name}"

    def _run(
        self, prepared: Iterable[Prepared], shape: tuple[int, int], words: bool, ways: int
    ) -> Embeddings:
        # The answers are the vectors, so that they are wanted whether or not the words are.
        asked = self._asked(prepared, shape, True)
        answers = sorted({answer for row in asked.words for answer in row})
        place = {answer: number for number, answer in enumerate(answers)}
        vectors = self._sentences.encode_texts(answers)
        rows = np.array([place[answer] for row in asked.words for answer in row], dtype=np.int64)
        return replace(asked, vectors=vectors[rows].reshape(*shape, self.dimension))
