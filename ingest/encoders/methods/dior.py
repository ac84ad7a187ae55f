"""DIOR: an image's embedding under a condition is what an LVLM is about to say of it.

Kawarada et al., WACV 2026: ask the model to describe the image in one word regarding the
condition, and take the hidden state of the last prompt token. No training. Here the vector is
scaled to unit length, positions are the model's own, and all conditions share one pass; what may
be chosen otherwise is in :mod:`ingest.encoders.options`.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Mapping, Self, Sequence

import numpy as np
import torch
from PIL import Image

from indexes.errors import ModelError, UsageError
from indexes.search.vectors import unit
from ingest.conditions import Condition, PromptTemplate, prompt_template, same_name
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec, Timing, check_text
from ingest.encoders.devices import devices
from ingest.encoders.models.find import BUILTIN, LoadedModel, ModelSource, find, load
from ingest.encoders.options import DiorOptions
from ingest.encoders.runner import Runner
from ingest.encoders.vlm.layers import layer_count
from ingest.encoders.vlm.lvlm import Lvlm
from ingest.encoders.vlm.processors import ChatProcessor, Prepared, PromptWriter
from ingest.read.images import reduced
from ingest.read.prefetch import ahead

#: Pictures in one forward pass: for small models, and for those of more than half a billion
#: parameters.
_BATCH_SMALL, _BATCH_LARGE = 32, 4

#: Threads that prepare pictures while the model is at work on others.
_PREPARERS = min(4, os.cpu_count() or 1)

_DEFAULT = DiorOptions()


class DiorEncoder(BaseEncoder):
    """DIOR over any image-text-to-text model that transformers loads."""

    METHOD = "dior"

    #: What may be chosen, of the fields of :class:`DiorOptions`.
    CHOICES: tuple[str, ...] = ("layer", "token", "max_side", "attention", "compat")

    #: How many tokens of an answer are wanted; ``None`` for its first word.
    ANSWER_TOKENS: int | None = None

    def __init__(
        self,
        source: ModelSource,
        loaded: LoadedModel,
        prompt: str = "describe",
        force: bool = False,
        options: DiorOptions = _DEFAULT,
        copies: Sequence[LoadedModel] = (),
    ):
        """Use a loaded model; :meth:`load` does both.

        Args:
            source: where the model came from.
            loaded: the model and its processor.
            prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``.
            force: serve conditions the model was not schooled on.
            options: what may be chosen beside.
            copies: the same model on more devices; batches are dealt out to all of them.

        Raises:
            UsageError: if there is no such template or layer, or the method lacks an option.
        """
        options.check_for(self.METHOD, self.CHOICES)
        self._source = source
        self._loaded = loaded
        self._template = prompt_template(prompt)
        self._ways = self.ways(self._template)
        self._force = force
        self._options = options.for_layers(layer_count(loaded.model))
        self._lvlms = [
            Lvlm(each.model, each.processor.tokenizer, self._options, self.ANSWER_TOKENS)
            for each in (loaded, *copies)
        ]
        self._lvlm = self._lvlms[0]
        tokenizer = loaded.processor.tokenizer
        self._marks = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        parameters = sum(p.numel() for p in loaded.model.parameters())
        #: Deals pictures out to the model in batches.
        self.runner = Runner(
            self._lvlms,
            _BATCH_SMALL if parameters < 500_000_000 else _BATCH_LARGE,
            f"There is not enough memory for {source.name} to read one picture; give a smaller "
            f"--max-side (it is {self._options.max_side}), a smaller --model, or --device cpu.",
        )
        self._preparers = ThreadPoolExecutor(_PREPARERS, thread_name_prefix="preparer")
        self._of_thread = threading.local()
        self._timings: dict[int, Timing] = {}

    @classmethod
    def load(
        cls,
        model: str,
        prompt: str = "describe",
        dtype: str = "auto",
        device: str = "auto",
        force: bool = False,
        options: DiorOptions = _DEFAULT,
        device_map: str | None = None,
    ) -> Self:
        """Load a model by name.

        Args:
            model: a built-in name, ``ORG/NAME[@REVISION]``, or a folder.
            prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``.
            dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``; several of one kind, such as
                ``cuda:0,cuda:1``, get a copy of the model each.
            force: serve conditions the model was not schooled on.
            options: what may be chosen beside.
            device_map: how accelerate spreads the model, such as ``auto``, in place of
                ``device``.

        Raises:
            ModelError: if the model cannot be had.
            UsageError: if there is no such template, layer or device.
        """
        # Before minutes of loading.
        cls.ways(prompt_template(prompt))
        options.check_for(cls.METHOD, cls.CHOICES)
        source = find(model)
        loaded, *copies = [
            load(source, dtype, each, options.attention, device_map) for each in devices(device)
        ]
        return cls(source, loaded, prompt, force, options, copies)

    @classmethod
    def ways(cls, template: PromptTemplate) -> tuple[PromptTemplate, ...]:
        """The questions put about a picture under each condition, in their order.

        Raises:
            UsageError: if the template has no such form.
        """
        return (template,)

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`."""
        settings: dict[str, Any] = {
            "prompt": self._template.name,
            "template": [self._template.conditional, self._template.unconditional],
            **self._options.settings(),
            "tiles": "as they come" if self._options.compat else "off",
            "dtype": self._loaded.dtype,
        }
        return EncoderSpec(self.METHOD, self._source.name, self._loaded.revision, settings)

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`."""
        return self._lvlm.dimension

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        if self._source.builtin:
            return f"{self._source.name}, {BUILTIN[self._source.name]}"
        way = "all conditions in one pass" if self._lvlm.packs else "one pass for each condition"
        if self._options.compat:
            way += ", as in the published code"
        if len(self._lvlms) > 1:
            way += f", on {len(self._lvlms)} devices"
        return f"{self._source.name}, {self._loaded.dtype}, {way}"

    @property
    def template(self) -> PromptTemplate:
        """How the question is put."""
        return self._template

    @property
    def processor(self) -> Any:
        """What turns pictures and text into the model's inputs."""
        return self._loaded.processor

    @property
    def lvlm(self) -> Lvlm:
        """The model and its ways of running."""
        return self._lvlm

    @property
    def device(self) -> str:
        """See :class:`BaseEncoder`."""
        kind = self._lvlm.device.type
        return kind if len(self._lvlms) == 1 else f"{len(self._lvlms)} {kind}"

    @property
    def threads(self) -> int:
        """See :class:`BaseEncoder`."""
        return torch.get_num_threads()

    @property
    def timings(self) -> Mapping[int, Timing]:
        """See :class:`BaseEncoder`."""
        return self._timings

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`: a model that declares its schooling refuses what it never saw.

        Raises:
            UsageError: if the prompt cannot be asked without a condition, and one has no phrase;
                or if one holds what the model takes for a picture or the end of a turn.
        """
        for condition in conditions:
            self._template.text(condition)
            self.check_marks("condition", condition.phrase)
        schooled = self._source.trained_on()
        if schooled is None or self._force:
            return
        known = [name for names in schooled.values() for name in names]
        for condition in conditions:
            if condition.phrase and not any(same_name(condition.phrase, n) for n in known):
                raise ModelError(
                    f"The built-in model was not schooled on '{condition.name}'; it knows "
                    f"{', '.join(schooled)}. Name a large model, such as "
                    "--model Qwen/Qwen2.5-VL-3B-Instruct, or add --force to try all the same."
                )

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; a batch for which memory runs out is halved, and stays so."""
        started = time.monotonic()
        self.check(conditions)
        writer = self._writer(conditions)

        def prepare(image: Image.Image) -> Prepared:
            return writer.prepare(self._reduced(image), self._own_processor())

        # One alone needs no thread, nor a processor of its own for it.
        prepared: Iterable[Prepared] = map(writer.prepare, map(self._reduced, images))
        if len(images) > 1:
            most = 2 * self.runner.batch_size * len(self._lvlms)
            prepared = ahead(self._preparers, prepare, images, most)
        reading = self._run(prepared, (len(images), len(conditions)), words, len(self._ways))
        before = self._timings.get(len(conditions), Timing(0, 0.0))
        spent = time.monotonic() - started
        timing = Timing(before.pictures + len(images), before.seconds + spent)
        self._timings[len(conditions)] = timing
        return reading

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`: the text is put above the question, in the picture's place.

        Raises:
            UsageError: if a text is empty, longer than the model can read, or holds what the
                model takes for a command.
            ModelError: if the model was schooled on pictures alone, cannot serve a condition or
                has no token for a word.
        """
        if self._source.schooled_on_pictures_alone():
            raise ModelError(
                f"{self._source.name} was schooled on pictures alone, so that a text says nothing "
                "to it; ask with a picture, or embed the pictures with a large model, such as "
                "--model Qwen/Qwen2.5-VL-3B-Instruct."
            )
        self.check(conditions)
        for text in texts:
            check_text(text)
            self.check_marks("text", text)
            self.check_words(text)
        prepared = (self._prepared_text(text, conditions) for text in texts)
        return self._run(prepared, (len(texts), len(conditions)), words, 1)

    def changed(self, before: Callable[[str], str]) -> DiorEncoder:
        """The same model, asked otherwise: for composed queries, never for a gallery.

        Args:
            before: makes the question of the one that the gallery was asked.
        """
        other = copy.copy(self)
        own = self._template
        other._template = PromptTemplate(
            f"changed {own.name}", before(own.conditional), before(own.unconditional)
        )
        other._ways = other.ways(other._template)
        other._timings = {}
        return other

    def _writer(self, conditions: Sequence[Condition], text: str | None = None) -> PromptWriter:
        """What writes the prompts of some conditions, about pictures or one text."""
        # A text has no parts to be asked about.
        ways = self._ways if text is None else self._ways[:1]
        asked = [(way, condition) for condition in conditions for way in ways]
        mean = self._options.token == "mean"
        return PromptWriter(
            self._loaded.processor,
            [way.text(condition) for way, condition in asked],
            self._options.compat is not None,
            [way.begin(condition) for way, condition in asked] if mean else None,
            text,
        )

    def _run(
        self, prepared: Iterable[Prepared], shape: tuple[int, int], words: bool, ways: int
    ) -> Embeddings:
        """Read what is prepared: so many pictures or texts under so many conditions, with so many
        questions under each.
        """
        return self._asked(prepared, (shape[0], shape[1] * ways), words)

    def _asked(
        self, prepared: Iterable[Prepared], shape: tuple[int, int], words: bool
    ) -> Embeddings:
        """Run what is prepared: so many pictures or texts with so many questions each."""
        vectors = np.empty((*shape, self._lvlm.dimension), dtype=np.float32)
        chances = np.zeros(shape, dtype=np.float32)
        said = [[""] * shape[1] for _ in range(shape[0])]
        understood = self._lvlm.word if self.ANSWER_TOKENS is None else self._lvlm.answer
        for rows, last in self.runner.run(prepared, words):
            vectors[rows] = last.states.numpy()
            if not (words and self._options.speaks):
                continue
            tokens, sure = last.tokens.tolist(), last.probabilities.tolist()
            for place, row in enumerate(rows):
                for k in range(shape[1]):
                    word = understood(tokens[place][k], sure[place][k])
                    said[row][k], chances[row, k] = word
        flat = unit(vectors.reshape(-1, vectors.shape[-1]))
        return Embeddings(flat.reshape(vectors.shape), said, chances)

    # -- pictures --------------------------------------------------------------------------

    def _own_processor(self) -> ChatProcessor:
        """A copy of the processor for this thread, because tokenizers are not to be shared."""
        own: ChatProcessor | None = getattr(self._of_thread, "processor", None)
        if own is None:
            own = self._of_thread.processor = copy.deepcopy(self._loaded.processor)
        return own

    def _reduced(self, image: Image.Image) -> Image.Image:
        return reduced(image, self._options.max_side)

    # -- texts -----------------------------------------------------------------------------

    def _prepared_text(self, text: str, conditions: Sequence[Condition]) -> Prepared:
        prepared = self._writer(conditions, text).prepare_text()
        self._check_length("text", prepared)
        return prepared

    def check_length(self, images: Sequence[Image.Image], conditions: Sequence[Condition]) -> None:
        """Refuse questions that are longer, with their pictures, than the model can read.

        Raises:
            UsageError: if there is one.
        """
        writer = self._writer(conditions)
        for image in images:
            self._check_length("question", writer.prepare(self._reduced(image)))

    def _check_length(self, what: str, prepared: Prepared) -> None:
        settings = self._loaded.model.config.get_text_config()
        most = getattr(settings, "max_position_embeddings", None)
        longest = max(map(len, prepared.prompts)) + self._lvlm.said_tokens
        if most is not None and longest > most:
            beside = "with the question" if what == "text" else "with the picture"
            raise UsageError(
                f"The {what} is too long for {self._source.name}: {beside} it comes to "
                f"{longest} tokens, and {most} can be read; shorten it."
            )

    def check_marks(self, what: str, text: str) -> None:
        """Refuse what the tokenizer would take for something else than words."""
        mark = next((mark for mark in self._marks if mark in text), None)
        if mark is not None:
            raise UsageError(
                f"The {what} holds {mark!r}, which {self._source.name} takes for a mark and not "
                "for words; leave it out."
            )

    def check_words(self, text: str) -> None:
        """Refuse words of which the tokenizer would keep nothing."""
        tokenizer = self._loaded.processor.tokenizer
        for word in text.split():
            if tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False)["input_ids"]:
                raise ModelError(
                    f"{self._source.name} has no token for {word!r}; say it in other words, or "
                    "name another model."
                )
