"""Tiny random-weight embedders in the published layouts, with tokenizers that keep every character.

The tokenizer has one token for each byte and one for each special token, so that two prompts have
the same tokens only if they have the same characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from support.tiny_families import build
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

#: Further special tokens by model type.
_MORE = {
    "qwen2_vl": ("<emb>",),
    "qwen3_vl": ("yes", "no"),
    "llava_next": (
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<instruct>",
        "<query>",
    ),
    "mllama": (),
}

#: Names of tokens in the published models, in place of those of the tiny ones.
_NAMES = {"mllama": {"<s>": "<|begin_of_text|>", "</s>": "<|eot_id|>"}}


def byte_tokenizer(
    special: Sequence[str], names: Mapping[str, str], named: dict[str, str] | None, **roles: str
) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and special tokens; a start token is put before every text."""
    special = [names.get(one, one) for one in special]
    roles = {role: names.get(token, token) for role, token in roles.items()}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({piece: n for n, piece in enumerate([*special, *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if "bos_token" in roles:
        bos = roles["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, special.index(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=special[0],
        extra_special_tokens={f"token_{i}": t for i, t in enumerate(special)} | (named or {}),
        model_input_names=["input_ids", "attention_mask"],
        **roles,
    )


@contextmanager
def _byte_tokenizers(kind: str) -> Iterator[None]:
    def make(
        special: list[str], template: str, named: dict[str, str] | None = None, **roles: str
    ) -> PreTrainedTokenizerFast:
        tokens = [*special, *_MORE[kind]]
        return byte_tokenizer(tokens, _NAMES.get(kind, {}), named, **roles)

    grids = patch("support.tiny_grids.make_tokenizer", make)
    with grids, patch("support.tiny_parts.make_tokenizer", make):
        yield


def build_embedder(kind: str, folder: Path) -> Path:
    """A tiny model of a type: qwen2_vl, qwen3_vl, llava_next or mllama. It has no chat template.

    The files are laid out as published: config.json names code in the folder, which must not run,
    and a LLaVA's processor is described by preprocessor_config.json alone, as in 2024.
    """
    with _byte_tokenizers(kind):
        build(kind, folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {
        name: f"modeling_published.{name}" for name in ("AutoConfig", "AutoModel")
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_published.py").write_text("raise RuntimeError('this code must not run')\n")
    described = folder / "processor_config.json"
    if kind == "llava_next":
        pictures = json.loads(described.read_text())["image_processor"]
        described.unlink()
        pictures["processor_class"] = "LlavaNextProcessor"
        (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    return folder
