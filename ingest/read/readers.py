"""Reads and decodes files ahead of the model: in order, in several threads, in bounded memory."""

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
from ingest.read.decoder_pool import DecoderPool
from ingest.read.images import FileBytes, Picture, UnreadableImage
from ingest.read.pixels import PIXELS

#: Threads that read files; each uses a decoder process when it needs one.
READERS = max(2, min(8, os.cpu_count() or 2))

#: Limits on reading ahead: files, and bytes of decoded pictures.
AHEAD = 256
AHEAD_BYTES = 256 * 2**20


class ReadableFile(Protocol):
    """A file that can be read, local or remote; :class:`ingest.sources.base.SourceFile` is one."""

    @property
    def path(self) -> str:
        """The path stored in the gallery."""

    @property
    def size(self) -> int:
        """Bytes at the time of the scan."""

    @property
    def mtime_ns(self) -> int:
        """Time of the last change at the time of the scan, nanoseconds since 1970."""

    def read(self) -> FileBytes:
        """The file's content.

        Raises:
            UnreadableImage: with the outcome code.
        """


@dataclass(frozen=True)
class ReadResult:
    """The result of reading one file.

    Attributes:
        record: the file's record; ``status`` is ``done`` if it could be read.
        picture: the decoded picture; ``None`` if it could not be read or was not needed.
    """

    record: FileRecord
    picture: Picture | None

    @property
    def bytes(self) -> int:
        """Memory of the picture; Pillow stores four bytes for each RGB pixel."""
        return 4 * self.picture.image.width * self.picture.image.height if self.picture else 0


F = TypeVar("F", bound=ReadableFile)


class Readers(Generic[F]):
    """Reads files, and decodes the pictures that are needed, ahead of the consumer."""

    def __init__(
        self, needed: Callable[[str], bool], side: int | None = None, pixels: int = PIXELS
    ):
        """Start no thread or process yet.

        Args:
            needed: whether the picture of a content key must be decoded; called by any thread.
            side: longest side in pixels to decode, or ``None`` for the full size.
            pixels: the version of the reading, see :data:`ingest.read.pixels.PIXELS`.
        """
        self._needed = needed
        self._pool = DecoderPool(side, pixels=pixels)
        self._room = threading.Condition()
        self._bytes = 0
        self._next = 0
        self._stopped = False

    def read(self, file: F) -> ReadResult:
        """Read one file; the record's status reports a failure."""
        key, size, mtime_ns = "", file.size, file.mtime_ns
        try:
            content = file.read()
            key, size, mtime_ns = content.key, content.size, content.mtime_ns
            picture = None
            if self._needed(key):
                suffix = PurePath(file.path).suffix.lower()
                picture = self._pool.decode(content.data, suffix)
        except UnreadableImage as error:
            record = FileRecord(file.path, key, size, mtime_ns, error.status, error.reason)
            return ReadResult(record, None)
        return ReadResult(FileRecord(file.path, key, size, mtime_ns, "done"), picture)

    def read_all(self, files: Iterable[F]) -> Generator[ReadResult, None, None]:
        """Read files in order, at most :data:`AHEAD` files or :data:`AHEAD_BYTES` bytes ahead.

        Ends the decoder processes when it is exhausted or closed.

        Raises:
            CiesError: if no decoder process can be started.
        """
        waiting: deque[Future[ReadResult]] = deque()
        numbered = enumerate(files)
        executor = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        try:
            while True:
                for number, file in islice(numbered, AHEAD - len(waiting)):
                    waiting.append(executor.submit(self._read_when_room, number, file))
                if not waiting:
                    return
                result = waiting.popleft().result()
                with self._room:
                    self._next += 1
                    self._bytes -= result.bytes
                    self._room.notify_all()
                yield result
        finally:
            with self._room:
                self._stopped = True
                self._room.notify_all()
            for future in waiting:
                future.cancel()
            # Readers that wait for a decoder return as soon as it is stopped.
            self._pool.stop()
            executor.shutdown(wait=True)
            self._pool.close()

    def close(self) -> None:
        """End the decoder processes that :meth:`read` started."""
        self._pool.stop()
        self._pool.close()

    def _read_when_room(self, number: int, file: F) -> ReadResult:
        """Read a file once there is room for its picture, or it is the next to be returned."""
        with self._room:
            self._room.wait_for(
                lambda: self._bytes < AHEAD_BYTES or number == self._next or self._stopped
            )
        result = self.read(file)
        with self._room:
            self._bytes += result.bytes
        return result
