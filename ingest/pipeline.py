"""Fills a gallery: scan, drop what is there, read and decode ahead, encode, write, acknowledge.

Never prints; what happens is told to a callback. A file is recorded only after its picture's
vectors are on the disk, so a run that dies loses some seconds of work at most, and the next run
embeds just what is missing.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Sequence

from indexes.errors import CiesError, GalleryMismatch, UsageError
from indexes.gallery import Gallery
from indexes.geometry import Statistics
from indexes.records import FileRecord, VectorTable
from indexes.writer import Writer
from ingest.conditions import Condition, new_conditions
from ingest.embedding import condition_of
from ingest.encoders.base import Encoder, EncoderSpec
from ingest.encoders.options import DiorOptions
from ingest.flow import Flow, Stored
from ingest.inventory import Inventory
from ingest.plan import Plan, Unreachable
from ingest.readers import Readers
from ingest.sources.base import Found, SourceOptions
from ingest.sources.factory import Opened
from ingest.survey import open_all, survey

#: File records in one commit, where nothing is embedded.
_RECORDS = 20_000

LoadEncoder = Callable[[EncoderSpec | None], Encoder]


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        done: files dealt with.
        total: files found.
        embedded: pictures embedded by this run so far.
        failed: files that could not be read.
    """

    done: int
    total: int
    embedded: int
    failed: int


