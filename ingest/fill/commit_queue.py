"""Embeds pictures and stores them: while one batch is embedded, the one before it is written.

A separate thread writes, and the readers already read the next batch. A file is recorded as done
only after its vectors are on the disk.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Callable, Sequence

from indexes.store.records import FileRecord
from indexes.store.writer import Writer
from ingest.encoders.base import BaseEncoder
from ingest.fill.commit import commit
from ingest.fill.embedding import EmbeddedBatch, embed_missing
from ingest.fill.inventory import Inventory, SourceInventory
from ingest.read.images import Picture
from ingest.read.readers import AHEAD_BYTES, ReadResult

#: Most pictures in one batch, and the seconds that one should take, since progress is reported
#: after each batch.
BATCH = 64
BATCH_SECONDS = 5.0

#: Pictures in the first batch, before the speed is known.
FIRST_BATCH = 8

#: A commit is due after this many seconds, or files. Because one batch is being embedded and one
#: commit written meanwhile, a crash loses at most three times these seconds of work, unless one
#: picture takes longer.
COMMIT_SECONDS = 5.0
COMMIT_FILES = 2048


@dataclass(frozen=True)
class CommitResult:
    """What one commit has stored.

    Attributes:
        files: files processed, whether they are recorded now or wait for another vector source.
        failed: records of files that could not be read, or that the encoder gave no vector for.
        embedded: pictures with new vectors of this vector source.
        fresh: how many of these no other vector source embedded in this run.
        known: files of pictures that the gallery already had.
    """

    files: int
    failed: Sequence[FileRecord]
    embedded: int = 0
    fresh: int = 0
    known: int = 0


@dataclass
class _PendingCommit:
    """Batches and records that wait to be written; counts as in :class:`CommitResult`."""

    batches: list[EmbeddedBatch] = field(default_factory=list)
    records: list[FileRecord] = field(default_factory=list)
    failed: list[FileRecord] = field(default_factory=list)
    files: int = 0
    embedded: int = 0
    fresh: int = 0
    known: int = 0
    since: float = field(default_factory=time.monotonic)


class CommitQueue:
    """Takes files as they are read, in any number, and reports what is stored.

    Attributes:
        note: why maintenance was postponed, or ``None``.
        seconds: time spent on embedding.
    """

    def __init__(
        self,
        writer: Writer,
        inventory: Inventory,
        source_inventory: SourceInventory,
        encoder: Callable[[], BaseEncoder],
        on_stored: Callable[[CommitResult], None],
        settled: set[str] | None = None,
    ):
        """Store the arguments; nothing is started yet.

        Args:
            writer: the writer of the gallery.
            inventory: the inventory of the same gallery; embedded pictures are added to it.
            source_inventory: the part of it that the encoder fills.
            encoder: loads the encoder; called when the first picture is to be embedded.
            on_stored: called, in the caller's thread, with what was stored.
            settled: gets the paths of recorded files; all other files wait for another vector
                source. ``None`` if this is the only one.
        """
        self._writer = writer
        self._inventory = inventory
        self._source_inventory = source_inventory
        self._settled = settled
        self._encoder = encoder
        self._on_stored = on_stored
        self._pictures: dict[str, Picture] = {}
        self._picture_bytes = 0
        self._records: list[tuple[FileRecord, bool]] = []
        self._batch_size = min(FIRST_BATCH, BATCH)
        self._pending = _PendingCommit()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._writing: Future[CommitResult] | None = None
        self.note: str | None = None
        self.seconds = 0.0

    def add(self, result: ReadResult) -> None:
        """Add a file; embeds a batch and commits when they are due.

        Raises:
            CiesError: from the encoder or the gallery.
        """
        key = result.record.key
        known = False
        if result.record.status == "done":
            # A copy may have been decoded before the first file of its picture was embedded.
            known = (
                result.picture is None
                or key in self._pictures
                or not self._source_inventory.needed(key)
            )
            if result.picture is not None and not known:
                self._pictures[key] = result.picture
                self._picture_bytes += result.bytes
        self._records.append((result.record, known))
        full = len(self._pictures) >= self._batch_size or self._picture_bytes >= AHEAD_BYTES // 2
        if full or (not self._pictures and len(self._records) >= COMMIT_FILES):
            self._embed()

    def finish(self) -> None:
        """Embed and store everything that is left; all of it is on the disk on return."""
        self._embed()
        self._close()

    def rescue(self) -> None:
        """Store what is already embedded, and nothing more; for use after an error or Ctrl-C."""
        self._pictures.clear()
        self._records.clear()
        self._close()

    def _close(self) -> None:
        self._start_commit()
        self._wait_for_commit()
        self._executor.shutdown()

    def _embed(self) -> None:
        """Embed the batch and start a commit if one is due."""
        pending, pictures, records = self._pending, self._pictures, self._records
        if pictures:
            encoder = self._encoder()  # Loaded here, so that loading does not count as embedding.
            started = time.monotonic()
            batches = embed_missing(encoder, pictures, self._source_inventory.missing)
            seconds = time.monotonic() - started
            self.seconds += seconds
            rate = len(pictures) / max(seconds, 1e-9)
            self._batch_size = max(1, min(BATCH, 4 * len(pictures), round(rate * BATCH_SECONDS)))
            for batch in batches:
                pending.fresh += self._inventory.add(batch)
                pending.embedded += len(batch.keys) if batch.tables else 0
            pending.batches += batches
        for record, known in records:
            self._add_record(record, known)
        self._pictures, self._records = {}, []
        self._picture_bytes = 0
        due = time.monotonic() - pending.since >= COMMIT_SECONDS
        if due or pending.files >= COMMIT_FILES:
            self._start_commit()
        elif self._writing is not None and self._writing.done():
            self._wait_for_commit()

    def _add_record(self, record: FileRecord, known: bool) -> None:
        """Add a file's record, unless another vector source must embed its picture first."""
        pending, inventory = self._pending, self._inventory
        pending.files += 1
        done = record.status == "done"
        if done and inventory.is_waiting(record.key):
            return
        if self._settled is not None:
            self._settled.add(record.path)
        pending.known += known
        refusal = inventory.refusal(record.key) if done else ""
        if refusal:
            failed = replace(record, status="embed_error", reason=refusal)
            pending.failed.append(failed)
            # It is still found under the conditions that it is embedded under.
            pending.records.append(record if inventory.known(record.key) else failed)
        else:
            pending.records.append(record)
            if not done:
                pending.failed.append(record)

    def _start_commit(self) -> None:
        """Pass the pending rows to the writing thread, once it has finished the last commit."""
        self._wait_for_commit()
        pending, self._pending = self._pending, _PendingCommit()
        if pending.files or pending.batches:
            self._writing = self._executor.submit(self._commit, pending)

    def _commit(self, pending: _PendingCommit) -> CommitResult:
        commit(self._writer, pending.batches, pending.records)
        self.note = self._writer.maintain() or self.note
        return CommitResult(
            pending.files, pending.failed, pending.embedded, pending.fresh, pending.known
        )

    def _wait_for_commit(self) -> None:
        """Wait for the commit that is being written, and report it."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self._on_stored(writing.result())
