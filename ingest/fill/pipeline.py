"""Fills a gallery: scan, drop what is there, read and decode ahead, encode, write, acknowledge.

Never prints; what happens is told to a callback. A file is recorded only after its picture's
vectors are on the disk, so a run that dies loses some seconds of work at most, and the next run
embeds just what is missing.
"""

from __future__ import annotations

import gc
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Iterator, Sequence

from indexes.errors import CiesError
from indexes.search.geometry import Statistics
from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord
from indexes.store.writer import Writer
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.fill.commit_queue import CommitQueue, Stored
from ingest.fill.inventory import Inventory, Share
from ingest.fill.preparation import LoadEncoder, prepare
from ingest.fill.vector_sources import VectorSource
from ingest.read.readers import Readers
from ingest.scan.plan import Plan, Unreachable
from ingest.scan.scan import open_all, survey
from ingest.sources.base import Found, SourceOptions
from ingest.sources.factory import Opened

#: File records in one commit, where nothing is embedded.
_RECORDS = 20_000


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        done: files dealt with.
        total: files found.
        embedded: pictures embedded so far.
        failed: files that could not be read.
        stage: where several encoders have something to do, one after the other, which of them is
            at work, such as ``1 of 2, clip by tiny-clip``; the other figures are of its stage.
    """

    done: int
    total: int
    embedded: int
    failed: int
    stage: str = ""


@dataclass
class VectorSourceReport:
    """What one encoder did in a run.

    Attributes:
        method: of the maker.
        model: of the maker.
        conditions: that it keeps up.
        embedded: pictures it embedded.
        seconds: it took for that.
    """

    method: str
    model: str
    conditions: list[str]
    embedded: int = 0
    seconds: float = 0.0


@dataclass
class IngestReport:
    """What a run did.

    Attributes:
        found: files looked at.
        unchanged: files the gallery already had, untouched since.
        known: new names of pictures the gallery already had, and files that are back.
        embedded: pictures embedded, by one encoder or several.
        gone: files of earlier scans that are not there now.
        relabelled: files of which the user's tables say something new.
        out_of_reach: pictures that lack a condition and cannot be read now.
        unreachable: sources of which nothing is left; nothing of theirs counts as gone.
        failed: the files that could not be taken in, with reasons.
        conditions: the gallery's conditions after the run.
        vector_sources: what each method and model did, in the order in which they were at work.
        seconds: wall clock.
        embedding_seconds: of these, spent on embedding.
        notes: what else there is to tell, such as maintenance that was put off.
    """

    found: int = 0
    unchanged: int = 0
    known: int = 0
    embedded: int = 0
    gone: int = 0
    relabelled: int = 0
    out_of_reach: int = 0
    unreachable: list[Unreachable] = field(default_factory=list)
    failed: list[FileRecord] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    vector_sources: list[VectorSourceReport] = field(default_factory=list)
    seconds: float = 0.0
    embedding_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


class _Run:
    """One ingest, from the lock to the report."""

    def __init__(
        self,
        gallery: Gallery,
        writer: Writer,
        load: LoadEncoder,
        progress: Callable[[Progress], None],
        finished: Callable[[BaseEncoder], None],
    ):
        self.gallery = gallery
        self.writer = writer
        self.report = IngestReport()
        self._load = load
        self._progress = progress
        self._finished = finished
        self._encoder: BaseEncoder | None = None
        self._makers: list[VectorSource] = []
        self._inventory: Inventory | None = None
        self._done = 0
        self._total = 0
        self._embedded = 0
        self._stage = ""

    # -- conditions ------------------------------------------------------------------------

    def prepare(self, wanted: Sequence[Condition], chosen: EncoderSpec | None, new: bool) -> None:
        """Settle makers, conditions and tables; see :func:`ingest.fill.preparation.prepare`."""
        ready = prepare(self.gallery, self.writer, self._load, wanted, chosen, new)
        self._makers, self._encoder = ready.vector_sources, ready.encoder
        tables = [table for table in self.gallery.conditions() if table.kept_up]
        self._inventory = Inventory(self.gallery, tables)
        self.report.conditions = list(dict.fromkeys(table.name for table in tables))
        self.report.vector_sources = [
            VectorSourceReport(m.spec.method, m.spec.model, [table.name for table in m.tables])
            for m in self._makers
        ]

    @property
    def inventory(self) -> Inventory:
        """What the gallery has; there after :meth:`prepare`."""
        assert self._inventory is not None
        return self._inventory

    # -- files -----------------------------------------------------------------------------

    def take(self, plan: Plan) -> None:
        """Read and embed what a plan says is to be done, with one encoder after the other."""
        report = self.report
        report.found, report.unchanged, report.known = plan.found, plan.unchanged, plan.returned
        report.failed.extend(plan.failed)
        report.out_of_reach, report.unreachable = plan.out_of_reach, plan.unreachable
        dealt_with = plan.unchanged + plan.returned + len(plan.failed)
        self.put_files(plan.settled)
        shares = [self.inventory.share(vector_source.tables) for vector_source in self._makers]
        settled: set[str] | None = set() if len(shares) > 1 else None
        at_work = [any(True for _ in _todo(plan, share, settled)) for share in shares]
        number = 0
        for vector_source, share, own, busy in zip(
            self._makers, shares, report.vector_sources, at_work, strict=True
        ):
            todo = list(_todo(plan, share, settled)) if settled is not None else plan.todo
            if busy and todo:
                number += 1
                self._done, self._total = dealt_with, dealt_with + len(todo)
                self._embedded = 0
                if sum(at_work) > 1:
                    by = f"{vector_source.spec.method} by {vector_source.spec.model}"
                    self._stage = f"{number} of {sum(at_work)}, {by}"
                self._tell()
                self._flow(vector_source, share, plan, todo, settled, own)
            self._release()
        if not number:
            self._done = self._total = dealt_with
            self._tell()
        if settled is not None:
            left = sum(f.path not in plan.kept and f.path not in settled for f in plan.todo)
            if left:
                report.notes.append(
                    f"{left} files changed while they were read; run this again to take them in"
                )

    def put_files(self, records: Sequence[FileRecord]) -> None:
        """Record files that need no reading."""
        for start in range(0, len(records), _RECORDS):
            self.writer.put_files(records[start : start + _RECORDS])

    def _flow(
        self,
        vector_source: VectorSource,
        share: Share,
        plan: Plan,
        todo: Sequence[Found],
        settled: set[str] | None,
        own: VectorSourceReport,
    ) -> None:
        """Read, embed and store; what was embedded is stored even if something goes wrong."""
        readers: Readers[Found] = Readers(share.needed, vector_source.spec.max_side)

        def stored(what: Stored) -> None:
            own.embedded += what.embedded
            self._stored(what)

        flow = CommitQueue(
            self.writer, self.inventory, share, lambda: self._ready(vector_source), stored, settled
        )
        try:
            with closing(readers.ahead(todo)) as ahead:
                for taken in ahead:
                    if taken.record.status != "done" and taken.record.path in plan.kept:
                        # What is known of it stays.
                        if settled is not None:
                            settled.add(taken.record.path)
                        self._stored(Stored(1, [taken.record]))
                    else:
                        flow.add(taken)
            flow.finish()
        except CiesError:
            # The first error is the one to tell.
            with suppress(CiesError):
                flow.rescue()
            raise
        except BaseException:
            flow.rescue()
            raise
        finally:
            own.seconds = flow.seconds
            self.report.embedding_seconds += flow.seconds
            if flow.note and flow.note not in self.report.notes:
                self.report.notes.append(flow.note)

    def _stored(self, stored: Stored) -> None:
        """Acknowledge what is on the disk."""
        self.report.failed += stored.failed
        self._done += stored.files
        self.report.known += stored.known
        self.report.embedded += stored.fresh
        self._embedded += stored.embedded
        self._tell()

    def summarize(self) -> None:
        """Take the statistics anew where something was embedded, and call whole what is filled."""
        for vector_source, own in zip(self._makers, self.report.vector_sources, strict=True):
            for table in vector_source.tables:
                if own.embedded:
                    parts = self.gallery.vector_parts(table)
                    self.writer.put_statistics(table, Statistics.of_parts(parts, table.dimension))
                if table.partial:
                    self.writer.declare(replace(table, partial=False, filling=False))

    def _ready(self, vector_source: VectorSource) -> BaseEncoder:
        """A maker's encoder, loaded when first needed: a run that finds nothing new needs none."""
        if self._encoder is None:
            self._encoder = self._load(vector_source.spec)
        return self._encoder

    def _release(self) -> None:
        """Let an encoder go before the next is loaded: two large ones may not fit in memory."""
        if self._encoder is not None:
            self._finished(self._encoder)
            self._encoder = None
            gc.collect()

    def _tell(self) -> None:
        failed = len(self.report.failed)
        self._progress(Progress(self._done, self._total, self._embedded, failed, self._stage))


