"""Embedder: a large model that its publisher trained to embed pictures, words, and both together.

The prompts are those of the publisher (``configs/embedders.toml``), with the condition as, or in,
the instruction. The vector is the state of the last token after the final norm. Where the picture
stands before the condition, all conditions share one pass; where the instruction comes first, as
in a system turn, the picture is encoded once and read once for each condition.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from indexes.errors import ModelError, UsageError
from ingest.conditions import Condition, PromptTemplate, with_stored_words
from ingest.encoders.base import Embeddings, EncoderSpec, check_text
from ingest.encoders.embedders.presets import (
    PICTURE_MARKS,
    PromptKind,
    find_preset,
)
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.models.find import ModelSource
from ingest.encoders.models.loading import LoadedModel
from ingest.encoders.options import DEFAULT_OPTIONS, DEFAULT_PROMPT, EncoderOptions
from ingest.encoders.vlm.processors import Prepared, PromptWriter


class _WholePrompts:
    """Prompts that are whole already; see :class:`ingest.encoders.chat.chat_template`."""

    thought = ""

    def render(self, question: str, picture: bool = True) -> str:
        return question

    def render_mixed(self, parts: Sequence[str | None]) -> str:
        raise ModelError("An embedder answers no questions; name another --lvlm.")

    def settings(self) -> dict[str, str]:
        return {}


class EmbedderEncoder(DiorEncoder):
    """An instruction-tuned embedder, prompted as its publisher does it."""

    METHOD = "embedder"
    CHOICES = ("max_side", "dimension")
    ANSWERS = False

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
        """See :class:`DiorEncoder`.

        Raises:
            UsageError: if the preset is not for a model of this type, or the model was not
                trained for vectors of the dimension that is wanted.
        """
        self.preset = find_preset(prompt, source.name)
        kind = loaded.model.config.model_type
        if kind not in self.preset.types:
            raise UsageError(
                f"The prompt {self.preset.name} is for models of type "
                f"{' or '.join(self.preset.types)}, and {source.name} is of type '{kind}'; name "
                "another --prompt or --model."
            )
        super().__init__(source, loaded, prompt, force, options, copies, stored)
        self._check_dimension()
        self._kind: PromptKind = "picture"
        self._text = ""
        for lvlm in self._lvlms:
            lvlm.has_words = False
            lvlm.inputs.one_axis = self.preset.one_axis

    @classmethod
    def template_of(
        cls, prompt: str, model: str, stored: Mapping[str, Any] | None = None
    ) -> PromptTemplate:
        """See :class:`DiorEncoder`: the preset's prompts about a picture.

        Raises:
            UsageError: if no preset is named and the model has none.
        """
        preset = find_preset(prompt, model)
        template = PromptTemplate(preset.name, preset.picture_condition, preset.picture)
        return with_stored_words(template, stored)

    def _make_chat(self, stored: Mapping[str, Any] | None) -> _WholePrompts:
        return _WholePrompts()

    def _check_dimension(self) -> None:
        wanted, full = self._options.dimension, self._lvlm.dimension
        if wanted is None:
            return
        least = self.preset.matryoshka
        if not least:
            raise UsageError(
                f"The models of {self.preset.name} were not trained for shorter vectors; leave "
                "--dimension out."
            )
        if not least <= wanted <= full:
            raise UsageError(f"--dimension is {wanted}; give a number from {least} to {full}.")

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        spec = super().spec
        more: dict[str, Any] = {"tiles": "as they come"}
        more |= {"positions": "one axis"} if self.preset.one_axis else {}
        return replace(spec, settings={**spec.settings, **more})

    @property
    def dimension(self) -> int:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        return self._options.dimension or self._lvlm.dimension

    @property
    def description(self) -> str:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        shared = self.preset.shares_pictures and self._lvlm.packs
        passes = "all conditions in one pass" if shared else "one pass for each condition"
        name, dtype = self._source.name, self._loaded.dtype
        return f"{name}, {dtype}, prompts of {self.preset.name}, {passes}"

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`DiorEncoder`."""
        super().check(conditions)
        for condition in conditions:
            self._check_marks("condition", condition.phrase)

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`DiorEncoder`: with the publisher's prompt for queries in words."""
        for text in texts:
            self._check_marks("text", text)
        return super().embed_text(texts, conditions, words)

    def embed_composed(
        self, images: Sequence[Image.Image], text: str, conditions: Sequence[Condition]
    ) -> Embeddings:
        """Embed pictures together with words, in one turn.

        Args:
            images: RGB images of any size.
            text: such as a change of the pictures.
            conditions: at least one.

        Returns:
            As :meth:`embed`, comparable to the vectors of pictures.

        Raises:
            UsageError: if the text is empty, longer than the model can read, or holds a special
                token of the model.
            ModelError: if the model does not accept a condition or has no token for a word.
        """
        check_text(text)
        self.check_special_tokens("text", text)
        self._check_marks("text", text)
        self.check_vocabulary(text)
        other = copy.copy(self)
        other._kind, other._text = "composed", text
        other._timings = {}
        other.check_prompt_length(images, conditions)
        return other.embed(images, conditions, words=False)

    def _check_marks(self, what: str, text: str) -> None:
        """Refuse words that hold the mark of a picture, which is no special token of every model.

        Raises:
            UsageError: naming the mark.
        """
        mark = next((mark for mark in PICTURE_MARKS if mark in text), None)
        if mark is not None:
            raise UsageError(f"The {what} holds {mark!r}, which marks a picture; leave it out.")

    def _writer(self, conditions: Sequence[Condition], text: str | None = None) -> PromptWriter:
        if text is not None:
            prompts = [self.preset.prompt("words", one.phrase, text) for one in conditions]
        elif self._kind == "picture":  # as the gallery stores the prompts
            prompts = [self._template.text(condition) for condition in conditions]
        else:
            kind, words = self._kind, self._text
            prompts = [self.preset.prompt(kind, one.phrase, words) for one in conditions]
        return PromptWriter(self._loaded.processor, prompts, default_settings=True, chat=self.chat)

    def _prepare_text(self, text: str, conditions: Sequence[Condition]) -> Prepared:
        prepared = self._writer(conditions, text).prepare_text()
        self._check_length("text", prepared)
        return prepared

    def _reduced(self, image: Image.Image) -> Image.Image:
        side = self.preset.square
        return image.resize((side, side)) if side else super()._reduced(image)

    def _embed_prepared(
        self,
        prepared: Iterable[Prepared],
        shape: tuple[int, int],
        words: bool,
        questions: int,
        layers: Sequence[int],
    ) -> list[Embeddings]:
        [states] = self._states(prepared, shape, False, layers)
        if self.dimension == self._lvlm.dimension:
            return [states]
        shorter = states.vectors[..., : self.dimension] * states.norms[..., None]
        return [Embeddings.of_features(shorter)]
