"""Embeds chosen pictures of a gallery under a condition, and keeps their vectors.

So a condition that nobody ingested can be asked about: the best candidates of a cheaper method are
embedded when they are needed. Their table is *partial* until it is completed.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from indexes.gallery import Gallery
from indexes.geometry import RESIDUAL, Statistics
from indexes.records import FILES, VectorTable
from indexes.writer import Writer
from ingest.commit import commit
from ingest.conditions import UNCONDITIONAL, Condition, new_conditions
from ingest.embedding import Embedded, embed
from ingest.encoders.base import Encoder, EncoderSpec
from ingest.flow import COMMIT_SECONDS
from ingest.images import Picture
from ingest.makers import Maker, conditional, makers
from ingest.pipeline import Progress
from ingest.readers import Readers
from ingest.sources.base import Found
from ingest.sources.factory import found_at

#: Pictures embedded at once.
_BATCH = 32


def embed_some(
    gallery: Gallery,
    maker: EncoderSpec,
    condition: Condition,
    keys: Sequence[str],
    load: Callable[[EncoderSpec], Encoder],
    progress: Callable[[Progress], None] = lambda state: None,
) -> int:
    """Embed some pictures of a gallery under a condition, those that are not embedded yet.

    A table that is not there is declared, as a partial one. What was embedded is stored even if
    this is interrupted. In a gallery of residual geometry the unconditional vectors of the same
    pictures are made too.

    Args:
        gallery: that has the pictures.
        maker: the encoder, as the gallery names it or shall.
        condition: under which; whatever of the maker's is called alike is meant.
        keys: content keys, the most wanted first.
        load: gives the encoder; not called if there is nothing to do.
        progress: told after every batch.

    Returns:
        How many pictures were embedded. A picture is passed over, and counted as failed in what
        ``progress`` is told, if no file of it can be read or the encoder gives no vector for it.

    Raises:
        GalleryLocked: if another process is writing; nothing was done.
        ModelError: if the model cannot be had or refuses the condition.
        GalleryError: if the gallery cannot be written to.
    """
    with gallery.writer() as writer:
        encoder: Encoder | None = None
        own = next((m for m in makers(gallery) if m.spec == maker), Maker(maker, ()))
        wanted = [condition if conditional(maker.method) else Condition.parse(UNCONDITIONAL)]
        if gallery.geometry == RESIDUAL:
            wanted += new_conditions([Condition.parse(UNCONDITIONAL)], [wanted[0].name])
        tables = [table for one in wanted if (table := own.table(one.name)) is not None]
        fresh = new_conditions(wanted, [table.name for table in tables])
        if fresh:
            encoder = load(maker)
            encoder.check(fresh)
        for one in fresh:
            assert encoder is not None
            made_by = maker.made_by(one)
            table = VectorTable(one.name, encoder.dimension, made_by, partial=True)
            writer.declare(table)
            tables.append(table)
        lacking = _lacking(gallery, tables, keys)
        if not lacking:
            return 0
        return _embed(gallery, writer, encoder or load(maker), tables, lacking, progress)


def mark_for_filling(gallery: Gallery, table: VectorTable) -> None:
    """Have the next ingest complete a partial table; one that is complete stays as it is.

    Args:
        gallery: whose.
        table: of this gallery, or one that it has not yet.

    Raises:
        GalleryLocked: if another process is writing; nothing was done.
    """
    with gallery.writer() as writer:
        there = next((own for own in gallery.conditions() if own == table), None)
        if there is None or not there.kept_up:
            writer.declare(replace(there or table, partial=True, filling=True))


def _lacking(
    gallery: Gallery, tables: Sequence[VectorTable], keys: Sequence[str]
) -> dict[str, tuple[VectorTable, ...]]:
    """The tables that each picture is not in, of those that lack any."""
    held = [gallery.keys(table) for table in tables]
    found = {}
    for key in keys:
        lacks = tuple(t for t, own in zip(tables, held, strict=True) if key not in own)
        if lacks:
            found[key] = lacks
    return found


def _files(gallery: Gallery, keys: Sequence[str]) -> dict[str, Found]:
    """A file of each picture that is there, or one that says why none is."""
    table = gallery.read("files", FILES).select(["path", "key", "status"])
    named = pc.and_(
        pc.is_in(table.column("key"), pa.array(keys, pa.string())),
        pc.equal(table.column("status"), "done"),
    )
    found: dict[str, Found] = {}
    for row in table.filter(named).sort_by("path").to_pylist():
        if row["key"] not in found or found[row["key"]].status:
            found[row["key"]] = found_at(row["path"], gallery.root)
    return found


def _embed(
    gallery: Gallery,
    writer: Writer,
    encoder: Encoder,
    tables: Sequence[VectorTable],
    lacking: Mapping[str, tuple[VectorTable, ...]],
    progress: Callable[[Progress], None],
) -> int:
    files = _files(gallery, list(lacking))
    wanted = [key for key in lacking if key in files]
    done = _Done(len(lacking), len(lacking) - len(wanted))
    readers: Readers[Found] = Readers(lambda key: key in lacking, encoder.spec.max_side)
    parts: list[Embedded] = []
    since = time.monotonic()
    try:
        with closing(readers.ahead(files[key] for key in wanted)) as ahead:
            batch: dict[str, Picture] = {}
            for number, (key, taken) in enumerate(zip(wanted, ahead, strict=True), start=1):
                # A file that has another content by now is another picture.
                if taken.picture is not None and taken.record.key == key:
                    batch[key] = taken.picture
                else:
                    done.failed += 1
                if len(batch) < _BATCH and number < len(wanted):
                    continue
                for lacks, group in _groups(batch, lacking):
                    part = embed(encoder, lacks, group)
                    parts.append(part)
                    done.embedded += len(part.keys)
                    done.failed += len(part.refused)
                batch = {}
                progress(done.state())
                if time.monotonic() - since >= COMMIT_SECONDS:
                    commit(writer, parts)
                    parts, since = [], time.monotonic()
    finally:
        # What was embedded is kept even if the rest goes wrong.
        commit(writer, parts)
    for table in tables:
        vectors = gallery.vector_parts(table)
        writer.put_statistics(table, Statistics.of_parts(vectors, table.dimension))
    writer.maintain()
    return done.embedded


def _groups(
    pictures: Mapping[str, Picture], lacking: Mapping[str, tuple[VectorTable, ...]]
) -> list[tuple[tuple[VectorTable, ...], dict[str, Picture]]]:
    """Pictures by the tables they are not in."""
    groups: dict[tuple[str, ...], tuple[tuple[VectorTable, ...], dict[str, Picture]]] = {}
    for key, picture in pictures.items():
        names = tuple(table.name for table in lacking[key])
        groups.setdefault(names, (lacking[key], {}))[1][key] = picture
    return list(groups.values())


@dataclass
class _Done:
    total: int
    failed: int
    embedded: int = 0

    def state(self) -> Progress:
        done = self.embedded + self.failed
        return Progress(done, self.total, self.embedded, self.failed)
