"""A real server of a gallery in a thread, and requests to it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from cies.server.app import create_app
from cies.server.gallery_service import GalleryService
from cies.server.guards import LOCAL_HOSTS, Access
from cies.server.run import server_config
from cies.server.running import RunningServer, running_server
from eval.bench.ingest import CONDITIONS, SleepingEncoder
from eval.bench.search.vectors import write_generated
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.conditions import Condition
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
    own: RunningServer

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
    extend: Callable[[FastAPI, GalleryService], None] = lambda app, service: None,
) -> Iterator[Served]:
    """Serve a gallery, with an encoder that is already loaded."""
    service = GalleryService(str(gallery), "cpu", "auto", show_paths, max_waiting, edit)
    if encoder is not None:
        service.engine.encoders.loaded.append(encoder)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    own = running_server(gallery, "127.0.0.1", port, "auto", "cpu")
    access = Access(frozenset(LOCAL_HOSTS), token, max_body, own.token)
    app = create_app(service, access)
    extend(app, service)
    server = uvicorn.Server(server_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield Served(port, service, own)
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()


def generated_gallery(place: Path, count: int = 300, seed: int = 0) -> Gallery:
    """A gallery of generated vectors under color, shape and style, by a sleeping encoder of
    dimension 16.
    """
    spec = SleepingEncoder(0, 16).spec
    tables = [VectorTable(n, 16, spec.made_by(Condition.parse(n))) for n in CONDITIONS]
    return write_generated(place, count, 16, seed, tables)
