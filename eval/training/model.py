"""The built-in models before training: a CLIP, and a LLaVA with the same vision tower."""

from __future__ import annotations

import string
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from eval.training.curriculum import vocabulary

IMAGE_SIZE = 128
PATCH_SIZE = 16
WIDTH = 192

#: Length of a CLIP embedding.
PROJECTION = 256

#: Longest text of the CLIP, in tokens.
TEXT_LENGTH = 48

#: `<eos>` must not be token 2, which transformers treats as a mistake of old CLIP configurations.
SPECIAL = ("<pad>", "<bos>", "<unk>", "<eos>", "<image>", "<user>", "<assistant>")

CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for message in messages %}{{ '<' + message['role'] + '>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def make_tokenizer(closed: bool = False) -> PreTrainedTokenizerFast:
    """Whole words for the training vocabulary, single letters for everything else.

    Args:
        closed: whether a text gets begin and end tokens, as CLIP needs.
    """
    marks = list(string.ascii_lowercase + string.digits + string.punctuation)
    pieces = [*SPECIAL, *vocabulary(), *marks, *(f"##{mark}" for mark in marks)]
    numbers = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(WordPiece(numbers, unk_token="<unk>", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>" if closed else "$A",
        special_tokens=[("<bos>", numbers["<bos>"]), ("<eos>", numbers["<eos>"])] if closed else [],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="right" if closed else "left",
        model_max_length=TEXT_LENGTH if closed else 512,
        extra_special_tokens={
            "image_token": "<image>",
            "user_token": "<user>",
            "assistant_token": "<assistant>",
        },
    )


def _image_processor() -> LlavaImageProcessorPil:
    """Pads pictures to a square and resizes them; nothing is cropped."""
    return LlavaImageProcessorPil(
        do_pad=True,
        do_resize=True,
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        do_center_crop=False,
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    )


def make_processor() -> LlavaProcessor:
    """The processor that turns pictures and questions into the LVLM's inputs."""
    return LlavaProcessor(
        image_processor=_image_processor(),
        tokenizer=make_tokenizer(),
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        image_token="<image>",
        num_additional_image_tokens=1,
    )


def make_clip_processor() -> CLIPProcessor:
    """The processor that turns pictures and texts into the CLIP's inputs."""
    return CLIPProcessor(image_processor=_image_processor(), tokenizer=make_tokenizer(closed=True))


def _vision_config() -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": 5,
        "num_attention_heads": 6,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        "projection_dim": PROJECTION,
        "hidden_act": "gelu",
    }


def make_clip(tokenizer: PreTrainedTokenizerFast, attention: str = "eager") -> Any:
    """A CLIP of about 4 million parameters with random weights.

    Args:
        tokenizer: gives the vocabulary.
        attention: eager trains twice as fast as sdpa on a CPU, where the fused backward is slow.
    """
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "max_position_embeddings": TEXT_LENGTH,
        "projection_dim": PROJECTION,
        "hidden_act": "gelu",
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config=text,
        vision_config=_vision_config(),
        projection_dim=PROJECTION,
        attn_implementation=attention,
    )
    return CLIPModel(config)


def make_model(tokenizer: PreTrainedTokenizerFast, attention: str = "eager") -> Any:
    """A LLaVA of about 4 million parameters with random weights.

    Args:
        tokenizer: gives the vocabulary.
        attention: eager trains twice as fast as sdpa on a CPU, where the fused backward is slow.
    """
    vision = CLIPVisionConfig(**_vision_config())
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        tie_word_embeddings=True,
        attn_implementation=attention,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    return model
