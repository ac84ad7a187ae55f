"""A query at a web address is fetched within limits, and never from a private network."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from support.kinds import png

from indexes.errors import UsageError
from ingest.sources import web
from ingest.sources.web import fetch


@contextmanager
def server(*parts: bytes, pause: float = 0.0) -> Iterator[str]:
    """A server on this machine that answers any request with these bytes."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    for part in parts:
                        connection.sendall(part)
                        time.sleep(pause)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/a.png"
    finally:
        listening.close()


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def test_a_picture_is_fetched_as_it_is() -> None:
    with server(answer(png(1), "Content-Type: image/png")) as address:
        assert fetch(address, allow_private=True) == png(1)
        with server(answer(b"", f"Location: {address}", status="302 Found")) as first:
            assert fetch(first, allow_private=True) == png(1)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/a.png",
        "http://localhost/a.png",
        "http://10.0.0.1/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://0.0.0.0/",
        "http://2130706433/",
    ],
)
def test_private_addresses_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"private network.*--allow-private"):
        fetch(address)


def test_a_redirect_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the first host counts as public here.
    public = web._public

    def first_is_public(host: str, port: int, allow_private: bool, given: str) -> str:
        return public(host, port, host == "127.0.0.1", given)

    monkeypatch.setattr(web, "_public", first_is_public)
    target = "Location: http://127.0.0.2/secret"
    with (
        server(answer(b"", target, status="301 Moved")) as address,
        pytest.raises(UsageError, match="private network"),
    ):
        fetch(address)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (answer(b"<html>", "Content-Type: text/html; charset=x"), "no picture but 'text/html'"),
        (answer(b"no", status="404 Not Found"), "the server answers 404"),
        (answer(b""), "it is empty"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", "larger than 256 MB"),
        (b"nonsense", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "ended before the end"),
        (answer(b"", "Location: file:///etc/passwd", status="302 Found"), "no web address"),
        (answer(b"", "Location: /a.png", status="302 Found"), "redirects more than 5 times"),
    ],
)
def test_what_is_no_picture_is_one_sentence(given: bytes, message: str) -> None:
    with server(given) as address, pytest.raises(UsageError, match=message) as caught:
        fetch(address, allow_private=True, seconds=5.0)
    assert str(caught.value).startswith("Cannot fetch http://127.0.0.1")


def test_the_time_counts_for_the_whole_picture() -> None:
    whole = answer(png(1))
    began = time.monotonic()
    with (
        server(*(bytes([byte]) for byte in whole), pause=0.05) as address,
        pytest.raises(UsageError, match="did not come within"),
    ):
        fetch(address, allow_private=True, seconds=0.4)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "address", ["http://user:word@example.org/a", "http:///a", "http://example.org/a\r\nX: y"]
)
def test_addresses_that_are_not_asked(address: str) -> None:
    with pytest.raises(UsageError, match="Cannot fetch"):
        fetch(address)
