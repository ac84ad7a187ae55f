"""DIOR: an image's embedding under a condition is what an LVLM is about to say of it.

Kawarada et al., WACV 2026: ask the model to describe the image in one word regarding the
condition, and take the hidden state of the last prompt token. No training. Here the vector is
scaled to unit length, positions are the model's own, and all conditions share one pass; what may
be chosen otherwise is in :mod:`ingest.encoders.options`.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Sequence

import numpy as np
import torch
from PIL import Image

from indexes.errors import ModelError
from indexes.vectors import unit
from ingest.conditions import Condition, PromptTemplate, prompt_template, same_name
from ingest.encoders.base import Encoder, EncoderSpec, Reading
from ingest.encoders.layers import layer_count
from ingest.encoders.lvlm import LastStates, Lvlm
from ingest.encoders.memory import ran_out, release
from ingest.encoders.models import BUILTIN, LoadedModel, ModelSource, find, load
from ingest.encoders.options import DiorOptions
from ingest.encoders.processors import Prepared, PromptWriter

#: Pictures in one forward pass: for small models, and for those of more than half a billion
#: parameters.
_BATCH_SMALL, _BATCH_LARGE = 32, 4

_DEFAULT = DiorOptions()


class DiorEncoder(Encoder):
    """DIOR over any image-text-to-text model that transformers loads."""

    METHOD = "dior"

    def __init__(
        self,
        source: ModelSource,
        loaded: LoadedModel,
        prompt: str = "describe",
        force: bool = False,
        options: DiorOptions = _DEFAULT,
    ):
        """Use a loaded model; :meth:`load` does both.

        Args:
            source: where the model came from.
            loaded: the model and its processor.
            prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``.
            force: serve conditions the model was not schooled on.
            options: what may be chosen beside.

        Raises:
            UsageError: if there is no such template or layer.
        """
        self._source = source
        self._loaded = loaded
        self._template = prompt_template(prompt)
        self._force = force
        self._options = options.for_layers(layer_count(loaded.model))
        self._lvlm = Lvlm(loaded.model, loaded.processor.tokenizer, self._options)
        parameters = sum(p.numel() for p in loaded.model.parameters())
        self.batch_size = _BATCH_SMALL if parameters < 500_000_000 else _BATCH_LARGE

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
    ) -> DiorEncoder:
        """Load a model by name.

        Args:
            model: a built-in name, ``ORG/NAME[@REVISION]``, or a folder.
            prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``.
            dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            force: serve conditions the model was not schooled on.
            options: what may be chosen beside.
            device_map: how accelerate spreads the model, such as ``auto``, in place of
                ``device``.

        Raises:
            ModelError: if the model cannot be had.
            UsageError: if there is no such template or layer.
        """
        prompt_template(prompt)  # Before minutes of loading.
        source = find(model)
        loaded = load(source, dtype, device, options.attention, device_map)
        return cls(source, loaded, prompt, force, options)

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`Encoder`."""
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
        """See :class:`Encoder`."""
        return self._lvlm.dimension

    @property
    def description(self) -> str:
        """See :class:`Encoder`."""
        if self._source.builtin:
            return f"{self._source.name}, {BUILTIN[self._source.name]}"
        way = "all conditions in one pass" if self._lvlm.packs else "one pass for each condition"
        if self._options.compat:
            way += ", as in the published code"
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

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`Encoder`: a model that declares its schooling refuses what it never saw.

        Raises:
            UsageError: if the prompt cannot be asked without a condition, and one has no phrase.
        """
        for condition in conditions:
            self._template.text(condition)
        schooled = self._source.schooled_on()
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

    def read(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Reading:
        """See :class:`Encoder`; a batch for which memory runs out is halved, and stays so."""
        self.check(conditions)
        texts = [self._template.text(condition) for condition in conditions]
        as_it_comes = self._options.compat is not None
        writer = PromptWriter(self._loaded.processor, texts, as_it_comes)
        begins = [self._template.begin(condition) for condition in conditions]
        prepared = [writer.prepare(_reduced(image, self._options.max_side)) for image in images]
        vectors = np.empty((len(images), len(conditions), self.dimension), dtype=np.float32)
        chances = np.zeros((len(images), len(conditions)), dtype=np.float32)
        said = [[""] * len(conditions) for _ in images]
        waiting = deque(_buckets(prepared))
        while waiting:
            bucket = waiting.popleft()
            batch, rest = bucket[: self.batch_size], bucket[self.batch_size :]
            prompts = prepared[batch[0]].prompts
            tails = writer.tails(begins, prompts) if self._options.token == "mean" else None
            last = self._run([prepared[i] for i in batch], words, tails)
            if last is None:
                # Another thread may have halved it meanwhile; what was done is kept.
                self.batch_size = min(self.batch_size, len(batch) // 2)
                release()
                waiting.appendleft(bucket)
                continue
            if rest:
                waiting.appendleft(rest)
            vectors[batch] = last.states.numpy()
            if not (words and self._options.speaks):
                continue
            tokens, sure = last.tokens.tolist(), last.probabilities.tolist()
            for place, i in enumerate(batch):
                for k in range(len(conditions)):
                    said[i][k], chances[i, k] = self._lvlm.word(tokens[place][k], sure[place][k])
        flat = unit(vectors.reshape(-1, self.dimension))
        return Reading(flat.reshape(vectors.shape), said, chances)

    def _run(
        self, batch: Sequence[Prepared], words: bool, tails: Sequence[int] | None
    ) -> LastStates | None:
        """Run a batch of one layout; ``None`` if there was no memory for so many pictures.

        Raises:
            ModelError: if there was none for a single one.
        """
        try:
            features = {
                name: torch.cat([picture.features[name] for picture in batch])
                for name in batch[0].features
            }
            last = self._lvlm.last_states(features, batch[0].prompts, len(batch), words, tails)
            return LastStates(last.states.cpu(), last.tokens.cpu(), last.probabilities.cpu())
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if len(batch) > 1:
                return None
            raise ModelError(
                f"There is not enough memory for {self._source.name} to read one picture; give a "
                f"smaller --max-side (it is {self._options.max_side}), a smaller --model, or "
                "--device cpu."
            ) from error


def _reduced(image: Image.Image, side: int) -> Image.Image:
    if max(image.size) <= side:
        return image
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _buckets(prepared: Sequence[Prepared]) -> list[list[int]]:
    """Numbers of the pictures, together where they share shapes and prompts."""
    buckets: dict[Any, list[int]] = {}
    for number, picture in enumerate(prepared):
        buckets.setdefault(picture.bucket, []).append(number)
    return list(buckets.values())
