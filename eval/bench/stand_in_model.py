"""A random-weight LVLM of honest size, so that speed can be measured with no network.

The shape of Qwen2.5-VL in small: 136 million parameters, a windowed vision tower, M-RoPE, grouped
keys; a picture of 448 pixels is 256 tokens of it. Weights are drawn wide enough that attention
matters, so agreement between ways of computing is a real test.
"""

from __future__ import annotations

from typing import Any, Sequence

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from ingest.conditions import Condition, prompt_templates
from ingest.encoders.composed import ComposedProcessor
from ingest.encoders.dior import DiorEncoder
from ingest.encoders.models import LoadedModel, ModelSource

NAME = "stand-in-136m"
VOCABULARY = 12_000
#: Side of the pictures measured, in pixels, and the tokens one of them is.
PICTURE_SIDE, PICTURE_TOKENS = 448, 256

_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_TEMPLATE = (
    "<|im_start|>system You are a helpful assistant . <|im_end|> "
    "{% for m in messages %}<|im_start|>{{ m['role'] }} "
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)


def _tokenizer(conditions: Sequence[Condition]) -> PreTrainedTokenizerFast:
    """A token a word, for just the words that are asked."""
    splitter = pre_tokenizers.BertPreTokenizer()
    text = " ".join(
        [
            "You are a helpful assistant . user system",
            *(template.text(c) for template in prompt_templates().values() for c in conditions),
        ]
    )
    words = [word for word, _ in splitter.pre_tokenize_str(text)]
    numbers = {word: i for i, word in enumerate(dict.fromkeys([*_SPECIAL, *words]))}
    tokenizer = Tokenizer(WordLevel(numbers, unk_token=_SPECIAL[0]))
    tokenizer.pre_tokenizer = splitter
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=_SPECIAL[0],
        pad_token=_SPECIAL[0],
        eos_token="<|im_end|>",
        extra_special_tokens={f"token_{i}": token for i, token in enumerate(_SPECIAL)},
    )
    fast.chat_template = _TEMPLATE
    return fast


def _config(number: Any, layers: int) -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": layers,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "initializer_range": 0.06,
            "max_position_embeddings": 32_768,
            "bos_token_id": None,
            "eos_token_id": number("<|im_end|>"),
            "pad_token_id": number("<|endoftext|>"),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [8, 12, 12],
            },
        },
        vision_config={
            "depth": 6,
            "hidden_size": 512,
            "intermediate_size": 1376,
            "num_heads": 8,
            "out_hidden_size": 768,
            "fullatt_block_indexes": [2, 5],
            "window_size": 112,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": 0.06,
        },
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def make_stand_in(
    conditions: Sequence[Condition], dtype: str = "float32", device: str = "cpu", layers: int = 12
) -> DiorEncoder:
    """Make the model in memory.

    Args:
        conditions: those that will be asked, for the tokenizer's words.
        dtype: ``float32`` or ``bfloat16``.
        device: where it runs.
        layers: of the text model.
    """
    torch.manual_seed(0)
    tokenizer = _tokenizer(conditions)
    number = tokenizer.convert_tokens_to_ids
    config = _config(number, layers)
    config._attn_implementation = "sdpa"
    model = Qwen2_5_VLForConditionalGeneration(config)
    model = model.to(device=device, dtype=getattr(torch, dtype)).eval()
    model.generation_config.eos_token_id = number("<|im_end|>")
    model.generation_config.pad_token_id = number("<|endoftext|>")
    processor = ComposedProcessor(config, Qwen2VLImageProcessorPil(), tokenizer)
    source = ModelSource(NAME, NAME, None, local=False)
    return DiorEncoder(source, LoadedModel(model, processor, "random", dtype))
