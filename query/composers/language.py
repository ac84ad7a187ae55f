"""Composers with language in the loop: what the change makes of the picture, in words."""

from __future__ import annotations

from dataclasses import replace

from query.composers.base import (
    ComposedQuery,
    Composer,
    ComposerInput,
    Interpretation,
    Tools,
    WrittenCaption,
    published,
    weights_of,
)


def target_of(asked: ComposerInput, tools: Tools) -> WrittenCaption:
    """What the pictures looked for show: as the user says, else as the writer does."""
    given = asked.modification.caption
    return (
        WrittenCaption(given)
        if given
        else tools.writer.changed(asked.image(), asked.modification.text)
    )


class Cirevl:
    """CIReVL (Karthik et al., ICLR 2024): caption, rewrite the caption, search by it."""

    name = "cirevl"
    about = "a caption of the changed picture, written by a language model"

    def compose(self, asked: ComposerInput, tools: Tools) -> ComposedQuery:
        """See :class:`Composer`."""
        weights = weights_of(self.name, {}, asked.modification.weights)
        written = target_of(asked, tools)
        interpretation = Interpretation(
            self.name,
            asked.modification.text,
            target=written.text,
            weights=weights,
            notes=tuple(note for note in (written.note,) if note),
        )
        return ComposedQuery(tools.texts([written.text])[0], interpretation)


class CoTMR:
    """CoTMR (Sun et al., ICCV 2025): reason, then a caption and what must and must not be there.

    Its score is the likeness to the caption, plus a reward for each object that must be there,
    less a penalty for each that must not. The paper's weights are not published; these are ours,
    and can be changed.
    """

    name = "cotmr"
    about = "a caption of the changed picture, with what must and what must not be there"

    def compose(self, asked: ComposerInput, tools: Tools) -> ComposedQuery:
        """See :class:`Composer`."""
        given = asked.modification
        own = published(self.name, tools.base_model)
        weights = weights_of(self.name, own, given.weights, 0.0)
        told = given.caption and given.must is not None and given.must_not is not None
        if told:
            written = WrittenCaption(given.caption)
        else:
            written = tools.writer.reasoned(asked.image(), given.text)
            written = replace(written, text=given.caption or written.text)
        interpretation = Interpretation(
            self.name,
            given.text,
            target=written.text,
            must=written.must if given.must is None else given.must,
            must_not=written.must_not if given.must_not is None else given.must_not,
            weights=weights,
            notes=tuple(note for note in (written.note,) if note),
        )
        return ComposedQuery(tools.texts([written.text])[0], interpretation)


LANGUAGE: tuple[type[Composer], ...] = (Cirevl, CoTMR)
