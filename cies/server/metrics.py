"""Counts the server's work, in the text format of Prometheus."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Upper bounds of the histogram of durations, in seconds.
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Requests by route and status, with a histogram of their durations."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, int], int] = defaultdict(int)
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(_BOUNDS) + 1))
        self._seconds: dict[str, float] = defaultdict(float)

    def add(self, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: the route's pattern, such as ``/api/v1/search``; never a client's text.
            status: the HTTP status.
            seconds: how long it took.
        """
        with self._lock:
            self._requests[route, status] += 1
            self._buckets[route][bisect_left(_BOUNDS, seconds)] += 1
            self._seconds[route] += seconds

    def text(self, gauges: Mapping[str, float]) -> str:
        """All numbers in the text format.

        Args:
            gauges: further values by name, such as ``cies_pictures``.
        """
        lines = ["# TYPE cies_requests_total counter"]
        with self._lock:
            for (route, status), count in sorted(self._requests.items()):
                lines.append(f'cies_requests_total{{route="{route}",status="{status}"}} {count}')
            lines.append("# TYPE cies_request_seconds histogram")
            for route, buckets in sorted(self._buckets.items()):
                total = 0
                for bound, count in zip((*_BOUNDS, "+Inf"), buckets, strict=True):
                    total += count
                    lines.append(
                        f'cies_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}'
                    )
                lines.append(f'cies_request_seconds_sum{{route="{route}"}} {self._seconds[route]}')
                lines.append(f'cies_request_seconds_count{{route="{route}"}} {total}')
        for name, value in gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


class RequestTiming:
    """Measures every request that reaches the application."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        """Store the arguments."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.add(route, status, time.perf_counter() - started)
