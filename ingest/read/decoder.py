"""The process that decodes pictures for another one: ``python -m ingest.read.decoder``.

A damaged file can make a decoder crash, hang or eat all memory. Here that costs one process,
which the other side starts again (:mod:`ingest.read.decoding`), and one picture. Requests and answers
go through pipes: a line of JSON, then bytes. Nothing that comes out of here is ever executed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, BinaryIO, Callable

from PIL import Image

from ingest.read.images import Picture, UnreadableImage, decode

Decode = Callable[[bytes, "int | None", str], Picture]


def _limit_memory(limit: int) -> None:
    """Have allocations above so many bytes fail, where the system offers that."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _answer(replies: BinaryIO, head: dict[str, Any], body: bytes = b"") -> None:
    replies.write(json.dumps(head).encode() + b"\n")
    replies.write(body)
    replies.flush()


def serve(requests: BinaryIO, replies: BinaryIO, seconds: int, decode: Decode) -> None:
    """Answer until nothing more is asked.

    Args:
        requests: a line with ``length``, ``side`` and ``suffix``, then so many bytes.
        replies: a line with ``status`` and ``reason``; or with ``width``, ``height``, ``format``,
            ``taken_at``, ``size`` and ``orientation``, then RGB pixels.
        seconds: after which this process ends itself, should the other side be gone by then.
        decode: :func:`ingest.read.images.decode`.
    """
    alarm = getattr(signal, "alarm", lambda after: None)
    _answer(replies, {"status": "ready"})
    while line := requests.readline():
        request = json.loads(line)
        data = requests.read(request["length"])
        alarm(seconds)
        try:
            picture = decode(data, request["side"], request["suffix"])
            pixels = picture.image.tobytes()
        except UnreadableImage as error:
            alarm(0)
            _answer(replies, {"status": error.status, "reason": error.reason})
            continue
        except MemoryError:
            alarm(0)
            reason = "not enough memory to decode it"
            _answer(replies, {"status": "too_large", "reason": reason})
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
        }
        _answer(replies, head, pixels)


def main(decode: Decode = decode) -> None:
    """Serve over standard input and output; arguments are bytes of memory and seconds a picture."""
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    # Ctrl-C goes to every process of the terminal; who started this one decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Decoders write complaints wherever they like.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    # Plugins load here, so that one that cannot is not taken for pictures that are none.
    Image.init()
    _limit_memory(memory)
    try:
        serve(requests, replies, seconds, decode)
    except BrokenPipeError:
        # Whoever asked is gone; there is nobody to tell.
        os._exit(0)


if __name__ == "__main__":
    main()
