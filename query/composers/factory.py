"""The registry of composers: the built-in ones, and those of other installed packages.

A package adds composers through the entry point group ``cies.composers``, by a class that follows
:class:`query.composers.base.Composer`::

    [project.entry-points."cies.composers"]
    my-composer = "my_package:MyComposer"

Its classes are imported only when a composer is named that is not built in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from indexes.errors import ModelError, UsageError
from ingest.encoders.models.find import short_name
from query.composers.arithmetic import (
    ImageOnly,
    Pdv,
    Sum,
    SumRaw,
    TextOnly,
    WeiMo,
    add_objects,
)
from query.composers.base import (
    ComposedQuery,
    Composer,
    ComposerContext,
    ComposerInput,
    compose_settings,
)
from query.composers.inversion import (
    LincirComposer,
    PalavraComposer,
    Pic2WordComposer,
    SearleComposer,
    SearleOtiComposer,
)
from query.composers.language import Cirevl, CoTMR
from query.question import shortened

#: The composers by textual inversion.
INVERSION: tuple[type[Composer], ...] = (
    SearleComposer,
    SearleOtiComposer,
    Pic2WordComposer,
    LincirComposer,
    PalavraComposer,
)

#: The composers over base vectors. A new one needs only an entry here.
_BUILT_IN: tuple[type[Composer], ...] = (
    *(ImageOnly, TextOnly, Sum, SumRaw, Pdv, WeiMo, Cirevl, CoTMR),
    *INVERSION,
)

#: Their classes by name.
COMPOSERS: Mapping[str, type[Composer]] = MappingProxyType({c.name: c for c in _BUILT_IN})

#: The composers that work in the gallery's own conditions (:mod:`query.composers.dior`).
CONDITION_COMPOSERS: Mapping[str, str] = MappingProxyType(
    {
        "dior": "the LVLM's state after it read the change, under each of the gallery's conditions",
        "dior-split": "conditions that the change names from the words, others from the picture",
        "embedder": "the embedder reads picture and change in one turn, as it was trained to",
    }
)

#: The methods whose vectors they work with.
CONDITION_METHODS = ("dior", "embedder")


def condition_method(composer: str) -> str:
    """The method whose vectors one of :data:`CONDITION_COMPOSERS` works with."""
    return "embedder" if composer == "embedder" else "dior"


#: The entry point group of other packages' composers.
GROUP = "cies.composers"


def usual_sum(model: str) -> str:
    """The sum of picture and words that suits a base model: ``sum-raw`` if it was trained with it.

    Args:
        model: its name.
    """
    trained = compose_settings()[SumRaw.name]["models"]
    is_trained = any(short_name(model) == short_name(one) for one in trained)
    return SumRaw.name if is_trained else Sum.name


def composer_descriptions() -> dict[str, str]:
    """Name to one line about it, of all built-in composers."""
    return {**{name: made.about for name, made in COMPOSERS.items()}, **CONDITION_COMPOSERS}


def check_composer(name: str) -> None:
    """Check that there is a composer of a name, without importing it.

    Raises:
        UsageError: if there is none; the message lists all composers.
    """
    if name not in composer_descriptions() and name not in _entry_points():
        names = ", ".join([*composer_descriptions(), *_entry_points()])
        raise UsageError(f"There is no composer '{name}'; choose one of {names}.")


def make_composer(name: str) -> Composer:
    """The composer of a name: a built-in one, or else one of another package.

    Raises:
        UsageError: if there is none.
        ModelError: if its package is broken.
    """
    check_composer(name)
    if name in COMPOSERS:
        return COMPOSERS[name]()
    point = _entry_points()[name]
    package = point.dist.name if point.dist is not None else point.value
    try:
        made: Callable[[], Composer] = point.load()
        composer = made()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"The composer {name} of the package {package} cannot be loaded ({reason}); update or "
            "uninstall the package, or choose another --composer."
        ) from error
    if not callable(getattr(composer, "compose", None)):
        raise ModelError(
            f"The composer {name} of the package {package} has no method compose(query, context); "
            "update or uninstall the package, or choose another --composer."
        )
    return composer


def _entry_points() -> dict[str, EntryPoint]:
    """The composers of other packages; a built-in one of the same name comes first."""
    return {point.name: point for point in entry_points(group=GROUP)}


def compose(name: str, query: ComposerInput, context: ComposerContext) -> ComposedQuery:
    """Compose by a composer over base vectors, with the objects that must and must not be there.

    Raises:
        UsageError: if there is no such composer; see also :meth:`Composer.compose`.
        ModelError: see :func:`make_composer` and :meth:`Composer.compose`.
    """
    composed = make_composer(name).compose(query, context)
    found, given = composed.interpretation, query.modification
    must = found.must if given.must is None else given.must
    must_not = found.must_not if given.must_not is None else given.must_not
    return _note_cut_texts(add_objects(composed, context, must, must_not), context)


def _note_cut_texts(composed: ComposedQuery, context: ComposerContext) -> ComposedQuery:
    """Add a note for each text that is longer than the base model reads.

    Raises:
        ModelError: if the model has no token for anything in a text.
    """
    found = composed.interpretation
    notes = list(found.notes)
    for text in (found.target, *found.must, *found.must_not):
        if not text:
            continue
        read = context.cut(text)
        if not read:
            raise ModelError(
                f"{context.base_model} has no token for anything in {shortened(text)}; say it in "
                "other words."
            )
        if read != text:
            notes.append(
                f"{context.base_model} reads no more than {shortened(read)} of {shortened(text)}."
            )
    return replace(composed, interpretation=replace(found, notes=tuple(notes)))
