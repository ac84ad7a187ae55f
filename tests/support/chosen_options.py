"""Helpers shared by tests."""

from __future__ import annotations

from typing import Any

from ingest.conditions import Condition
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderOptions


def chosen(encoder: DiorEncoder, **options: Any) -> DiorEncoder:
    """The same model with other options."""
    return DiorEncoder(encoder._source, encoder._loaded, options=EncoderOptions(**options))


def tail_of(encoder: DiorEncoder, ids: list[int], condition: Condition) -> int:
    """Tokens from the condition's first on, found by its words alone."""
    tokenizer = encoder._loaded.processor.tokenizer
    words = condition.phrase or "Describe"
    own = tokenizer(words, add_special_tokens=False)["input_ids"]
    starts = [i for i in range(len(ids)) if ids[i : i + len(own)] == own]
    return len(ids) - starts[-1]
