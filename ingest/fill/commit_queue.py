"""From files that were read to rows that are stored: encoding and writing, one beside the other.

While a batch is being encoded the one before it is written, by a thread of its own, and the
readers are ahead with the next. A file counts as done only when its vectors are on the disk.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Callable, Mapping, Sequence

from indexes.store.records import FileRecord, VectorTable
from indexes.store.writer import Writer
from ingest.encoders.base import BaseEncoder
from ingest.fill.commit import commit
from ingest.fill.embedding import Embedded, embed
from ingest.fill.inventory import Inventory, Share
from ingest.read.images import Picture
from ingest.read.readers import AHEAD_BYTES, ReadResult

#: Most pictures embedded at once, and the seconds a batch should take: how long nothing moves on
#: the screen.
BATCH = 64
BATCH_SECONDS = 5.0

#: Pictures in the first batch, before the speed is known.
FIRST_BATCH = 8

#: A commit is due after so many seconds, or files. With the batch in hand and the commit under
#: way, a crash costs three times these seconds of work at most, unless one picture takes longer.
COMMIT_SECONDS = 5.0
COMMIT_FILES = 2048


@dataclass(frozen=True)
class Stored:
    """What one commit made durable.

    Attributes:
        files: how many were dealt with, whether they are recorded now or wait for another maker.
        failed: records of those that could not be read, or that the encoder gave no vector for.
        embedded: pictures with new vectors of this maker.
        fresh: of these, pictures that no other maker embedded in this run.
        known: files of pictures that were there before.
    """

    files: int
    failed: Sequence[FileRecord]
    embedded: int = 0
    fresh: int = 0
    known: int = 0


@dataclass
class _Batch:
    """What waits to be written."""

    parts: list[Embedded] = field(default_factory=list)
    files: list[FileRecord] = field(default_factory=list)
    failed: list[FileRecord] = field(default_factory=list)
    seen: int = 0
    embedded: int = 0
    fresh: int = 0
    known: int = 0
    since: float = field(default_factory=time.monotonic)


class CommitQueue:
    """Takes files as they were read, in any number; gives back what is stored."""

    def __init__(
        self,
        writer: Writer,
        inventory: Inventory,
        share: Share,
        encoder: Callable[[], BaseEncoder],
        stored: Callable[[Stored], None],
        settled: set[str] | None = None,
    ):
        """Start nothing yet.

        Args:
            writer: of the gallery.
            inventory: of the same gallery; kept up to date with what is embedded.
            share: the part of it that the encoder fills.
            encoder: loads the encoder; called once something is to be embedded.
            stored: told, by the caller's thread, what has become durable.
            settled: gets the paths of files that are recorded, because no other maker has to see
                them; the others are left to those.
        """
        self._writer = writer
        self._inventory = inventory
        self._share = share
        self._settled = settled
        self._encoder = encoder
        self._stored = stored
        self._pictures: dict[str, Picture] = {}
        self._picture_bytes = 0
        self._files: list[tuple[FileRecord, bool]] = []
        self._batch = min(FIRST_BATCH, BATCH)
        self._waiting = _Batch()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._writing: Future[Stored] | None = None
        #: Why maintenance was put off, if it was.
        self.note: str | None = None
        #: Seconds in which pictures were embedded.
        self.seconds = 0.0

    def add(self, taken: ReadResult) -> None:
        """Take a file; embeds and stores when enough have come together.

        Raises:
            CiesError: from the encoder or the gallery.
        """
        key = taken.record.key
        known = False
        if taken.record.status == "done":
            known = taken.picture is None or key in self._pictures
            if taken.picture is not None and not known:
                self._pictures[key] = taken.picture
                self._picture_bytes += taken.bytes
        self._files.append((taken.record, known))
        enough = len(self._pictures) >= self._batch or self._picture_bytes >= AHEAD_BYTES // 2
        if enough or (not self._pictures and len(self._files) >= COMMIT_FILES):
            self._encode()

    def finish(self) -> None:
        """Embed and store what is left; all of it is on the disk on return."""
        self._encode()
        self._write()
        self._collect()
        self._executor.shutdown()

    def rescue(self) -> None:
        """After an error or Ctrl-C: store what was embedded, and nothing more."""
        self._pictures.clear()
        self._files.clear()
        self._write()
        self._collect()
        self._executor.shutdown()

    def _encode(self) -> None:
        """Embed the pictures in hand."""
        waiting = self._waiting
        pictures, files = self._pictures, self._files
        if pictures:
            encoder = self._encoder()  # loaded here, so that loading is not taken for embedding
            started = time.monotonic()
            parts = [embed(encoder, tables, group) for tables, group in self._groups(pictures)]
            spent = time.monotonic() - started
            self.seconds += spent
            rate = len(pictures) / max(spent, 1e-9)
            grown = min(BATCH, 4 * len(pictures), round(rate * BATCH_SECONDS))
            self._batch = max(1, grown)
            for part in parts:
                waiting.fresh += self._inventory.add(part)
                waiting.embedded += len(part.keys) if part.tables else 0
            waiting.parts += parts
        for record, known in files:
            self._file(record, known)
        self._pictures, self._files = {}, []
        self._picture_bytes = 0
        due = time.monotonic() - waiting.since >= COMMIT_SECONDS
        if due or waiting.seen >= COMMIT_FILES:
            self._write()
        elif self._writing is not None and self._writing.done():
            self._collect()

    def _file(self, record: FileRecord, known: bool) -> None:
        """Record a file, unless another maker has to see its picture before it counts."""
        waiting, inventory = self._waiting, self._inventory
        waiting.seen += 1
        done = record.status == "done"
        if done and inventory.waits(record.key):
            return
        if self._settled is not None:
            self._settled.add(record.path)
        waiting.known += known
        refused = inventory.refused(record.key) if done else ""
        if refused:
            failed = replace(record, status="embed_error", reason=refused)
            waiting.failed.append(failed)
            # Under the conditions it is embedded under, it is still found.
            waiting.files.append(record if inventory.known(record.key) else failed)
        else:
            waiting.files.append(record)
            if not done:
                waiting.failed.append(record)

    def _groups(
        self, pictures: Mapping[str, Picture]
    ) -> list[tuple[tuple[VectorTable, ...], dict[str, Picture]]]:
        """Pictures by the conditions they lack, so that each is asked about those only."""
        groups: dict[tuple[str, ...], tuple[tuple[VectorTable, ...], dict[str, Picture]]] = {}
        for key, picture in pictures.items():
            tables = self._share.missing(key)
            names = tuple(table.table for table in tables)
            groups.setdefault(names, (tables, {}))[1][key] = picture
        return list(groups.values())

    def _write(self) -> None:
        """Hand what was embedded to the writing thread, which is first done with the last."""
        self._collect()
        waiting, self._waiting = self._waiting, _Batch()
        if waiting.seen or waiting.parts:
            self._writing = self._executor.submit(self._commit, waiting)

    def _commit(self, batch: _Batch) -> Stored:
        commit(self._writer, batch.parts, batch.files)
        self.note = self._writer.maintain() or self.note
        return Stored(batch.seen, batch.failed, batch.embedded, batch.fresh, batch.known)

    def _collect(self) -> None:
        """Wait for the commit under way and tell of it."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self._stored(writing.result())
