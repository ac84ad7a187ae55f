"""Processes that decode, each of which may die or hang without harm to anything but a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any, Sequence

from PIL import Image

from indexes.errors import CiesError
from ingest.read.images import MAX_PIXELS, Picture, UnreadableImage

#: Bytes of address space a decoding process may use. The largest picture that is let in, 64
#: million pixels with alpha, takes two thirds of it.
MEMORY = 1536 * 2**20

#: Seconds a picture may take before its decoder is killed.
SECONDS = 20

#: How often the clock of the decoders is looked at.
_WATCH_SECONDS = 0.25

#: Pipes hold so much where it can be asked for, so that a picture passes in few pieces.
_PIPE = 2**20


def _command() -> list[str]:
    if not sys.executable:
        raise CiesError("Python does not know its own program, so no decoder can be started.")
    # -P: whatever lies in the current folder must not be taken for one of our modules.
    return [sys.executable, "-P", "-m", "ingest.read.decoder"]


def _environment() -> dict[str, str]:
    """Our own, with the module search path, and without threads nobody needs there."""
    home = str(Path(__file__).parents[2])
    paths = [home, *(path for path in sys.path if path)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


class _Died(Exception):
    """The process ended while a picture was asked of it."""


class _Decoder:
    """One process. Used by one thread at a time; killed by any."""

    def __init__(self, command: Sequence[str], memory: int, seconds: float):
        self._seconds = seconds
        self.deadline: float | None = None
        self.late = False
        # A session of its own: Ctrl-C is for the process that can finish what is in hand.
        self._process = subprocess.Popen(
            [*command, str(memory), str(int(seconds) + 10)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        for pipe in (self._requests, self._replies):
            _widen(pipe.fileno())
        if self._head().get("status") != "ready":
            self.kill()
            raise CiesError(
                "The process that decodes pictures does not start; what it said stands above. "
                "Reinstall CIES and Pillow into this environment."
            )

    def _head(self) -> dict[str, Any]:
        try:
            answer = json.loads(self._replies.readline() or b"{}")
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    def ask(self, data: bytes, side: int | None, suffix: str) -> Picture:
        """Decode a picture there.

        Raises:
            UnreadableImage: as :func:`ingest.read.images.decode`.
            _Died: if the process ended before it answered.
        """
        self.deadline = time.monotonic() + self._seconds
        try:
            head = {"length": len(data), "side": side, "suffix": suffix}
            self._requests.write(json.dumps(head).encode() + b"\n")
            self._requests.write(data)
            self._requests.flush()
            answer = self._head()
            if answer.get("status") != "done":
                if "reason" not in answer:
                    raise _Died
                raise UnreadableImage(str(answer["status"]), str(answer["reason"]))
            return self._picture(answer)
        except (OSError, KeyError, TypeError, ValueError):
            # A pipe that broke, or an answer that makes no sense: the process is of no more use.
            raise _Died from None
        finally:
            self.deadline = None

    def _picture(self, answer: dict[str, Any]) -> Picture:
        width, height = int(answer["width"]), int(answer["height"])
        if not 0 < width * height <= MAX_PIXELS:
            raise _Died
        pixels = self._replies.read(3 * width * height)
        if len(pixels) != 3 * width * height:
            raise _Died
        image = Image.frombytes("RGB", (width, height), pixels)
        taken_at = answer["taken_at"]
        shown = (int(answer["size"][0]), int(answer["size"][1]))
        taken = None if taken_at is None else int(taken_at)
        return Picture(image, str(answer["format"]), taken, shown, int(answer["orientation"]))

    def stop(self) -> None:
        """End the process; whoever waits for its answer learns so."""
        self._process.kill()

    def kill(self) -> int:
        """End the process and close its pipes, for which nobody may be waiting.

        Returns:
            Its exit status, a negative one for a signal.
        """
        self._process.kill()
        status = self._process.wait()
        for pipe in (self._requests, self._replies):
            try:
                pipe.close()
            except OSError:
                continue
        return status


def _widen(pipe: int) -> None:
    try:
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
    except (ImportError, AttributeError, OSError):
        return  # Not on Linux, or not allowed so much: it works as it is.


class DecoderPool:
    """Decodes in processes of its own, with limits on memory and time. Safe for many threads.

    A decoder that takes too long is killed and its picture given up. One that dies is asked about
    the same picture once more in a fresh process, since somebody else may have killed it.
    """

    def __init__(
        self,
        side: int | None = None,
        seconds: float = SECONDS,
        memory: int = MEMORY,
        command: Sequence[str] | None = None,
    ):
        """Start nothing yet; a process starts when it is first needed.

        Args:
            side: longest side wanted, as for :func:`ingest.read.images.decode`.
            seconds: a picture may take.
            memory: bytes of address space a process may use, where the system limits that.
            command: what runs :func:`ingest.read.decoder.main`.
        """
        self._side = side
        self._seconds = seconds
        self._memory = memory
        self._given = command
        self._idle: LifoQueue[_Decoder] = LifoQueue()
        self._all: set[_Decoder] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None

    def decode(self, data: bytes, suffix: str = "") -> Picture:
        """Decode a picture.

        Args:
            data: the file's content.
            suffix: of its name in lower case.

        Raises:
            UnreadableImage: as :func:`ingest.read.images.decode`; ``timeout`` if it took too long,
                ``crashed`` if its decoder died twice.
            CiesError: if no process can be started.
        """
        for attempt in range(2):
            decoder = self._take()
            try:
                picture = decoder.ask(data, self._side, suffix)
            except UnreadableImage:
                self._idle.put(decoder)
                raise
            except _Died:
                status = self._drop(decoder)
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

    def _take(self) -> _Decoder:
        try:
            return self._idle.get_nowait()
        except Empty:
            decoder = _Decoder(self._given or _command(), self._memory, self._seconds)
        with self._lock:
            if self._closed.is_set():
                decoder.kill()
                raise UnreadableImage("interrupted", "the run was interrupted")
            self._all.add(decoder)
            if self._watch is None:
                self._watch = threading.Thread(target=self._look, name="decoders", daemon=True)
                self._watch.start()
        return decoder

    def _drop(self, decoder: _Decoder) -> int:
        with self._lock:
            self._all.discard(decoder)
        return decoder.kill()

    def _look(self) -> None:
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
        """End all processes, whatever they are at; no more pictures are decoded."""
        self._closed.set()
        with self._lock:
            running = list(self._all)
        for decoder in running:
            decoder.stop()

    def close(self) -> None:
        """End all processes and release them; no other thread may be decoding any more."""
        self.stop()
        if self._watch is not None:
            self._watch.join()
        for decoder in list(self._all):
            self._drop(decoder)

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
