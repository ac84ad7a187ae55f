"""Dual encoders: images and texts in one space, as in CLIP (Radford et al., ICML 2021).

An image's vector does not depend on a condition. Projections and textual inversion compute
conditional vectors from it and from vectors of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image

from indexes.errors import ModelError
from indexes.vectors import Vectors, unit
from ingest.encoders.devices import (
    check_dtype,
    choose_device,
    free_cached_memory,
    is_out_of_memory,
)
from ingest.encoders.dual.open_clip import load_open_clip
from ingest.encoders.dual.towers import LoadedTowers, Tensors, Towers
from ingest.encoders.dual.transformers_towers import load_transformers, load_vision
from ingest.encoders.models.find import OPEN_CLIP
from ingest.encoders.models.pretrained import library_call
from ingest.encoders.models.probe import check_features, check_vectors, probe_picture
from ingest.read.prefetch import prefetch

#: Images or texts in one forward pass; halved when memory runs out.
_BATCH = 64


class DualEncoder:
    """Embeds images and texts so that matching ones are near each other, or images alone."""

    def __init__(self, loaded: LoadedTowers):
        """Use a loaded model; :meth:`load` loads one."""
        self.source = loaded.source
        self.revision = loaded.revision
        self.dtype = loaded.dtype
        self.mixed = loaded.mixed
        self._towers = loaded.towers
        self._batch = _BATCH
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="preparer")
        self._dimension: int | None = None

    @classmethod
    def load(
        cls,
        model: str,
        dtype: str = "auto",
        device: str = "auto",
        rounded: bool = False,
        texts: bool = True,
    ) -> DualEncoder:
        """Load a model by name.

        Args:
            model: CLIP, SigLIP or another model of transformers that embeds images and texts: a
                built-in name, ``ORG/NAME[@REVISION]``, or a folder; or ``open_clip:ARCH/WEIGHTS``
                or ``open_clip:FOLDER`` for one that open_clip loads.
            dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
            rounded: as for :func:`ingest.encoders.models.loading.load_model`.
            texts: whether it embeds texts too; ``False`` for a model of pictures alone.

        Raises:
            ModelError: if it cannot be loaded, or is of the other kind.
            UsageError: if there is no such dtype or device.
        """
        check_dtype(dtype)
        load = load_open_clip if model.startswith(OPEN_CLIP) else load_transformers
        loaded = (load if texts else load_vision)(model, dtype, choose_device(device), rounded)
        encoder = cls(loaded)
        encoder.check_runs()
        return encoder

    def check_runs(self) -> None:
        """Embed a small picture, and a text if it can, so that broken files are noticed at once.

        Raises:
            ModelError: if the model cannot be run, or computes no numbers.
        """
        with library_call(self.source):
            picture = self._towers.prepare_images([probe_picture()])
        check_features(picture, self.source)
        with library_call(self.source):
            vectors = self._features(picture, self._towers.image_features)
            check_vectors(vectors, self.source)
            if self._towers.reads_texts:
                text = self._towers.tokenize(["a picture"])
                vectors = self._features(text, self._towers.text_features)
                check_vectors(vectors, self.source)
        self._dimension = int(vectors.shape[1])

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        if self._dimension is None:
            # Model types store it in different settings; one text is embedded instead.
            inputs = self._towers.tokenize(["x"])
            self._dimension = self._features(inputs, self._towers.text_features).shape[1]
        return self._dimension

    @property
    def towers(self) -> Towers:
        """The model's two halves."""
        return self._towers

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        device: torch.device = next(self._towers.model.parameters()).device
        return device

    def encode_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Embed RGB images: float32 [images, dim], unit rows.

        Raises:
            ModelError: if there is not enough memory for a single one.
        """
        return unit(self.image_features(images))

    def image_features(self, images: Sequence[Image.Image]) -> Vectors:
        """Features of RGB images, not scaled: float32 [images, dim].

        Raises:
            ModelError: if there is not enough memory for a single one.
        """
        return self._embed(images, self._towers.prepare_images, self._towers.image_features)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: float32 [texts, dim], unit rows.

        Texts longer than the model's input are truncated, as in its training.

        Raises:
            ModelError: if there is not enough memory for a single one.
        """
        return unit(self.text_features(texts))

    def text_features(self, texts: Sequence[str]) -> Vectors:
        """Features of texts, not scaled: float32 [texts, dim].

        Raises:
            ModelError: if there is not enough memory for a single one.
        """
        return self._embed(texts, self._towers.tokenize, self._towers.text_features)

    def truncate(self, text: str) -> str:
        """The part of a text that reaches the model; the text itself if all of it does.

        Words without a token are dropped, and so is everything after the longest input.
        """

        def tokens(words: Sequence[str]) -> list[list[int]]:
            ids: list[list[int]] = self._towers.tokenize([" ".join(words)])["input_ids"].tolist()
            return ids

        # A private-use character has no token, except in byte-level vocabularies.
        unknown = tokens(["\ue000"])
        words = text.split()
        kept = [word for word in words if tokens([word]) != unknown]
        whole = tokens(kept)
        # A last word that does not change the tokens is beyond the longest input.
        while len(kept) > 1 and tokens(kept[:-1]) == whole:
            kept = kept[:-1]
        return text if kept == words else " ".join(kept)

    def _embed(
        self,
        items: Sequence[Any],
        prepare: Callable[[Sequence[Any]], Tensors],
        features: Callable[[Tensors], torch.Tensor],
    ) -> Vectors:
        """Embed in batches; the next batch is prepared while the model runs."""
        if not items:
            return np.zeros((0, self.dimension), dtype=np.float32)
        starts = range(0, len(items), self._batch)
        batches = [items[start : start + starts.step] for start in starts]
        rows = [
            self._in_batches(inputs, features)
            for inputs in prefetch(self._preparer, prepare, batches, 2)
        ]
        return torch.cat(rows).numpy()

    def _in_batches(
        self, inputs: Tensors, features: Callable[[Tensors], torch.Tensor]
    ) -> torch.Tensor:
        """Run prepared inputs; where memory runs out, the batch size is halved permanently."""
        count = len(next(iter(inputs.values())))
        rows, start = [], 0
        while start < count:
            size = min(self._batch, count - start)
            batch = {name: value[start : start + size] for name, value in inputs.items()}
            try:
                rows.append(self._features(batch, features))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise ModelError(
                        f"There is not enough memory for {self.source.name} to embed a single "
                        "picture or text; give a smaller --model, or --device cpu."
                    ) from error
                self._batch = size // 2
                free_cached_memory()
                continue
            start += size
        return torch.cat(rows)

    def _features(
        self, inputs: Tensors, features: Callable[[Tensors], torch.Tensor]
    ) -> torch.Tensor:
        weights = next(self._towers.model.parameters())
        moved = {
            name: value.to(weights.device, weights.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }
        with torch.inference_mode():
            return features(moved).float().cpu()
