"""Dual encoders that transformers loads: CLIP, SigLIP and others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from indexes.errors import ModelError
from ingest.encoders.devices import choose_dtype, has_other_dtypes
from ingest.encoders.dual.towers import LoadedTowers, Tensors
from ingest.encoders.models.find import find_model
from ingest.encoders.models.loading import check_size, loaded_revision
from ingest.encoders.models.pretrained import (
    build_empty,
    check_picture_sizes,
    library_call,
    load_config,
    load_pretrained,
)
from ingest.encoders.models.trust import pinned


class _TransformersTowers:
    """A dual encoder of transformers with its image processor and tokenizer.

    The two are loaded separately, because some combined processors cannot be built without
    torchvision. Images are always prepared with Pillow, so that vectors do not depend on which
    libraries are installed. See :class:`ingest.encoders.dual.towers.Towers` for the methods.
    """

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any):
        self.model = model
        self._image_processor = image_processor
        self._tokenizer = tokenizer
        self._siglip = "siglip" in model.config.model_type
        text = getattr(model.config, "text_config", model.config)
        positions = getattr(text, "max_position_embeddings", tokenizer.model_max_length)
        self._max_tokens = int(min(positions, tokenizer.model_max_length))

    def prepare_images(self, images: Sequence[Image.Image]) -> Tensors:
        inputs: Tensors = self._image_processor(images=list(images), return_tensors="pt")
        return inputs

    def tokenize(self, texts: Sequence[str]) -> Tensors:
        return self._model_inputs(self._encoding(texts))

    def tokenize_with_slot(self, texts: Sequence[tuple[str, str]]) -> tuple[Tensors, torch.Tensor]:
        """Tokenize texts with one extra word, of one token, between their two halves.

        Returns:
            The tokens, and int64 [texts], the position of the extra word's token; -1 where it is
            truncated.
        """
        whole, starts = [], []
        for before, after in texts:
            # A lone letter is one token for all tokenizers; joined to another it may not be.
            before += " " if before[-1:].isalnum() else ""
            after = f" {after}" if after[:1].isalnum() else after
            whole.append(f"{before}x{after}")
            # Lower-casing can change a text's length.
            starts.append(len(before.lower() if self._siglip else before))
        encoding = self._encoding(whole)
        slots = [encoding.char_to_token(row, start) for row, start in enumerate(starts)]
        positions = torch.tensor([-1 if slot is None else slot for slot in slots])
        return self._model_inputs(encoding), positions

    @property
    def finds_slots(self) -> bool:
        """Whether :meth:`tokenize_with_slot` works: it needs a fast tokenizer."""
        return bool(self._tokenizer.is_fast)

    def _encoding(self, texts: Sequence[str]) -> Any:
        # SigLIP was trained on lower-case texts, padded on the right to full length, unmasked.
        return self._tokenizer(
            [text.lower() for text in texts] if self._siglip else list(texts),
            padding="max_length" if self._siglip else True,
            padding_side="right" if self._siglip else None,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        )

    def _model_inputs(self, encoding: Any) -> Tensors:
        dropped = {"attention_mask"} if self._siglip else set()
        return {name: value for name, value in encoding.items() if name not in dropped}

    def image_features(self, inputs: Tensors) -> torch.Tensor:
        return _features(self.model.get_image_features(**inputs))

    def text_features(self, inputs: Tensors) -> torch.Tensor:
        return _features(self.model.get_text_features(**inputs))


def _features(output: Any) -> torch.Tensor:
    """The vectors: some models return them directly, some inside an output object."""
    vectors: torch.Tensor = getattr(output, "pooler_output", output)
    return vectors


def load_transformers(model: str, dtype: str, device: str, rounded: bool) -> LoadedTowers:
    """Load a dual encoder of transformers.

    Args:
        model: a built-in name, ``ORG/NAME[@REVISION]``, or a folder.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: one device by name.
        rounded: as for :func:`ingest.encoders.models.loading.load_model`.

    Raises:
        ModelError: if it cannot be loaded or embeds no texts.
    """
    import transformers
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    source = pinned(find_model(model))
    config = load_config(source)
    kind = getattr(transformers, str(MODEL_MAPPING_NAMES.get(config.model_type)), None)
    if not (hasattr(kind, "get_text_features") and hasattr(kind, "get_image_features")):
        raise ModelError(
            f"{source.name} is of type '{config.model_type}', which does not embed pictures and "
            "texts in one space; name a CLIP or SigLIP model, such as tiny-clip or "
            "openai/clip-vit-base-patch32, or leave out --method clip."
        )
    empty = build_empty(AutoModel, source, config)
    check_size(empty, source)
    computed_dtype = choose_dtype(dtype, empty, device)
    torch_dtype = getattr(torch, computed_dtype)
    loaded = load_pretrained(
        AutoModel, source, dtype="auto" if rounded else torch_dtype, use_safetensors=True
    ).eval()
    if rounded:
        loaded.to(dtype=torch_dtype)
    with library_call(source):  # memory may run out
        loaded.to(device=device)
    check_picture_sizes(source)
    image_processor = load_pretrained(AutoImageProcessor, source, backend="pil")
    tokenizer = load_pretrained(AutoTokenizer, source)
    towers = _TransformersTowers(loaded, image_processor, tokenizer)
    return LoadedTowers(
        source,
        towers,
        loaded_revision(source),
        computed_dtype,
        mixed=computed_dtype != "float32" and has_other_dtypes(loaded, computed_dtype),
    )
