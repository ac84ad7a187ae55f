"""Captions: what an LVLM says of a picture in a sentence, embedded by the text side of a CLIP.

Kept beside the base vectors of the same CLIP, they let a query meet a picture by its words as well
(WeiMoCIR, :mod:`query.composers.arithmetic`). Each picture's word is its caption.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources

from ingest.conditions import PLACE, PromptTemplate
from ingest.encoders.methods.generative import GenerativeEncoder
from ingest.encoders.models.find import LoadedModel, ModelSource
from ingest.encoders.options import DiorOptions

_DEFAULT = DiorOptions()


class CaptionsEncoder(GenerativeEncoder):
    """The LVLM's caption, through the text side of a CLIP; the same under every condition."""

    METHOD = "captions"
    ANSWER_TOKENS = 48

    def __init__(
        self,
        source: ModelSource,
        loaded: LoadedModel,
        prompt: str = "describe",
        force: bool = False,
        options: DiorOptions = _DEFAULT,
        copies: Sequence[LoadedModel] = (),
    ):
        """See :class:`GenerativeEncoder`; ``prompt`` may be ``describe`` alone."""
        super().__init__(source, loaded, prompt, force, options, copies)
        text = resources.files("configs").joinpath("compose.toml").read_text(encoding="utf-8")
        kind = "general" if source.trained_on() is None else "schooled"
        asked = tomllib.loads(text)["prompts"][kind]["describe"]
        self._template = PromptTemplate(prompt, f"{asked} {PLACE}", asked)
        self._ways = self.ways(self._template)

    @property
    def conditional(self) -> bool:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        return False
