"""Composers that only calculate: the picture, the words, their sum, and two published ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from indexes.errors import UsageError
from query.composers.base import (
    ComposedQuery,
    Composer,
    ComposerInput,
    Interpretation,
    Tools,
    direction,
    published,
    weights_of,
)
from query.composers.language import target_of


class ImageOnly:
    """The picture alone: what a composed query must do better than."""

    name = "image"
    about = "the picture alone (baseline)"

    def compose(self, asked: ComposerInput, tools: Tools) -> ComposedQuery:
        """See :class:`Composer`."""
        weights = weights_of(self.name, {}, asked.modification.weights)
        interpretation = Interpretation(self.name, asked.modification.text, weights=weights)
        return ComposedQuery(asked.vector, interpretation)


class TextOnly:
    """The words of the change alone, read as if they were a caption."""

    name = "text"
    about = "the words of the change alone (baseline)"

    def compose(self, asked: ComposerInput, tools: Tools) -> ComposedQuery:
        """See :class:`Composer`."""
        weights = weights_of(self.name, {}, asked.modification.weights)
        target = asked.modification.caption or asked.modification.text
        interpretation = Interpretation(
            self.name, asked.modification.text, target=target, weights=weights
        )
        return ComposedQuery(tools.texts([target])[0], interpretation)


class Sum:
    """N((1 - w) v + w t): GeneCIS's image + text row at w = 1/2."""

    name = "sum"
    about = "the picture's vector plus that of the words (baseline)"

    def compose(self, asked: ComposerInput, tools: Tools) -> ComposedQuery:
        """See :class:`Composer`."""
        own = published(self.name, tools.base_model)
        weights = weights_of(self.name, own, asked.modification.weights, 0.0, 1.0)
        target = asked.modification.caption or asked.modification.text
        text = tools.texts([target])[0].astype(np.float64)
        vector = direction((1 - weights["text"]) * asked.vector + weights["text"] * text)
        interpretation = Interpretation(
            self.name, asked.modification.text, target=target, weights=weights
        )
        return ComposedQuery(vector, interpretation)


class Pdv:
    """Prompt directional vectors (Tursun et al., WACV 2026, arXiv 2502.07215).

    With the picture's vector v, the vectors t0 and t1 of its caption before and after the change,
    and d = t1 - t0:

        q = N((1 - beta) N(v + alpha_i d) + beta N(t0 + alpha_t d))

    An alpha of 0 leaves the change out, 1 makes it, more exaggerates it and less inverts it.
    """

    name = "pdv"
    about = "the picture and its caption, both moved by what the change does to the caption"

    def compose(self, asked: ComposerInput, tools: Tools) -> ComposedQuery:
        """See :class:`Composer`."""
        own = published(self.name, tools.base_model)
        weights = weights_of(self.name, own, asked.modification.weights)
        if not 0 <= weights["beta"] <= 1:
            raise UsageError(f"--weight beta is {weights['beta']:g}; give 0 to 1.")
        written = target_of(asked, tools)
        before = tools.writer.caption(asked.image())
        old, new = tools.texts([before, written.text]).astype(np.float64)
        change = new - old
        seen = direction(asked.vector + weights["alpha_i"] * change).astype(np.float64)
        said = direction(old + weights["alpha_t"] * change).astype(np.float64)
        vector = direction((1 - weights["beta"]) * seen + weights["beta"] * said)
        interpretation = Interpretation(
            self.name,
            asked.modification.text,
            before,
            written.text,
            weights=weights,
            notes=tuple(note for note in (written.note,) if note),
        )
        return ComposedQuery(vector, interpretation)


class WeiMo:
    """WeiMoCIR (Wu et al., TAAI 2024, arXiv 2409.04918).

    q = N((1 - alpha) v + alpha t), compared with the pictures of the gallery and with the captions
    that the gallery keeps of them: (1 - beta) q . v_g + beta q . c_g. As in the paper, and unlike
    its code, q holds the picture's own vector and not that of its caption.
    """

    name = "weimo"
    about = "the picture plus the words, compared with the gallery's pictures and captions"

    def compose(self, asked: ComposerInput, tools: Tools) -> ComposedQuery:
        """See :class:`Composer`."""
        own = published(self.name, tools.base_model)
        weights = weights_of(self.name, own, asked.modification.weights, 0.0, 1.0)
        if not tools.has_captions and weights["beta"]:
            raise UsageError(
                "The gallery keeps no captions of its pictures, which weimo compares with; write "
                "them with `cies ingest --method captions`, or give --weight beta=0."
            )
        target = asked.modification.caption or asked.modification.text
        text = tools.texts([target])[0].astype(np.float64)
        vector = direction((1 - weights["alpha"]) * asked.vector + weights["alpha"] * text)
        interpretation = Interpretation(
            self.name, asked.modification.text, target=target, weights=weights
        )
        return ComposedQuery(vector, interpretation, weights["beta"])


def with_objects(
    composed: ComposedQuery, tools: Tools, must: tuple[str, ...], must_not: tuple[str, ...]
) -> ComposedQuery:
    """Add what must be there and take off what must not, to any composer's vector.

    The score becomes q . v + w_must mean_o(o . v) - w_not mean_o(o . v), which is one vector.

    Args:
        composed: its weights ``must`` and ``must_not`` are taken, else CoTMR's own.
        tools: read the objects.
        must: objects.
        must_not: objects.
    """
    if not must and not must_not:
        return composed
    weights: Mapping[str, float] = {
        **published("cotmr", tools.base_model),
        **composed.interpretation.weights,
    }
    total = composed.vector.astype(np.float64)
    if must:
        total = total + weights["must"] * tools.texts(must).astype(np.float64).mean(0)
    if must_not:
        total = total - weights["must_not"] * tools.texts(must_not).astype(np.float64).mean(0)
    interpretation = Interpretation(
        **{**vars(composed.interpretation), "must": must, "must_not": must_not, "weights": weights}
    )
    return ComposedQuery(direction(total), interpretation, composed.captions)


ARITHMETIC: tuple[type[Composer], ...] = (ImageOnly, TextOnly, Sum, Pdv, WeiMo)
