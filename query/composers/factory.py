"""Composers by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from indexes.errors import ModelError, UsageError
from query.composers.arithmetic import ARITHMETIC, with_objects
from query.composers.base import ComposedQuery, Composer, ComposerInput, Tools
from query.composers.inversion import INVERSION
from query.composers.language import LANGUAGE
from query.question import shortened

#: The composers that work in the gallery's own conditions, in :mod:`query.composers.dior`.
CONDITION_COMPOSERS: Mapping[str, str] = MappingProxyType(
    {
        "dior": "the LVLM's state, told of the change, under each of the gallery's conditions",
        "dior-split": "conditions the change speaks of from the words, all others from the picture",
    }
)

#: Name to what makes the composer. A new one needs no more than an entry here.
COMPOSERS: Mapping[str, type[Composer]] = MappingProxyType(
    {made.name: made for made in (*ARITHMETIC, *LANGUAGE, *INVERSION)}
)


def composer_descriptions() -> dict[str, str]:
    """Name to one line about it, of all composers there are."""
    return {**{name: made.about for name, made in COMPOSERS.items()}, **CONDITION_COMPOSERS}


def check_composer(name: str) -> None:
    """Refuse a name that is no composer's.

    Raises:
        UsageError: naming those there are.
    """
    if name not in composer_descriptions():
        raise UsageError(
            f"There is no composer '{name}'; choose one of {', '.join(composer_descriptions())}."
        )


def compose(name: str, asked: ComposerInput, tools: Tools) -> ComposedQuery:
    """Compose by one of :data:`COMPOSERS`, with the objects that must and must not be there.

    Raises:
        UsageError: if there is no such composer, or as :meth:`Composer.compose`.
        ModelError: as :meth:`Composer.compose`.
    """
    check_composer(name)
    composed = COMPOSERS[name]().compose(asked, tools)
    found, given = composed.interpretation, asked.modification
    must = found.must if given.must is None else given.must
    must_not = found.must_not if given.must_not is None else given.must_not
    whole = with_objects(composed, tools, must, must_not)
    return _with_cuts(whole, tools)


def _with_cuts(composed: ComposedQuery, tools: Tools) -> ComposedQuery:
    """Say which texts were longer than the model reads."""
    found = composed.interpretation
    notes = list(found.notes)
    for text in (found.target, *found.must, *found.must_not):
        if not text:
            continue
        read = tools.cut(text)
        if not read:
            raise ModelError(
                f"{tools.base_model} has no token for anything in {shortened(text)}; say it in "
                "other words."
            )
        if read != text:
            notes.append(
                f"{tools.base_model} reads no more than {shortened(read)} of {shortened(text)}."
            )
    return replace(composed, interpretation=replace(found, notes=tuple(notes)))