@dataclass
class IngestReport:
    """What a run did.

    Attributes:
        found: files looked at.
        unchanged: files the gallery already had, untouched since.
        known: new names of pictures the gallery already had, and files that are back.
        embedded: pictures embedded.
        gone: files of earlier scans that are not there now.
        relabelled: files of which the user's tables say something new.
        out_of_reach: pictures that lack a condition and cannot be read now.
        unreachable: sources of which nothing is left; nothing of theirs counts as gone.
        failed: the files that could not be taken in, with reasons.
        conditions: the gallery's conditions after the run.
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
    ):
        self.gallery = gallery
        self.writer = writer
        self.report = IngestReport()
        self._load = load
        self._progress = progress
        self._encoder: Encoder | None = None
        self._tables: list[tuple[Condition, VectorTable]] = []
        self._inventory: Inventory | None = None
        self._done = 0
        self._total = 0

    # -- conditions ------------------------------------------------------------------------

    def prepare(self, wanted: Sequence[Condition]) -> None:
        """Settle conditions and tables.

        Raises:
            UsageError: if there is no condition at all.
            ModelError: if the model refuses a condition.
        """
        old = self.gallery.conditions()
        self._tables = [(condition_of(table), table) for table in old]
        for table in old:
            self.writer.ensure(table)
        new = new_conditions(wanted, [table.name for table in old])
        if not old and not new:
            raise UsageError("No condition was named; add one, such as `--condition color`.")
        if new:
            spec = EncoderSpec.from_made_by(old[0].made_by) if old else None
            self._encoder = self._load(spec)
            self._encoder.check(new)
            for number, condition in enumerate(new, start=len(old)):
                made_by = self._encoder.spec.made_by(condition)
                table = VectorTable(condition.name, self._encoder.dimension, made_by)
                self.writer.declare(table, order=number)
                self._tables.append((condition, table))
        self._inventory = Inventory(self.gallery, [table for _, table in self._tables])
        self.report.conditions = [condition.name for condition, _ in self._tables]

    @property
    def inventory(self) -> Inventory:
        """What the gallery has; there after :meth:`prepare`."""
        assert self._inventory is not None
        return self._inventory

    # -- files -----------------------------------------------------------------------------

    def take(self, plan: Plan) -> None:
        """Read and embed what a plan says is to be done."""
        report = self.report
        report.found, report.unchanged, report.known = plan.found, plan.unchanged, plan.returned
        report.failed.extend(plan.failed)
        report.out_of_reach, report.unreachable = plan.out_of_reach, plan.unreachable
        self._done = plan.unchanged + plan.returned + len(plan.failed)
        self._total = self._done + len(plan.todo)
        self.put_files(plan.settled)
        self._tell()
        self._flow(plan)

    def put_files(self, records: Sequence[FileRecord]) -> None:
        """Record files that need no reading."""
        for start in range(0, len(records), _RECORDS):
            self.writer.put_files(records[start : start + _RECORDS])

    def _flow(self, plan: Plan) -> None:
        """Read, embed and store; what was embedded is stored even if something goes wrong."""
        spec = EncoderSpec.from_made_by(self._tables[0][1].made_by)
        readers: Readers[Found] = Readers(self.inventory.needed, spec.max_side)
        flow = Flow(self.writer, self.inventory, self._ready, self._stored)
        try:
            with closing(readers.ahead(plan.todo)) as ahead:
                for taken in ahead:
                    if taken.record.status != "done" and taken.record.path in plan.kept:
                        # What is known of it stays.
                        self._stored(Stored(1, [taken.record], 0, 0))
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
            self.report.embedding_seconds = flow.seconds
            if flow.note:
                self.report.notes.append(flow.note)

    def _stored(self, stored: Stored) -> None:
        """Acknowledge what is on the disk."""
        self.report.failed += stored.failed
        self._done += stored.files
        self.report.known += stored.known
        self.report.embedded += stored.embedded
        self._tell()

    def summarize(self) -> None:
        """Take the statistics of every condition anew."""
        for _, table in self._tables:
            parts = self.gallery.vector_parts(table)
            self.writer.put_statistics(table, Statistics.of_parts(parts, table.dimension))

    def _ready(self) -> Encoder:
        """The encoder, loaded when first needed: a run that finds nothing new needs no model."""
        if self._encoder is None:
            self._encoder = self._load(EncoderSpec.from_made_by(self._tables[0][1].made_by))
        return self._encoder

    def _tell(self) -> None:
        report = self.report
        embedded, failed = report.embedded, len(report.failed)
        self._progress(Progress(self._done, self._total, embedded, failed))


def check_same_model(gallery: Gallery, method: str, model: str) -> None:
    """Refuse to fill a gallery with another model's vectors.

    Args:
        gallery: what is to be filled.
        method: the method asked for.
        model: the model asked for, resolved, without revision.

    Raises:
        GalleryMismatch: naming both.
    """
    for table in gallery.conditions():
        spec = EncoderSpec.from_made_by(table.made_by)
        if (spec.method, spec.model) != (method, model):
            raise GalleryMismatch(
                f"The gallery at {gallery.path} was built with {spec.method} by {spec.model}, "
                f"not {method} by {model}; leave --model and --method out, or make another "
                "gallery with --gallery."
            )


def check_same_choices(
    gallery: Gallery, prompt: str | None, dtype: str, options: DiorOptions | None
) -> None:
    """Refuse to fill a gallery with vectors made in another way than its own.

    Args:
        gallery: what is to be filled.
        prompt: the template asked for; ``None`` for the gallery's own.
        dtype: asked for; ``auto`` for the gallery's own.
        options: asked for; ``None`` for the gallery's own.

    Raises:
        GalleryMismatch: naming what differs.
    """
    asked: dict[str, Any] = asdict(options) if options is not None else {}
    if prompt is not None:
        asked["prompt"] = prompt
    if dtype != "auto":
        asked["dtype"] = dtype
    for table in gallery.conditions():
        settings = EncoderSpec.from_made_by(table.made_by).settings
        own = {**asdict(DiorOptions.from_settings(settings)), **settings}
        for name, value in asked.items():
            if own.get(name) != value:
                raise GalleryMismatch(
                    f"The gallery at {gallery.path} was built with {name} {own.get(name)}, not "
                    f"{value}; leave --prompt, --dtype and the other choices of the encoder out, "
                    "or make another gallery with --gallery."
                )


def ingest(
    gallery: Gallery,
    sources: Sequence[str | Path | Opened],
    conditions: Sequence[Condition],
    load: LoadEncoder,
    progress: Callable[[Progress], None] = lambda state: None,
    options: SourceOptions | None = None,
    retry_failed: bool = False,
) -> IngestReport:
    """Embed the pictures of some sources into a gallery.

    New pictures are embedded under all the gallery's conditions; what lacks a condition, in any
    source, gets it. What is there already is not embedded again. Files of an earlier scan of the
    same source that are not there now are marked as gone and kept.

    Args:
        gallery: where to.
        sources: folders, files, patterns, tables, shards and addresses, or opened ones; none for
            all those the gallery remembers.
        conditions: wanted; those the gallery has are kept anyway.
        load: gives the encoder, of a given spec or, for an empty gallery, of the user's choice.
        progress: told after every batch.
        options: how the sources are read.
        retry_failed: whether to try again what could not be read and has not changed.

    Raises:
        UsageError: if a source is not there or cannot be used, or no condition is known.
        GalleryLocked: if another process is writing.
        ModelError: if the model cannot be had or refuses a condition.
    """
    started = time.monotonic()
    with gallery.writer() as writer:
        opened = open_all(gallery, sources, options or SourceOptions())
        run = _Run(gallery, writer, load, progress)
        run.prepare(conditions)
        found = survey(gallery, opened, run.inventory.needed, writer, retry_failed)
        run.take(found.plan)
        for records in found.planner.gone_records():
            run.put_files(records)
            run.report.gone += len(records)
        writer.forget_files(found.plan.outdated)
        run.report.relabelled = found.relabelled
        if run.report.embedded:
            run.summarize()
        note = writer.maintain(due_only=False)
        if note:
            run.report.notes.append(note)
    run.report.seconds = time.monotonic() - started
    return run.report
