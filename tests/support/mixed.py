"""Galleries with vectors by several methods: DIOR under some conditions, and CLIP."""

from __future__ import annotations

import shutil
from pathlib import Path

from indexes.geometry import Statistics
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder
from ingest.fill.subset import embed_in_memory


def add_table(gallery: Gallery, encoder: BaseEncoder, condition: str) -> VectorTable:
    """Embed all pictures of a gallery under a condition, in a new table."""
    asked = Condition.parse(condition)
    table = VectorTable(asked.name, encoder.dimension, encoder.spec.made_by(asked))
    paths = gallery.paths()
    column = embed_in_memory(gallery, encoder, table, list(paths), paths)
    with gallery.writer() as writer:
        writer.declare(table)
        rows = column.keys, column.vectors, column.words, column.word_probabilities
        writer.put_vectors(table, *rows)
        writer.put_statistics({table.table: Statistics.of(column.vectors)})
    return table


def with_base(gallery: Path, place: Path, clip: BaseEncoder) -> Path:
    """A copy of a gallery, with base vectors added.

    Args:
        gallery: the original; its pictures are in the same folder or have absolute paths.
        place: of the copy, in the same folder.
        clip: makes the base vectors.
    """
    shutil.copytree(gallery, place)
    add_table(Gallery.open(place), clip, UNCONDITIONAL)
    return place
