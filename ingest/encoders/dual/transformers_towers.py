"""Models of transformers that embed pictures: dual encoders such as CLIP and SigLIP, and models
without a text half such as DINOv3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from indexes.errors import ModelError, UsageError
from ingest.encoders.devices import choose_dtype, has_other_dtypes
from ingest.encoders.dual.towers import LoadedTowers, Tensors, Towers
from ingest.encoders.models.find import ModelSource, find_model
from ingest.encoders.models.loading import check_size, loaded_revision
from ingest.encoders.models.pretrained import (
    build_empty,
    check_picture_sizes,
    library_call,
    load_config,
    load_pretrained,
)
from ingest.encoders.models.trust import pinned

#: Model types whose own image processors need torchvision. They resize, rescale and normalise, as
#: that of ViT does with Pillow, which rounds to 8 bits in between.
_RESIZED = frozenset({"dinov3_convnext", "dinov3_vit", "tipsv2"})


class _TransformersTowers:
    """A dual encoder of transformers with its image processor and tokenizer.

    The two are loaded separately, because some combined processors cannot be built without
    torchvision. Images are always prepared with Pillow, so that vectors do not depend on which
    libraries are installed. See :class:`ingest.encoders.dual.towers.Towers` for the methods.
    """

    reads_texts = True

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


class _VisionTowers:
    """A model of pictures alone, with its image processor.

    See :class:`ingest.encoders.dual.towers.Towers` for the methods.
    """

    reads_texts = False

    def __init__(self, model: Any, image_processor: Any, pools: bool):
        """Use a loaded model.

        Args:
            model: a vision model.
            image_processor: its own.
            pools: whether the weights of its pooling layer were trained, if it has one; else the
                state of its first token is used.
        """
        self.model = model
        self._image_processor = image_processor
        self._pools = pools

    def prepare_images(self, images: Sequence[Image.Image]) -> Tensors:
        inputs: Tensors = self._image_processor(images=list(images), return_tensors="pt")
        return inputs

    def tokenize(self, texts: Sequence[str]) -> Tensors:
        raise UsageError("This model embeds pictures only, so a text cannot be embedded.")

    def image_features(self, inputs: Tensors) -> torch.Tensor:
        output = self.model(**inputs)
        pooled = getattr(output, "pooler_output", None) if self._pools else None
        # Convolutional networks pool to maps of one pixel.
        vectors = output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)
        return torch.as_tensor(vectors)

    def text_features(self, inputs: Tensors) -> torch.Tensor:
        raise UsageError("This model embeds pictures only, so a text cannot be embedded.")


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
    from transformers import AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    source = pinned(find_model(model))
    config = load_config(source)
    kind = getattr(transformers, str(MODEL_MAPPING_NAMES.get(config.model_type)), None)
    if not (hasattr(kind, "get_text_features") and hasattr(kind, "get_image_features")):
        other = "vision" if _is_vision_only(kind) else "dior"
        raise ModelError(
            f"{source.name} is of type '{config.model_type}', which does not embed pictures and "
            "texts in one space; name a CLIP or SigLIP model, such as tiny-clip or "
            f"openai/clip-vit-base-patch32, or give --method {other}."
        )
    loaded, _ = _load_weights(source, config, dtype, device, rounded)
    image_processor = _load_image_processor(source, config)
    tokenizer = load_pretrained(AutoTokenizer, source)
    return _loaded_towers(source, _TransformersTowers(loaded, image_processor, tokenizer))


def load_vision(model: str, dtype: str, device: str, rounded: bool) -> LoadedTowers:
    """Load a model of transformers that embeds pictures only, such as DINOv2 and DINOv3.

    Args:
        model: a built-in name, ``ORG/NAME[@REVISION]``, or a folder.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: one device by name.
        rounded: as for :func:`load_transformers`.

    Raises:
        ModelError: if it cannot be loaded, or embeds no pictures.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    source = pinned(find_model(model))
    config = load_config(source)
    kind = getattr(transformers, str(MODEL_MAPPING_NAMES.get(config.model_type)), None)
    if not _is_vision_only(kind):
        raise ModelError(
            f"{source.name} is of type '{config.model_type}', which is no model of pictures alone; "
            "name one such as facebook/dinov2-base (Apache-2.0), or give --method clip if it is a "
            "CLIP."
        )
    loaded, missing = _load_weights(source, config, dtype, device, rounded)
    without_pooler = [name for name in missing if "pooler" not in name]
    if without_pooler:
        raise ModelError(
            f"The weights of {source.name} lack {len(without_pooler)} tensors, such as "
            f"{without_pooler[0]}; copy or download them again, or name another model."
        )
    image_processor = _load_image_processor(source, config)
    return _loaded_towers(source, _VisionTowers(loaded, image_processor, pools=not missing))


def _load_image_processor(source: ModelSource, config: Any) -> Any:
    """The image processor of a model, built with Pillow alone."""
    from transformers import AutoImageProcessor, ViTImageProcessorPil

    if config.model_type in _RESIZED:
        return load_pretrained(ViTImageProcessorPil, source)
    return load_pretrained(AutoImageProcessor, source, backend="pil")


def _is_vision_only(kind: Any) -> bool:
    """Whether a class of transformers embeds pictures and reads nothing else."""
    return getattr(kind, "main_input_name", "") == "pixel_values" and not (
        hasattr(kind, "get_text_features") or hasattr(kind, "generate")
    )


def _load_weights(
    source: ModelSource, config: Any, dtype: str, device: str, rounded: bool
) -> tuple[Any, list[str]]:
    """A model in evaluation mode on its device, and the names of weights that its files lack."""
    from transformers import AutoModel

    empty = build_empty(AutoModel, source, config)
    check_size(empty, source)
    torch_dtype = getattr(torch, choose_dtype(dtype, empty, device))
    loaded, notes = load_pretrained(
        AutoModel,
        source,
        dtype="auto" if rounded else torch_dtype,
        use_safetensors=True,
        output_loading_info=True,
    )
    loaded.eval()
    if rounded:
        loaded.to(dtype=torch_dtype)
    with library_call(source):  # memory may run out
        loaded.to(device=device)
    check_picture_sizes(source)
    return loaded, sorted(notes["missing_keys"])


def _loaded_towers(source: ModelSource, towers: Towers) -> LoadedTowers:
    dtype = str(next(towers.model.parameters()).dtype).removeprefix("torch.")
    mixed = dtype != "float32" and has_other_dtypes(towers.model, dtype)
    return LoadedTowers(source, towers, loaded_revision(source), dtype, mixed)
