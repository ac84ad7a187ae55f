"""Tiny models of the families of 2025 and 2026, in the standard on-disk format.

Processors that cannot be built without torchvision are written as the settings that their own
``save_pretrained`` writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers as tf
from support.tiny_grids import QWEN3_EYES, qwen
from support.tiny_parts import SMALL, SPREAD, chat, plain_tokenizer, save, text, vision


def settings(folder: Path, **files: dict[str, Any]) -> Path:
    """Write settings of processors: file name without suffix to content."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def gemma4(folder: Path, **more: Any) -> Path:
    named = {
        "image_token": "<|image|>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    }
    tokenizer = plain_tokenizer(*named.values(), template=chat("<|image|>"), named=named)
    number = tokenizer.convert_tokens_to_ids
    config = tf.Gemma4Config(
        text_config=text(
            tokenizer,
            head_dim=12,
            num_hidden_layers=4,
            sliding_window=more.pop("window", 512),
            layer_types=["sliding_attention", "full_attention"] * 2,
            hidden_size_per_layer_input=8,
            vocab_size_per_layer_input=len(tokenizer),
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": {
                    "rope_type": "proportional",
                    "partial_rotary_factor": 0.5,
                    "rope_theta": 1e6,
                },
            },
            per_layer_config={},
            tie_word_embeddings=False,
            **more,
        ),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "global_head_dim": 8,
            "patch_size": 8,
            "pooling_kernel_size": 2,
            "position_embedding_size": 64,
            "default_output_length": 70,
            "initializer_range": SPREAD,
        },
        audio_config=None,
        image_token_id=number("<|image|>"),
        boi_token_id=number("<|image>"),
        eoi_token_id=number("<image|>"),
        audio_token_id=number("<|audio|>"),
        boa_token_id=number("<|audio>"),
        eoa_token_index=number("<audio|>"),
        video_token_id=number("<unk>"),
        tie_word_embeddings=False,
    )
    save(folder, tf.Gemma4ForConditionalGeneration(config), tokenizer)
    pictures = tf.Gemma4ImageProcessorPil(patch_size=8, max_soft_tokens=70, pooling_kernel_size=2)
    return settings(
        folder,
        processor_config={
            "processor_class": "Gemma4Processor",
            "image_processor": pictures.to_dict(),
            "image_seq_length": 70,
        },
    )


def gemma4_both_ways(folder: Path) -> Path:
    """Gemma 4 whose picture tokens see each other in both directions, in a short window."""
    return gemma4(folder, use_bidirectional_attention="vision", window=64)


def gemma4_shared(folder: Path) -> Path:
    """Gemma 4 (as E2B): the last layers use the keys and values of earlier ones."""
    return gemma4(folder, num_kv_shared_layers=2)


def glm46v(folder: Path) -> Path:
    return _glm(folder, tf.Glm46VConfig, tf.Glm46VForConditionalGeneration, "Glm46VProcessor")


def glm4v_moe(folder: Path) -> Path:
    """GLM-4.5V."""
    return _glm(
        folder,
        tf.Glm4vMoeConfig,
        tf.Glm4vMoeForConditionalGeneration,
        "Glm4vProcessor",
        moe_intermediate_size=32,
        n_routed_experts=4,
        num_experts_per_tok=2,
        first_k_dense_replace=1,
        head_dim=12,
    )


