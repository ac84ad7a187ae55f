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
from ingest.fill.vector_sources import (
    VectorSource,
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
) -> PreparedRun:
    """Settle vector sources, conditions and tables; new tables are declared in the manifest.

    Args:
        gallery: the gallery that is filled.
        writer: the writer of the same gallery.
        load: loads encoders; called only for new tables.
        wanted: conditions that the user named.
        target: the vector source that embeds under them; the gallery's main one by default.
        is_new: whether the target is a new source, whose encoder ``load(None)`` returns.

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
        _refuse_other_settings(gallery, sources, target)
        target = source_of_spec(sources, target).spec
    elif target is None:
        main = main_vector_source(sources)
        assert main is not None
        target = main.spec
    if not is_conditional(target.method):
        wanted = [Condition.parse(UNCONDITIONAL)]
    existing = source_of_spec(sources, target).tables
    new = new_conditions(wanted, [table.name for table in existing])
    renamed = {
        condition.name: table
        for condition in new
        for table in existing
        if table.made_by.get("phrase") == condition.phrase
    }
    new = [condition for condition in new if condition.name not in renamed]
    if new:
        encoder = encoder or load(target)
        encoder.check(new)
        for condition in new:
            made_by = target.made_by(condition)
            writer.declare(VectorTable(condition.name, encoder.dimension, made_by))
    for table in existing:
        is_wanted = any(same_name(table.name, condition.name) for condition in wanted)
        if (is_wanted or table in renamed.values()) and not table.kept_up:
            writer.declare(replace(table, filling=True))
    # Read again, because the declarations above decide which tables are filled.
    kept_up = [table for table in gallery.conditions() if table.kept_up]
    if not kept_up or not (wanted or existing):
        raise UsageError("No condition was named; add one, such as `--condition color`.")
    notes = [
        f"condition '{name}' is called '{table.name}' in this gallery"
        for name, table in renamed.items()
    ]
    return PreparedRun(_in_order(vector_sources_of(kept_up), encoder), encoder, tuple(notes))


def _in_order(sources: Sequence[VectorSource], encoder: BaseEncoder | None) -> list[VectorSource]:
    """The source whose encoder is already loaded comes first, the main one last.

    A file counts as done when the last source has embedded its picture. The main one is usually
    the slowest, so if it is last, files become done one after the other and not all at the end.
    """
    main = main_vector_source(sources)
    loaded = encoder.spec if encoder is not None else None
    return sorted(sources, key=lambda source: (source.spec != loaded, source == main))


def _refuse_other_settings(
    gallery: Gallery, sources: Sequence[VectorSource], spec: EncoderSpec
) -> None:
    for source in sources:
        same = (source.spec.method, source.spec.model) == (spec.method, spec.model)
        if same and source.spec != spec:
            raise GalleryMismatch(
                f"The gallery at {gallery.path} has vectors of {spec.method} by {spec.model} that "
                "were made in another way; leave --model and --method out, or make another gallery "
                "with --gallery."
            )
