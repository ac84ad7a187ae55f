"""From the words of ``--method`` and ``--model`` to a maker, of the gallery or to be added."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Sequence

from indexes.errors import GalleryMismatch, UsageError
from indexes.search.geometry import RESIDUAL
from indexes.store.gallery import Gallery
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import EncoderSpec
from ingest.encoders.factory import METHODS
from ingest.encoders.models.find import DEFAULT_MODEL, OPEN_CLIP, find, name_of
from ingest.encoders.models.model_type import is_dual
from ingest.encoders.options import DiorOptions
from ingest.fill.vector_sources import (
    BASE,
    VectorSource,
    conditional,
    main_vector_source,
    vector_sources,
)


@dataclass(frozen=True)
class Choice:
    """What is to be at work in a run, beside what the gallery keeps up anyway.

    Attributes:
        method: whose vectors are stored.
        model: as the user named it, or what stands in its place.
        vector_source: of the gallery, or ``None`` if it is to be added.
        view: the method asked for, if it is one that is worked out of stored vectors; or empty.
    """

    method: str
    model: str
    vector_source: VectorSource | None
    view: str = ""

    @property
    def conditional(self) -> bool:
        """Whether its vectors differ from condition to condition."""
        return conditional(self.method)


def choose(gallery: Gallery | None, method: str | None = None, model: str | None = None) -> Choice:
    """Settle who is meant.

    Args:
        gallery: ``None`` if there is none yet.
        method: as typed; without it the gallery's main one, or what ``model`` is made for.
        model: as typed; without it the gallery's, or the method's default.

    Raises:
        UsageError: if there is no such method, or the gallery has several models of it and none
            is named.
        ModelError: if there is no such model.
    """
    there = vector_sources(gallery) if gallery is not None else []
    if method is not None and method not in METHODS:
        raise UsageError(f"There is no method '{method}'; choose one of {', '.join(METHODS)}.")
    view = method if method is not None and METHODS[method].kind == "view" else ""
    method = BASE if view else method
    if model is not None:
        if not model.startswith(OPEN_CLIP):
            find(model)  # A name that stands for nothing is told before anything is done.
        name = name_of(model)
        own = [vector_source for vector_source in there if vector_source.spec.model == name]
        if method is None:
            same = main_vector_source(own)
            method = same.spec.method if same else BASE if is_dual(model) else "dior"
        found = next(
            (vector_source for vector_source in own if vector_source.spec.method == method), None
        )
        return Choice(method, model, found, view)
    if method is None:
        main = main_vector_source(there)
        return Choice(main.spec.method, main.spec.model, main) if main else _default("dior")
    fitting = [vector_source for vector_source in there if vector_source.spec.method == method]
    if len(fitting) > 1:
        raise UsageError(
            f"The gallery at {gallery.path if gallery else ''} has vectors of {method} by several "
            f"models; name one with --model: {', '.join(m.spec.model for m in fitting)}."
        )
    return (
        Choice(method, fitting[0].spec.model, fitting[0], view)
        if fitting
        else _default(method, view)
    )


def _default(method: str, view: str = "") -> Choice:
    return Choice(method, METHODS[method].model, None, view)


def default_conditions(choice: Choice, gallery: Gallery | None = None) -> list[Condition]:
    """Those of a new maker for which none is named.

    The conditions that other makers of the gallery keep up; in an empty gallery, all that the
    built-in model knows, which cost one pass together. Any other model has to be told.
    """
    tables = gallery.conditions() if gallery is not None else []
    known = [
        Condition(table.name, str(table.made_by["phrase"]))
        for table in tables
        if table.kept_up and conditional(EncoderSpec.from_made_by(table.made_by).method)
    ]
    if known:
        return list({condition.name: condition for condition in known}.values())
    if choice.model != DEFAULT_MODEL:
        return []
    return [Condition.parse(name) for name in find(DEFAULT_MODEL).trained_on() or {}]


def conditions_for(
    choice: Choice, gallery: Gallery | None, wanted: Sequence[Condition], geometry: str
) -> list[Condition]:
    """The conditions of a run: those asked for, or the defaults of what it adds.

    Args:
        choice: who is asked about them.
        gallery: ``None`` if there is none yet.
        wanted: conditions asked for.
        geometry: of the gallery.

    Raises:
        UsageError: if a maker is added, needs conditions, and none is known.
    """
    found = list(wanted)
    if choice.vector_source is None and choice.conditional and not found:
        found = default_conditions(choice, gallery)
        if not found:
            raise UsageError("No condition was named; add one, such as `--condition color`.")
    if geometry == RESIDUAL:
        # What is taken away has to be known of every picture; it costs no pass of its own.
        found.append(Condition.parse(UNCONDITIONAL))
    return found


def notes_on(choice: Choice, asked: bool) -> list[str]:
    """What a user should be told of a choice whose vectors know no condition.

    Args:
        choice: who is to be at work.
        asked: whether conditions were named.
    """
    notes = []
    if choice.view:
        notes.append(
            f"{choice.view} is worked out of the vectors of {choice.method}, which are stored once "
            "for every condition"
        )
    if asked and not choice.conditional:
        what = ""
        if choice.method == BASE:
            what = ": those named with -c, and any other, can be searched at once"
        notes.append(
            f"{choice.method} stores one vector a picture whatever the condition, so that none was "
            f"added{what}"
        )
    return notes


def check_same_choices(
    gallery: Gallery,
    vector_source: VectorSource,
    prompt: str | None,
    dtype: str,
    options: DiorOptions | None,
) -> None:
    """Refuse to go on with a maker in another way than it was used before.

    Args:
        gallery: what is to be filled.
        vector_source: of this gallery.
        prompt: the template asked for; ``None`` for the maker's own.
        dtype: asked for; ``auto`` for the maker's own.
        options: asked for; ``None`` for the maker's own.

    Raises:
        GalleryMismatch: naming what differs.
        UsageError: if there is a prompt and the method asks nothing.
    """
    if prompt is not None and not vector_source.conditional:
        raise UsageError(
            f"--prompt does not apply to the method {vector_source.spec.method}, which asks no question; "
            "leave it out."
        )
    asked: dict[str, Any] = asdict(options) if options is not None else {}
    if prompt is not None:
        asked["prompt"] = prompt
    if dtype != "auto":
        asked["dtype"] = dtype
    settings = vector_source.spec.settings
    own = {**asdict(DiorOptions.from_settings(settings)), **settings}
    for name, value in asked.items():
        if own.get(name) != value:
            raise GalleryMismatch(
                f"The gallery at {gallery.path} was built with {name} {own.get(name)}, not "
                f"{value}; leave --prompt, --dtype and the other choices of the encoder out, "
                "or make another gallery with --gallery."
            )
