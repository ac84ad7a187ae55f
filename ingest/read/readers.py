"""Reading ahead of the model: in order, by several threads, with bounded memory."""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import Callable, Generator, Generic, Iterable, Protocol, TypeVar

from indexes.store.records import FileRecord
from ingest.read.decoding import DecoderPool
from ingest.read.images import FileBytes, Picture, UnreadableImage

#: Threads that read, each with a decoding process when it needs one.
READERS = max(2, min(8, os.cpu_count() or 2))

#: How many files may be read ahead, and how many bytes of decoded pictures may wait.
AHEAD = 256
AHEAD_BYTES = 256 * 2**20


class Source(Protocol):
    """A file that can be read, wherever it lies."""

    @property
    def path(self) -> str:
        """The path the gallery knows it by."""

    @property
    def size(self) -> int:
        """Bytes, when it was found."""

    @property
    def mtime_ns(self) -> int:
        """Time of last change when it was found, nanoseconds since 1970."""

    def read(self) -> FileBytes:
        """Its content.

        Raises:
            UnreadableImage: with the outcome code.
        """


@dataclass(frozen=True)
class ReadResult:
    """A file as the readers hand it over.

    Attributes:
        record: what it is; ``status`` says whether it could be read.
        picture: decoded, only if it could be read and was needed.
    """

    record: FileRecord
    picture: Picture | None

    @property
    def bytes(self) -> int:
        """Memory the picture takes; Pillow keeps four bytes a pixel."""
        return 4 * self.picture.image.width * self.picture.image.height if self.picture else 0


S = TypeVar("S", bound=Source)


class Readers(Generic[S]):
    """Reads files and decodes those that are needed, ahead of whoever asks for them."""

    def __init__(self, needed: Callable[[str], bool], side: int | None = None):
        """Start nothing yet.

        Args:
            needed: whether the picture of a content key must be decoded; called by any thread.
            side: longest side in pixels that is wanted, or ``None`` for all of it.
        """
        self._needed = needed
        self._pool = DecoderPool(side)
        self._room = threading.Condition()
        self._bytes = 0
        self._next = 0
        self._stopped = False

    def read(self, source: S) -> ReadResult:
        """Read one file; what is wrong with it is told by the record's status."""
        key, size, mtime_ns = "", source.size, source.mtime_ns
        try:
            content = source.read()
            key, size, mtime_ns = content.key, content.size, content.mtime_ns
            picture = None
            if self._needed(key):
                suffix = PurePath(source.path).suffix.lower()
                picture = self._pool.decode(content.data, suffix)
        except UnreadableImage as error:
            record = FileRecord(source.path, key, size, mtime_ns, error.status, error.reason)
            return ReadResult(record, None)
        return ReadResult(FileRecord(source.path, key, size, mtime_ns, "done"), picture)

    def ahead(self, sources: Iterable[S]) -> Generator[ReadResult, None, None]:
        """Read all, in order, never more than :data:`AHEAD` files or :data:`AHEAD_BYTES` ahead.

        Raises:
            CiesError: if no decoding process can be started.
        """
        waiting: deque[Future[ReadResult]] = deque()
        numbered = enumerate(sources)
        executor = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        try:
            while True:
                for number, source in islice(numbered, AHEAD - len(waiting)):
                    waiting.append(executor.submit(self._read_when_room, number, source))
                if not waiting:
                    return
                taken = waiting.popleft().result()
                with self._room:
                    self._next += 1
                    self._bytes -= taken.bytes
                    self._room.notify_all()
                yield taken
        finally:
            with self._room:
                self._stopped = True
                self._room.notify_all()
            for future in waiting:
                future.cancel()
            # What a reader is waiting for ends with its decoder.
            self._pool.stop()
            executor.shutdown(wait=True)
            self._pool.close()

    def close(self) -> None:
        """End the decoding processes that :meth:`read` started; ``ahead`` does so by itself."""
        self._pool.stop()
        self._pool.close()

    def _read_when_room(self, number: int, source: S) -> ReadResult:
        """Read a file once there is room for its picture, or it is the very one waited for."""
        with self._room:
            self._room.wait_for(
                lambda: self._bytes < AHEAD_BYTES or number == self._next or self._stopped
            )
        taken = self.read(source)
        with self._room:
            self._bytes += taken.bytes
        return taken
