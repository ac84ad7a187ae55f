"""Tiny random-weight models in the standard on-disk format, written for each test run.

Weights are drawn wide, so that attention matters and a wrong mask or position changes the result.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

WORDS = (
    "describe this image in one word regarding color shape pattern movie genre kind of place "
    "the object s fabric red green blue circle square : \" . , ' user assistant system"
).split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def make_tokenizer(
    special: list[str], template: str, named: dict[str, str] | None = None, **roles: str
) -> PreTrainedTokenizerFast:
    """A tokenizer: whole words for prompts, letters for the rest; ``named`` become attributes."""
    pieces = [*special, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    numbers = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(WordPiece(numbers, unk_token=special[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=special[0],
        extra_special_tokens={f"token_{i}": t for i, t in enumerate(special)} | (named or {}),
        model_input_names=["input_ids", "attention_mask"],
        **roles,
    )
    fast.chat_template = template
    return fast


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} "
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)


def save_qwen2_5_vl(folder: Path, seed: int = 0) -> Path:
    """A Qwen2.5-VL of four layers, with M-RoPE and windowed vision."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2VLImageProcessorPil,
    )

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    special += ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = make_tokenizer(special, CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    number = tokenizer.convert_tokens_to_ids
    torch.manual_seed(seed)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "initializer_range": 0.15,
            "max_position_embeddings": 4096,
            "bos_token_id": None,
            "eos_token_id": number("<|im_end|>"),
            "pad_token_id": number("<|endoftext|>"),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 3, 3],
            },
        },
        vision_config={
            "depth": 4,
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_heads": 4,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1, 3],
            "window_size": 56,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": 0.15,
        },
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = number("<|im_end|>")
    model.generation_config.pad_token_id = number("<|endoftext|>")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=140 * 140).save_pretrained(folder)
    return folder
