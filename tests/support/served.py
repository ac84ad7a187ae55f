"""A real server of a gallery in a thread, and requests to it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import uvicorn

from cies.server.app import create_app
from cies.server.gallery_service import GalleryService
from cies.server.guards import LOCAL_HOSTS, Access
from ingest.encoders.base import BaseEncoder


@dataclass(frozen=True)
class Answer:
    """An answer of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The document."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    service: GalleryService

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.port}/"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request; paths that do not begin with a slash are below ``/api/v1``."""
        given = {"host": f"127.0.0.1:{self.port}", **(headers or {})}
        if isinstance(body, Mapping):
            body = json.dumps(body).encode()
            given = {"content-type": "application/json", **given}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            where = path if path.startswith("/") else "/api/v1/" + path
            connection.request(method, where, body, dict(given))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """A GET request."""
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: bytes | Mapping[str, Any]) -> Answer:
        """A POST request."""
        return self.ask("POST", path, body)


@contextmanager
def served(
    gallery: Path,
    encoder: BaseEncoder | None = None,
    token: str = "",
    show_paths: bool = False,
    max_body: int = 2**20,
    max_waiting: int = 64,
    edit: bool = False,
) -> Iterator[Served]:
    """Serve a gallery, with an encoder that is already loaded."""
    service = GalleryService(str(gallery), "cpu", "auto", show_paths, max_waiting, edit)
    if encoder is not None:
        service.engine.encoders.loaded.append(encoder)
    access = Access(frozenset(LOCAL_HOSTS), token, max_body)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(service, access), log_level="warning", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield Served(listening.getsockname()[1], service)
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
