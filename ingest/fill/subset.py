"""Embeds chosen pictures of a gallery under one condition.

Used to answer a condition that was not ingested: the best candidates of a cheaper method are
embedded when they are needed. Their table is *partial* until an ingest completes it. Where the
gallery cannot be written to, the vectors stay in memory.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexes.errors import UsageError
from indexes.geometry import RESIDUAL
from indexes.store.gallery import Gallery
from indexes.store.records import FILES, VectorColumn, VectorTable
from indexes.vectors import unit
from ingest.conditions import UNCONDITIONAL, Condition, new_conditions, same_name
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.fill.commit import commit
from ingest.fill.commit_queue import COMMIT_SECONDS
from ingest.fill.embedding import EmbeddedBatch, embed_missing, vector_column
from ingest.fill.pipeline import Progress
from ingest.fill.vector_sources import is_conditional, source_of_spec, vector_sources
from ingest.read.images import Picture
from ingest.read.readers import READERS, Readers
from ingest.sources.base import SourceFile
from ingest.sources.factory import stored_file

#: Pictures embedded at once.
_BATCH = 32

OnProgress = Callable[[Progress], None]

#: Content keys of pictures to their stored paths.
StoredPaths = Mapping[str, Sequence[str]]


class _PictureReader:
    """Reads pictures of a gallery by content key, and decodes them in separate processes."""

    def __init__(self, gallery: Gallery, spec: EncoderSpec):
        """Store the arguments; nothing is started yet.

        Args:
            gallery: the gallery.
            spec: the encoder, as the gallery stores it, for which the pictures are read.
        """
        self._root = gallery.root
        self._readers: Readers[SourceFile] = Readers(lambda key: True, spec.max_side, spec.pixels)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="reader")

    def read(self, keys: Sequence[str], paths: StoredPaths) -> dict[str, Picture]:
        """The pictures that can be read, by key."""
        pictures = self._threads.map(partial(self._picture, paths), keys)
        return {
            key: picture for key, picture in zip(keys, pictures, strict=True) if picture is not None
        }

    def _picture(self, paths: StoredPaths, key: str) -> Picture | None:
        """The picture from the first of its files that still has this content."""
        for path in paths.get(key) or ():
            try:
                result = self._readers.read(stored_file(path, self._root))
            except UsageError:  # An address that cannot be read on this machine.
                continue
            if result.picture is not None and result.record.key == key:
                return result.picture
        return None

    def close(self) -> None:
        """End the threads and processes."""
        self._threads.shutdown()
        self._readers.close()


@dataclass(frozen=True)
class _Step:
    """The result of embedding some of the wanted pictures."""

    batches: list[EmbeddedBatch]
    progress: Progress


def _embed_stepwise(
    reader: _PictureReader,
    encoder: BaseEncoder,
    missing: Mapping[str, tuple[VectorTable, ...]],
    paths: StoredPaths,
) -> Iterator[_Step]:
    """Read and embed pictures, :data:`_BATCH` at a time.

    Args:
        reader: the reader of the gallery.
        encoder: the encoder of all tables.
        missing: content keys to the tables that do not contain the picture.
        paths: content keys to stored paths.
    """
    keys = list(missing)
    embedded = 0
    for start in range(0, len(keys), _BATCH):
        pictures = reader.read(keys[start : start + _BATCH], paths)
        batches = embed_missing(encoder, pictures, missing.__getitem__)
        embedded += sum(len(batch.keys) for batch in batches)
        done = min(start + _BATCH, len(keys))
        yield _Step(batches, Progress(done, len(keys), embedded, done - embedded))


class SubsetEmbedder:
    """Embeds chosen pictures under one condition and stores them; may be called repeatedly.

    A context manager that holds the gallery's only writer; see :func:`embed_subset` for the
    arguments and for the errors raised on entry. Everything that was embedded is on the disk after
    :meth:`store` and on exit, also after an error.
    """

    def __init__(
        self,
        gallery: Gallery,
        spec: EncoderSpec,
        condition: Condition,
        load: Callable[[EncoderSpec], BaseEncoder],
    ):
        """Store the arguments; nothing is embedded yet."""
        self._gallery = gallery
        self._spec = spec
        self._condition = condition
        self._load = load
        self._encoder: BaseEncoder | None = None
        self._tables: list[VectorTable] = []
        self._keys: list[set[str]] = []
        self._pending: list[EmbeddedBatch] = []
        self._embedded: list[EmbeddedBatch] = []
        self._reader: _PictureReader | None = None
        self._last_commit = time.monotonic()
        self._closing = ExitStack()

    def __enter__(self) -> SubsetEmbedder:
        """Take the writer's lock, and declare the tables that do not exist."""
        with ExitStack() as closing_:
            self._writer = closing_.enter_context(self._gallery.writer())
            self._declare_tables()
            self._keys = [set(self._gallery.keys(table)) for table in self._tables]
            self._closing = closing_.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Store what was embedded, and release the lock."""
        with self._closing:
            if self._reader is not None:
                self._reader.close()
            if self._embedded:
                self.store()
                self._writer.maintain()

    def embed(self, keys: Sequence[str], progress: OnProgress = lambda state: None) -> int:
        """Embed those of some pictures that are not embedded yet; see :func:`embed_subset`."""
        missing = {}
        for key in keys:
            pairs = zip(self._tables, self._keys, strict=True)
            tables = tuple(table for table, stored in pairs if key not in stored)
            if tables:
                missing[key] = tables
        if not missing:
            return 0
        self._encoder = self._encoder or self._load(self._spec)
        self._reader = self._reader or _PictureReader(self._gallery, self._spec)
        paths = _paths_by_key(self._gallery, list(missing))
        embedded = 0
        for step in _embed_stepwise(self._reader, self._encoder, missing, paths):
            for batch in step.batches:
                self._add(batch)
            embedded = step.progress.embedded
            progress(step.progress)
            if time.monotonic() - self._last_commit >= COMMIT_SECONDS:
                self._commit()
        return embedded

    def column(self) -> VectorColumn:
        """Vectors and words embedded under the condition since entry, as stored, in key order."""
        column = _sorted_column(self._embedded, self._tables[0])
        stored = column.vectors.astype(np.float16).astype(np.float32)
        return replace(column, vectors=unit(stored) if column.keys else stored)

    def store(self) -> None:
        """Store what was embedded, and update the statistics of the tables."""
        self._commit()
        statistics = {t.table: self._gallery.computed_statistics(t) for t in self._tables}
        self._writer.put_statistics(statistics)

    def _declare_tables(self) -> None:
        """Find the tables of the condition, and declare the missing ones as partial."""
        spec, gallery = self._spec, self._gallery
        source = source_of_spec(vector_sources(gallery), spec)
        spec = self._spec = source.spec
        whole = Condition.parse(UNCONDITIONAL)
        wanted = [self._condition if is_conditional(spec.method) else whole]
        if gallery.geometry == RESIDUAL:
            wanted += new_conditions([whole], [wanted[0].name])
        self._tables = [table for one in wanted if (table := source.table(one.name)) is not None]
        new = new_conditions(wanted, [table.name for table in self._tables])
        if new:
            self._encoder = self._load(spec)
            self._encoder.check(new)
            for condition in new:
                made_by = spec.made_by(condition)
                dimension = self._encoder.dimension
                table = VectorTable(condition.name, dimension, made_by, partial=True)
                self._writer.declare(table)
                self._tables.append(table)
        # The table of the condition comes first.
        self._tables.sort(key=lambda table: not same_name(table.name, wanted[0].name))

    def _add(self, batch: EmbeddedBatch) -> None:
        self._pending.append(batch)
        self._embedded.append(batch)
        for table, stored in zip(self._tables, self._keys, strict=True):
            if table in batch.tables:
                stored.update(batch.keys)

    def _commit(self) -> None:
        pending, self._pending = self._pending, []
        commit(self._writer, pending)
        self._last_commit = time.monotonic()


def embed_subset(
    gallery: Gallery,
    spec: EncoderSpec,
    condition: Condition,
    keys: Sequence[str],
    load: Callable[[EncoderSpec], BaseEncoder],
    progress: OnProgress = lambda state: None,
) -> int:
    """Embed those of some pictures under a condition that are not embedded yet, and store them.

    A table that does not exist is declared as partial. What was embedded is stored even if this
    is interrupted. In a gallery of residual geometry the unconditional vectors of the same
    pictures are computed too.

    Args:
        gallery: the gallery of the pictures.
        spec: the encoder, as the gallery stores it.
        condition: the condition; a table of the encoder with the same name in another spelling is
            used.
        keys: content keys, the most important first.
        load: loads the encoder; not called if there is nothing to do.
        progress: called after every batch.

    Returns:
        How many pictures were embedded. A picture counts as failed in the progress if no file of
        it can be read or the encoder gives no vector for it.

    Raises:
        GalleryLocked: if another process is writing; nothing was done.
        ModelError: if the model cannot be loaded or refuses the condition.
        GalleryError: if the gallery cannot be written to.
    """
    with SubsetEmbedder(gallery, spec, condition, load) as embedder:
        return embedder.embed(keys, progress)


def embed_in_memory(
    gallery: Gallery,
    encoder: BaseEncoder,
    table: VectorTable,
    keys: Sequence[str],
    paths: StoredPaths,
    progress: OnProgress = lambda state: None,
) -> VectorColumn:
    """Embed pictures under one condition without storing anything.

    Args:
        gallery: the gallery of the pictures.
        encoder: the encoder of ``table``.
        table: the condition; it need not exist in the gallery.
        keys: content keys.
        paths: content keys to stored paths.
        progress: called after every batch.

    Returns:
        The pictures that could be read and embedded, in key order, as they would be stored except
        that vectors are not rounded to float16.

    Raises:
        CiesError: from the encoder.
    """
    missing = dict.fromkeys(sorted(set(keys)), (table,))
    batches: list[EmbeddedBatch] = []
    spec = EncoderSpec.from_made_by(table.made_by)
    with closing(_PictureReader(gallery, spec)) as reader:
        for step in _embed_stepwise(reader, encoder, missing, paths):
            batches += step.batches
            progress(step.progress)
    return _sorted_column(batches, table)


def mark_for_filling(gallery: Gallery, table: VectorTable) -> None:
    """Let the next ingest complete a partial table; a complete one stays as it is.

    Args:
        gallery: the gallery.
        table: a table of this gallery, or one that it does not have yet.

    Raises:
        GalleryLocked: if another process is writing; nothing was done.
    """
    with gallery.writer() as writer:
        existing = next((other for other in gallery.conditions() if other == table), None)
        if existing is None or not existing.kept_up:
            writer.declare(replace(existing or table, partial=True, filling=True))


def _paths_by_key(gallery: Gallery, keys: Sequence[str]) -> dict[str, list[str]]:
    """The stored paths of pictures whose files could be read at the last scan."""
    table = gallery.read("files", FILES).select(["path", "key", "status"])
    wanted = pc.and_(
        pc.is_in(table.column("key"), pa.array(keys, pa.string())),
        pc.equal(table.column("status"), "done"),
    )
    paths: dict[str, list[str]] = {}
    for row in table.filter(wanted).sort_by("path").to_pylist():
        paths.setdefault(row["key"], []).append(row["path"])
    return paths


def _sorted_column(batches: Sequence[EmbeddedBatch], table: VectorTable) -> VectorColumn:
    column = vector_column(batches, table)
    order = sorted(range(len(column.keys)), key=column.keys.__getitem__)
    return VectorColumn(
        [column.keys[row] for row in order],
        column.vectors[order],
        [column.words[row] for row in order],
        column.word_probabilities[order],
        norms=None if column.norms is None else column.norms[order],
    )