def _glm(folder: Path, config_class: Any, model_class: Any, named: str, **more: Any) -> Path:
    others = ["<|video|>", "<|begin_of_image|>", "<|end_of_image|>"]
    others += ["<|begin_of_video|>", "<|end_of_video|>"]
    tokenizer = plain_tokenizer(
        "<|image|>", *others, template=chat("<|begin_of_image|><|image|><|end_of_image|>")
    )
    number = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
    config = config_class(
        text_config=text(tokenizer, rope_parameters=rope | {"partial_rotary_factor": 1.0}, **more),
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
    pictures = tf.Glm46VImageProcessorPil(
        size={"shortest_edge": 4 * 28**2, "longest_edge": 2 * 16 * 28**2}
    )
    save(folder, model_class(config), tokenizer)
    return settings(folder, preprocessor_config=pictures.to_dict() | {"processor_class": named})


def qwen3_5_moe(folder: Path) -> Path:
    return qwen(
        tf.Qwen3_5MoeConfig,
        tf.Qwen3_5MoeForConditionalGeneration,
        folder,
        QWEN3_EYES,
        head_dim=12,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        num_experts=4,
        num_experts_per_tok=2,
        rope={"mrope_interleaved": True, "partial_rotary_factor": 1.0},
    )


def lfm2_vl(folder: Path) -> Path:
    tokenizer = plain_tokenizer("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>")
    config = tf.Lfm2VlConfig(
        text_config=text(
            tokenizer,
            "lfm2",
            layer_types=["conv", "full_attention", "conv"],
            block_auto_adjust_ff_dim=False,
        ),
        vision_config=vision("siglip2_vision_model", num_patches=64, patch_size=8),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_size=48,
        tie_word_embeddings=False,
    )
    save(folder, tf.Lfm2VlForConditionalGeneration(config), tokenizer)
    return settings(
        folder,
        processor_config={"processor_class": "Lfm2VlProcessor"},
        preprocessor_config={
            "image_processor_type": "Lfm2VlImageProcessor",
            "encoder_patch_size": 8,
            "min_image_tokens": 4,
            "max_image_tokens": 16,
            "tile_size": 32,
        },
    )


def ovis2(folder: Path) -> Path:
    marks = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    tokenizer = plain_tokenizer("<image>", "<IMG_ATOM>", *marks)
    number = tokenizer.convert_tokens_to_ids
    config = tf.Ovis2Config(
        text_config=text(tokenizer, "qwen2"),
        vision_config=vision(
            vocab_size=24, num_visual_indicator_tokens=5, hidden_stride=1, hidden_size=32
        ),
        image_token_id=number("<IMG_ATOM>"),
        visual_indicator_token_ids=[number(mark) for mark in marks],
        vocab_size=len(tokenizer),
        hidden_size=48,
        tie_word_embeddings=False,
    )
    processor = tf.Ovis2Processor(
        tf.Ovis2ImageProcessorPil(size=SMALL, crop_to_patches=False),
        tokenizer,
        image_token="<image>",
        image_seq_length=16,
        chat_template=tokenizer.chat_template,
    )
    return save(folder, tf.Ovis2ForConditionalGeneration(config), tokenizer, processor)


def cohere2_vision(folder: Path) -> Path:
    named = {
        "image_token": "<|IMG_PATCH|>",
        "boi_token": "<|START_OF_IMG|>",
        "eoi_token": "<|END_OF_IMG|>",
        "img_line_break_token": "<|IMG_LINE_BREAK|>",
    }
    tokenizer = plain_tokenizer(*named.values(), named=named)
    config = tf.Cohere2VisionConfig(
        text_config=text(tokenizer, "cohere2", head_dim=12, logit_scale=0.25, sliding_window=512),
        vision_config=vision("siglip_vision_model", vision_use_head=False),
        image_token_id=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
        alignment_intermediate_size=64,
        tie_word_embeddings=True,
    )
    save(folder, tf.Cohere2VisionForConditionalGeneration(config), tokenizer)
    return settings(
        folder,
        processor_config={"processor_class": "Cohere2VisionProcessor"},
        preprocessor_config={
            "image_processor_type": "Cohere2VisionImageProcessor",
            "size": SMALL,
            "patch_size": 2,
        },
    )


def llama4(folder: Path) -> Path:
    marks = ["<|image_start|>", "<|image_end|>", "<|patch|>"]
    marks += ["<|tile_x_separator|>", "<|tile_y_separator|>"]
    tokenizer = plain_tokenizer("<|image|>", *marks)
    config = tf.Llama4Config(
        text_config=text(
            tokenizer,
            "llama4_text",
            head_dim=12,
            num_hidden_layers=4,
            intermediate_size_mlp=64,
            num_local_experts=2,
            attention_chunk_size=512,
            layer_types=["chunked_attention"] * 3 + ["full_attention"],
            no_rope_layers=[1, 1, 1, 0],
        ),
        vision_config=vision(
            "llama4_vision_model",
            vision_output_dim=32,
            projector_input_dim=32,
            projector_output_dim=32,
            pixel_shuffle_ratio=0.5,
            intermediate_size=128,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<|patch|>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<|image_end|>"),
    )
    save(folder, tf.Llama4ForConditionalGeneration(config), tokenizer)
    return settings(
        folder,
        processor_config={"processor_class": "Llama4Processor", "patch_size": 14},
        preprocessor_config={
            "image_processor_type": "Llama4ImageProcessor",
            "size": SMALL,
            "max_patches": 4,
        },
    )


def idefics2(folder: Path) -> Path:
    """Idefics2, whose files ask for four tiles and the whole picture."""
    tokenizer = plain_tokenizer("<image>", "<fake_token_around_image>", "<end_of_utterance>")
    config = tf.Idefics2Config(
        text_config=text(tokenizer, "mistral", head_dim=12, sliding_window=None),
        vision_config=vision("idefics2_vision"),
        perceiver_config={
            "hidden_size": 48,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 4,
            "resampler_head_dim": 12,
            "num_key_value_heads": 2,
            "initializer_range": SPREAD,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    processor = tf.Idefics2Processor(
        tf.Idefics2ImageProcessorPil(
            size={"longest_edge": 56, "shortest_edge": 28}, do_image_splitting=True
        ),
        tokenizer,
        image_seq_len=4,
        chat_template=tokenizer.chat_template,
    )
    return save(folder, tf.Idefics2ForConditionalGeneration(config), tokenizer, processor)


def ernie4_5_vl_moe(folder: Path) -> Path:
    named = {
        "image_token": "<|IMAGE_PLACEHOLDER|>",
        "image_start_token": "<|IMAGE_START|>",
        "image_end_token": "<|IMAGE_END|>",
        "video_token": "<|VIDEO_PLACEHOLDER|>",
        "video_start_token": "<|VIDEO_START|>",
        "video_end_token": "<|VIDEO_END|>",
    }
    image = "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"
    tokenizer = plain_tokenizer(*named.values(), template=chat(image), named=named)
    number = tokenizer.convert_tokens_to_ids
    config = tf.Ernie4_5_VLMoeConfig(
        text_config=text(
            tokenizer,
            num_hidden_layers=4,
            moe_intermediate_size=[32, 16],
            moe_k=2,
            moe_num_experts=4,
            moe_num_shared_experts=1,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 2, 2],
            },
        ),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "patch_size": 14,
            "initializer_range": SPREAD,
        },
        image_token_id=number("<|IMAGE_PLACEHOLDER|>"),
        image_start_token_id=number("<|IMAGE_START|>"),
        image_end_token_id=number("<|IMAGE_END|>"),
        video_token_id=number("<|VIDEO_PLACEHOLDER|>"),
        video_start_token_id=number("<|VIDEO_START|>"),
        video_end_token_id=number("<|VIDEO_END|>"),
    )
    pictures = tf.Ernie4_5_VLMoeImageProcessorPil(
        size={"shortest_edge": 4 * 28**2, "longest_edge": 16 * 28**2}
    )
    save(folder, tf.Ernie4_5_VLMoeForConditionalGeneration(config), tokenizer)
    return settings(
        folder,
        preprocessor_config=pictures.to_dict() | {"processor_class": "Ernie4_5_VLMoeProcessor"},
    )


def minicpmv4_6(folder: Path) -> Path:
    named = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "image_start_token": "<image>",
        "image_end_token": "</image>",
        "slice_start_token": "<slice>",
        "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>",
        "image_id_end_token": "</image_id>",
    }
    tokenizer = plain_tokenizer(*named.values(), named=named)
    number = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}
    config = tf.MiniCPMV4_6Config(
        text_config=text(
            tokenizer,
            "qwen3_5_text",
            head_dim=12,
            layer_types=["linear_attention", "full_attention", "linear_attention"],
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            rope_parameters=rope | {"mrope_section": [2, 2, 2]},
        ),
        vision_config=vision("minicpmv4_6_vision", insert_layer_id=0),
        insert_layer_id=0,
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        image_size=56,
        patch_size=14,
    )
    pictures = tf.MiniCPMV4_6ImageProcessorPil()
    save(folder, tf.MiniCPMV4_6ForConditionalGeneration(config), tokenizer)
    return settings(
        folder,
        preprocessor_config=pictures.to_dict() | {"processor_class": "MiniCPMV4_6Processor"},
    )


