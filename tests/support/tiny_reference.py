"""The tiny models, and the vectors that transformers alone computes for the test images."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from support.tiny_families import build

from ingest.conditions import Condition
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice
from ingest.encoders.vlm.processors import untiled

NAMES = ["color", "shape", "pattern", "background", "unconditional"]
CONDITIONS = [Condition.parse(name) for name in NAMES]


@dataclass(frozen=True)
class Tiny:
    """A tiny model with the reference vectors."""

    name: str
    folder: Path
    encoder: DiorEncoder
    vectors: np.ndarray


_BUILT: dict[str, Tiny] = {}


def tiny_model(name: str, folder: Path, pictures: list[Image.Image]) -> Tiny:
    """A tiny model by name, built into ``folder`` at the first call."""
    if name not in _BUILT:
        encoder = DiorEncoder.load(EncoderChoice("dior", str(build(name, folder))))
        _BUILT[name] = Tiny(name, folder, encoder, reference(encoder, pictures))
    return _BUILT[name]


def inputs_of(encoder: DiorEncoder, image: Image.Image, condition: Condition) -> dict[str, Any]:
    """The processor's output for one image and one prompt."""
    processor = encoder._loaded.processor
    turn = [
        {
            "role": "user",
            "content": [
                {"type": "image"},
                {"type": "text", "text": encoder._template.text(condition)},
            ],
        }
    ]
    chat = processor.apply_chat_template(turn, add_generation_prompt=True)
    bos = processor.tokenizer.bos_token
    special = not (bos and chat.startswith(bos))
    options = {"return_tensors": "pt", "add_special_tokens": special, **untiled(processor)}
    inputs = dict(processor(text=[chat], images=[image], **options))
    inputs.pop("labels", None)
    dtype = encoder._loaded.model.dtype
    inputs = {n: v.to(dtype) if v.is_floating_point() else v for n, v in inputs.items()}
    if "image_grid_thw" in inputs and "mm_token_type_ids" in _accepted(encoder._loaded.model):
        ids = inputs["input_ids"]
        inputs["mm_token_type_ids"] = (ids == encoder._loaded.model.config.image_token_id).int()
    return inputs


def _accepted(model: Any) -> Any:
    return inspect.signature(model.forward).parameters


def reference(encoder: DiorEncoder, pictures: list[Image.Image]) -> np.ndarray:
    """Unit vectors [images, conditions, dim], by the model's own forward."""
    model = encoder._loaded.model
    rows = []
    with torch.inference_mode():
        for picture in pictures:
            for condition in CONDITIONS:
                inputs = inputs_of(encoder, picture, condition)
                output = model(**inputs, output_hidden_states=True)
                rows.append(output.hidden_states[-1][0, -1].float().numpy())
    vectors = np.array(rows).reshape(len(pictures), len(CONDITIONS), -1)
    units: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return units


def furthest(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())
