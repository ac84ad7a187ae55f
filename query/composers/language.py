"""Composers that search by a caption of the changed picture, written by a language model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from query.composers.base import (
    ComposedQuery,
    ComposerContext,
    ComposerInput,
    WrittenCaption,
    published_weights,
    unit_vector,
)


def changed_caption(query: ComposerInput, context: ComposerContext) -> WrittenCaption:
    """A caption of the wanted picture: the user's own, or else one that the writer writes."""
    if query.modification.caption:
        return WrittenCaption(query.modification.caption)
    return context.writer.changed(query.image(), query.modification.text)


class Cirevl:
    """CIReVL (Karthik et al., ICLR 2024): caption, rewrite the caption, search by it.

    q = N((1 - image) t + image v), with the vectors t of the new caption and v of the picture. The
    weight ``image`` is 0, and 1/2 for GeneCIS's focus_attribute, as in the published code.
    """

    name = "cirevl"
    about = "a caption of the changed picture, written by a language model"

    def compose(self, query: ComposerInput, context: ComposerContext) -> ComposedQuery:
        """See :class:`Composer`."""
        weights = query.weights(self.name, published_weights(self.name, context.base_model), 0, 1)
        caption = changed_caption(query, context)
        interpretation = query.interpret(
            self.name,
            target=caption.text,
            weights=weights if weights["image"] else {},
            notes=caption.notes,
        )
        vector = context.texts([caption.text])[0]
        if weights["image"]:
            text = (1 - weights["image"]) * vector.astype(np.float64)
            vector = unit_vector(text + weights["image"] * query.vector.astype(np.float64))
        return ComposedQuery(vector, interpretation)


class CoTMR:
    """CoTMR (Sun et al., ICCV 2025): reason, then a caption and what must and must not be there.

    Its score is the cosine with the caption, plus a reward for each object that must be there,
    minus a penalty for each that must not. The paper's weights are not published; these are ours,
    and can be changed.
    """

    name = "cotmr"
    about = "a caption of the changed picture, with what must and what must not be there"

    def compose(self, query: ComposerInput, context: ComposerContext) -> ComposedQuery:
        """See :class:`Composer`."""
        given = query.modification
        weights = query.weights(
            self.name, published_weights(self.name, context.base_model), least=0
        )
        if given.caption and given.must is not None and given.must_not is not None:
            caption = WrittenCaption(given.caption)
        else:
            caption = context.writer.reasoned(query.image(), given.text)
            caption = replace(caption, text=given.caption or caption.text)
        interpretation = query.interpret(
            self.name,
            target=caption.text,
            must=caption.must if given.must is None else given.must,
            must_not=caption.must_not if given.must_not is None else given.must_not,
            weights=weights,
            notes=caption.notes,
        )
        return ComposedQuery(context.texts([caption.text])[0], interpretation)