def kimi_k25(folder: Path) -> Path:
    tokenizer = plain_tokenizer(
        "<|media_pad|>", "<|media_begin|>", "<|media_end|>", "<|kimi_k25_video_placeholder|>"
    )
    number = tokenizer.convert_tokens_to_ids
    config = tf.Kimi_K25Config(
        text_config=text(
            tokenizer,
            "deepseek_v3",
            moe_intermediate_size=32,
            n_shared_experts=1,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_group=1,
            topk_group=1,
            first_k_dense_replace=1,
            kv_lora_rank=16,
            q_lora_rank=16,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8,
            v_head_dim=8,
            num_key_value_heads=4,
        ),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "patch_size": 14,
            "pos_emb_height": 8,
            "pos_emb_width": 8,
        },
        projection_hidden_size=32,
        image_token_id=number("<|media_pad|>"),
        video_token_id=number("<|kimi_k25_video_placeholder|>"),
        vision_start_token_id=number("<|media_begin|>"),
        vision_end_token_id=number("<|media_end|>"),
    )
    save(folder, tf.Kimi_K25ForConditionalGeneration(config), tokenizer)
    return settings(
        folder,
        processor_config={"processor_class": "Kimi_K25Processor"},
        preprocessor_config={
            "image_processor_type": "Kimi_K25ImageProcessor",
            "size": {"max_height": 8, "max_width": 8},
        },
    )
