"""A pool of decoder processes; one that crashes or hangs costs only its current picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any, Sequence

from PIL import Image

from indexes.errors import CiesError
from ingest.read.images import (
    MAX_DECODER_BYTES,
    MAX_PIXELS,
    LargePicture,
    Picture,
    UnreadableImage,
)
from ingest.read.pixels import PIXELS

#: Bytes of address space that a decoder process may use: ``MAX_DECODER_BYTES``, the largest file,
#: and its libraries.
MEMORY = 1100 * 2**20

#: Bytes of memory that a decoder may need for a picture at any time. Pictures that need more are
#: decoded only while all of these together need at most ``MAX_DECODER_BYTES``.
_SMALL_BYTES = 96 * 2**20

#: Seconds after which the decoder of a picture is killed.
SECONDS = 20

#: Seconds between two checks of the decoders' deadlines.
_WATCH_SECONDS = 0.25

#: Bytes that a pipe buffers, where that can be set, so that a picture is sent in few pieces.
_PIPE_BYTES = 2**20


def _command() -> list[str]:
    if not sys.executable:
        raise CiesError(
            "sys.executable is not set, so no decoder process can be started; run Python from its "
            "own program."
        )
    # -P: files in the current folder must not be imported in place of our modules.
    return [sys.executable, "-P", "-m", "ingest.read.decoder_process"]


def child_environment() -> dict[str, str]:
    """Environment of a decoder: as here, with the module search path, and one thread."""
    home = str(Path(__file__).parents[2])
    paths = [home, *(path for path in sys.path if path)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


class _ProcessDied(Exception):
    """The process ended, or sent an invalid reply, while it decoded a picture."""


class _DecoderProcess:
    """One decoder process. Used by one thread at a time; any thread may stop it.

    Attributes:
        deadline: when the current picture must be decoded (monotonic clock), or ``None``.
        late: whether the process was stopped because of its deadline.
    """

    def __init__(self, command: Sequence[str], memory: int, seconds: float, pixels: int):
        self._seconds = seconds
        self.deadline: float | None = None
        self.late = False
        # In its own session: only the parent process handles Ctrl-C.
        self._process = subprocess.Popen(
            [*command, str(memory), str(int(seconds) + 10), str(pixels)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        for pipe in (self._requests, self._replies):
            _enlarge_buffer(pipe.fileno())
        if self._read_head().get("status") != "ready":
            self.kill()
            raise CiesError(
                "The decoder process does not start (see its messages above); reinstall CIES and "
                "Pillow into this environment."
            )

    def _read_head(self) -> dict[str, Any]:
        try:
            reply = json.loads(self._replies.readline() or b"{}")
        except ValueError:
            return {}
        return reply if isinstance(reply, dict) else {}

    def decode(self, data: bytes, side: int | None, suffix: str, most: int) -> Picture:
        """Decode a picture in the process.

        Raises:
            UnreadableImage: as :func:`ingest.read.images.decode`; :class:`LargePicture` if the
                decoder needs more memory than ``most``.
            _ProcessDied: if the process ended before it replied.
        """
        self.deadline = time.monotonic() + self._seconds
        try:
            head = {"length": len(data), "side": side, "suffix": suffix, "most": most}
            self._requests.write(json.dumps(head).encode() + b"\n")
            self._requests.write(data)
            self._requests.flush()
            reply = self._read_head()
            if reply.get("status") != "done":
                if "reason" not in reply:
                    raise _ProcessDied
                if reply["status"] == "large":
                    raise LargePicture(int(reply["bytes"]))
                raise UnreadableImage(str(reply["status"]), str(reply["reason"]))
            return self._picture(reply)
        except (OSError, KeyError, TypeError, ValueError):
            # A broken pipe or an invalid reply: the process cannot be used any more.
            raise _ProcessDied from None
        finally:
            self.deadline = None

    def _picture(self, reply: dict[str, Any]) -> Picture:
        width, height = int(reply["width"]), int(reply["height"])
        if not 0 < width * height <= MAX_PIXELS:
            raise _ProcessDied
        pixels = self._replies.read(3 * width * height)
        if len(pixels) != 3 * width * height:
            raise _ProcessDied
        image = Image.frombytes("RGB", (width, height), pixels)
        taken_at = reply["taken_at"]
        size = (int(reply["size"][0]), int(reply["size"][1]))
        taken = None if taken_at is None else int(taken_at)
        orientation, notes = int(reply["orientation"]), tuple(map(str, reply["notes"]))
        return Picture(image, str(reply["format"]), taken, size, orientation, notes)

    def stop(self) -> None:
        """End the process; a thread that waits for its reply gets an error."""
        self._process.kill()

    def kill(self) -> int:
        """End the process and close its pipes; no thread may be reading from them.

        Returns:
            Its exit status, negative for a signal.
        """
        self._process.kill()
        status = self._process.wait()
        for pipe in (self._requests, self._replies):
            try:
                pipe.close()
            except OSError:
                continue
        return status


def _enlarge_buffer(pipe: int) -> None:
    try:
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        return  # Not on Linux, or not permitted; the default size works too.


class DecoderPool:
    """Decodes pictures in separate processes with limits on memory and time. Thread-safe.

    A decoder that exceeds its time is killed and its picture is not retried. After any other death
    of a decoder the picture is tried once more in a new process, since the death may be unrelated.
    """

    def __init__(
        self,
        side: int | None = None,
        seconds: float = SECONDS,
        memory: int = MEMORY,
        command: Sequence[str] | None = None,
        pixels: int = PIXELS,
    ):
        """Start no process yet; each starts when it is first needed.

        Args:
            side: longest side in pixels, as for :func:`ingest.read.images.decode`.
            seconds: time limit for one picture.
            memory: bytes of address space of a process, where the system can limit that.
            command: command line that runs :func:`ingest.read.decoder_process.main`.
            pixels: the version of the reading, see :data:`ingest.read.pixels.PIXELS`.
        """
        self._side = side
        self._seconds = seconds
        self._memory = memory
        self._command = command
        self._pixels = pixels
        self._idle: LifoQueue[_DecoderProcess] = LifoQueue()
        self._all: set[_DecoderProcess] = set()
        self._lock = threading.Lock()
        self._room = threading.Condition()
        self._large_bytes = 0
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def decode(self, data: bytes, suffix: str = "") -> Picture:
        """Decode a picture.

        Args:
            data: the file's content.
            suffix: the suffix of its name in lower case.

        Raises:
            UnreadableImage: as :func:`ingest.read.images.decode`; also ``timeout`` if it took too
                long, ``crashed`` if its decoder died twice, ``interrupted`` after :meth:`stop`.
            CiesError: if no process can be started.
        """
        try:
            return self._decode(data, suffix, _SMALL_BYTES)
        except LargePicture as large:
            if large.bytes > MAX_DECODER_BYTES:
                raise
            with self._room_for(large.bytes):
                return self._decode(data, suffix, MAX_DECODER_BYTES)

    @contextmanager
    def _room_for(self, needed: int) -> Iterator[None]:
        """Wait until the large pictures that are decoded at once fit in memory."""
        with self._room:
            self._room.wait_for(
                lambda: not self._large_bytes or self._large_bytes + needed <= MAX_DECODER_BYTES
            )
            self._large_bytes += needed
        try:
            yield
        finally:
            with self._room:
                self._large_bytes -= needed
                self._room.notify_all()

    def _decode(self, data: bytes, suffix: str, most: int) -> Picture:
        for attempt in range(2):
            decoder = self._idle_decoder()
            try:
                picture = decoder.decode(data, self._side, suffix, most)
            except UnreadableImage:
                self._idle.put(decoder)
                raise
            except _ProcessDied:
                status = self._remove(decoder)
                if self._closed.is_set():
                    raise UnreadableImage("interrupted", "the run was interrupted") from None
                if decoder.late:
                    raise UnreadableImage(
                        "timeout", f"not decoded within {self._seconds:g} seconds"
                    ) from None
                if attempt:
                    how = f"by signal {-status}" if status < 0 else f"with code {status}"
                    raise UnreadableImage("crashed", f"its decoder died {how}") from None
            else:
                self._idle.put(decoder)
                return picture
        raise AssertionError("the second attempt returns or raises")

    def _idle_decoder(self) -> _DecoderProcess:
        try:
            return self._idle.get_nowait()
        except Empty:
            command = self._command or _command()
            decoder = _DecoderProcess(command, self._memory, self._seconds, self._pixels)
        with self._lock:
            if self._closed.is_set():
                decoder.kill()
                raise UnreadableImage("interrupted", "the run was interrupted")
            self._all.add(decoder)
            if self._watcher is None:
                self._watcher = threading.Thread(
                    target=self._stop_late_decoders, name="decoders", daemon=True
                )
                self._watcher.start()
        return decoder

    def _remove(self, decoder: _DecoderProcess) -> int:
        with self._lock:
            self._all.discard(decoder)
        return decoder.kill()

    def _stop_late_decoders(self) -> None:
        while not self._closed.wait(_WATCH_SECONDS):
            now = time.monotonic()
            with self._lock:
                running = list(self._all)
            for decoder in running:
                deadline = decoder.deadline
                if deadline is not None and now > deadline:
                    decoder.late = True
                    decoder.stop()

    def stop(self) -> None:
        """End all processes at once; no more pictures are decoded."""
        self._closed.set()
        with self._lock:
            running = list(self._all)
        for decoder in running:
            decoder.stop()

    def close(self) -> None:
        """End all processes and release them; no other thread may still be decoding."""
        self.stop()
        if self._watcher is not None:
            self._watcher.join()
        for decoder in list(self._all):
            self._remove(decoder)

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
