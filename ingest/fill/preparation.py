"""Settles the vector sources and conditions of an ingest before anything is embedded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Sequence

from indexes.errors import GalleryMismatch, UsageError
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from indexes.store.writer import Writer
from ingest.conditions import UNCONDITIONAL, Condition, new_conditions, same_name
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.encoders.factory import numbered_layers
from ingest.fill.vector_sources import (
    LAYERED,
    VectorSource,
    at_layer,
    differ_in_layer,
    in_one_pass,
    is_conditional,
    main_vector_source,
    source_of_spec,
    vector_sources_of,
)

#: Loads the encoder of a specification or, for ``None``, the one that the user chose.
LoadEncoder = Callable[[EncoderSpec | None], BaseEncoder]


@dataclass(frozen=True)
class PreparedRun:
    """The vector sources of an ingest.

    Attributes:
        vector_sources: with the tables that each fills, in the order in which they embed.
        encoder: the encoder of the first, if it had to be loaded already.
        notes: sentences for the user.
    """

    vector_sources: list[VectorSource]
    encoder: BaseEncoder | None
    notes: tuple[str, ...] = ()


def prepare(
    gallery: Gallery,
    writer: Writer,
    load: LoadEncoder,
    wanted: Sequence[Condition],
    target: EncoderSpec | None = None,
    is_new: bool = False,
    layers: Sequence[int] = (),
) -> PreparedRun:
    """Settle vector sources, conditions and tables; new tables are declared in the manifest.

    Args:
        gallery: the gallery that is filled.
        writer: the writer of the same gallery.
        load: loads encoders; called only for new tables.
        wanted: conditions that the user named.
        target: the vector source that embeds under them; the gallery's main one by default.
        is_new: whether the target is a new source, whose encoder ``load(None)`` returns.
        layers: the layers of the target's model to embed by, each a source of its own; only the
            target's by default.

    Raises:
        UsageError: if there is no condition at all.
        ModelError: if the model refuses a condition.
        GalleryMismatch: if the gallery has the same method and model with other settings.
    """
    tables = gallery.conditions()
    for table in tables:
        writer.ensure(table)
    sources = vector_sources_of(tables)
    encoder: BaseEncoder | None = None
    if is_new or not sources:
        encoder = load(None)
        target = encoder.spec
        _refuse_other_settings(gallery, sources, target, bool(layers))
        target = source_of_spec(sources, target).spec
    elif target is None:
        main = main_vector_source(sources)
        assert main is not None
        target = main.spec
    if not is_conditional(target.method):
        wanted = [Condition.parse(UNCONDITIONAL)]
    if layers and target.method not in LAYERED:
        numbers = " and ".join(map(str, layers))
        raise UsageError(
            f"--layer {numbers} does not apply to the method {target.method}; leave it out."
        )
    numbered = numbered_layers(target, layers) if layers else []
    of_target = [
        Condition(table.name, str(table.made_by["phrase"]))
        for table in source_of_spec(sources, target).tables
    ]
    existing: list[VectorTable] = []
    renamed: dict[str, VectorTable] = {}
    for spec in [at_layer(target, layer) for layer in numbered] or [target]:
        source = source_of_spec(sources, spec)
        existing += source.tables
        # A further layer embeds under what the gallery has, if nothing is named.
        asked = wanted if wanted or source.tables else of_target
        new = new_conditions(asked, [table.name for table in source.tables])
        known = {
            condition.name: table
            for condition in new
            for table in source.tables
            if table.made_by.get("phrase") == condition.phrase
        }
        renamed |= known
        new = [condition for condition in new if condition.name not in known]
        if new:
            encoder = encoder or load(target)
            encoder.check(new)
            for condition in new:
                # The source's own, because it knows how its pictures are read.
                made_by = source.spec.made_by(condition)
                writer.declare(VectorTable(condition.name, encoder.dimension, made_by))
        for table in source.tables:
            is_wanted = any(same_name(table.name, condition.name) for condition in asked)
            if (is_wanted or table in known.values()) and not table.kept_up:
                writer.declare(replace(table, filling=True))
    # Read again, because the declarations above decide which tables are filled.
    kept_up = [table for table in gallery.conditions() if table.kept_up]
    if not kept_up or not (wanted or existing):
        raise UsageError("No condition was named; add one, such as `--condition color`.")
    notes = [
        f"condition '{name}' is called '{table.name}' in this gallery"
        for name, table in renamed.items()
    ]
    kept_sources = in_one_pass(vector_sources_of(kept_up))
    return PreparedRun(_in_order(kept_sources, encoder), encoder, tuple(notes))


def _in_order(sources: Sequence[VectorSource], encoder: BaseEncoder | None) -> list[VectorSource]:
    """The source whose encoder is already loaded comes first, the main one last.

    A file counts as done when the last source has embedded its picture. The main one is usually
    the slowest, so if it is last, files become done one after the other and not all at the end.
    """
    main = main_vector_source(sources)
    loaded = encoder.spec if encoder is not None else None

    def order(source: VectorSource) -> tuple[bool, bool]:
        # One loaded encoder embeds by all layers of its model.
        is_loaded = loaded is not None and at_layer(source.spec, -1) == at_layer(loaded, -1)
        return not is_loaded, source == main

    return sorted(sources, key=order)


def _refuse_other_settings(
    gallery: Gallery, sources: Sequence[VectorSource], spec: EncoderSpec, layers: bool
) -> None:
    for source in sources:
        same = (source.spec.method, source.spec.model) == (spec.method, spec.model)
        if layers and differ_in_layer(source.spec, spec):
            continue
        if same and source.spec != spec:
            raise GalleryMismatch(
                f"The gallery at {gallery.path} has vectors of {spec.method} by {spec.model} that "
                "were made in another way; leave --model and --method out, or make another gallery "
                "with --gallery."
            )
