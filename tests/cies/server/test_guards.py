"""Attacks on the server; each is refused."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image
from support.served import Served, served
from typer.testing import CliRunner

from cies.cli.app import app
from cies.server import guards
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


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'{"conditions": {"color": NaN}, "text": "red"}',
        b'{"conditions": {"color": Infinity}, "text": "red"}',
        b'{"conditions": {"color": 1}, "text": "red", "k": -1}',
        b'{"conditions": {"color": 1}, "text": "red", "k": 1e300}',
        b'{"conditions": {"color": 1}, "text": "red", "k": ' + b"9" * 5000 + b"}",
        b'{"conditions": {"color": 1}, "text": "red", "offset": -1}',
        b'{"conditions": {"color": 1}, "text": "red", "min_percentile": NaN}',
        b'{"conditions": {"color": 1}, "text": "red\\u0000"}',
        b'{"conditions": {"color": 1}, "text": "\\ud800"}',
        b'{"conditions": {"\\ud800": 1}, "text": "red"}',
        b'{"conditions": {"color": 1}, "text": "red", "crop": [0, 0, NaN, 1]}',
        b'{"conditions": {"color": 1}, "text": "red", "where": "' + b"(" * 15_000 + b'"}',
        b'{"conditions": {"color": 1}, "text": "red", "sort": "; DROP TABLE"}',
        b'{"conditions": {"color": 1}, "text": "red", "method": ["../../x"]}',
        b'{"conditions": {"color": 1}, "pictures": ["http://127.0.0.1/x.jpg"]}',
        b'{"conditions": {"color": 1}, "pictures": ["/etc/passwd"]}',
    ],
)
def test_odd_documents_are_one_sentence(server: Served, body: bytes) -> None:
    found = server.ask("POST", "search", body, {"content-type": "application/json"})
    assert 400 <= found.status < 500, found.body[:300]
    assert found.headers["content-type"] == "application/problem+json"
    assert set(found.json) == {"type", "title", "status", "detail", "error"}
    assert len(found.body) < 2000 and b"Traceback" not in found.body
    assert server.get("health").status == 200


def test_a_huge_document_is_refused_before_it_is_read(server: Served) -> None:
    found = server.ask("POST", "search", b'{"text": "' + b"x" * 2**20 + b'"}')
    assert found.status == 413


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Content-Length: 50\r\n\r\n{}",
        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nx: a\r\n\tb: c\r\n y: \x00\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_ambiguous_requests_are_refused(server: Served, request_bytes: bytes) -> None:
    """Two programs could read them differently (request smuggling)."""
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.settimeout(30)
        answer = b""
        try:
            link.sendall(request_bytes)
            answer = link.recv(2**16)
        except ConnectionError:
            pass
    assert answer == b"" or int(answer.split(b" ")[1]) >= 400, answer[:200]
    assert server.get("health").status == 200


@pytest.mark.parametrize("origin", ["http://[", "//", "http://evil\x7f", "\xff", "a" * 9000])
def test_an_origin_that_is_no_address_is_refused(server: Served, origin: str) -> None:
    found = server.ask("GET", "gallery", headers={"origin": origin})
    assert found.status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_cannot_load_answers(server: Served, site: str) -> None:
    """Not even as an image or a script, which browsers send without an Origin."""
    key = server.get("pictures?k=1").json["pictures"][0]["key"]
    for path in ("gallery", f"pictures/{key}/thumbnail", f"search?key={key}&condition=color"):
        assert server.get(path, **{"sec-fetch-site": site}).status == 403
    assert server.get("/", **{"sec-fetch-site": site}).status == 200
    assert server.get("gallery", **{"sec-fetch-site": "same-origin"}).status == 200


def test_tokens_are_compared_in_constant_time(
    guarded: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is given as a token goes through :func:`hmac.compare_digest`, and nothing else."""
    compared: list[tuple[bytes, bytes]] = []
    honest = guards.hmac.compare_digest

    def noted(given: bytes, right: bytes) -> bool:
        compared.append((given, right))
        return honest(given, right)

    monkeypatch.setattr(guards.hmac, "compare_digest", noted)
    for n, headers in enumerate(
        (
            {"authorization": "Bearer a"},
            {"authorization": "Bearer a-secre"},
            {"authorization": "Bearer \xff"},
            {"cookie": "cies_token=a-secret2"},
        )
    ):
        assert guarded.ask("GET", "gallery", headers=headers).status == 401
        assert len(compared) > n and all(right == b"a-secret" for _, right in compared)
    assert guarded.get("/?token=a-secre").status == 401


@pytest.mark.parametrize("token", ["a b", 'a"b', "ä", "a;b", "a\nb"])
def test_a_token_that_no_header_can_have_is_refused(world_gallery: Path, token: str) -> None:
    found = CliRunner().invoke(app, ["serve", "-g", str(world_gallery), "--token", token])
    assert isinstance(found.exception, UsageError) and "--token" in str(found.exception)


def test_script_in_names_words_and_columns_stays_text(tmp_path: Path) -> None:
    """File names, the model's words, columns, their values and conditions are data in JSON, and
    answers cannot be read as a page.
    """
    from support.stand_in import StandIn

    import cies

    script = "<img src=x onerror=alert(1)>"
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / f"{script}.png")
    Image.new("RGB", (8, 8), "blue").save(folder / "b.png")
    odd = os.fsencode(folder / "c") + b"\xff\x1b[31m.png"
    with open(odd, "wb") as file:
        Image.new("RGB", (8, 8), "green").save(file, "PNG")
    table = tmp_path / "t.csv"
    table.write_text(f'file,"{script}"\nin/b.png,"{script}"\n')
    g = tmp_path / "g.cies"
    cies.ingest(g, [folder, table], [script], model=StandIn())
    with served(g, StandIn(), show_paths=True) as one:
        quoted = quote(script, safe="")
        keys = [hit["key"] for hit in one.get("pictures?k=9").json["pictures"]]
        assert len(keys) == 3
        column = next(iter(one.get("gallery").json["columns"]))
        paths = [f"search?key={key}&condition={quoted}" for key in keys]
        paths += ["gallery", "pictures?k=9", f"facets/{quoted}", f"columns/{column}"]
        paths += [f"search?key={keys[0]}&condition={quoted}2", "columns/" + quoted, quoted]
        for path in paths:
            found = one.get(path)
            assert found.status in (200, 404, 400), (path, found.body[:300])
            kind = found.headers["content-type"]
            assert kind in ("application/json", "application/problem+json"), kind
            assert found.headers["x-content-type-options"] == "nosniff"
            json.loads(found.body)
        for page in ("/", "/docs"):
            assert script.encode() not in one.get(page).body


def test_a_bomb_of_each_kind_is_refused(server: Served) -> None:
    """Few bytes that are many pixels, and files that are no pictures."""
    from support.encoded import png_header

    for data in (
        png_header(60_000, 60_000),
        b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + b"\x00" * 30,
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"%PDF-1.7\n" + b"x" * 100,
        b"PK\x03\x04" + b"\x00" * 100,
        b"\x00" * 1000,
        b"",
    ):
        found = server.post("uploads", data)
        assert found.status == 400 and "upload" in found.json["detail"]
    assert server.get("health").status == 200
