"""Which families of models share one pass between all conditions, and why the others do not.

A family is a model type of transformers. It is *packed* only if
``tests/ingest/encoders/test_families.py`` shows, on a small model of that family, that the packed
pass computes the same as plain passes; every other family runs plain, which is exact and slower.
This module imports nothing heavy, so the table can be printed at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class Family:
    """How a family of models runs.

    Attributes:
        mode: ``packed``, all conditions in one pass, or ``plain``, one pass for each.
        reason: one sentence for people.
        continues: whether a packed family runs the shared words once and the conditions' own
            words as a batch after them, because no mask can part the conditions in it.
    """

    mode: Literal["packed", "plain"]
    reason: str
    continues: bool = False


@dataclass(frozen=True)
class TypeState:
    """What becomes of a model of a type that transformers registers for pictures and texts.

    Attributes:
        name: the model type.
        state: ``packed`` or ``plain`` as in :class:`Family`, ``needs`` and a library, or
            ``refused``.
        reason: one sentence for people.
    """

    name: str
    state: str
    reason: str


_CAUSAL = "Text attention is causal, so a tree mask and the plain positions suffice."
_MROPE = "Text attention is causal; the picture's multi-axis positions are kept in every branch."
_RECURRENT = (
    "Some layers are recurrent, so no mask can part the conditions; they continue copies of the "
    "state after the shared words."
)
_LAYERED = (
    "Layers differ in what they see of the prompt; the conditions continue copies of the state "
    "after the shared words, under the model's own masks."
)

#: Model type to family. All other types run plain.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "aya_vision": Family("packed", _CAUSAL),
        "cohere2_vision": Family("packed", _CAUSAL),
        "deepseek_vl": Family("packed", _CAUSAL),
        "ernie4_5_vl_moe": Family(
            "packed",
            "Picture tokens have experts of their own, which run once; the conditions continue "
            "copies of the state after the shared words.",
            continues=True,
        ),
        "gemma3": Family(
            "packed",
            "Picture tokens see each other in both directions and some layers have a sliding "
            "window; the tree masks contain both.",
        ),
        "gemma4": Family("packed", _LAYERED, continues=True),
        "glm46v": Family("packed", _MROPE),
        "glm4v": Family("packed", _MROPE),
        "glm4v_moe": Family("packed", _MROPE),
        "idefics2": Family("packed", _CAUSAL),
        "idefics3": Family("packed", _CAUSAL),
        "internvl": Family("packed", _CAUSAL),
        "janus": Family("packed", _CAUSAL),
        "kimi_k25": Family("packed", _CAUSAL),
        "lfm2_vl": Family("packed", _RECURRENT, continues=True),
        "lighton_ocr": Family("packed", _CAUSAL),
        "llama4": Family("packed", _LAYERED, continues=True),
        "llava": Family("packed", _CAUSAL),
        "llava_next": Family("packed", _CAUSAL),
        "llava_next_video": Family("packed", _CAUSAL),
        "llava_onevision": Family("packed", _CAUSAL),
        "minicpmv4_6": Family("packed", _RECURRENT, continues=True),
        "mistral3": Family("packed", _CAUSAL),
        "mllama": Family(
            "packed",
            "Every branch sees the whole picture through the cross-attention layers; "
            "only self-attention needs the tree mask.",
        ),
        "ovis2": Family("packed", _CAUSAL),
        "paddleocr_vl": Family("packed", _MROPE),
        "paligemma": Family(
            "plain",
            "The prompt is read in both directions, so the shared words already depend on the "
            "condition and cannot be shared.",
        ),
        "qwen2_5_vl": Family("packed", _MROPE),
        "qwen2_vl": Family("packed", _MROPE),
        "qwen3_5": Family("packed", _RECURRENT, continues=True),
        "qwen3_5_moe": Family("packed", _RECURRENT, continues=True),
        "qwen3_vl": Family("packed", _MROPE),
        "qwen3_vl_moe": Family("packed", _MROPE),
        "smolvlm": Family("packed", _CAUSAL),
        "video_llama_3": Family("packed", _LAYERED, continues=True),
        "vipllava": Family("packed", _CAUSAL),
    }
)

#: Text models of packed families: they have ordinary causal attention in every layer. Families
#: such as LLaVA take any text model, recurrent ones too, in which branches would mix.
ATTENTION_ONLY_TEXTS = frozenset(
    {
        "cohere2",
        "deepseek_v3",
        "gemma3_text",
        "glm4v_moe_text",
        "glm4v_text",
        "granite",
        "llama",
        "ministral3",
        "mistral",
        "mllama_text_model",
        "paddleocr_vl_text",
        "qwen2",
        "qwen2_5_vl_text",
        "qwen2_vl_text",
        "qwen3",
        "qwen3_vl_moe_text",
        "qwen3_vl_text",
    }
)

#: Text models of packed families whose attention a mask does not fit, and which continue.
CONTINUED_TEXTS = frozenset({"gpt_oss"})

#: The family of a model type that is not in the table.
UNKNOWN = Family("plain", "Not tested yet, so every condition gets a pass of its own.")

_OTHER_TEXT = Family("plain", "Its text model is not among those tested with a packed pass.")
_OTHER_ATTENTION = Family("plain", "Its attention implementation does not support a tree mask.")


def family(model_type: str, text_type: str | None = None, attention: str | None = None) -> Family:
    """How a model runs; an unknown one runs plain.

    Args:
        model_type: the type of the whole model, such as ``llava``.
        text_type: the type of its text model, such as ``qwen2``; ``None`` for the usual one.
        attention: how its text model computes attention; ``None`` for ``sdpa``, the default at
            loading. Others accept the boolean mask without an error and apply it wrongly.
    """
    found = FAMILIES.get(model_type, UNKNOWN)
    if found.mode == "packed" and text_type in CONTINUED_TEXTS:
        return Family("packed", _LAYERED, continues=True)
    if found.continues:
        return found
    if found.mode == "packed" and text_type is not None and text_type not in ATTENTION_ONLY_TEXTS:
        return _OTHER_TEXT
    if found.mode == "packed" and attention not in (None, "sdpa"):
        return _OTHER_ATTENTION
    return found


@cache
def type_states() -> tuple[TypeState, ...]:
    """All registered model types, by name, as ``make families`` measured them."""
    text = resources.files("configs").joinpath("families.json").read_text(encoding="utf-8")
    entries = {entry["type"]: entry for entry in json.loads(text)["families"]}
    return tuple(
        TypeState(name, FAMILIES[name].mode, FAMILIES[name].reason)
        if name in FAMILIES
        else TypeState(name, entry["state"], entry["reason"])
        for name, entry in sorted(entries.items())
    )
