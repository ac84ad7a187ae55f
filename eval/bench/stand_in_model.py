"""LVLMs of real size with random weights, so that speed can be measured without a download.

They have the architecture of Qwen2.5-VL, small for a CPU (136 million parameters) or as published:
a windowed vision tower, M-RoPE, grouped keys. A picture of 448 pixels has 256 tokens. The weights
are drawn wide enough that attention matters, so that the agreement of two implementations is a
real test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Sequence

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
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.models.find import ModelSource
from ingest.encoders.models.loading import LoadedModel
from ingest.encoders.vlm.assembled_processor import AssembledProcessor

VOCABULARY = 12_000
#: Side of a measured picture in pixels, and its number of tokens.
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
    """A tokenizer with one token a word, for the words of the prompts."""
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


@dataclass(frozen=True)
class LvlmShape:
    """Sizes of a Qwen2.5-VL: of its text model, then of its vision tower."""

    width: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    rotary: tuple[int, int, int]
    tied: bool
    vision_layers: int
    vision_width: int
    vision_inner: int
    vision_heads: int
    vision_whole: tuple[int, ...]


#: By name: a small one for CPUs, and the published 3B and 7B (from their config.json).
SHAPES = {
    "136m": LvlmShape(768, 3072, 12, 12, 2, VOCABULARY, (8, 12, 12), True, 6, 512, 1376, 8, (2, 5)),
    "3b": LvlmShape(
        2048, 11008, 36, 16, 2, 151_936, (16, 24, 24), True, 32, 1280, 3420, 16, (7, 15, 23, 31)
    ),
    "7b": LvlmShape(
        3584, 18944, 28, 28, 4, 152_064, (16, 24, 24), False, 32, 1280, 3420, 16, (7, 15, 23, 31)
    ),
}


def make_config(number: Callable[[str], int], shape: LvlmShape) -> Qwen2_5_VLConfig:
    """The configuration of a shape, with the special tokens of the tokenizer."""
    # Larger models get smaller weights, since their states would overflow bfloat16's precision.
    spread = 0.06 * (768 / shape.width) ** 0.5
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.width,
            "intermediate_size": shape.inner,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.key_heads,
            "initializer_range": spread,
            "max_position_embeddings": 32_768,
            "bos_token_id": None,
            "eos_token_id": number("<|im_end|>"),
            "pad_token_id": number("<|endoftext|>"),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": list(shape.rotary),
            },
        },
        vision_config={
            "depth": shape.vision_layers,
            "hidden_size": shape.vision_width,
            "intermediate_size": shape.vision_inner,
            "num_heads": shape.vision_heads,
            "out_hidden_size": shape.width,
            "fullatt_block_indexes": list(shape.vision_whole),
            "window_size": 112,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": spread,
        },
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        tie_word_embeddings=shape.tied,
    )


def make_stand_in(
    conditions: Sequence[Condition],
    dtype: str = "float32",
    device: str = "cpu",
    shape: LvlmShape = SHAPES["136m"],
) -> DiorEncoder:
    """Make the model in memory, directly on its device.

    Args:
        conditions: the conditions that will be asked, for the tokenizer's words.
        dtype: ``float32`` or ``bfloat16``.
        device: the device to run on.
        shape: its sizes.
    """
    torch.manual_seed(0)
    tokenizer = _tokenizer(conditions)
    number = tokenizer.convert_tokens_to_ids
    config = make_config(number, shape)
    config._attn_implementation = "sdpa"
    usual = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = Qwen2_5_VLForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(usual)
    model.generation_config.eos_token_id = number("<|im_end|>")
    model.generation_config.pad_token_id = number("<|endoftext|>")
    processor = AssembledProcessor(config, Qwen2VLImageProcessorPil(), tokenizer)
    millions = round(sum(part.numel() for part in model.parameters()) / 1e6)
    name = f"stand-in-{millions}m"
    source = ModelSource(name, name, None, local=False)
    return DiorEncoder(source, LoadedModel(model, processor, "random", dtype))
