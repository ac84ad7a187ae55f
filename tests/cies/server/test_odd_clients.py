"""Clients that are slow, leave or crash a process: the server goes on, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.served import Served, generated_gallery, served

from cies.server import connections
from cies.server.app import THREADS
from eval.bench.ingest import SleepingEncoder, different_pictures
from eval.bench.load import HttpRequest, measure_load
from eval.bench.search.vectors import generated_key

KEY = generated_key(0, 1)
SEARCH = f"search?key={KEY}&condition=color&k=3"


@pytest.fixture(scope="module")
def encoder() -> SleepingEncoder:
    return SleepingEncoder(0.3, 16)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, encoder: SleepingEncoder) -> Iterator[Served]:
    place = generated_gallery(tmp_path_factory.mktemp("odd") / "g.cies").path
    with served(place, encoder, max_body=2**24) as one:
        assert one.get(SEARCH).status == 200
        yield one


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(connections, "SLOW_SECONDS", 0.5)


def wait_for(reached: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not reached() and time.monotonic() < end:
        time.sleep(0.05)
    return reached()


def is_closed(link: socket.socket, seconds: float = 20) -> bool:
    """Whether the server closes a connection."""
    link.settimeout(seconds)
    try:
        while link.recv(2**16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def connect(server: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port))


def test_a_client_that_sends_nothing_or_a_slow_head_is_disconnected(
    server: Served, impatient: None
) -> None:
    silent, slow = connect(server), connect(server)
    closed = []
    for _ in range(40):
        try:
            slow.sendall(b"x")
        except ConnectionError:
            closed.append(slow)
            break
        time.sleep(0.1)
    assert closed and is_closed(silent)
    assert server.get(SEARCH).status == 200


def test_a_client_that_sends_a_slow_body_is_disconnected(server: Served, impatient: None) -> None:
    with connect(server) as link:
        head = (
            f"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2**20}\r\n\r\n"
        )
        link.sendall(head.encode() + b"x" * 10)
        assert is_closed(link)
    assert wait_for(lambda: server.get("health").status == 200)


def test_a_client_that_does_not_read_is_disconnected(server: Served, impatient: None) -> None:
    """The answer is larger than what the system keeps for a connection."""
    data = different_pictures(1, 0.1)[0][1] + os.urandom(12 * 2**20)
    key = server.post("uploads", data).json["key"]
    own = psutil.Process()
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", server.port))
        port = link.getsockname()[1]

        def served() -> bool:
            return any(one.raddr and one.raddr.port == port for one in own.net_connections())

        link.sendall(
            f"GET /api/v1/pictures/{key}/file HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        assert wait_for(served)
        # Its end of the connection is gone although nobody has read.
        assert wait_for(lambda: not served())


def test_a_client_that_leaves_does_not_cost_the_model(
    server: Served, encoder: SleepingEncoder
) -> None:
    pictures = [server.post("uploads", data).json["key"] for _, data in different_pictures(4, 0.01)]
    embedded = sum(count for _, _, count in encoder.calls)

    def ask(key: str, accept: str = "*/*") -> socket.socket:
        body = json.dumps({"pictures": [key], "conditions": {"color": 1}}).encode()
        link = connect(server)
        link.sendall(
            f"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        return link

    queue = server.service.queue
    with queue.using_model():
        links = [ask(pictures[0])]
        time.sleep(1.0)  # the thread of the queue has taken it, and waits for the model
        links += [ask(pictures[1]), ask(pictures[2], "text/event-stream"), ask(pictures[3])]
        assert wait_for(lambda: queue.waiting >= 3)
        for link in links:
            link.close()
        assert wait_for(lambda: queue.waiting <= 1)
    assert wait_for(lambda: queue.waiting == 0)
    assert server.get(SEARCH).status == 200
    time.sleep(1.0)
    assert sum(count for _, _, count in encoder.calls) <= embedded + 1


def test_nothing_is_left_of_odd_clients(server: Served) -> None:
    """File descriptors and threads are counted."""
    own = psutil.Process()

    def odd(count: int) -> None:
        links = []
        for n in range(count):
            link = connect(server)
            if n % 3 == 0:
                link.sendall(b"GET /api/v1/gallery HT")
            elif n % 3 == 1:
                link.sendall(f"GET /api/v1/{SEARCH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            links.append(link)
        for link in links:
            link.close()

    load = [[HttpRequest(f"/api/v1/{SEARCH}")]]
    for _ in range(2):  # the pool of threads grows to what is needed at once
        odd(150)
    assert measure_load(server.port, load, 16, 64).errors == 0
    time.sleep(1)
    files, threads = own.num_fds(), own.num_threads()
    odd(150)
    assert measure_load(server.port, load, 16, 200).errors == 0
    assert wait_for(lambda: own.num_fds() <= files + 2)
    assert own.num_threads() <= max(threads + 2, THREADS + 30)


def test_killed_decoders_are_replaced(server: Served) -> None:
    (_, first), (_, second) = different_pictures(20, 0.01)[18:]
    assert server.post("uploads", first).status == 201
    decoders = [
        child
        for child in psutil.Process().children(recursive=True)
        if any("decoder_process" in part for part in child.cmdline())
    ]
    assert decoders
    for child in decoders:
        child.kill()
    sent = server.post("uploads", second)
    assert sent.status == 201
    found = server.post("search", {"pictures": [sent.json["key"]], "conditions": {"color": 1}})
    assert found.status == 200 and len(found.json["hits"]) == 10


def test_the_model_goes_on_after_a_failure(server: Served, encoder: SleepingEncoder) -> None:
    """An error of the model reaches the one client whose picture caused it."""
    (_, one), (_, other) = different_pictures(24, 0.01)[22:]
    keys = [server.post("uploads", data).json["key"] for data in (one, other)]
    normal = encoder.embed
    try:
        vars(encoder)["embed"] = lambda *_, **__: (_ for _ in ()).throw(MemoryError("no memory"))
        found = server.post("search", {"pictures": [keys[0]], "conditions": {"color": 1}})
        assert found.status == 500 and "Traceback" not in found.body.decode()
        assert found.headers["x-content-type-options"] == "nosniff"
    finally:
        vars(encoder)["embed"] = normal
    assert server.post("search", {"pictures": [keys[1]], "conditions": {"color": 1}}).status == 200


def test_a_gallery_that_is_replaced_underneath(tmp_path: Path) -> None:
    """Another gallery at the same place has tables of the same names and version numbers."""
    place, other = tmp_path / "g.cies", tmp_path / "other.cies"
    generated_gallery(place)
    generated_gallery(other, seed=5)
    new = generated_key(5, 1)
    with served(place, SleepingEncoder(0, 16)) as one:
        assert one.get(SEARCH).status == 200
        place.rename(tmp_path / "old.cies")
        time.sleep(1.1)
        gone = one.get(SEARCH)
        assert gone.status == 503 and "gone" in gone.json["detail"]
        assert str(tmp_path) not in gone.json["detail"]
        other.rename(place)
        time.sleep(1.1)
        found = one.get(f"search?key={new}&condition=color&k=300")
        assert found.status == 200 and len(found.json["hits"]) == 299
        assert {hit["key"] for hit in found.json["hits"]} <= {
            generated_key(5, n) for n in range(300)
        }
        assert one.get(SEARCH).status == 404
        shutil.rmtree(place)
        time.sleep(1.1)
        assert one.get("ready").status == 503 and one.get("health").status == 200


def test_more_bytes_at_once_than_fit_are_refused(tmp_path: Path) -> None:
    """Bodies that are announced count at once, so that many uploads cannot fill the memory."""
    generated_gallery(tmp_path / "g.cies")
    with served(tmp_path / "g.cies", max_body=2**20) as one:
        links = []
        for _ in range(4):
            link = connect(one)
            head = (
                f"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2**20}\r\n"
            )
            link.sendall(head.encode() + b"\r\nx")
            links.append(link)
        time.sleep(0.3)
        refused = one.post("uploads", b"y" * 2**19)
        assert refused.status == 429 and refused.headers["retry-after"]
        assert one.get(SEARCH).status == 200
        for link in links:
            link.close()
        assert wait_for(lambda: one.post("uploads", b"y" * 2**19).status == 400)


@pytest.mark.soak
def test_memory_stays_flat_over_50_000_requests(server: Served) -> None:
    own = psutil.Process()
    load = [
        [HttpRequest(f"/api/v1/search?key={generated_key(0, n)}&condition=color")]
        for n in range(300)
    ]
    assert measure_load(server.port, load, 8, 5000).errors == 0
    before, files, threads = own.memory_info().rss, own.num_fds(), threading.active_count()
    assert measure_load(server.port, load, 8, 50_000).errors == 0
    assert own.memory_info().rss < before + 40 * 2**20
    assert own.num_fds() <= files + 2 and threading.active_count() <= threads + 2
