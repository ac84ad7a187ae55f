"""Composers that are formulas: the picture, the words, their sum, PDV and WeiMoCIR."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from indexes.errors import UsageError
from query.composers.base import (
    ComposedQuery,
    ComposerContext,
    ComposerInput,
    published_weights,
    unit_vector,
)
from query.composers.language import changed_caption


class ImageOnly:
    """The picture alone: what a composed query must do better than."""

    name = "image"
    about = "the picture alone (baseline)"

    def compose(self, query: ComposerInput, context: ComposerContext) -> ComposedQuery:
        """See :class:`Composer`."""
        weights = query.weights(self.name)
        return ComposedQuery(query.vector, query.interpret(self.name, weights=weights))


class TextOnly:
    """The words of the change alone, embedded as if they were a caption."""

    name = "text"
    about = "the words of the change alone (baseline)"

    def compose(self, query: ComposerInput, context: ComposerContext) -> ComposedQuery:
        """See :class:`Composer`."""
        interpretation = query.interpret(
            self.name, target=query.text, weights=query.weights(self.name)
        )
        return ComposedQuery(context.texts([query.text])[0], interpretation)


class Sum:
    """N((1 - w) v + w t): GeneCIS's image + text row at w = 1/2."""

    name = "sum"
    about = "the picture's vector plus that of the words (baseline)"

    def compose(self, query: ComposerInput, context: ComposerContext) -> ComposedQuery:
        """See :class:`Composer`."""
        weights = query.weights(self.name, published_weights(self.name, context.base_model), 0, 1)
        text = context.texts([query.text])[0].astype(np.float64)
        vector = unit_vector((1 - weights["text"]) * query.vector + weights["text"] * text)
        interpretation = query.interpret(self.name, target=query.text, weights=weights)
        return ComposedQuery(vector, interpretation)


class SumRaw:
    """N(x + y) of the features x of the picture and y of the words, before they are scaled.

    BGE-VL (MegaPairs, Zhou et al., ACL 2025, arXiv 2412.14475) was trained with this sum, in which
    the longer of the two counts for more.
    """

    name = "sum-raw"
    about = "the sum of both features before they are scaled, as BGE-VL was trained"

    def compose(self, query: ComposerInput, context: ComposerContext) -> ComposedQuery:
        """See :class:`Composer`."""
        weights = query.weights(self.name)
        stored = query.norm()
        norm = context.norm(query.image()) if stored is None else stored
        text = context.features([query.text])[0].astype(np.float64)
        vector = unit_vector(norm * query.vector.astype(np.float64) + text)
        interpretation = query.interpret(self.name, target=query.text, weights=weights)
        return ComposedQuery(vector, interpretation)


class Pdv:
    """Prompt directional vectors (Tursun et al., WACV 2026, arXiv 2502.07215).

    With the picture's vector v, the vectors t0 and t1 of its caption before and after the change,
    and d = t1 - t0:

        q = N((1 - beta) N(v + alpha_i d) + beta N(t0 + alpha_t d))

    An alpha of 0 leaves the change out, 1 applies it, a greater one exaggerates it and a negative
    one inverts it.
    """

    name = "pdv"
    about = "the picture and its caption, both moved by what the change does to the caption"

    def compose(self, query: ComposerInput, context: ComposerContext) -> ComposedQuery:
        """See :class:`Composer`."""
        weights = query.weights(self.name, published_weights(self.name, context.base_model))
        if not 0 <= weights["beta"] <= 1:
            raise UsageError(f"--weight beta is {weights['beta']:g}; give 0 to 1.")
        after = changed_caption(query, context)
        before = context.writer.caption(query.image())
        old, new = context.texts([before, after.text]).astype(np.float64)
        change = new - old
        image = unit_vector(query.vector + weights["alpha_i"] * change).astype(np.float64)
        text = unit_vector(old + weights["alpha_t"] * change).astype(np.float64)
        vector = unit_vector((1 - weights["beta"]) * image + weights["beta"] * text)
        interpretation = query.interpret(
            self.name, caption=before, target=after.text, weights=weights, notes=after.notes
        )
        return ComposedQuery(vector, interpretation)


class WeiMo:
    """WeiMoCIR (Wu et al., TAAI 2024, arXiv 2409.04918).

    q = N((1 - alpha) v + alpha t), compared with the gallery's pictures v_g and with the captions
    c_g that the gallery stores of them: (1 - beta) q . v_g + beta q . c_g. Here v and t are the
    features before they are scaled to unit length, as in the published code; N scales their sum.
    As in the paper, and unlike its code, q is made with the picture's own vector and not with that
    of its caption.
    """

    name = "weimo"
    about = "the picture plus the words, compared with the gallery's pictures and captions"

    def compose(self, query: ComposerInput, context: ComposerContext) -> ComposedQuery:
        """See :class:`Composer`."""
        weights = query.weights(self.name, published_weights(self.name, context.base_model), 0, 1)
        if not context.has_captions and weights["beta"]:
            raise UsageError(
                "The gallery keeps no captions of its pictures, which weimo compares with; write "
                "them with `cies ingest --method captions`, or give --weight beta=0."
            )
        norm = query.norm()
        notes: tuple[str, ...] = ()
        if norm is None:
            picture, words = query.vector, context.texts([query.text])[0]
            notes = (
                f"{context.base_model} gives unit vectors only, so that picture and words are "
                "added as such, which is not WeiMoCIR's own sum.",
            )
        else:
            picture, words = norm * query.vector, context.features([query.text])[0]
        alpha = weights["alpha"]
        vector = unit_vector(
            (1 - alpha) * picture.astype(np.float64) + alpha * words.astype(np.float64)
        )
        interpretation = query.interpret(self.name, target=query.text, weights=weights, notes=notes)
        return ComposedQuery(vector, interpretation, weights["beta"])


def add_objects(
    composed: ComposedQuery,
    context: ComposerContext,
    must: tuple[str, ...],
    must_not: tuple[str, ...],
) -> ComposedQuery:
    """Add objects that must be there to a composer's vector, and subtract those that must not.

    The score becomes q . v + w_must mean_o(o . v) - w_not mean_o(o . v), which is one vector.

    Args:
        composed: its weights ``must`` and ``must_not`` are used, or else CoTMR's.
        context: embeds the objects.
        must: objects that must be there.
        must_not: objects that must not be there.
    """
    if not must and not must_not:
        return composed
    weights = {
        **published_weights("cotmr", context.base_model),
        **composed.interpretation.weights,
    }
    total = composed.vector.astype(np.float64)
    if must:
        total = total + weights["must"] * context.texts(must).astype(np.float64).mean(0)
    if must_not:
        total = total - weights["must_not"] * context.texts(must_not).astype(np.float64).mean(0)
    interpretation = replace(composed.interpretation, must=must, must_not=must_not, weights=weights)
    return ComposedQuery(unit_vector(total), interpretation, composed.captions)
