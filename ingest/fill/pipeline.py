"""Fills a gallery: scans sources, reads and decodes pictures, embeds them and stores the vectors.

Nothing is printed; callbacks report what happens. A file is recorded only after its picture's
vectors are on the disk, so an interrupted run loses some seconds of work at most, and the next run
resumes: :mod:`ingest.scan.plan` and :mod:`ingest.fill.inventory` find what is missing.
"""

from __future__ import annotations

import gc
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Iterator, Sequence

from indexes.errors import CiesError
from indexes.progress import published_progress
from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord
from indexes.store.writer import Writer
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.fill.commit_queue import CommitQueue, CommitResult
from ingest.fill.inventory import Inventory, SourceInventory
from ingest.fill.preparation import LoadEncoder, PreparedRun, prepare
from ingest.fill.prune import sources_without_files
from ingest.fill.vector_sources import VectorSource
from ingest.read.readers import Readers
from ingest.scan.moved import moved_files
from ingest.scan.plan import IngestPlan, UnreachableSource
from ingest.scan.scan import open_all_sources, scan_sources
from ingest.sources.base import SourceFile, SourceOptions
from ingest.sources.factory import SourceGroup, left_out

#: File records in one commit of files that need no embedding.
_RECORDS = 20_000

#: Pictures that a remark names.
_EXAMPLES = 3


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        done: files processed.
        total: files to process.
        embedded: pictures embedded so far.
        failed: files that could not be read.
        stage: if several encoders embed one after the other, which of them embeds now, such as
            ``1 of 2, clip by tiny-clip``; the other figures are those of this stage.
    """

    done: int
    total: int
    embedded: int
    failed: int
    stage: str = ""


@dataclass(frozen=True)
class IngestEvents:
    """Callbacks of an ingest; each does nothing by default.

    Attributes:
        progress: called after every batch.
        loaded: called with each encoder after it was loaded.
        finished: called with each encoder after it has embedded its last picture.
    """

    progress: Callable[[Progress], None] = lambda state: None
    loaded: Callable[[BaseEncoder], None] = lambda encoder: None
    finished: Callable[[BaseEncoder], None] = lambda encoder: None


@dataclass
class VectorSourceReport:
    """What one vector source did in a run.

    Attributes:
        method: the method of the encoder.
        model: the model of the encoder.
        conditions: the conditions that it embeds.
        embedded: pictures that it embedded.
        seconds: time spent on embedding.
    """

    method: str
    model: str
    conditions: list[str]
    embedded: int = 0
    seconds: float = 0.0


@dataclass
class Remark:
    """Something that was ignored in some pictures, or that a decoder complained of.

    Attributes:
        reason: what it was, the same for all of them.
        files: how many pictures.
        examples: the paths of the first.
    """

    reason: str
    files: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class IngestReport:
    """The result of a run.

    Attributes:
        found: files in the sources.
        unchanged: files that the gallery already had and that did not change.
        known: new names of pictures that the gallery already had, and files that exist again.
        embedded: pictures embedded, by one encoder or several.
        gone: files of earlier scans that do not exist now.
        moved: files whose pictures were found at other paths, while nothing is at the old ones.
        relabelled: files whose user's columns changed.
        out_of_reach: pictures that lack a condition and cannot be read now.
        unreachable: sources that have no file any more; none of their files counts as gone.
        failed: files that could not be read or embedded, with reasons.
        left_out: what the sources left out without looking at it, see
            :attr:`ingest.sources.base.Source.left_out`.
        remarks: what was ignored in pictures that could be read, by reason.
        conditions: the gallery's conditions after the run.
        vector_sources: the report of each vector source, in the order in which they embedded.
        seconds: wall-clock time.
        embedding_seconds: of these, time spent on embedding.
        notes: notes for the user, such as maintenance that was postponed.
    """

    found: int = 0
    unchanged: int = 0
    known: int = 0
    embedded: int = 0
    gone: int = 0
    moved: int = 0
    relabelled: int = 0
    out_of_reach: int = 0
    unreachable: list[UnreachableSource] = field(default_factory=list)
    failed: list[FileRecord] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    vector_sources: list[VectorSourceReport] = field(default_factory=list)
    seconds: float = 0.0
    embedding_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


class _Run:
    """One ingest, after its vector sources and conditions are settled."""

    def __init__(
        self,
        gallery: Gallery,
        writer: Writer,
        prepared: PreparedRun,
        load: LoadEncoder,
        events: IngestEvents,
    ):
        self._gallery = gallery
        self._writer = writer
        self._load = load
        self._events = events
        self._sources, self._encoder = prepared.vector_sources, prepared.encoder
        tables = [table for table in gallery.conditions() if table.kept_up]
        self.inventory = Inventory(gallery, tables)
        self.report = IngestReport(
            conditions=list(dict.fromkeys(table.name for table in tables)),
            vector_sources=[
                VectorSourceReport(
                    s.spec.method, s.spec.model, list(dict.fromkeys(t.name for t in s.tables))
                )
                for s in self._sources
            ],
            notes=list(prepared.notes),
        )
        #: Paths of recorded files; ``None`` if there is one vector source, which records all.
        self._settled: set[str] | None = set() if len(self._sources) > 1 else None
        self._remarked: set[tuple[str, str]] = set()
        self._done = 0
        self._total = 0
        self._embedded = 0
        self._stage = ""

    def embed_planned(self, plan: IngestPlan) -> None:
        """Read and embed the files of a plan, with one encoder after the other."""
        report = self.report
        report.found, report.unchanged, report.known = plan.found, plan.unchanged, plan.returned
        report.failed.extend(plan.failed)
        report.out_of_reach, report.unreachable = plan.out_of_reach, plan.unreachable
        processed = plan.unchanged + plan.returned + len(plan.failed)
        self.put_files(plan.settled)
        inventories = [self.inventory.of_source(source.tables) for source in self._sources]
        has_work = [any(True for _ in self._todo(plan, own)) for own in inventories]
        stage = 0
        for source, own, source_report, busy in zip(
            self._sources, inventories, report.vector_sources, has_work, strict=True
        ):
            todo = list(self._todo(plan, own)) if self._settled is not None else plan.todo
            if busy and todo:
                stage += 1
                self._done, self._total = processed, processed + len(todo)
                self._embedded = 0
                if sum(has_work) > 1:
                    by = f"{source.spec.method} by {source.spec.model}"
                    self._stage = f"{stage} of {sum(has_work)}, {by}"
                self._report_progress()
                self._embed_files(source, own, plan, todo, source_report)
            self._release_encoder()
        if not stage:
            self._done = self._total = processed
            self._report_progress()
        if self._settled is not None:
            left = sum(f.path not in plan.kept and f.path not in self._settled for f in plan.todo)
            if left:
                report.notes.append(
                    f"{left} files changed while they were read; run this again to ingest them"
                )

    def put_files(self, records: Sequence[FileRecord]) -> None:
        """Record files that need no reading."""
        for start in range(0, len(records), _RECORDS):
            self._writer.put_files(records[start : start + _RECORDS])

    def record_moved(self, seen: Callable[[Sequence[str]], Sequence[bool]]) -> None:
        """Mark the old paths of files that were moved as gone; see :func:`moved_files`."""
        records = moved_files(self._gallery, seen)
        self.put_files(records)
        self.report.moved = len(records)
        if records:
            self.report.notes += [
                f"source {name} is not there any more, and all its pictures were found elsewhere; "
                "`cies prune` forgets it"
                for name in sorted(sources_without_files(self._gallery))
            ]

    def _todo(self, plan: IngestPlan, inventory: SourceInventory) -> Iterator[SourceFile]:
        """The files that a vector source must read and no other has recorded yet."""
        for file in plan.todo:
            if self._settled is not None and file.path in self._settled:
                continue
            key = plan.kept.get(file.path)
            if key is None or inventory.needed(key):
                yield file

    def _embed_files(
        self,
        source: VectorSource,
        inventory: SourceInventory,
        plan: IngestPlan,
        todo: Sequence[SourceFile],
        source_report: VectorSourceReport,
    ) -> None:
        """Read, embed and store files; what was embedded is stored even after an error."""
        readers: Readers[SourceFile] = Readers(
            inventory.needed, source.spec.max_side, source.spec.pixels
        )

        def on_stored(result: CommitResult) -> None:
            source_report.embedded += result.embedded
            self._add_result(result)

        queue = CommitQueue(
            self._writer,
            self.inventory,
            inventory,
            lambda: self._loaded_encoder(source),
            on_stored,
            self._settled,
        )
        try:
            with closing(readers.read_all(todo)) as results:
                for result in results:
                    path = result.record.path
                    if result.picture is not None:
                        self._add_remarks(path, result.picture.notes)
                    if result.record.status != "done" and path in plan.kept:
                        # The stored record of an incomplete picture stays as it is.
                        if self._settled is not None:
                            self._settled.add(path)
                        self._add_result(CommitResult(1, [result.record]))
                    else:
                        queue.add(result)
            queue.finish()
        except CiesError:
            # Report the first error, not one that follows from it.
            with suppress(CiesError):
                queue.rescue()
            raise
        except BaseException:
            queue.rescue()
            raise
        finally:
            source_report.seconds = queue.seconds
            self.report.embedding_seconds += queue.seconds
            if queue.note and queue.note not in self.report.notes:
                self.report.notes.append(queue.note)

    def _add_remarks(self, path: str, notes: Sequence[str]) -> None:
        """Count the notes on a picture; each vector source may have read it."""
        for note in notes:
            if (note, path) in self._remarked:
                continue
            self._remarked.add((note, path))
            remarks = self.report.remarks
            remark = next((one for one in remarks if one.reason == note), None)
            if remark is None:
                remark = Remark(note)
                remarks.append(remark)
            remark.files += 1
            if len(remark.examples) < _EXAMPLES:
                remark.examples.append(path)

    def _add_result(self, result: CommitResult) -> None:
        """Add what was stored to the report and to the progress."""
        self.report.failed += result.failed
        self._done += result.files
        self.report.known += result.known
        self.report.embedded += result.fresh
        self._embedded += result.embedded
        self._report_progress()

    def note_old_pixels(self) -> None:
        """Say what a gallery would gain whose pictures are read as by an earlier version."""
        notes = dict.fromkeys(source.spec.outdated_pixels for source in self._sources)
        if self.report.embedded:
            self.report.notes += [note.rstrip(".") for note in notes if note]

    def finish_tables(self) -> None:
        """Update the statistics of tables that grew, and mark filled tables as complete."""
        for source, source_report in zip(self._sources, self.report.vector_sources, strict=True):
            if source_report.embedded:
                statistics = {t.table: self._gallery.computed_statistics(t) for t in source.tables}
                self._writer.put_statistics(statistics)
            for table in source.tables:
                if table.partial:
                    self._writer.declare(replace(table, partial=False, filling=False))

    def _loaded_encoder(self, source: VectorSource) -> BaseEncoder:
        """The encoder of a source, loaded when the first picture is embedded."""
        if self._encoder is None:
            self._encoder = self._load(source.spec)
        return self._encoder

    def _release_encoder(self) -> None:
        """Free an encoder before the next is loaded, because two may not fit in memory."""
        if self._encoder is not None:
            self._events.finished(self._encoder)
            self._encoder = None
            gc.collect()

    def _report_progress(self) -> None:
        failed = len(self.report.failed)
        self._events.progress(
            Progress(self._done, self._total, self._embedded, failed, self._stage)
        )


def ingest(
    gallery: Gallery,
    sources: Sequence[str | Path | SourceGroup],
    conditions: Sequence[Condition],
    load: LoadEncoder,
    *,
    target: EncoderSpec | None = None,
    is_new: bool = False,
    source_options: SourceOptions | None = None,
    retry_failed: bool = False,
    events: IngestEvents | None = None,
    layers: Sequence[int] = (),
) -> IngestReport:
    """Embed the pictures of some sources into a gallery.

    New pictures are embedded by every vector source of the gallery under all its conditions, and
    pictures that lack a condition, in any source of pictures, get it. Existing vectors are not
    computed again, and partial tables are completed only if their condition is wanted or they are
    marked for filling. Files of an earlier scan of the same source that do not exist now are
    marked as gone and kept. One encoder is loaded at a time; a file counts as done when all have
    embedded its picture.

    Args:
        gallery: the gallery to fill.
        sources: folders, files, patterns, tables, shards and addresses, or sources that are
            already open; none for all that the gallery remembers.
        conditions: wanted conditions; those of the gallery are always included. A method that is
            not conditional has one table, ``unconditional``, whatever is wanted.
        load: loads the encoder of a specification or, for ``None``, the one that the user chose.
        target: the vector source that embeds under ``conditions``; the gallery's main one by
            default.
        is_new: whether the encoder that the user chose is added to the gallery; in an empty
            gallery it always is.
        source_options: how the sources are read.
        retry_failed: whether to read files again that could not be read before.
        events: callbacks.
        layers: the layers of the model to embed by, in one pass, each a vector source of its own;
            the one of the encoder by default.

    Raises:
        UsageError: if a source does not exist or cannot be used, or there is no condition.
        GalleryLocked: if another process is writing.
        GalleryMismatch: if the gallery has vectors by the same model with other settings.
        ModelError: if the model cannot be loaded or refuses a condition.
    """
    started = time.monotonic()
    events = events or IngestEvents()

    def load_and_report(spec: EncoderSpec | None) -> BaseEncoder:
        encoder = load(spec)
        events.loaded(encoder)
        return encoder

    with gallery.writer() as writer, published_progress(gallery.indexes) as publish:

        def report(state: Progress) -> None:
            publish(state.done, state.total, state.failed)
            events.progress(state)

        writer.put_root(gallery.root)
        groups = open_all_sources(gallery, sources, source_options or SourceOptions())
        # Only the run may refer to the encoder, so that it can free it before loading the next.
        run = _Run(
            gallery,
            writer,
            prepare(gallery, writer, load_and_report, conditions, target, is_new, layers),
            load_and_report,
            replace(events, progress=report),
        )
        scan = scan_sources(gallery, groups, run.inventory.needed, writer, retry_failed)
        run.report.left_out = left_out(groups)
        run.embed_planned(scan.plan)
        for records in scan.planner.gone_records():
            run.put_files(records)
            run.report.gone += len(records)
        writer.forget_files(scan.plan.outdated)
        if scan.plan.new or scan.plan.changed or scan.plan.returned:
            run.record_moved(scan.planner.seen)
        run.report.relabelled = scan.relabelled
        run.report.notes += scan.notes
        run.finish_tables()
        run.note_old_pixels()
        note = writer.maintain(due_only=False)
        if note:
            run.report.notes.append(note)
    run.report.seconds = time.monotonic() - started
    return run.report
