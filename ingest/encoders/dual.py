"""Dual encoders: pictures and texts in one space, as CLIP (Radford et al., ICML 2021) has them.

What the other methods stand on. A picture's vector knows no condition; what a condition makes of
it is worked out from vectors of texts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import torch
from PIL import Image

from indexes.errors import ModelError
from indexes.vectors import Vectors, unit
from ingest.encoders.devices import check_dtype, device_of, dtype_of
from ingest.encoders.models import ModelSource, commit_of, digest, explained, find, quiet, where_of

#: Pictures and texts in one forward pass.
_BATCH = 64


class DualEncoder:
    """A model that embeds pictures and texts so that those that belong together are near."""

    def __init__(self, source: ModelSource, model: Any, processor: Any, revision: str, dtype: str):
        self.source = source
        self.revision = revision
        self.dtype = dtype
        self._model = model
        self._processor = processor

    @classmethod
    def load(cls, model: str, dtype: str = "auto", device: str = "auto") -> DualEncoder:
        """Load a model by name: a built-in name, ``ORG/NAME[@REVISION]``, or a folder.

        Args:
            model: CLIP, SigLIP or another of transformers that embeds pictures and texts.
            dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

        Raises:
            ModelError: if it cannot be had or embeds no texts.
            UsageError: if there is no such dtype or device.
        """
        from transformers import AutoModel, AutoProcessor

        check_dtype(dtype)
        chosen = device_of(device)
        source = find(model)
        where = where_of(source)
        quiet()
        with explained(source):
            loaded = AutoModel.from_pretrained(
                source.location, dtype="auto", use_safetensors=True, **where
            ).eval()
            if not hasattr(loaded, "get_text_features"):
                raise ModelError(
                    f"{source.name} is of type '{loaded.config.model_type}', which does not embed "
                    "pictures and texts alike; name a CLIP or SigLIP model, such as tiny-clip or "
                    "openai/clip-vit-base-patch32."
                )
            processor = AutoProcessor.from_pretrained(source.location, **where)
            kind = dtype_of(dtype, loaded, chosen)
            loaded = loaded.to(device=chosen, dtype=getattr(torch, kind))
        revision = digest(Path(source.location)) if source.local else commit_of(source)
        return cls(source, loaded, processor, revision, kind)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        config = self._model.config
        own = getattr(config, "projection_dim", None) or config.text_config.hidden_size
        return int(own)

    def encode_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Embed pictures: float32 [images, dim], unit rows."""
        return self._embed(
            images,
            lambda some: self._processor(images=list(some), return_tensors="pt"),
            self._model.get_image_features,
        )

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: float32 [texts, dim], unit rows; what is longer than the model reads is
        cut off, as these models were trained.
        """
        # SigLIP was trained on texts padded to the full length, and needs them so.
        padding = "max_length" if "siglip" in self._model.config.model_type else True
        return self._embed(
            texts,
            lambda some: self._processor(
                text=list(some), padding=padding, truncation=True, return_tensors="pt"
            ),
            self._model.get_text_features,
        )

    def cut(self, text: str) -> str:
        """A text as far as the model reads it; the text itself if it reads all of it."""
        tokenizer = getattr(self._processor, "tokenizer", self._processor)
        read = tokenizer(text, truncation=True)["input_ids"]
        if len(read) == len(tokenizer(text)["input_ids"]):
            return text
        return str(tokenizer.decode(read, skip_special_tokens=True)).strip()

    def _embed(self, items: Sequence[Any], prepare: Any, features: Any) -> Vectors:
        found = []
        for start in range(0, len(items), _BATCH):
            given = prepare(items[start : start + _BATCH]).to(self._model.device)
            if "pixel_values" in given:
                given["pixel_values"] = given["pixel_values"].to(self._model.dtype)
            with torch.inference_mode():
                out = features(**given)
            # Some models give the vectors bare, some within an output.
            found.append(getattr(out, "pooler_output", out).float().cpu())
        if not found:
            return unit(torch.zeros(0, self.dimension).numpy())
        return unit(torch.cat(found).numpy())
