"""Fills a gallery: scan, drop what is there, read and decode ahead, encode, write, acknowledge.

Never prints; what happens is told to a callback. A file is recorded only after its picture's
vectors are on the disk, so a run that dies loses at most the batch in hand, and the next run
embeds just what is missing.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Sequence

from indexes.errors import GalleryMismatch, UsageError
from indexes.gallery import Gallery, Writer
from indexes.geometry import Statistics
from indexes.records import FileRecord, ImageRecord, VectorTable
from ingest.conditions import Condition, same_name
from ingest.encoders.base import Encoder, EncoderSpec
from ingest.encoders.options import DiorOptions
from ingest.images import Picture, UnreadableImage, decode, read_bytes
from ingest.scan import Found, scan

#: Most pictures embedded and written at once, and the seconds a batch should take: what a crash
#: can cost, and how long nothing moves on the screen.
BATCH = 64
_BATCH_SECONDS = 5.0

#: Pictures in the first batch, before the speed is known.
_FIRST_BATCH = 8

#: Threads that read and decode, and how many pictures they may be ahead of the model.
_READERS = 2
_AHEAD = 2 * BATCH

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
        embedding_seconds: of these, spent on embedding and writing.
    """

    found: int = 0
    unchanged: int = 0
    known: int = 0
    embedded: int = 0
    failed: list[FileRecord] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    seconds: float = 0.0
    embedding_seconds: float = 0.0


@dataclass(frozen=True)
class _Taken:
    """A file as the readers hand it over; ``picture`` only if something is to be embedded."""

    record: FileRecord
    picture: Picture | None


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
        self._have: dict[str, set[str]] = {}
        self._pictures: dict[str, Picture] = {}
        self._files: list[FileRecord] = []
        self._done = 0
        self._batch = min(_FIRST_BATCH, BATCH)

    # -- conditions ------------------------------------------------------------------------

    def prepare(self, wanted: Sequence[Condition]) -> bool:
        """Settle conditions and tables; returns whether a condition is new to the gallery.

        Raises:
            UsageError: if there is no condition at all.
            ModelError: if the model refuses a condition.
        """
        old = self.gallery.conditions()
        self._tables = [(_condition(table), table) for table in old]
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
        self._have = {table.table: self.gallery.keys(table) for _, table in self._tables}
        self.report.conditions = [condition.name for condition, _ in self._tables]
        return bool(new and old)

    def _missing(self, key: str) -> tuple[int, ...]:
        """Numbers of the conditions a picture is not yet embedded under."""
        return tuple(
            number
            for number, (_, table) in enumerate(self._tables)
            if key not in self._have[table.table]
        )

    # -- files -----------------------------------------------------------------------------

    def take(self, found: Sequence[Found], known: dict[str, FileRecord]) -> None:
        """Deal with every file found."""
        self.report.found = len(found)
        todo: list[tuple[Found, str]] = []
        for file in found:
            path = self.gallery.stored(file.path)
            old = known.get(path)
            same = old and (old.size, old.mtime_ns) == (file.size, file.mtime_ns)
            if file.status:
                record = FileRecord(path, "", file.size, file.mtime_ns, file.status, file.reason)
                self._fail(record, new=record != old)
            elif old and same and old.status == "done" and not self._missing(old.key):
                self.report.unchanged += 1
                self._done += 1
            elif old and same and old.status != "done":
                self._fail(old, new=False)
            else:
                todo.append((file, path))
        self._tell()
        for taken in self._read_ahead(todo):
            self._accept(taken)
            if len(self._pictures) >= self._batch or len(self._files) >= 20 * BATCH:
                self.flush()
        self.flush()

    def _read_ahead(self, todo: Iterable[tuple[Found, str]]) -> Iterator[_Taken]:
        """Read in threads, in order, never more than a bounded number ahead."""
        waiting: deque[Future[_Taken]] = deque()
        with ThreadPoolExecutor(_READERS, thread_name_prefix="reader") as pool:
            try:
                for file, path in todo:
                    waiting.append(pool.submit(self._read, file, path))
                    if len(waiting) >= _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _read(self, file: Found, path: str) -> _Taken:
        key, size, mtime_ns = "", file.size, file.mtime_ns
        try:
            content = read_bytes(file.path)
            key, size, mtime_ns = content.key, content.size, content.mtime_ns
            picture = decode(content.data) if self._missing(key) else None
        except UnreadableImage as error:
            record = FileRecord(path, key, size, mtime_ns, error.status, error.reason)
            return _Taken(record, None)
        return _Taken(FileRecord(path, key, size, mtime_ns, "done"), picture)

    def _accept(self, taken: _Taken) -> None:
        record = taken.record
        if record.status != "done":
            self._fail(record, new=True)
        else:
            self._files.append(record)
            self._done += 1
            if taken.picture is None or record.key in self._pictures:
                self.report.known += 1
            else:
                self._pictures[record.key] = taken.picture

    def _fail(self, record: FileRecord, new: bool) -> None:
        self.report.failed.append(record)
        self._done += 1
        if new:
            self._files.append(record)

    # -- embedding and writing -------------------------------------------------------------

    def flush(self) -> None:
        """Embed and store what is in hand; vectors first, so that no file is claimed too early."""
        count = len(self._pictures)
        if count:
            self._ready()  # loaded here, so that loading is not taken for embedding
        started = time.monotonic()
        groups: dict[tuple[int, ...], list[str]] = {}
        for key in self._pictures:
            missing = self._missing(key)
            if missing:
                groups.setdefault(missing, []).append(key)
        for missing, keys in groups.items():
            self._embed(missing, keys)
        self.writer.put_images(
            [
                ImageRecord(key, *picture.image.size, picture.format, picture.taken_at)
                for key, picture in self._pictures.items()
            ]
        )
        self.writer.put_files(self._files)
        self.report.embedded += sum(len(keys) for keys in groups.values())
        self._pictures.clear()
        self._files.clear()
        if count:
            spent = time.monotonic() - started
            self.report.embedding_seconds += spent
            rate = count / spent
            self._batch = max(1, min(BATCH, 4 * count, round(rate * _BATCH_SECONDS)))
        self._tell()

    def _embed(self, missing: tuple[int, ...], keys: list[str]) -> None:
        conditions = [self._tables[number][0] for number in missing]
        images = [self._pictures[key].image for key in keys]
        reading = self._ready().read(images, conditions)
        for column, number in enumerate(missing):
            table = self._tables[number][1]
            words = [row[column] for row in reading.words]
            self.writer.put_vectors(
                table,
                keys,
                reading.vectors[:, column],
                words,
                reading.word_probabilities[:, column],
            )
            self._have[table.table].update(keys)

    def summarize(self) -> None:
        """Take the statistics of every condition anew."""
        for _, table in self._tables:
            vectors = self.gallery.column(table).vectors
            self.writer.put_statistics(table, Statistics.of(vectors))

    def _ready(self) -> Encoder:
        """The encoder, loaded when first needed: a run that finds nothing new needs no model."""
        if self._encoder is None:
            self._encoder = self._load(EncoderSpec.from_made_by(self._tables[0][1].made_by))
        return self._encoder

    def _tell(self) -> None:
        report = self.report
        embedded, failed = report.embedded, len(report.failed)
        self._progress(Progress(self._done, report.found, embedded, failed))


def _condition(table: VectorTable) -> Condition:
    return Condition(table.name, str(table.made_by["phrase"]))


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
            writer.compact()
    run.report.seconds = time.monotonic() - started
    return run.report
