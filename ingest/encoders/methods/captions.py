"""Captions: an LVLM's sentence about an image, embedded by the text tower of a CLIP.

Stored together with the base vectors of the same CLIP, they let a query be compared with an
image's text as well (WeiMoCIR, :mod:`query.composers.arithmetic`). The word of an image is its
caption.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from ingest.conditions import PLACEHOLDER, PromptTemplate
from ingest.encoders.methods.generative import GenerativeEncoder
from ingest.encoders.models.find import ModelSource
from ingest.encoders.models.loading import LoadedModel
from ingest.encoders.options import DEFAULT_OPTIONS, DEFAULT_PROMPT, EncoderOptions


class CaptionsEncoder(GenerativeEncoder):
    """The LVLM's caption, through the text tower of a CLIP; the same under every condition."""

    METHOD = "captions"
    ANSWER_TOKENS = 48

    def __init__(
        self,
        source: ModelSource,
        loaded: LoadedModel,
        prompt: str = DEFAULT_PROMPT,
        force: bool = False,
        options: EncoderOptions = DEFAULT_OPTIONS,
        copies: Sequence[LoadedModel] = (),
        stored: Mapping[str, Any] | None = None,
    ):
        """See :class:`GenerativeEncoder`; the question is read from ``configs/compose.toml``."""
        super().__init__(source, loaded, prompt, force, options, copies, stored)
        text = resources.files("configs").joinpath("compose.toml").read_text(encoding="utf-8")
        kind = "general" if source.declared_conditions() is None else "schooled"
        question = tomllib.loads(text)["prompts"][kind]["describe"]
        self._set_template(PromptTemplate(prompt, f"{question} {PLACEHOLDER}", question))

    @property
    def conditional(self) -> bool:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        return False
