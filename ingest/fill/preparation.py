"""What is settled before a gallery is filled: whose vectors, and under which conditions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Sequence

from indexes.errors import GalleryMismatch, UsageError
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from indexes.store.writer import Writer
from ingest.conditions import UNCONDITIONAL, Condition, new_conditions, same_name
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.fill.vector_sources import VectorSource, conditional, grouped, main_vector_source

#: Gives the encoder of a spec or, for ``None``, of the user's choice.
LoadEncoder = Callable[[EncoderSpec | None], BaseEncoder]


@dataclass(frozen=True)
class Prepared:
    """Who is to be at work.

    Attributes:
        vector_sources: with the tables they keep up, in the order in which they shall be at work.
        encoder: of the first, if it had to be loaded already.
    """

    vector_sources: list[VectorSource]
    encoder: BaseEncoder | None


def prepare(
    gallery: Gallery,
    writer: Writer,
    load: LoadEncoder,
    wanted: Sequence[Condition],
    chosen: EncoderSpec | None = None,
    new: bool = False,
) -> Prepared:
    """Settle makers, conditions and tables, and enter what is new in the manifest.

    Args:
        gallery: that is to be filled.
        writer: of the same gallery.
        load: gives encoders; called only if there is something new to be made.
        wanted: conditions asked for.
        chosen: who shall be asked about them; the main maker by default.
        new: whether it is one that the gallery has not yet, which ``load(None)`` gives.

    Raises:
        UsageError: if there is no condition at all.
        ModelError: if the model refuses a condition.
        GalleryMismatch: if the gallery has the same method and model, used in another way.
    """
    there = gallery.conditions()
    for table in there:
        writer.ensure(table)
    vector_sources = grouped(there)
    encoder: BaseEncoder | None = None
    if new or not vector_sources:
        encoder = load(None)
        chosen = encoder.spec
        _refuse_same_otherwise(gallery, vector_sources, chosen)
    elif chosen is None:
        main = main_vector_source(vector_sources)
        assert main is not None
        chosen = main.spec
    if not conditional(chosen.method):
        wanted = [Condition.parse(UNCONDITIONAL)]
    own = next(
        (vector_source.tables for vector_source in vector_sources if vector_source.spec == chosen),
        (),
    )
    if not wanted and not own:
        raise UsageError("No condition was named; add one, such as `--condition color`.")
    fresh = new_conditions(wanted, [table.name for table in own])
    if fresh:
        encoder = encoder or load(chosen)
        encoder.check(fresh)
        for condition in fresh:
            table = VectorTable(condition.name, encoder.dimension, chosen.made_by(condition))
            writer.declare(table)
    for table in own:
        asked = any(same_name(table.name, condition.name) for condition in wanted)
        if asked and not table.kept_up:
            writer.declare(replace(table, filling=True))
    # What was written is read again: it says which tables are kept up.
    kept_up = [table for table in gallery.conditions() if table.kept_up]
    if not kept_up:
        raise UsageError("No condition was named; add one, such as `--condition color`.")
    return Prepared(_in_order(grouped(kept_up), encoder), encoder)


def _in_order(
    vector_sources: Sequence[VectorSource], encoder: BaseEncoder | None
) -> list[VectorSource]:
    """The one whose encoder is loaded already first; the main one last.

    A file counts as done when the last has seen its picture, and the main one is the slowest as a
    rule: files are then done one after the other, not all at the very end.
    """
    main = main_vector_source(vector_sources)
    rest = [vector_source for vector_source in vector_sources if vector_source != main] + (
        [main] if main else []
    )
    loaded = encoder.spec if encoder is not None else None
    return sorted(rest, key=lambda vector_source: vector_source.spec != loaded)


def _refuse_same_otherwise(
    gallery: Gallery, there: Sequence[VectorSource], spec: EncoderSpec
) -> None:
    for vector_source in there:
        same = (vector_source.spec.method, vector_source.spec.model) == (spec.method, spec.model)
        if same and vector_source.spec != spec:
            raise GalleryMismatch(
                f"The gallery at {gallery.path} has vectors of {spec.method} by {spec.model} that "
                "were made in another way; leave --model and --method out, or make another gallery "
                "with --gallery."
            )
