"""Tiny models of further families, in the standard on-disk format."""

from __future__ import annotations

from pathlib import Path

import transformers as tf
from support.tiny_parts import SMALL, TILES, plain_tokenizer, save, text, vision
from support.tiny_recent import settings


def vipllava(folder: Path) -> Path:
    tokenizer = plain_tokenizer("<image>")
    config = tf.VipLlavaConfig(
        text_config=text(tokenizer, "llama"),
        vision_config=vision("clip_vision_model", projection_dim=32, num_hidden_layers=3),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layers=[-1, -2],
    )
    processor = tf.LlavaProcessor(
        tf.CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size=SMALL),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    return save(folder, tf.VipLlavaForConditionalGeneration(config), tokenizer, processor)


def llava_next_video(folder: Path) -> Path:
    tokenizer = plain_tokenizer("<image>", "<video>")
    config = tf.LlavaNextVideoConfig(
        text_config=text(tokenizer, "llama"),
        vision_config=vision("clip_vision_model", projection_dim=32),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=TILES[1:],
    )
    pictures = tf.LlavaNextImageProcessorPil(
        size={"shortest_edge": 56}, crop_size=SMALL, image_grid_pinpoints=TILES[1:]
    )
    save(folder, tf.LlavaNextVideoForConditionalGeneration(config), tokenizer, pictures)
    more = {"patch_size": 14, "vision_feature_select_strategy": "default"}
    named = {"processor_class": "LlavaNextVideoProcessor", "num_additional_image_tokens": 1}
    return settings(folder, processor_config=named | more)


def janus(folder: Path) -> Path:
    named = {"image_token": "<image_placeholder>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
    tokenizer = plain_tokenizer(*named.values(), named=named)
    config = tf.JanusConfig(
        text_config=text(tokenizer, "llama"),
        vision_config=vision("janus_vision_model", projection_dim=48, num_image_tokens=16),
        vq_config={"base_channels": 32, "latent_channels": 32, "num_embeddings": 16},
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    )
    processor = tf.JanusProcessor(
        tf.JanusImageProcessorPil(size=SMALL),
        tokenizer,
        chat_template=tokenizer.chat_template,
        use_default_system_prompt=False,
    )
    processor.num_image_tokens = 16
    return save(folder, tf.JanusForConditionalGeneration(config), tokenizer, processor)


def deepseek_vl(folder: Path) -> Path:
    named = {"image_token": "<image_placeholder>"}
    tokenizer = plain_tokenizer("<image_placeholder>", named=named)
    config = tf.DeepseekVLConfig(
        text_config=text(tokenizer, "llama"),
        vision_config=vision("siglip_vision_model", vision_use_head=False),
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    )
    processor = tf.DeepseekVLProcessor(
        tf.DeepseekVLImageProcessorPil(size=SMALL, min_size=14),
        tokenizer,
        chat_template=tokenizer.chat_template,
        num_image_tokens=16,
    )
    return save(folder, tf.DeepseekVLForConditionalGeneration(config), tokenizer, processor)


def lighton_ocr(folder: Path) -> Path:
    named = {
        "image_token": "<|image_pad|>",
        "image_break_token": "<|vision_pad|>",
        "image_end_token": "<|vision_end|>",
    }
    tokenizer = plain_tokenizer(*named.values(), named=named)
    config = tf.LightOnOcrConfig(
        text_config=text(tokenizer, "qwen3", head_dim=12),
        vision_config=vision("pixtral", head_dim=8, image_size=112),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        spatial_merge_size=2,
    )
    processor = tf.LightOnOcrProcessor(
        tf.PixtralImageProcessorPil(
            size={"longest_edge": 112}, patch_size={"height": 14, "width": 14}
        ),
        tokenizer,
        patch_size=14,
        spatial_merge_size=2,
        chat_template=tokenizer.chat_template,
    )
    return save(folder, tf.LightOnOcrForConditionalGeneration(config), tokenizer, processor)


def paddleocr_vl(folder: Path) -> Path:
    named = {"image_token": "<|IMAGE_PLACEHOLDER|>"}
    marks = ["<|video|>", "<|IMAGE_START|>", "<|IMAGE_END|>"]
    tokenizer = plain_tokenizer("<|IMAGE_PLACEHOLDER|>", *marks, named=named)
    number = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
    config = tf.PaddleOCRVLConfig(
        text_config=text(tokenizer, rope_parameters=rope, head_dim=12),
        vision_config=vision(),
        image_token_id=number("<|IMAGE_PLACEHOLDER|>"),
        video_token_id=number("<|video|>"),
        vision_start_token_id=number("<|IMAGE_START|>"),
        vision_end_token_id=number("<|IMAGE_END|>"),
    )
    processor = tf.PaddleOCRVLProcessor(
        tf.PaddleOCRVLImageProcessorPil(
            size={"shortest_edge": 4 * 28**2, "longest_edge": 16 * 28**2}
        ),
        tokenizer,
        chat_template=tokenizer.chat_template,
    )
    return save(folder, tf.PaddleOCRVLForConditionalGeneration(config), tokenizer, processor)


def video_llama_3(folder: Path) -> Path:
    named = {"image_token": "<image>", "video_token": "<video>"}
    tokenizer = plain_tokenizer("<image>", "<video>", named=named)
    config = tf.VideoLlama3Config(
        text_config=text(tokenizer, "qwen2"),
        vision_config=vision("video_llama_3_vision"),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
    )
    pictures = tf.VideoLlama3ImageProcessorPil(
        size={"shortest_edge": 4 * 28**2, "longest_edge": 16 * 28**2}, merge_size=2
    )
    save(folder, tf.VideoLlama3ForConditionalGeneration(config), tokenizer)
    own = {"processor_class": "VideoLlama3Processor"}
    return settings(folder, preprocessor_config=pictures.to_dict() | own)
