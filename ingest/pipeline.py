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
from indexes.gallery import Gallery, Writer
from indexes.geometry import Statistics
from indexes.records import FileRecord, VectorTable
from ingest.conditions import Condition, same_name
from ingest.embedding import condition_of
from ingest.encoders.base import Encoder, EncoderSpec
from ingest.encoders.options import DiorOptions
from ingest.flow import Flow, Stored
from ingest.images import FileBytes, read_bytes
from ingest.inventory import Inventory
from ingest.readers import Readers
from ingest.scan import Found, scan

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
        known: new names of pictures the gallery already had.
        embedded: pictures embedded.
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
    failed: list[FileRecord] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    seconds: float = 0.0
    embedding_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    """A file to be read, for :class:`ingest.readers.Readers`."""

    path: str
    size: int
    mtime_ns: int
    place: Path

    def read(self) -> FileBytes:
        return read_bytes(self.place)


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

    # -- conditions ------------------------------------------------------------------------

    def prepare(self, wanted: Sequence[Condition]) -> bool:
        """Settle conditions and tables; returns whether a condition is new to the gallery.

        Raises:
            UsageError: if there is no condition at all.
            ModelError: if the model refuses a condition.
        """
        old = self.gallery.conditions()
        self._tables = [(condition_of(table), table) for table in old]
        for table in old:
            self.writer.ensure(table)
        new: list[Condition] = []
        for condition in wanted:
            taken = [*(table.name for table in old), *(other.name for other in new)]
            if not any(same_name(condition.name, name) for name in taken):
                new.append(condition)
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
        return bool(new and old)

    # -- files -----------------------------------------------------------------------------

    def take(self, found: Sequence[Found], known: dict[str, FileRecord]) -> None:
        """Deal with every file found."""
        assert self._inventory is not None
        self.report.found = len(found)
        todo: list[_Source] = []
        failed: list[FileRecord] = []
        for file in found:
            path = self.gallery.stored(file.path)
            old = known.get(path)
            same = old and (old.size, old.mtime_ns) == (file.size, file.mtime_ns)
            if file.status:
                record = FileRecord(path, "", file.size, file.mtime_ns, file.status, file.reason)
                self._fail(record)
                if record != old:
                    failed.append(record)
            elif old and same and old.status == "done" and not self._inventory.needed(old.key):
                self.report.unchanged += 1
                self._done += 1
            elif old and same and old.status != "done":
                self._fail(old)
            else:
                todo.append(_Source(path, file.size, file.mtime_ns, file.path))
        self.writer.put_files(failed)
        self._tell()
        self._flow(todo)

    def _flow(self, todo: Sequence[_Source]) -> None:
        """Read, embed and store; what was embedded is stored even if something goes wrong."""
        assert self._inventory is not None
        spec = EncoderSpec.from_made_by(self._tables[0][1].made_by)
        readers: Readers[_Source] = Readers(self._inventory.needed, spec.max_side)
        flow = Flow(self.writer, self._inventory, self._ready, self._stored)
        try:
            with closing(readers.ahead(todo)) as ahead:
                for taken in ahead:
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

    def _fail(self, record: FileRecord) -> None:
        self.report.failed.append(record)
        self._done += 1

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
        self._progress(Progress(self._done, report.found, embedded, failed))


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
    sources: Sequence[Path],
    conditions: Sequence[Condition],
    load: LoadEncoder,
    progress: Callable[[Progress], None] = lambda state: None,
) -> IngestReport:
    """Embed the pictures of some folders into a gallery.

    New pictures are embedded under all the gallery's conditions; a new condition is filled for
    all the gallery's pictures. What is there already is not embedded again.

    Args:
        gallery: where to.
        sources: folders and files.
        conditions: wanted; those the gallery has are kept anyway.
        load: gives the encoder, of a given spec or, for an empty gallery, of the user's choice.
        progress: told after every batch.

    Raises:
        UsageError: if a source is not there, or no condition is known.
        GalleryLocked: if another process is writing.
        ModelError: if the model cannot be had or refuses a condition.
    """
    for source in sources:
        if not source.exists() and not source.is_symlink():
            raise UsageError(f"There is no file or folder {source}; check the path.")
    started = time.monotonic()
    with gallery.writer() as writer:
        run = _Run(gallery, writer, load, progress)
        grown = run.prepare(conditions)
        known = {record.path: record for record in gallery.files()}
        found = {file.path.absolute(): file for source in sources for file in scan(source)}
        if grown:
            for path, record in known.items():
                place = gallery.absolute(path)
                if record.status == "done" and place not in found:
                    found.update({file.path: file for file in scan(place)})
        run.take(list(found.values()), known)
        if run.report.embedded:
            run.summarize()
        note = writer.maintain(due_only=False)
        if note:
            run.report.notes.append(note)
    run.report.seconds = time.monotonic() - started
    return run.report
