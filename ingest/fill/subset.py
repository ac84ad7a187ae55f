"""Embeds chosen pictures of a gallery under a condition, and keeps their vectors.

So a condition that nobody ingested can be asked about: the best candidates of a cheaper method are
embedded when they are needed. Their table is *partial* until it is completed.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexes.search.geometry import RESIDUAL, Statistics
from indexes.search.vectors import Vectors, unit
from indexes.store.gallery import Gallery
from indexes.store.records import FILES, VectorColumn, VectorTable
from ingest.conditions import UNCONDITIONAL, Condition, new_conditions, same_name
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.fill.commit import commit
from ingest.fill.commit_queue import COMMIT_SECONDS
from ingest.fill.embedding import Embedded, embed
from ingest.fill.pipeline import Progress
from ingest.fill.vector_sources import VectorSource, conditional, vector_sources
from ingest.read.images import Picture
from ingest.read.readers import READERS, Readers
from ingest.sources.base import Found
from ingest.sources.factory import found_at

#: Pictures embedded at once.
_BATCH = 32


class SubsetEmbedder:
    """A gallery's one writer, at work on chosen pictures under a condition, call after call.

    A context manager; see :func:`embed_subset` for the arguments and for what may be raised on
    entry. What was embedded is on the disk after :meth:`settle`, and on exit, however that comes.
    """

    def __init__(
        self,
        gallery: Gallery,
        vector_source: EncoderSpec,
        condition: Condition,
        load: Callable[[EncoderSpec], BaseEncoder],
    ):
        """Do nothing yet."""
        self._gallery = gallery
        self._maker = vector_source
        self._condition = condition
        self._load = load
        self._encoder: BaseEncoder | None = None
        self._tables: list[VectorTable] = []
        self._held: list[set[str]] = []
        self._parts: list[Embedded] = []
        self._all: list[Embedded] = []
        self._readers: Readers[Found] | None = None
        self._since = time.monotonic()
        self._closing = ExitStack()

    def __enter__(self) -> SubsetEmbedder:
        """Take the lock, and declare the tables that are not there."""
        with ExitStack() as closing:
            self._writer = closing.enter_context(self._gallery.writer())
            self._declare()
            self._held = [set(self._gallery.keys(table)) for table in self._tables]
            self._closing = closing.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """Store what was embedded, and give the lock back."""
        with self._closing:
            if self._readers is not None:
                self._readers.close()
            if self._all:
                self.settle()
                self._writer.maintain()

    def embed(
        self, keys: Sequence[str], progress: Callable[[Progress], None] = lambda state: None
    ) -> int:
        """Embed those of some pictures that are not embedded yet; see :func:`embed_subset`."""
        lacking = {}
        for key in keys:
            pairs = zip(self._tables, self._held, strict=True)
            lacks = tuple(table for table, held in pairs if key not in held)
            if lacks:
                lacking[key] = lacks
        if not lacking:
            return 0
        encoder = self._encoder = self._encoder or self._load(self._maker)
        files = _files(self._gallery, list(lacking))
        wanted = [key for key in lacking if key in files]
        done = _Done(len(lacking), len(lacking) - len(wanted))
        if self._readers is None:
            self._readers = Readers(lambda key: True, encoder.spec.max_side)
        with ThreadPoolExecutor(READERS, thread_name_prefix="reader") as threads:
            for start in range(0, len(wanted), _BATCH):
                some = wanted[start : start + _BATCH]
                batch: dict[str, Picture] = {}
                read = threads.map(self._readers.read, [files[key] for key in some])
                for key, taken in zip(some, read, strict=True):
                    # A file that has another content by now is another picture.
                    if taken.picture is not None and taken.record.key == key:
                        batch[key] = taken.picture
                    else:
                        done.failed += 1
                for lacks, group in _groups(batch, lacking):
                    self._add(embed(encoder, lacks, group), done)
                progress(done.state())
                if time.monotonic() - self._since >= COMMIT_SECONDS:
                    self._commit()
        return done.embedded

    def column(self) -> VectorColumn:
        """What was embedded under the condition since entry, as it is stored, in key order."""
        table = self._tables[0]
        found: dict[str, tuple[Vectors, str, float]] = {}
        for part in self._all:
            if part.reading is None or table not in part.tables:
                continue
            at = part.tables.index(table)
            vectors = unit(part.reading.vectors[:, at].astype(np.float16).astype(np.float32))
            for row, key in enumerate(part.keys):
                sure = float(part.reading.word_probabilities[row, at])
                found[key] = vectors[row], part.reading.words[row][at], sure
        keys = sorted(found)
        rows = [found[key][0] for key in keys]
        return VectorColumn(
            keys,
            np.stack(rows) if rows else np.zeros((0, table.dimension), dtype=np.float32),
            [found[key][1] for key in keys],
            np.array([found[key][2] for key in keys], dtype=np.float32),
        )

    def settle(self) -> None:
        """Store what was embedded, and what is known of all vectors of the tables."""
        self._commit()
        for table in self._tables:
            vectors = self._gallery.vector_parts(table)
            self._writer.put_statistics(table, Statistics.of_parts(vectors, table.dimension))

    def _declare(self) -> None:
        vector_source, gallery = self._maker, self._gallery
        own = next(
            (m for m in vector_sources(gallery) if m.spec == vector_source),
            VectorSource(vector_source, ()),
        )
        wanted = [
            self._condition if conditional(vector_source.method) else Condition.parse(UNCONDITIONAL)
        ]
        if gallery.geometry == RESIDUAL:
            wanted += new_conditions([Condition.parse(UNCONDITIONAL)], [wanted[0].name])
        self._tables = [table for one in wanted if (table := own.table(one.name)) is not None]
        fresh = new_conditions(wanted, [table.name for table in self._tables])
        if fresh:
            self._encoder = self._load(vector_source)
            self._encoder.check(fresh)
            for one in fresh:
                made_by = vector_source.made_by(one)
                table = VectorTable(one.name, self._encoder.dimension, made_by, partial=True)
                self._writer.declare(table)
                self._tables.append(table)
        # That of the condition first.
        self._tables.sort(key=lambda table: not same_name(table.name, wanted[0].name))

    def _add(self, part: Embedded, done: _Done) -> None:
        self._parts.append(part)
        self._all.append(part)
        done.embedded += len(part.keys)
        done.failed += len(part.refused)
        for table, held in zip(self._tables, self._held, strict=True):
            if table in part.tables:
                held.update(part.keys)

    def _commit(self) -> None:
        parts, self._parts = self._parts, []
        commit(self._writer, parts)
        self._since = time.monotonic()


def embed_subset(
    gallery: Gallery,
    vector_source: EncoderSpec,
    condition: Condition,
    keys: Sequence[str],
    load: Callable[[EncoderSpec], BaseEncoder],
    progress: Callable[[Progress], None] = lambda state: None,
) -> int:
    """Embed some pictures of a gallery under a condition, those that are not embedded yet.

    A table that is not there is declared, as a partial one. What was embedded is stored even if
    this is interrupted. In a gallery of residual geometry the unconditional vectors of the same
    pictures are made too.

    Args:
        gallery: that has the pictures.
        vector_source: the encoder, as the gallery names it or shall.
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
    with SubsetEmbedder(gallery, vector_source, condition, load) as some:
        return some.embed(keys, progress)


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
