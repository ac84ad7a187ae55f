"""Tiny models that place a picture's tokens on a grid: the Qwen line and GLM-V."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers as tf
from support.tiny_models import CHATML, make_tokenizer
from support.tiny_parts import SPREAD, chat, plain_tokenizer, save, text

QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
QWEN += ["<|image_pad|>", "<|video_pad|>"]


def qwen(
    config_class: Any, model_class: Any, folder: Path, eyes: dict[str, Any], **more: Any
) -> Path:
    """A model of the Qwen line, with three-axis positions."""
    tokenizer = make_tokenizer(QWEN, CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    number = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
    config = config_class(
        text_config=text(tokenizer, rope_parameters=rope | more.pop("rope", {})) | more,
        vision_config=eyes | {"spatial_merge_size": 2, "temporal_patch_size": 2},
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    side = eyes["patch_size"] * 2
    pictures = tf.Qwen2VLImageProcessorPil(
        patch_size=eyes["patch_size"], min_pixels=4 * side**2, max_pixels=16 * side**2
    )
    return save(folder, model_class(config), tokenizer, pictures)


def qwen2_vl(folder: Path) -> Path:
    eyes: dict[str, Any] = {"depth": 2, "embed_dim": 32, "hidden_size": 48, "num_heads": 4}
    eyes |= {"mlp_ratio": 2, "patch_size": 14, "initializer_range": SPREAD}
    return qwen(tf.Qwen2VLConfig, tf.Qwen2VLForConditionalGeneration, folder, eyes)


QWEN3_EYES = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "out_hidden_size": 48,
    "patch_size": 16,
    "num_position_embeddings": 16,
    "initializer_range": SPREAD,
}


def qwen3_vl(folder: Path) -> Path:
    return qwen(
        tf.Qwen3VLConfig,
        tf.Qwen3VLForConditionalGeneration,
        folder,
        QWEN3_EYES | {"deepstack_visual_indexes": [0, 1]},
        head_dim=12,
        rope={"mrope_interleaved": True},
    )


def qwen3_vl_moe(folder: Path) -> Path:
    return qwen(
        tf.Qwen3VLMoeConfig,
        tf.Qwen3VLMoeForConditionalGeneration,
        folder,
        QWEN3_EYES | {"deepstack_visual_indexes": [0, 1]},
        head_dim=12,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        rope={"mrope_interleaved": True},
    )


def qwen3_5(folder: Path) -> Path:
    return qwen(
        tf.Qwen3_5Config,
        tf.Qwen3_5ForConditionalGeneration,
        folder,
        QWEN3_EYES,
        head_dim=12,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        rope={"mrope_interleaved": True, "partial_rotary_factor": 1.0},
    )


def glm4v(folder: Path) -> Path:
    others = ["<|video|>", "<|begin_of_image|>", "<|end_of_image|>"]
    others += ["<|begin_of_video|>", "<|end_of_video|>"]
    tokenizer = plain_tokenizer(
        "<|image|>", *others, template=chat("<|begin_of_image|><|image|><|end_of_image|>")
    )
    number = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
    config = tf.Glm4vConfig(
        text_config=text(tokenizer, rope_parameters=rope | {"partial_rotary_factor": 1.0}),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 48,
            "image_size": 56,
            "patch_size": 14,
            "initializer_range": SPREAD,
        },
        image_token_id=number("<|image|>"),
        video_token_id=number("<|video|>"),
        image_start_token_id=number("<|begin_of_image|>"),
        image_end_token_id=number("<|end_of_image|>"),
        video_start_token_id=number("<|begin_of_video|>"),
        video_end_token_id=number("<|end_of_video|>"),
    )
    pictures = tf.Glm4vImageProcessorPil(
        size={"shortest_edge": 4 * 28**2, "longest_edge": 2 * 16 * 28**2}
    )
    return save(folder, tf.Glm4vForConditionalGeneration(config), tokenizer, pictures)
