"""Measures an HTTP server under load: many clients that each send one request after the other.

The clients are tasks of one thread that write and read plain HTTP, so that they take little of the
processors that the server needs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np


@dataclass(frozen=True)
class HttpRequest:
    """A request.

    Attributes:
        path: with the query.
        body: sent by POST; empty for GET.
        kind: the content type of the body.
    """

    path: str
    body: bytes = b""
    kind: str = "application/json"

    def encode(self, host: str) -> bytes:
        """The bytes that are sent."""
        lines = [f"{'POST' if self.body else 'GET'} {self.path} HTTP/1.1", f"Host: {host}"]
        if self.body:
            lines += [f"Content-Type: {self.kind}", f"Content-Length: {len(self.body)}"]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + self.body


@dataclass(frozen=True)
class LoadFigures:
    """What clients saw.

    Attributes:
        clients: how many there were at the same time.
        requests: of all clients together.
        errors: requests without an answer of status 200 or 201.
        seconds: from the first request to the last answer.
        p50_ms: median time of a request in milliseconds.
        p95_ms: the time that 95 of 100 requests stay below.
        worst_ms: the longest.
    """

    clients: int
    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p95_ms: float
    worst_ms: float

    @property
    def per_second(self) -> float:
        """Requests answered in a second."""
        return self.requests / self.seconds


def measure_load(
    port: int, groups: Sequence[Sequence[HttpRequest]], clients: int, requests: int
) -> LoadFigures:
    """Send requests to a server on this machine.

    Args:
        port: its port.
        groups: each client takes the next group and sends its requests in order; when all were
            taken the first ones follow. A group counts as one request.
        clients: how many at the same time.
        requests: how many groups are sent in all.
    """
    host = f"127.0.0.1:{port}"
    encoded = [[request.encode(host) for request in group] for group in groups]
    numbers = count()
    seconds: list[float] = []
    errors = 0

    async def client() -> None:
        nonlocal errors
        link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for number in _below(numbers, requests):
            begun = time.perf_counter()
            try:
                for data in encoded[number % len(encoded)]:
                    link = link or await asyncio.open_connection("127.0.0.1", port)
                    if not await _asked(*link, data):
                        errors += 1
                        break
            except (OSError, EOFError, ValueError):
                errors += 1
                link = None
            seconds.append(time.perf_counter() - begun)
        if link is not None:
            link[1].close()

    async def run() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return time.perf_counter() - begun

    total = asyncio.run(run())
    milliseconds = 1000 * np.array(seconds)
    p50, p95 = np.percentile(milliseconds, [50, 95])
    worst = milliseconds.max()
    return LoadFigures(clients, requests, errors, total, float(p50), float(p95), float(worst))


def _below(numbers: Iterator[int], end: int) -> Iterator[int]:
    while (number := next(numbers)) < end:
        yield number


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Send one request and read the answer; whether its status is 200 or 201.

    Raises:
        OSError: if the connection breaks, as EOFError.
        ValueError: if the answer has no length.
    """
    writer.write(data)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    start = head.index("content-length:") + len("content-length:")
    await reader.readexactly(int(head[start : head.index("\r\n", start)]))
    return head.split(" ", 2)[1] in ("200", "201")
