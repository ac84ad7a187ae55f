"""Embeds some pictures of a gallery under one condition, and keeps what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from indexes.gallery import Gallery
from indexes.records import VectorTable
from ingest.conditions import Condition
from ingest.encoders.base import Encoder, EncoderSpec
from ingest.pipeline import Progress
from ingest.unkept import embed_unkept


def embed_some(
    gallery: Gallery,
    maker_spec: EncoderSpec,
    condition: Condition,
    keys: Sequence[str],
    load: Callable[[EncoderSpec], Encoder],
    progress: Callable[[Progress], None] = lambda state: None,
) -> int:
    """A stand-in."""
    made_by = maker_spec.made_by(condition)
    with gallery.writer() as writer:
        table = next((t for t in gallery.conditions() if dict(t.made_by) == made_by), None)
        if table is None:
            table = VectorTable(condition.name, load(maker_spec).dimension, made_by, partial=True)
            writer.declare(table)
        there = gallery.keys(table)
        missing = [key for key in keys if key not in there]
        if not missing:
            return 0
        column = embed_unkept(gallery, load(maker_spec), table, missing, gallery.paths(), progress)
        if column.keys:
            args = column.keys, column.vectors, column.words, column.word_probabilities
            writer.put_vectors(table, *args)
        return len(column.keys)


def mark_for_filling(gallery: Gallery, table: VectorTable) -> None:
    """A stand-in."""
    with gallery.writer() as writer:
        writer.declare(replace(table, filling=True))
