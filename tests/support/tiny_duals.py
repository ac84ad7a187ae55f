"""Tiny random-weight dual encoders of several families, in the standard on-disk format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from support.tiny_models import make_tokenizer
from support.tiny_parts import SPREAD, awaken


def _tokenizer(**more: Any) -> Any:
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    return make_tokenizer(special, "", eos_token="</s>", pad_token="<pad>", **more)


def _sizes(tokenizer: Any, places: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": places,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    }


def _eyes(**more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return {**sizes, "num_attention_heads": 4, "patch_size": 14, **more}


def _widened(model: Any) -> Any:
    """Draw weights with a large deviation, so that inputs have an effect."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=draw) * SPREAD)
    awaken(model)
    return model


def save_siglip(folder: Path) -> Path:
    """A SigLIP: pictures of 56 by 56, texts of 16 tokens."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    tokenizer = _tokenizer(model_max_length=16)
    config = SiglipConfig(text_config=_sizes(tokenizer, 16), vision_config=_eyes(image_size=56))
    _widened(SiglipModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 56, "width": 56}).save_pretrained(folder)
    return folder


def save_siglip2(folder: Path) -> Path:
    """A SigLIP2 that keeps the aspect ratio, with a tokenizer without a maximum length."""
    from transformers import Siglip2Config, Siglip2ImageProcessorPil, Siglip2Model

    tokenizer = _tokenizer()
    config = Siglip2Config(text_config=_sizes(tokenizer, 16), vision_config=_eyes(num_patches=16))
    _widened(Siglip2Model(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Siglip2ImageProcessorPil(patch_size=14, max_num_patches=16).save_pretrained(folder)
    return folder


def save_align(folder: Path) -> Path:
    """A dual encoder unlike CLIP: a BERT and a vision transformer."""
    from transformers import (
        BertConfig,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
        ViTConfig,
        ViTImageProcessorPil,
    )

    tokenizer = _tokenizer(model_max_length=32)
    text = BertConfig(**_sizes(tokenizer, 32))
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        ViTConfig(**_eyes(image_size=56)), text, projection_dim=24
    )
    _widened(VisionTextDualEncoderModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 56, "width": 56}).save_pretrained(folder)
    return folder


SAVERS = {"siglip": save_siglip, "siglip2": save_siglip2, "vision-text": save_align}
