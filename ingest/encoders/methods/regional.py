"""Regional: an image as a whole and in four corners, so that small things are found too.

SORCE (arXiv 2505.24441): the prompt is asked five times, about the whole image and about each of
its four corners; a text is compared with all five, and the highest cosine counts. Here the five
are asked of one image in one pass, and stored as one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from indexes.errors import UsageError
from indexes.search.multi_vector import joined
from ingest.conditions import PromptTemplate
from ingest.encoders.base import Embeddings, EncoderSpec
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.vlm.processors import Prepared

#: The name of the whole image in a prompt, and the names that replace it for the corners.
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
    """DIOR, asked about the whole image and each of its corners.

    A row holds five unit vectors, the whole image's first, each scaled by one over the square
    root of five, so that the row is a unit vector too. Such rows are compared by
    :func:`indexes.search.multi_vector.best_of_parts`.
    """

    METHOD = "regional"

    @classmethod
    def expand_template(cls, template: PromptTemplate) -> tuple[PromptTemplate, ...]:
        """See :class:`DiorEncoder`.

        Raises:
            UsageError: if the template does not name the whole image exactly once.
        """
        forms = [form for form in (template.conditional, template.unconditional) if form]
        if any(form.count(WHOLE) != 1 for form in forms):
            raise UsageError(
                f"The prompt '{template.name}' must say '{WHOLE}' once, so that the method "
                f"{cls.METHOD} can put a corner in its place; write it so, or leave --prompt out."
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
        """See :class:`ingest.encoders.base.BaseEncoder`; the length of a row of five vectors."""
        return PARTS * self.lvlm.dimension

    @property
    def description(self) -> str:
        """See :class:`ingest.encoders.base.BaseEncoder`."""
        return f"{super().description}; the whole picture and its four corners"

    def _embed_prepared(
        self,
        prepared: Iterable[Prepared],
        shape: tuple[int, int],
        words: bool,
        questions: int,
        layers: Sequence[int],
    ) -> list[Embeddings]:
        asked = (shape[0], shape[1] * questions)
        found = self._states(prepared, asked, words, layers)
        return [self._joined(states, shape, questions) for states in found]

    def _joined(self, states: Embeddings, shape: tuple[int, int], questions: int) -> Embeddings:
        """The states of each picture's questions under a condition as one row."""
        parts = states.vectors.reshape(*shape, questions, self.lvlm.dimension)
        if questions == 1:  # a text has no corners: every part is the whole text
            parts = np.repeat(parts, PARTS, axis=2)
        whole_words = [row[::questions] for row in states.words]
        return Embeddings(joined(parts), whole_words, states.word_probabilities[:, ::questions])
