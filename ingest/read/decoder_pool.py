"""A pool of decoder processes; one that crashes or hangs costs only its current picture."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import EllipsisType
from typing import Any, NamedTuple, Sequence

from PIL import Image

from indexes.errors import CiesError
from ingest.read.images import (
    MAX_DECODER_BYTES,
    MAX_PIXELS,
    LargePicture,
    Picture,
    UnreadableImage,
    error_text,
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
    # -P: files in the current folder must not be imported in place of our modules.
    return [_interpreter(), "-P", "-m", "ingest.read.decoder_process"]


def _interpreter() -> str:
    """Python's program, also where Python is part of another program, such as a web server.

    Raises:
        CiesError: if there is none.
    """
    beside = Path(sys.prefix, "Scripts" if os.name == "nt" else "bin", "python")
    for program in (sys.executable, shutil.which(beside)):
        if program and Path(program).stem.lower().startswith(("python", "pypy")):
            return program
    raise CiesError(
        "Python's own program is not found, so no decoder process can be started; run CIES in an "
        "environment with Python."
    )


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
        used: when it was last used (monotonic clock).
    """

    def __init__(self, command: Sequence[str], memory: int, seconds: float):
        """Start the process; it is not waited for.

        Raises:
            CiesError: if it cannot be started.
        """
        self._seconds = seconds
        self._is_ready = False
        self.deadline: float | None = None
        self.late = False
        self.used = time.monotonic()
        try:
            # In its own session: only the parent process handles Ctrl-C.
            self._process = subprocess.Popen(
                [*command, str(memory), str(int(seconds) + 10)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=child_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise CiesError(
                f"No decoder process can be started: {error_text(error)}; end other programs, or "
                "raise the limits of this one."
            ) from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        for pipe in (self._requests, self._replies):
            _enlarge_buffer(pipe.fileno())

    def await_start(self) -> None:
        """Wait until the process can decode.

        Raises:
            CiesError: if it does not start.
        """
        if self._is_ready:
            return
        if self._read_head().get("status") != "ready":
            raise CiesError(
                "The decoder process does not start (see its messages above); reinstall CIES and "
                "Pillow into this environment."
            )
        self._is_ready = True

    def _read_head(self) -> dict[str, Any]:
        try:
            reply = json.loads(self._replies.readline() or b"{}")
        except ValueError:
            return {}
        return reply if isinstance(reply, dict) else {}

    def decode(self, data: bytes, side: int | None, suffix: str, pixels: int, most: int) -> Picture:
        """Decode a picture in the process.

        Raises:
            UnreadableImage: as :func:`ingest.read.images.decode`; :class:`LargePicture` if the
                decoder needs more memory than ``most``.
            _ProcessDied: if the process ended before it replied.
        """
        self.deadline = time.monotonic() + self._seconds
        try:
            head = {"length": len(data), "side": side, "suffix": suffix}
            head |= {"pixels": pixels, "most": most}
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
            self.deadline, self.used = None, time.monotonic()

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


class _Request(NamedTuple):
    """A picture to decode; see :func:`ingest.read.images.decode`."""

    data: bytes
    side: int | None
    suffix: str
    pixels: int


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
        processes: int | None = None,
        idle_seconds: float | None = None,
    ):
        """Start no process yet; each starts when it is first needed.

        Args:
            side: longest side in pixels, as for :func:`ingest.read.images.decode`.
            seconds: time limit for one picture.
            memory: bytes of address space of a process, where the system can limit that.
            command: command line that runs :func:`ingest.read.decoder_process.main`.
            pixels: the version of the reading, see :data:`ingest.read.pixels.PIXELS`.
            processes: how many there are at most; by default one for each thread that decodes.
            idle_seconds: after how long a process that decodes nothing is ended; never by default.
        """
        self._side = side
        self._seconds = seconds
        self._memory = memory
        self._command = command
        self._pixels = pixels
        self._idle_seconds = idle_seconds
        self._turns: AbstractContextManager[Any] = (
            threading.Semaphore(processes) if processes else nullcontext()
        )
        self._idle: list[_DecoderProcess] = []
        self._all: set[_DecoderProcess] = set()
        self._lock = threading.Lock()
        self._room = threading.Condition()
        self._large_bytes = 0
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def decode(
        self,
        data: bytes,
        suffix: str = "",
        side: int | EllipsisType | None = ...,
        pixels: int | None = None,
    ) -> Picture:
        """Decode a picture.

        Args:
            data: the file's content.
            suffix: the suffix of its name in lower case.
            side: longest side in pixels; that of the pool by default.
            pixels: the version of the reading; that of the pool by default.

        Raises:
            UnreadableImage: as :func:`ingest.read.images.decode`; also ``timeout`` if it took too
                long, ``crashed`` if its decoder died twice, ``interrupted`` after :meth:`stop`.
            CiesError: if no process can be started.
        """
        wanted = _Request(
            data,
            self._side if isinstance(side, EllipsisType) else side,
            suffix,
            self._pixels if pixels is None else pixels,
        )
        with self._turns:
            try:
                return self._decode(wanted, _SMALL_BYTES)
            except LargePicture as large:
                if large.bytes > MAX_DECODER_BYTES:
                    raise
                with self._room_for(large.bytes):
                    return self._decode(wanted, MAX_DECODER_BYTES)

    def prepare(self) -> None:
        """Start a process, so that it is ready when the first picture comes; do not wait for it.

        Raises:
            CiesError: if it cannot be started.
        """
        with self._lock:
            needed = not self._all and not self._closed.is_set()
        if needed:
            decoder = self._started()
            with self._lock:
                self._idle.append(decoder)

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

    def _decode(self, wanted: _Request, most: int) -> Picture:
        for attempt in range(2):
            # The idle ones may have died for one reason, such as lack of memory.
            decoder = self._started() if attempt else self._idle_decoder()
            try:
                decoder.await_start()
                picture = decoder.decode(*wanted, most)
            except UnreadableImage:
                self._put_back(decoder)
                raise
            except CiesError:
                self._remove(decoder)
                self._check_open()
                raise
            except _ProcessDied:
                status = self._remove(decoder)
                self._check_open()
                if decoder.late:
                    raise UnreadableImage(
                        "timeout", f"not decoded within {self._seconds:g} seconds"
                    ) from None
                if attempt:
                    how = f"by signal {-status}" if status < 0 else f"with code {status}"
                    raise UnreadableImage("crashed", f"its decoder died {how}") from None
            else:
                self._put_back(decoder)
                return picture
        raise AssertionError("the second attempt returns or raises")

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise UnreadableImage("interrupted", "the run was interrupted") from None

    def _idle_decoder(self) -> _DecoderProcess:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._started()

    def _put_back(self, decoder: _DecoderProcess) -> None:
        with self._lock:
            self._idle.append(decoder)

    def _started(self) -> _DecoderProcess:
        """A new process.

        Raises:
            CiesError: if it cannot be started.
            UnreadableImage: if the pool was stopped.
        """
        self._check_open()
        decoder = _DecoderProcess(self._command or _command(), self._memory, self._seconds)
        with self._lock:
            if self._closed.is_set():
                decoder.kill()
                self._check_open()
            self._all.add(decoder)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="decoders", daemon=True)
                self._watcher.start()
        return decoder

    def _remove(self, decoder: _DecoderProcess) -> int:
        with self._lock:
            self._all.discard(decoder)
        return decoder.kill()

    def _watch(self) -> None:
        """End processes that are late or idle for too long, until there is none of them."""
        while not self._closed.wait(_WATCH_SECONDS):
            now = time.monotonic()
            with self._lock:
                unused = self._unused(now)
                self._idle = [one for one in self._idle if one not in unused]
                self._all -= unused
                running = list(self._all)
                if not running:
                    self._watcher = None
            for decoder in unused:
                decoder.kill()
            for decoder in running:
                deadline = decoder.deadline
                if deadline is not None and now > deadline:
                    decoder.late = True
                    decoder.stop()
            if not running:
                return

    def _unused(self, now: float) -> set[_DecoderProcess]:
        if self._idle_seconds is None:
            return set()
        return {one for one in self._idle if now - one.used > self._idle_seconds}

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
        watcher = self._watcher
        if watcher is not None:
            watcher.join()
        for decoder in list(self._all):
            self._remove(decoder)

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
