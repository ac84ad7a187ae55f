"""A tiny random-weight model of every family in the table, in the standard on-disk format.

Weights are drawn wide, so that attention matters; pictures become few tokens, so that tests are
quick. Every builder writes what ``save_pretrained`` of the family's own classes writes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from support.tiny_grids import glm4v, qwen2_vl, qwen3_5, qwen3_vl, qwen3_vl_moe
from support.tiny_models import save_qwen2_5_vl
from support.tiny_older import (
    deepseek_vl,
    janus,
    lighton_ocr,
    llava_next_video,
    paddleocr_vl,
    video_llama_3,
    vipllava,
)
from support.tiny_parts import SMALL, SPREAD, TILES, chat, plain_tokenizer, save, text, vision
from support.tiny_recent import (
    cohere2_vision,
    ernie4_5_vl_moe,
    gemma4,
    gemma4_both_ways,
    gemma4_shared,
    glm4v_moe,
    glm46v,
    idefics2,
    kimi_k25,
    lfm2_vl,
    llama4,
    minicpmv4_6,
    ovis2,
    qwen3_5_moe,
)


def llava(folder: Path, template: str = "") -> Path:
    tokenizer = plain_tokenizer("<image>", template=template)
    config = tf.LlavaConfig(
        text_config=text(tokenizer, "llama"),
        vision_config=vision("siglip_vision_model"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    processor = tf.LlavaProcessor(
        tf.SiglipImageProcessorPil(size=SMALL),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )
    return save(folder, tf.LlavaForConditionalGeneration(config), tokenizer, processor)


def llava_next(folder: Path, reader: str = "mistral", **more: Any) -> Path:
    tokenizer = plain_tokenizer("<image>")
    config = tf.LlavaNextConfig(
        text_config=text(tokenizer, reader, **more or {"sliding_window": None}),
        vision_config=vision("clip_vision_model", projection_dim=32),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=TILES[1:],
    )
    processor = tf.LlavaNextProcessor(
        tf.LlavaNextImageProcessorPil(
            size={"shortest_edge": 56}, crop_size=SMALL, image_grid_pinpoints=TILES[1:]
        ),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    return save(folder, tf.LlavaNextForConditionalGeneration(config), tokenizer, processor)


def llava_next_narrow(folder: Path) -> Path:
    """LLaVA-NeXT over Mistral 1, whose layers all have a short sliding window."""
    return llava_next(folder, sliding_window=9)


def llava_next_granite(folder: Path) -> Path:
    """Granite Vision 3: LLaVA-NeXT over a text model that scales at several points."""
    scales = {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 4.0}
    return llava_next(folder, "granite", attention_multiplier=0.2, **scales)


def llava_onevision(folder: Path) -> Path:
    tokenizer = plain_tokenizer("<image>", "<video>")
    config = tf.LlavaOnevisionConfig(
        text_config=text(tokenizer, "qwen2"),
        vision_config=vision("siglip_vision_model", vision_use_head=False),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[*TILES, [56, 224]],
        vision_aspect_ratio="anyres_max_2",
    )
    pictures = tf.LlavaOnevisionImageProcessorPil(
        size=SMALL, image_grid_pinpoints=[*TILES, [56, 224]]
    )
    return save(folder, tf.LlavaOnevisionForConditionalGeneration(config), tokenizer, pictures)


def smolvlm(folder: Path) -> Path:
    tokenizer = plain_tokenizer("<image>", "<fake_token_around_image>", "<global-img>")
    config = tf.SmolVLMConfig(
        text_config=text(tokenizer, "llama"),
        vision_config=vision(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    pictures = tf.SmolVLMImageProcessorPil(
        size={"longest_edge": 112}, max_image_size={"longest_edge": 56}
    )
    return save(folder, tf.SmolVLMForConditionalGeneration(config), tokenizer, pictures)


def idefics3(folder: Path) -> Path:
    tokenizer = plain_tokenizer(
        "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"
    )
    config = tf.Idefics3Config(
        text_config=text(tokenizer, "llama"),
        vision_config=vision(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = tf.Idefics3Processor(
        tf.Idefics3ImageProcessorPil(
            size={"longest_edge": 112}, max_image_size={"longest_edge": 56}
        ),
        tokenizer,
        image_seq_len=4,
        chat_template=tokenizer.chat_template,
    )
    return save(folder, tf.Idefics3ForConditionalGeneration(config), tokenizer, processor)


def internvl(folder: Path, reader: str = "qwen3", **more: Any) -> Path:
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = plain_tokenizer("<IMG_CONTEXT>", "<img>", "</img>", "<video>", named=named)
    config = tf.InternVLConfig(
        text_config=text(tokenizer, reader, **more or {"head_dim": 12}),
        vision_config=vision(),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    pictures = tf.GotOcr2ImageProcessorPil(size=SMALL, crop_to_patches=True)
    return save(folder, tf.InternVLForConditionalGeneration(config), tokenizer, pictures)


def internvl_qwen2(folder: Path) -> Path:
    """InternVL 3 over Qwen2."""
    return internvl(folder, "qwen2", hidden_act="silu")


def internvl_gpt_oss(folder: Path) -> Path:
    """InternVL 3.5 over gpt-oss, whose attention has sinks, and so no sdpa."""
    return internvl(
        folder,
        "gpt_oss",
        head_dim=12,
        num_local_experts=2,
        num_experts_per_tok=1,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        sliding_window=512,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )


def gemma3(folder: Path, window: int = 512) -> Path:
    named = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = plain_tokenizer(
        *named.values(), template=chat("<start_of_image>", "{{ bos_token }}"), named=named
    )
    number = tokenizer.convert_tokens_to_ids
    config = tf.Gemma3Config(
        text_config=text(
            tokenizer,
            head_dim=12,
            query_pre_attn_scalar=12,
            sliding_window=window,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            tie_word_embeddings=False,
        ),
        vision_config=vision("siglip_vision_model"),
        mm_tokens_per_image=4,
        image_token_index=number("<image_soft_token>"),
        boi_token_index=number("<start_of_image>"),
        eoi_token_index=number("<end_of_image>"),
        # A tied head would repeat the last token for any image.
        tie_word_embeddings=False,
    )
    processor = tf.Gemma3Processor(
        tf.Gemma3ImageProcessorPil(size=SMALL),
        tokenizer,
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )
    return save(folder, tf.Gemma3ForConditionalGeneration(config), tokenizer, processor)


def gemma3_narrow(folder: Path) -> Path:
    """Gemma3 whose prompts are longer than the window of its sliding layers."""
    return gemma3(folder, window=9)


def paligemma(folder: Path, reader: str = "gemma", **more: Any) -> Path:
    tokenizer = plain_tokenizer("<image>")
    pictures = tf.SiglipImageProcessorPil(size=SMALL)
    pictures.image_seq_length = 16
    processor = tf.PaliGemmaProcessor(pictures, tokenizer, chat_template=chat("<image>"))
    config = tf.PaliGemmaConfig(
        text_config=text(tokenizer, reader, head_dim=12, **more),
        vision_config=vision("siglip_vision_model", vision_use_head=False),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=48,
    )
    return save(folder, tf.PaliGemmaForConditionalGeneration(config), tokenizer, processor)


def paligemma2(folder: Path) -> Path:
    """PaliGemma 2 over Gemma 2, whose attention scores are capped, and so no sdpa."""
    return paligemma(
        folder,
        "gemma2",
        query_pre_attn_scalar=12,
        sliding_window=512,
        attn_logit_softcapping=5.0,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )


def mllama(folder: Path) -> Path:
    tokenizer = plain_tokenizer(
        "<|image|>", "<|python_tag|>", template=chat("<|image|>", "{{ bos_token }}")
    )
    config = tf.MllamaConfig(
        text_config=text(
            tokenizer,
            num_hidden_layers=4,
            cross_attention_layers=[1, 3],
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        ),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 4,
            "image_size": 56,
            "patch_size": 14,
            "vision_output_dim": 64,
            "intermediate_layers_indices": [1],
            "initializer_range": SPREAD,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    processor = tf.MllamaProcessor(
        tf.MllamaImageProcessorPil(size=SMALL), tokenizer, chat_template=tokenizer.chat_template
    )
    return save(folder, tf.MllamaForConditionalGeneration(config), tokenizer, processor)


def mistral3_ministral3(folder: Path) -> Path:
    """Mistral 3 over a text model that scales its queries by their position."""
    rope = {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 16.0,
        "original_max_position_embeddings": 8,
        "llama_4_scaling_beta": 0.5,
    }
    return mistral3(folder, "ministral3", rope_parameters=rope)


def mistral3(folder: Path, reader: str = "mistral", **more: Any) -> Path:
    tokenizer = plain_tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    config = tf.Mistral3Config(
        text_config=text(tokenizer, reader, head_dim=12, sliding_window=None, **more),
        vision_config=vision("pixtral", head_dim=8, image_size=112),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    pictures = tf.PixtralImageProcessorPil(
        size={"longest_edge": 112}, patch_size={"height": 14, "width": 14}
    )
    return save(folder, tf.Mistral3ForConditionalGeneration(config), tokenizer, pictures)


def llava_pixtral(folder: Path) -> Path:
    """LLaVA with Pixtral's vision tower, whose processor is not LLaVA's."""
    tokenizer = plain_tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    config = tf.LlavaConfig(
        text_config=text(tokenizer, "mistral", head_dim=12, sliding_window=None),
        vision_config=vision("pixtral", head_dim=8, image_size=112, patch_size=28),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    pictures = tf.PixtralImageProcessorPil(
        size={"longest_edge": 112}, patch_size={"height": 28, "width": 28}
    )
    return save(folder, tf.LlavaForConditionalGeneration(config), tokenizer, pictures)


def llava_text_first(folder: Path) -> Path:
    """LLaVA with the words before the picture, so the picture cannot be shared."""
    words = "{{ (messages[0]['content'] | selectattr('type', 'eq', 'text') | first)['text'] }}"
    return llava(folder, "user : " + words + " <image> assistant : ")


def aya_vision(folder: Path) -> Path:
    marks = ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE"]
    tokenizer = plain_tokenizer("<image>", *marks, "TILE_GLOBAL")
    config = tf.AyaVisionConfig(
        text_config=text(tokenizer, "cohere2", head_dim=12, logit_scale=0.25, sliding_window=512),
        vision_config=vision("siglip_vision_model", vision_use_head=False),
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
        downsample_factor=2,
    )
    processor = tf.AyaVisionProcessor(
        tf.GotOcr2ImageProcessorPil(size=SMALL, crop_to_patches=True),
        tokenizer,
        patch_size=14,
        img_size=56,
        downsample_factor=2,
        chat_template=tokenizer.chat_template,
    )
    return save(folder, tf.AyaVisionForConditionalGeneration(config), tokenizer, processor)


def aya_vision_narrow(folder: Path) -> Path:
    """Aya Vision whose prompts are longer than its window: it cannot be packed."""
    aya_vision(folder)
    path = folder / "config.json"
    config = path.read_text()
    assert '"sliding_window": 512' in config
    path.write_text(config.replace('"sliding_window": 512', '"sliding_window": 9'))
    return folder


#: Test name to builder. A family may have more than one tiny model.
BUILDERS: dict[str, Callable[[Path], Path]] = {
    "aya_vision": aya_vision,
    "aya_vision-narrow": aya_vision_narrow,
    "gemma3": gemma3,
    "gemma3-narrow": gemma3_narrow,
    "glm4v": glm4v,
    "idefics3": idefics3,
    "internvl": internvl,
    "llava": llava,
    "llava-pixtral": llava_pixtral,
    "llava-text_first": llava_text_first,
    "llava_next": llava_next,
    "llava_next-granite": llava_next_granite,
    "llava_next-narrow": llava_next_narrow,
    "llava_onevision": llava_onevision,
    "mistral3": mistral3,
    "mistral3-ministral3": mistral3_ministral3,
    "mllama": mllama,
    "paligemma": paligemma,
    "qwen2_5_vl": save_qwen2_5_vl,
    "qwen2_vl": qwen2_vl,
    "qwen3_5": qwen3_5,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl_moe,
    "smolvlm": smolvlm,
}

#: Further ones, of which the default tests compare vectors and words only.
MORE: dict[str, Callable[[Path], Path]] = {
    "cohere2_vision": cohere2_vision,
    "deepseek_vl": deepseek_vl,
    "ernie4_5_vl_moe": ernie4_5_vl_moe,
    "gemma4": gemma4,
    "gemma4-both_ways": gemma4_both_ways,
    "gemma4-shared": gemma4_shared,
    "glm46v": glm46v,
    "glm4v_moe": glm4v_moe,
    "idefics2": idefics2,
    "internvl-gpt_oss": internvl_gpt_oss,
    "internvl-qwen2": internvl_qwen2,
    "janus": janus,
    "kimi_k25": kimi_k25,
    "lfm2_vl": lfm2_vl,
    "lighton_ocr": lighton_ocr,
    "llama4": llama4,
    "llava_next_video": llava_next_video,
    "minicpmv4_6": minicpmv4_6,
    "ovis2": ovis2,
    "paddleocr_vl": paddleocr_vl,
    "paligemma-2": paligemma2,
    "qwen3_5_moe": qwen3_5_moe,
    "video_llama_3": video_llama_3,
    "vipllava": vipllava,
}


def build(name: str, folder: Path) -> Path:
    """Build one tiny model, identical in every run."""
    torch.manual_seed(0)
    return {**BUILDERS, **MORE}[name](folder)