def _todo(plan: Plan, share: Share, settled: set[str] | None) -> Iterator[Found]:
    """The files that a maker must look at, and nobody has recorded yet."""
    for found in plan.todo:
        if settled is not None and found.path in settled:
            continue
        key = plan.kept.get(found.path)
        if key is None or share.needed(key):
            yield found


def ingest(
    gallery: Gallery,
    sources: Sequence[str | Path | Opened],
    conditions: Sequence[Condition],
    load: LoadEncoder,
    progress: Callable[[Progress], None] = lambda state: None,
    options: SourceOptions | None = None,
    retry_failed: bool = False,
    vector_source: EncoderSpec | None = None,
    new_maker: bool = False,
    finished: Callable[[BaseEncoder], None] = lambda encoder: None,
) -> IngestReport:
    """Embed the pictures of some sources into a gallery.

    New pictures are embedded by every method and model of the gallery under all its conditions;
    what lacks a condition, in any source, gets it. What is there already is not embedded again,
    and partial tables are completed only if their condition is asked for or they were marked for
    it. Files of an earlier scan of the same source that are not there now are marked as gone and
    kept. One encoder is loaded at a time; a file counts as done when all have seen its picture.

    Args:
        gallery: where to.
        sources: folders, files, patterns, tables, shards and addresses, or opened ones; none for
            all those the gallery remembers.
        conditions: wanted; those the gallery has are kept anyway. A method that knows none of
            them has one table, under ``unconditional``, whatever is wanted.
        load: gives the encoder of a given spec or, for ``None``, of the user's choice.
        progress: told after every batch.
        options: how the sources are read.
        retry_failed: whether to try again what could not be read and has not changed.
        vector_source: whose conditions are wanted; the gallery's main maker by default.
        new_maker: whether the user's choice is to be added to the gallery's makers; for an empty
            gallery it is in any case.
        finished: told of each encoder when it has done its part.

    Raises:
        UsageError: if a source is not there or cannot be used, or no condition is known.
        GalleryLocked: if another process is writing.
        GalleryMismatch: if the gallery has vectors by the same model made in another way.
        ModelError: if the model cannot be had or refuses a condition.
    """
    started = time.monotonic()
    with gallery.writer() as writer:
        opened = open_all(gallery, sources, options or SourceOptions())
        run = _Run(gallery, writer, load, progress, finished)
        run.prepare(conditions, vector_source, new_maker)
        found = survey(gallery, opened, run.inventory.needed, writer, retry_failed)
        run.take(found.plan)
        for records in found.planner.gone_records():
            run.put_files(records)
            run.report.gone += len(records)
        writer.forget_files(found.plan.outdated)
        run.report.relabelled = found.relabelled
        run.summarize()
        note = writer.maintain(due_only=False)
        if note:
            run.report.notes.append(note)
    run.report.seconds = time.monotonic() - started
    return run.report
