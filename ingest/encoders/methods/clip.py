"""CLIP as an encoder: the same vector under every condition.

It is the baseline of the conditional methods, and gives the base vectors that projections
(:mod:`ingest.encoders.projections.base`) are computed from. Only its vectors without a condition
are worth storing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from indexes.errors import UsageError
from indexes.vectors import Vectors
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec, check_text
from ingest.encoders.devices import first_mapped_device, parse_devices
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.models.find import BUILTIN
from ingest.encoders.options import (
    AS_LOADED,
    BUFFERS,
    DEFAULT_OPTIONS,
    DEFAULT_PROMPT,
    ROUNDED_DTYPES,
    EncoderChoice,
    EncoderOptions,
)
from ingest.read.images import reduced
from ingest.read.prefetch import prefetch

#: Items given at once to one of several copies of the model.
_SHARE = 64


class ClipEncoder(BaseEncoder):
    """A dual encoder: CLIP, SigLIP, SigLIP2, and others of transformers and open_clip."""

    METHOD = "clip"

    #: Whether the model embeds texts too.
    EMBEDS_TEXTS = True

    def __init__(self, copies: Sequence[DualEncoder], options: EncoderOptions = DEFAULT_OPTIONS):
        """Use loaded models; :meth:`load` loads them.

        Args:
            copies: the same model, once for each device.
            options: only ``max_side`` applies.

        Raises:
            UsageError: if another option is given.
        """
        options.check_for(self.METHOD, ("max_side",))
        self._dual = copies[0]
        self._copy_count = len(copies)
        self._max_side = options.max_side
        self._free: SimpleQueue[DualEncoder] = SimpleQueue()
        for copy in copies:
            self._free.put(copy)
        self._threads = ThreadPoolExecutor(self._copy_count, thread_name_prefix="device")

    @classmethod
    def load(cls, choice: EncoderChoice) -> Self:
        """Load a model by name.

        Args:
            choice: its model as for :meth:`ingest.encoders.dual.encoder.DualEncoder.load`. Of
                its options, only ``max_side`` applies.

        Raises:
            ModelError: if the model cannot be loaded or embeds no texts.
            UsageError: if there is no such dtype or device, or an option does not apply.
        """
        if choice.prompt != DEFAULT_PROMPT:
            raise UsageError(
                f"--prompt does not apply to the method {choice.method}, which asks no question; "
                "leave it out."
            )
        choice.options.check_for(cls.METHOD, ("max_side",))
        if choice.device_map is None:
            devices = parse_devices(choice.device)
        else:
            devices = [first_mapped_device(choice.device_map, choice.device)]
        rounded = choice.dtype in ROUNDED_DTYPES and choice.is_earlier_than(BUFFERS)
        copies = [
            DualEncoder.load(choice.model, choice.dtype, device, rounded, cls.EMBEDS_TEXTS)
            for device in devices
        ]
        return cls(copies, choice.options)

    @property
    def dual(self) -> DualEncoder:
        """The model itself."""
        return self._dual

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`."""
        settings = {"max_side": self._max_side, "dtype": self._dual.dtype}
        if self._dual.mixed:
            settings[BUFFERS] = AS_LOADED
        return EncoderSpec(self.METHOD, self._dual.source.name, self._dual.revision, settings)

    @property
    def conditional(self) -> bool:
        """See :class:`BaseEncoder`."""
        return False

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`."""
        return self._dual.dimension

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        name = self._dual.source.name
        if name in BUILTIN:
            return f"{name}, {BUILTIN[name]}"
        return f"{name}, {self._dual.dtype}, one vector for all conditions"

    @property
    def device(self) -> str:
        """See :class:`BaseEncoder`."""
        kind = self._dual.device.type
        return kind if self._copy_count == 1 else f"{self._copy_count} {kind}"

    @property
    def threads(self) -> int:
        """See :class:`BaseEncoder`."""
        return torch.get_num_threads()

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`; all conditions are accepted."""

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; words are empty."""
        started = time.monotonic()
        small = [reduced(image, self._max_side) for image in images]
        features = self._on_copies(small, DualEncoder.image_features)
        self._add_timing(len(conditions), len(images), started)
        return _repeated(features, len(conditions))

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; words are empty.

        Raises:
            UsageError: if a text cannot be a query.
            ModelError: if there is not enough memory.
        """
        if not self.EMBEDS_TEXTS:
            return super().embed_text(texts, conditions, words)
        for text in texts:
            check_text(text)
        features = self._on_copies(list(texts), DualEncoder.text_features)
        return _repeated(features, len(conditions))

    def base_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Embed images: float32 [images, dim], unit rows."""
        small = [reduced(image, self._max_side) for image in images]
        return self._on_copies(small, DualEncoder.encode_images)

    def base_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: float32 [texts, dim], unit rows."""
        return self._on_copies(list(texts), DualEncoder.encode_texts)

    def _on_copies(
        self, items: list[Any], encode: Callable[[DualEncoder, list[Any]], Vectors]
    ) -> Vectors:
        """Encode items on the copies of the model, each taking a share when it is free."""
        if self._copy_count == 1:
            return encode(self._dual, items)

        def encode_share(share: list[Any]) -> Vectors:
            copy = self._free.get()
            try:
                return encode(copy, share)
            finally:
                self._free.put(copy)

        shares = [items[start : start + _SHARE] for start in range(0, len(items), _SHARE)]
        vectors = list(prefetch(self._threads, encode_share, shares, self._copy_count + 1))
        return np.concatenate(vectors) if vectors else encode(self._dual, [])


def _repeated(features: Vectors, conditions: int) -> Embeddings:
    """The same features, scaled to unit length, under each of ``conditions`` conditions."""
    return Embeddings.of_features(np.repeat(features[:, None], conditions, axis=1))
