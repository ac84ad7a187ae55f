"""The process that decodes pictures for another process: ``python -m ingest.read.decoder_process``.

A damaged file can make a decoder crash, hang or exhaust the memory. In a process of its own that
costs only one picture: the parent process (:mod:`ingest.read.decoder_pool`) starts a new decoder.
Requests and replies go through pipes: a line of JSON, then bytes. The parent executes nothing that
it receives.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
from importlib import import_module
from typing import Any, BinaryIO, Callable

from ingest.read import images
from ingest.read.images import LargePicture, Picture, UnreadableImage, decode

#: :func:`ingest.read.images.decode`, or a function that calls it.
Decode = Callable[..., Picture]

#: Pillow's plugins of :data:`ingest.read.formats.FORMATS`.
_PLUGINS = "Avif Bmp Gif Ico Jpeg Jpeg2K Mpo Png Ppm Tiff WebP".split()

#: Bytes of messages of C libraries that are read for one picture, and written at all.
_MAX_COMPLAINTS = 2**14
_MAX_WRITTEN = 2**24


def _limit_memory(limit: int) -> None:
    """Limit the address space to this many bytes, where the operating system supports that."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    # A decoder writes nothing to disk but the messages of its libraries.
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_WRITTEN, _MAX_WRITTEN))


def _captured_stderr() -> Callable[[], list[str]]:
    """Collect what C libraries write to stderr, instead of showing it without the file's name.

    Returns:
        A function that returns the lines since its last call; numbers are replaced by N, so that
        the same complaint has the same words for every file.
    """
    log = tempfile.TemporaryFile()  # noqa: SIM115
    os.dup2(log.fileno(), 2)

    def lines() -> list[str]:
        if not os.fstat(log.fileno()).st_size:
            return []
        log.seek(0)
        text = log.read(_MAX_COMPLAINTS).decode("utf-8", "replace")
        log.seek(0)
        log.truncate()
        words = [re.sub(r"\b\d+\b", "N", line).strip()[:160] for line in text.splitlines()]
        return [f"a decoder reported: {line}" for line in dict.fromkeys(words) if line][:3]

    return lines


def _reply(replies: BinaryIO, head: dict[str, Any], body: bytes = b"") -> None:
    replies.write(json.dumps(head).encode() + b"\n")
    replies.write(body)
    replies.flush()


def serve(
    requests: BinaryIO,
    replies: BinaryIO,
    seconds: int,
    decode: Decode,
    complaints: Callable[[], list[str]] = list,
    knows_limits: bool = False,
) -> None:
    """Decode pictures until the stream of requests ends.

    Args:
        requests: for each picture, a line with ``length``, ``side``, ``suffix``, ``pixels`` (the
            version of the reading) and ``most`` (bytes of memory), then ``length`` bytes.
        replies: for each picture, a line with ``status`` and ``reason``; or with ``width``,
            ``height``, ``format``, ``taken_at``, ``size``, ``orientation`` and ``notes``, then RGB
            pixels.
        seconds: the time for one picture after which this process ends itself, in case the parent
            process does not exist any more.
        decode: :func:`ingest.read.images.decode`.
        complaints: returns what libraries have written to stderr since its last call.
        knows_limits: whether ``decode`` takes the arguments ``pixels`` and ``most``.
    """
    alarm = getattr(signal, "alarm", lambda after: None)
    _reply(replies, {"status": "ready"})
    while line := requests.readline():
        request = json.loads(line)
        data = requests.read(request["length"])
        more = {"pixels": request["pixels"], "most": request["most"]} if knows_limits else {}
        alarm(seconds)
        try:
            picture = decode(data, request["side"], request["suffix"], **more)
            pixels = picture.image.tobytes()
        except LargePicture as error:
            alarm(0)
            complaints()
            _reply(replies, {"status": "large", "reason": error.reason, "bytes": error.bytes})
            continue
        except UnreadableImage as error:
            alarm(0)
            complaints()
            _reply(replies, {"status": error.status, "reason": error.reason})
            continue
        except MemoryError:
            alarm(0)
            complaints()
            reason = "not enough memory to decode it"
            _reply(replies, {"status": "too_large", "reason": reason})
            continue
        alarm(0)
        width, height = picture.image.size
        head = {
            "status": "done",
            "width": width,
            "height": height,
            "format": picture.format,
            "taken_at": picture.taken_at,
            "size": picture.size,
            "orientation": picture.orientation,
            "notes": [*picture.notes, *complaints()],
        }
        _reply(replies, head, pixels)


def main(decode: Decode = decode) -> None:
    """Serve on stdin and stdout.

    Command-line arguments: bytes of memory, seconds for a picture.
    """
    memory, seconds = (int(argument) for argument in sys.argv[1:3])
    knows_limits = decode is images.decode
    # Ctrl-C is sent to every process of the terminal; the parent process decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Some decoders write warnings to stdout, which must not mix with the replies.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    # Load plugins before memory is limited, so that a failure is not reported as a bad picture.
    # Those of other formats, such as PDF, would take half of the start.
    for name in _PLUGINS:
        import_module(f"PIL.{name}ImagePlugin")
    _limit_memory(memory)
    try:
        serve(requests, replies, seconds, decode, _captured_stderr(), knows_limits)
    except BrokenPipeError:
        # The parent process has ended.
        os._exit(0)


if __name__ == "__main__":
    main()
