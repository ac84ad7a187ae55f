"""Attacks on the server; each is refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served import Served, served
from typer.testing import CliRunner

from cies.cli.app import app
from indexes.errors import UsageError


@pytest.fixture(scope="module")
def server(world_gallery: Path) -> Iterator[Served]:
    with served(world_gallery) as one:
        yield one


@pytest.fixture(scope="module")
def guarded(world_gallery: Path) -> Iterator[Served]:
    with served(world_gallery, token="a-secret") as one:
        yield one


def test_a_name_that_was_bound_to_this_machine_is_refused(server: Served) -> None:
    assert server.get("gallery", host="evil.example").status == 421
    assert server.get("gallery", host=f"evil.example:{server.port}").status == 421
    assert server.get("gallery", host=f"localhost:{server.port}").status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_pages_of_other_sites_cannot_ask(server: Served, origin: str) -> None:
    found = server.ask("POST", "uploads", b"x", {"origin": origin})
    assert found.status == 403
    own = {"origin": f"http://127.0.0.1:{server.port}"}
    assert server.ask("GET", "gallery", headers=own).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/page/..%2f..%2fconsole.py",
        "/page/../../../../etc/passwd",
        "/page/%2e%2e/app.py",
        "pictures/../../etc/passwd",
        "pictures/%2e%2e%2f%2e%2e%2fetc%2fpasswd/file",
        "pictures/" + "A" * 64,
    ],
)
def test_no_file_of_the_machine_can_be_named(server: Served, path: str) -> None:
    found = server.get(path)
    assert found.status in (404, 422) and b"root:" not in found.body


def test_paths_of_the_machine_are_not_told(server: Served, world: Path) -> None:
    key = server.get("pictures?k=1").json["pictures"][0]["key"]
    for path in (
        f"search?key={key}&condition=color",
        f"search?key={key}&condition=mood",
        "gallery",
        "pictures?k=60",
        "facets/mood",
    ):
        assert str(world.parent.parent).encode() not in server.get(path).body, path


def test_a_large_body_is_refused_before_it_is_read(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        host = f"Host: 127.0.0.1:{server.port}\r\n"
        connection.sendall(
            f"POST /api/v1/uploads HTTP/1.1\r\n{host}Content-Length: 9999999999\r\n\r\n".encode()
        )
        assert b" 413 " in connection.recv(4096)
    chunked = server.ask("POST", "uploads", None, {"transfer-encoding": "chunked"})
    assert chunked.status == 411


def test_thousands_of_headers_are_refused(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(30)
        lines = "".join(f"x-{n}: {n}\r\n" for n in range(10_000))
        answer = b""
        try:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode())
            answer = connection.recv(4096)
        except ConnectionError:
            pass
        assert b" 200 " not in answer
    assert server.get("health").status == 200


def test_a_decompression_bomb_is_one_sentence(server: Served) -> None:
    from support.encoded import png_header

    found = server.post("uploads", png_header(50_000, 50_000))
    assert found.status == 400 and "upload" in found.json["detail"]


def test_answers_forbid_scripts_of_others(server: Served) -> None:
    for path in ("/", "/docs", "gallery", "pictures/x"):
        headers = server.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_without_the_token_nothing_is_told(guarded: Served) -> None:
    for path in ("/", "/docs", "gallery", "metrics", "openapi.json", "pictures"):
        found = guarded.get(path)
        assert found.status == 401 and found.headers["www-authenticate"] == "Bearer"
    assert guarded.get("health").status == 200
    assert guarded.get("gallery", authorization="Bearer wrong").status == 401
    assert guarded.get("gallery", cookie="cies_token=wrong").status == 401
    assert guarded.get("gallery", authorization="Bearer a-secret").status == 200


def test_a_browser_gets_the_token_as_a_cookie(guarded: Served) -> None:
    found = guarded.get("/?token=a-secret")
    assert found.status == 303 and found.headers["location"] == "/"
    cookie = found.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    assert guarded.get("gallery", cookie=cookie.split(";")[0]).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_other_machines_need_a_token_or_public(world_gallery: Path, host: str) -> None:
    found = CliRunner().invoke(app, ["serve", "-g", str(world_gallery), "--host", host])
    assert isinstance(found.exception, UsageError) and "--token" in str(found.exception)


def test_a_port_in_use_is_one_sentence(world_gallery: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = CliRunner().invoke(app, ["serve", "-g", str(world_gallery), "--port", port])
    assert "choose another one with --port" in str(found.exception)
