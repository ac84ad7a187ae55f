"""Connections with limits of time: a client that sends or reads too slowly is disconnected.

The HTTP server itself limits only how long a connection may be idle between two requests.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds between two looks at a connection.
LOOK_SECONDS = 5.0

#: Seconds in which a client must send the head of a request.
HEAD_SECONDS = 20.0

#: Seconds that a connection may be too slow.
SLOW_SECONDS = 30.0

#: Bytes a second that a client must send of a request's body.
LEAST_RATE = 2048

#: Connections at the same time; further ones are answered 503. A process may have 1,024 files open.
MAX_CONNECTIONS = 500


class WatchedProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose client sends or reads too slowly."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to look at a new connection."""
        super().connection_made(transport)
        #: When the client was last in turn to send a request's head.
        self._waiting_since = self.loop.time()
        self._slow_seconds = 0.0
        self._received = 0
        self._unsent = 0
        self._timer = self.loop.call_later(LOOK_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what the client sends."""
        self._received += len(data)
        super().data_received(data)

    def _look(self) -> None:
        """Close the connection if it is too slow; called every few seconds."""
        self._timer = self.loop.call_later(LOOK_SECONDS, self._look)
        cycle: Any = self.cycle
        is_busy = cycle is not None and not cycle.response_complete
        unsent = self.transport.get_write_buffer_size()
        if is_busy or unsent:
            self._waiting_since = self.loop.time()
        elif self.loop.time() - self._waiting_since > HEAD_SECONDS:
            self.transport.abort()
            return
        reads_slowly = bool(unsent) and unsent >= self._unsent > 0
        sends_slowly = (
            is_busy
            and cycle.more_body
            and not self.flow.read_paused
            and self._received < LEAST_RATE * LOOK_SECONDS
        )
        is_slow = reads_slowly or sends_slowly
        self._slow_seconds = self._slow_seconds + LOOK_SECONDS if is_slow else 0.0
        self._received, self._unsent = 0, unsent
        if self._slow_seconds >= SLOW_SECONDS:
            self.transport.abort()
