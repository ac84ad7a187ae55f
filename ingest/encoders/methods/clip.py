"""CLIP as an encoder: the same vector under every condition.

What conditional methods are measured against, and what the views (:mod:`ingest.encoders.projections.base`)
are worked out from. Only the unconditional vectors are worth storing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Callable, Mapping

import numpy as np
from PIL import Image

from indexes.search.vectors import Vectors
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec, Timing, check_text
from ingest.encoders.devices import devices, mapped
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.models.find import BUILTIN
from ingest.encoders.options import DiorOptions
from ingest.read.images import reduced
from ingest.read.prefetch import ahead

#: Pictures given to one of several copies of the model at once.
_SHARE = 64

_DEFAULT = DiorOptions()


class ClipEncoder(BaseEncoder):
    """A dual encoder: CLIP, SigLIP, SigLIP2, and others of transformers and open_clip."""

    METHOD = "clip"

    def __init__(self, copies: Sequence[DualEncoder], options: DiorOptions = _DEFAULT):
        """Use loaded models; :meth:`load` does both.

        Args:
            copies: the same model, once a device.
            options: of which ``max_side`` counts.

        Raises:
            UsageError: if an option is chosen that a dual encoder does not have.
        """
        options.check_for(self.METHOD, ("max_side",))
        self._dual = copies[0]
        self._count = len(copies)
        self._side = options.max_side
        self._free: SimpleQueue[DualEncoder] = SimpleQueue()
        for copy in copies:
            self._free.put(copy)
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="device")
        self._timings: dict[int, Timing] = {}

    @classmethod
    def load(
        cls,
        model: str,
        dtype: str = "auto",
        device: str = "auto",
        options: DiorOptions = _DEFAULT,
        device_map: str | None = None,
    ) -> ClipEncoder:
        """Load a model by name.

        Args:
            model: as of :meth:`ingest.encoders.dual.encoder.DualEncoder.load`.
            dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``; several of one kind, such as
                ``cuda:0,cuda:1``, get a copy of the model each.
            options: of which ``max_side`` counts.
            device_map: in place of ``device``; a dual encoder is not spread, and goes whole to
                the kind of device that the map fills first.

        Raises:
            ModelError: if the model cannot be had or embeds no texts.
            UsageError: if there is no such dtype or device, or an option does not apply.
        """
        options.check_for(cls.METHOD, ("max_side",))
        names = devices(device) if device_map is None else [mapped(device_map, device)]
        return cls([DualEncoder.load(model, dtype, name) for name in names], options)

    @property
    def dual(self) -> DualEncoder:
        """The model itself."""
        return self._dual

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`."""
        settings = {"max_side": self._side, "dtype": self._dual.dtype}
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
        return kind if self._count == 1 else f"{self._count} {kind}"

    @property
    def threads(self) -> int:
        """See :class:`BaseEncoder`."""
        import torch

        return torch.get_num_threads()

    @property
    def timings(self) -> Mapping[int, Timing]:
        """See :class:`BaseEncoder`."""
        return self._timings

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`: it serves all conditions alike, so that none is refused."""

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; words come out empty."""
        started = time.monotonic()
        vectors = self.base_images(images)
        before = self._timings.get(len(conditions), Timing(0, 0.0))
        self._timings[len(conditions)] = Timing(
            before.pictures + len(images), before.seconds + time.monotonic() - started
        )
        return alike(vectors, len(conditions))

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; words come out empty.

        Raises:
            UsageError: if a text cannot be a query.
            ModelError: if memory does not suffice.
        """
        for text in texts:
            check_text(text)
        return alike(self.base_texts(texts), len(conditions))

    def base_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Embed pictures: float32 [images, dim], unit rows."""
        return self._dealt([reduced(image, self._side) for image in images], _see)

    def base_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: float32 [texts, dim], unit rows."""
        return self._dealt(list(texts), _read)

    def _dealt(
        self, items: list[Any], work: Callable[[DualEncoder, list[Any]], Vectors]
    ) -> Vectors:
        """Deal items out to the copies of the model, as they become free."""
        if self._count == 1:
            return work(self._dual, items)

        def serve(part: list[Any]) -> Vectors:
            copy = self._free.get()
            try:
                return work(copy, part)
            finally:
                self._free.put(copy)

        parts = [items[start : start + _SHARE] for start in range(0, len(items), _SHARE)]
        found = list(ahead(self._threads, serve, parts, self._count + 1))
        return np.concatenate(found) if found else work(self._dual, [])


def _see(dual: DualEncoder, images: list[Any]) -> Vectors:
    return dual.encode_images(images)


def _read(dual: DualEncoder, texts: list[Any]) -> Vectors:
    return dual.encode_texts(texts)


def alike(vectors: Vectors, conditions: int) -> Embeddings:
    """The same vectors under so many conditions, without words."""
    shape = (len(vectors), conditions)
    return Embeddings(
        np.repeat(vectors[:, None], conditions, axis=1),
        [[""] * conditions for _ in vectors],
        np.zeros(shape, dtype=np.float32),
    )
