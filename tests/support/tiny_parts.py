"""Parts of the tiny models: text and vision settings, tokenizers, chat templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from support.tiny_models import make_tokenizer

SPREAD = 0.15


def chat(image: str, begin: str = "") -> str:
    """A chat template that writes ``image`` in place of the picture."""
    return (
        begin + "{% for m in messages %}{{ m['role'] }} : {% for part in m['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% else %} {{ part['text'] }}{% endif %}"
        "{% endfor %}{% endfor %}{% if add_generation_prompt %} assistant : {% endif %}"
    )


def text(tokenizer: Any, kind: str | None = None, **more: Any) -> dict[str, Any]:
    """Settings of a small text model."""
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": SPREAD,
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return settings | ({"model_type": kind} if kind else {}) | more


def vision(kind: str | None = None, **more: Any) -> dict[str, Any]:
    """Settings of a small vision tower: 16 patches of an image of 56 by 56 pixels."""
    settings = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 56,
        "patch_size": 14,
        "initializer_range": SPREAD,
    }
    return settings | ({"model_type": kind} if kind else {}) | more


def plain_tokenizer(
    image: str, *others: str, template: str = "", named: dict[str, str] | None = None
) -> Any:
    """A tokenizer with start, end and image tokens and some more."""
    special = ["<unk>", "<s>", "</s>", "<pad>", image, *others]
    return make_tokenizer(
        special,
        template or chat(image),
        named,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )


def save(folder: Path, model: Any, tokenizer: Any, *parts: Any) -> Path:
    """Write a model, its tokenizer, and its processor or image processor."""
    awaken(model)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    return folder


def awaken(model: Any) -> None:
    """Draw weights that are initialised with zero, such as gates, so that every part counts."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not weight.any() and "norm" not in name and "bias" not in name:
                weight.copy_(torch.randn(weight.shape, generator=draw) * SPREAD)
            if name.endswith("gate") or ("gate_" in name and weight.numel() == 1):
                weight.fill_(1.0)


SMALL = {"height": 56, "width": 56}
TILES = [[56, 56], [56, 112], [112, 56], [112, 112]]
