"""DIOR: an image's embedding under a condition is the LVLM's state before it describes the image.

Kawarada et al., WACV 2026: ask the model to describe the image in one word regarding the
condition, and take the hidden state of the last prompt token. No training. Here the vector is
scaled to unit length, positions are the model's own, and all conditions share one pass;
:mod:`ingest.encoders.options` has the alternatives.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from indexes.errors import ModelError, UsageError
from ingest.conditions import (
    Condition,
    PromptTemplate,
    prompt_template,
    same_name,
    with_stored_words,
)
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec, check_text
from ingest.encoders.chat.chat_template import ChatTemplate, PromptRenderer
from ingest.encoders.devices import SMALL_MODEL_PARAMETERS, parameter_count, parse_devices
from ingest.encoders.models.find import BUILTIN, ModelSource, find_model
from ingest.encoders.models.loading import LoadedModel, layer_count, load_model
from ingest.encoders.models.pretrained import library_call
from ingest.encoders.models.probe import check_features, check_vectors, probe_picture
from ingest.encoders.options import (
    AS_LOADED,
    BUFFERS,
    DEFAULT_OPTIONS,
    DEFAULT_PROMPT,
    ROUNDED_DTYPES,
    EncoderChoice,
    EncoderOptions,
)
from ingest.encoders.runner import Runner
from ingest.encoders.vlm.lvlm import Lvlm
from ingest.encoders.vlm.processors import ChatProcessor, Prepared, PromptWriter
from ingest.encoders.vlm.skip_unused import LAST_LAYER
from ingest.read.images import reduced
from ingest.read.prefetch import prefetch

#: Images in one forward pass, for small and for large models.
_BATCH_SMALL, _BATCH_LARGE = 32, 4

#: What a model is asked about the first picture, which checks that it runs.
PROBE_CONDITION = Condition.parse("color")

#: Threads that prepare images while the model runs.
_PREPARERS = min(4, os.cpu_count() or 1)

#: Numbers of an image and a question, tokens of the answer and their probabilities, to the text
#: that is kept of the answer and its probability.
AnswerReader = Callable[[int, int, Sequence[int], Sequence[float]], tuple[str, float]]


class DiorEncoder(BaseEncoder):
    """DIOR over any image-text-to-text model that transformers loads."""

    METHOD = "dior"

    #: The fields of :class:`EncoderOptions` that apply.
    CHOICES: tuple[str, ...] = (
        "layer",
        "token",
        "max_side",
        "attention",
        "compat",
        "system",
        "words",
    )

    #: Tokens of an answer that are generated; ``None`` for its first word.
    ANSWER_TOKENS: int | None = None

    #: Whether the model answers questions, in its own chat template.
    ANSWERS = True

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
        """Use a loaded model; :meth:`load` loads one.

        Args:
            source: where the model came from.
            loaded: the model and its processor.
            prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``.
            force: accept conditions that the model was not trained on.
            options: further choices about the vectors.
            copies: the same model on more devices; batches are distributed over all of them.
            stored: as in :class:`EncoderChoice`.

        Raises:
            UsageError: if there is no such template or layer, or an option does not apply.
        """
        options.check_for(self.METHOD, self.CHOICES)
        self._source = source
        self._loaded = loaded
        self._set_template(self.template_of(prompt, source.name, stored))
        self._force = force
        self._options = options.for_layers(layer_count(loaded.model.config))
        self._lvlms = [
            Lvlm(each.model, each.processor.tokenizer, self._options, self.answer_tokens)
            for each in (loaded, *copies)
        ]
        self._lvlm = self._lvlms[0]
        tokenizer = loaded.processor.tokenizer
        self._special = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        if options.system:
            self.check_special_tokens("system turn", options.system)
        #: Writes the prompts. A gallery whose vectors were read inside a thought keeps them.
        self.chat = self._make_chat(stored)
        small = parameter_count(loaded.model) < SMALL_MODEL_PARAMETERS
        #: Runs the model over images in batches.
        self.runner = Runner(
            self._lvlms,
            # Drawn answers must not depend on the other images of a batch.
            1 if self._options.temperature else _BATCH_SMALL if small else _BATCH_LARGE,
            f"There is not enough memory for {source.name} to read one picture; give a smaller "
            f"--max-side (it is {self._options.max_side}), a smaller --model, or --device cpu.",
        )
        self._preparers = ThreadPoolExecutor(_PREPARERS, thread_name_prefix="preparer")
        self._thread_local = threading.local()

    @classmethod
    def load(cls, choice: EncoderChoice) -> Self:
        """Load a model by name.

        Raises:
            ModelError: if the model cannot be loaded.
            UsageError: if there is no such template, layer or device, or an option does not apply.
        """
        # Checked first, because loading can take minutes.
        cls.expand_template(cls.template_of(choice.prompt, choice.model))
        options = choice.options
        options.check_for(cls.METHOD, cls.CHOICES)
        source = find_model(choice.model)
        rounded = choice.dtype in ROUNDED_DTYPES and choice.is_earlier_than(BUFFERS)
        loaded, *copies = [
            load_model(
                source,
                choice.dtype,
                device,
                options.attention,
                choice.device_map,
                rounded,
                answers=cls.ANSWERS,
            )
            for device in parse_devices(choice.device)
        ]
        encoder = cls(source, loaded, choice.prompt, choice.force, options, copies, choice.stored)
        encoder.check_runs()
        return encoder

    def check_runs(self) -> None:
        """Embed a small picture, so that broken files are noticed before a picture of the user is.

        Raises:
            ModelError: if the model cannot be run, or computes no numbers.
        """
        with library_call(self._source):
            prepared = self._writer([PROBE_CONDITION]).prepare(probe_picture())
        check_features(prepared.features, self._source)
        with library_call(self._source):
            states = [last.states for _, last in self.runner.run([prepared], words=False)]
        check_vectors(states[0], self._source)

    @classmethod
    def template_of(
        cls, prompt: str, model: str, stored: Mapping[str, Any] | None = None
    ) -> PromptTemplate:
        """The prompt template by name, with the words that a gallery was embedded with.

        Args:
            prompt: a name of ``configs/prompts.toml``, or a text with ``{condition}``.
            model: the model's name.
            stored: the gallery's settings; ``None`` for a new one.

        Raises:
            UsageError: if there is no such template.
        """
        return with_stored_words(prompt_template(prompt), stored)

    def _make_chat(self, stored: Mapping[str, Any] | None) -> PromptRenderer:
        """What writes the whole prompts."""
        closes = self._options.compat is None and (stored is None or "thought" in stored)
        loaded, system = self._loaded, self._options.system
        return ChatTemplate(loaded.processor, loaded.model.config, system, closes_thoughts=closes)

    @classmethod
    def expand_template(cls, template: PromptTemplate) -> tuple[PromptTemplate, ...]:
        """The questions asked about an image under each condition, in their order.

        Raises:
            UsageError: if the template does not suit the method.
        """
        return (template,)

    def _set_template(self, template: PromptTemplate) -> None:
        self._template = template
        self._questions = self.expand_template(template)

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
        if self._loaded.dtype in ROUNDED_DTYPES and not self._loaded.rounded:
            settings[BUFFERS] = AS_LOADED
        settings |= self.chat.settings()
        return EncoderSpec(self.METHOD, self._source.name, self._loaded.revision, settings)

    @property
    def answer_tokens(self) -> int | None:
        """The limit of an answer; ``None`` if only its first word is generated."""
        return self._options.answer_tokens or self.ANSWER_TOKENS

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`."""
        return self._lvlm.dimension

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        if self._source.builtin:
            return f"{self._source.name}, {BUILTIN[self._source.name]}"
        passes = "all conditions in one pass" if self._lvlm.packs else "one pass for each condition"
        if self._lvlm.attention == "eager" and self._options.attention != "eager":
            passes += ", eager attention because it has no other"
        if self._options.compat:
            passes += ", as in the published code"
        if len(self._lvlms) > 1:
            passes += f", on {len(self._lvlms)} devices"
        if self.chat.thought == "open":
            passes += "; its prompt ends inside a thought that cannot be closed"
        return f"{self._source.name}, {self._loaded.dtype}, {passes}"

    @property
    def template(self) -> PromptTemplate:
        """The prompt template."""
        return self._template

    @property
    def processor(self) -> Any:
        """Turns images and text into the model's inputs."""
        return self._loaded.processor

    @property
    def lvlm(self) -> Lvlm:
        """The model."""
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

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`; a model that declares its training conditions accepts no other.

        Raises:
            UsageError: if the prompt needs a condition, and one has no phrase; or if a phrase
                holds a special token of the model.
        """
        for condition in conditions:
            self._template.text(condition)
            self.check_special_tokens("condition", condition.phrase)
        declared = self._source.declared_conditions()
        if declared is None or self._force:
            return
        wordings = [name for names in declared.values() for name in names]
        for condition in conditions:
            if condition.phrase and not any(same_name(condition.phrase, w) for w in wordings):
                raise ModelError(
                    f"The built-in model was not trained on '{condition.name}'; it knows "
                    f"{', '.join(declared)}. Name a large model, such as --model "
                    "Qwen/Qwen3-VL-2B-Instruct (Apache-2.0), or add --force to try it anyway."
                )

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; where memory runs out, the batch size is halved permanently."""
        return self.embed_layers(images, conditions, [self._options.layer], words)[0]

    def embed_layers(
        self,
        images: Sequence[Image.Image],
        conditions: Sequence[Condition],
        layers: Sequence[int],
        words: bool = True,
    ) -> list[Embeddings]:
        """See :class:`BaseEncoder`."""
        started = time.monotonic()
        self.check(conditions)
        writer = self._writer(conditions)

        def prepare(image: Image.Image) -> Prepared:
            return writer.prepare(self._reduced(image), self._thread_processor())

        # A single image needs no thread, and so no copy of the processor.
        prepared: Iterable[Prepared] = map(writer.prepare, map(self._reduced, images))
        if len(images) > 1:
            most = 2 * self.runner.batch_size * len(self._lvlms)
            prepared = prefetch(self._preparers, prepare, images, most)
        shape = (len(images), len(conditions))
        embeddings = self._embed_prepared(prepared, shape, words, len(self._questions), layers)
        self._add_timing(len(conditions), len(images), started)
        return embeddings

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`: the text stands above the question, in place of the image.

        Raises:
            UsageError: if a text is empty, longer than the model can read, or holds a special
                token of the model.
            ModelError: if the model was trained on images only, does not accept a condition or
                has no token for a word.
        """
        if self._source.trained_on_images_only():
            raise ModelError(
                f"{self._source.name} was trained on pictures only and cannot read a text; ask "
                "with a picture, or embed the pictures with a large model, such as "
                "--model Qwen/Qwen3-VL-2B-Instruct (Apache-2.0)."
            )
        self.check(conditions)
        for text in texts:
            check_text(text)
            self.check_special_tokens("text", text)
            self.check_vocabulary(text)
        prepared = (self._prepare_text(text, conditions) for text in texts)
        # A text has no regions, so only the first question is asked about it.
        shape, layers = (len(texts), len(conditions)), [self._options.layer]
        return self._embed_prepared(prepared, shape, words, 1, layers)[0]

    def with_question(self, change: Callable[[str], str]) -> DiorEncoder:
        """The same model with another question: for composed queries, never for a gallery.

        Args:
            change: takes the question that the gallery was embedded with, and returns the new one.
        """
        other = copy.copy(self)
        template = self._template
        other._set_template(
            PromptTemplate(
                f"changed {template.name}",
                change(template.conditional),
                change(template.unconditional),
            )
        )
        other._timings = {}
        return other

    def _writer(self, conditions: Sequence[Condition], text: str | None = None) -> PromptWriter:
        """Writes the prompts of some conditions, about images or about one text."""
        templates = self._questions if text is None else self._questions[:1]
        asked = [(template, condition) for condition in conditions for template in templates]
        mean = self._options.token == "mean"
        return PromptWriter(
            self._loaded.processor,
            [template.text(condition) for template, condition in asked],
            self._options.compat is not None,
            [template.phrase_start(condition) for template, condition in asked] if mean else None,
            text,
            self.chat,
        )

    def _embed_prepared(
        self,
        prepared: Iterable[Prepared],
        shape: tuple[int, int],
        words: bool,
        questions: int,
        layers: Sequence[int],
    ) -> list[Embeddings]:
        """Embed what is prepared, for each of some layers.

        Args:
            prepared: images or texts.
            shape: how many images or texts, and how many conditions.
            words: whether words are needed.
            questions: how many are asked under each condition.
            layers: as for :meth:`embed_layers`.
        """
        return self._states(prepared, (shape[0], shape[1] * questions), words, layers)

    def _states(
        self,
        prepared: Iterable[Prepared],
        shape: tuple[int, int],
        words: bool,
        layers: Sequence[int],
        read: AnswerReader | None = None,
    ) -> list[Embeddings]:
        """The model's states for each question, layer by layer. Words are the last layer's.

        Args:
            prepared: images or texts.
            shape: how many images or texts, and how many questions.
            words: whether words are needed.
            layers: as for :meth:`embed_layers`.
            read: what is kept of an answer; its first word by default.
        """
        vectors = np.empty((*shape, len(layers) * self._lvlm.dimension), dtype=np.float32)
        probabilities = np.zeros(shape, dtype=np.float32)
        texts = [[""] * shape[1] for _ in range(shape[0])]
        for rows, last in self.runner.run(prepared, words, layers):
            vectors[rows] = last.states.numpy()
            if not (words and last.tokens.shape[-1]):
                continue
            tokens, token_probabilities = last.tokens.tolist(), last.probabilities.tolist()
            for place, row in enumerate(rows):
                for k in range(shape[1]):
                    answer = tokens[place][k], token_probabilities[place][k]
                    texts[row][k], probabilities[row, k] = (
                        self._lvlm.first_word(*answer) if read is None else read(row, k, *answer)
                    )
        found = []
        for layer, own in zip(layers, np.split(vectors, len(layers), axis=-1), strict=True):
            embeddings = Embeddings.of_features(own)
            if read is not None or layer == LAST_LAYER:
                embeddings = replace(embeddings, words=texts, word_probabilities=probabilities)
            found.append(embeddings)
        return found

    # -- images ----------------------------------------------------------------------------

    def _thread_processor(self) -> ChatProcessor:
        """The copy of the processor for this thread; tokenizers are not thread-safe."""
        processor: ChatProcessor | None = getattr(self._thread_local, "processor", None)
        if processor is None:
            processor = self._thread_local.processor = copy.deepcopy(self._loaded.processor)
        return processor

    def _reduced(self, image: Image.Image) -> Image.Image:
        return reduced(image, self._options.max_side)

    # -- texts -----------------------------------------------------------------------------

    def _prepare_text(self, text: str, conditions: Sequence[Condition]) -> Prepared:
        prepared = self._writer(conditions, text).prepare_text()
        self._check_length("text", prepared)
        return prepared

    def check_prompt_length(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition]
    ) -> None:
        """Refuse questions that are longer, with their images, than the model can read.

        Raises:
            UsageError: if one is.
        """
        writer = self._writer(conditions)
        for image in images:
            self._check_length("question", writer.prepare(self._reduced(image)))

    def _check_length(self, what: str, prepared: Prepared) -> None:
        settings = self._loaded.model.config.get_text_config()
        limit = getattr(settings, "max_position_embeddings", None)
        longest = max(map(len, prepared.prompts)) + self._lvlm.max_new_tokens
        if limit is not None and longest > limit:
            together = "with the question" if what == "text" else "with the picture"
            raise UsageError(
                f"The {what} is too long for {self._source.name}: {together} it comes to "
                f"{longest} tokens, and {limit} can be read; shorten it."
            )

    def check_special_tokens(self, what: str, text: str) -> None:
        """Refuse a text that holds a special token of the model.

        Args:
            what: names the text in the error, such as ``condition``.
            text: the text to check.

        Raises:
            UsageError: naming the token.
        """
        token = next((token for token in self._special if token in text), None)
        if token is not None:
            raise UsageError(
                f"The {what} holds {token!r}, which is a special token of {self._source.name}; "
                "leave it out."
            )

    def check_vocabulary(self, text: str) -> None:
        """Refuse a text with a word that the tokenizer drops.

        Raises:
            ModelError: naming the word.
        """
        tokenizer = self._loaded.processor.tokenizer
        for word in text.split():
            if tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False)["input_ids"]:
                raise ModelError(
                    f"{self._source.name} has no token for {word!r}; use other words, or name "
                    "another model."
                )
