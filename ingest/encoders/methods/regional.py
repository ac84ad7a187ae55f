"""Regional: a picture as a whole and in four parts, so that small things are found too.

SORCE (arXiv 2505.24441): the prompt is put five times, about the whole picture and about each of
its four corners; a text is compared with all five, and the best cosine counts. Here the five are
asked of one picture in one pass, and kept as one row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from indexes.errors import UsageError
from indexes.search.parts import joined
from ingest.conditions import PromptTemplate
from ingest.encoders.base import Embeddings, EncoderSpec
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.vlm.processors import Prepared

#: What a prompt says of the picture as a whole, and of its corners instead.
WHOLE = "this image"
CORNERS = (
    "the left-upper corner of this image",
    "the left-lower corner of this image",
    "the right-upper corner of this image",
    "the right-lower corner of this image",
)

#: Vectors in a row.
PARTS = 1 + len(CORNERS)


class RegionalEncoder(DiorEncoder):
    """DIOR, asked about the whole picture and each of its corners.

    A row holds five unit vectors, the whole picture's first, each scaled by one over the square
    root of five, so that the row is a unit vector too. :func:`indexes.search.parts.best_of_parts`
    compares.
    """

    METHOD = "regional"

    @classmethod
    def ways(cls, template: PromptTemplate) -> tuple[PromptTemplate, ...]:
        """See :class:`DiorEncoder`.

        Raises:
            UsageError: if the template does not speak of the picture once.
        """
        forms = [form for form in (template.conditional, template.unconditional) if form]
        if any(form.count(WHOLE) != 1 for form in forms):
            raise UsageError(
                f"The prompt '{template.name}' must say '{WHOLE}' once, so that the method "
                f"{cls.METHOD} can put a part of it there; write it so, or leave --prompt out."
            )
        corners = [
            replace(
                template,
                conditional=template.conditional.replace(WHOLE, corner),
                unconditional=template.unconditional.replace(WHOLE, corner),
            )
            for corner in CORNERS
        ]
        return (template, *corners)

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        spec = super().spec
        more: dict[str, Any] = {"parts": PARTS, "corners": list(CORNERS)}
        return replace(spec, settings={**spec.settings, **more})

    @property
    def dimension(self) -> int:
        """See :class:`ingest.encoders.base.BaseEncoder`: of a row, all parts together."""
        return PARTS * self.lvlm.dimension

    @property
    def description(self) -> str:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        return f"{super().description}; the whole picture and its four corners"

    def _run(
        self, prepared: Iterable[Prepared], shape: tuple[int, int], words: bool, ways: int
    ) -> Embeddings:
        asked = self._asked(prepared, (shape[0], shape[1] * ways), words)
        each = asked.vectors.reshape(*shape, ways, -1)
        if ways == 1:  # a text, which has no corners: every part is the whole
            each = np.repeat(each, PARTS, axis=2)
        said = [row[::ways] for row in asked.words]
        return Embeddings(joined(each), said, asked.word_probabilities[:, ::ways])
