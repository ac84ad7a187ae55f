"""Commands of the same user ask a running server of the same gallery, and say so."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.encoded import encoded
from support.served import Served, generated_gallery, served
from typer.testing import CliRunner

from cies.cli.app import app
from cies.server import running
from cies.server.running import announced, find_server, proof, running_server
from eval.bench.ingest import SleepingEncoder
from eval.bench.search.vectors import generated_key
from indexes.store.gallery import Gallery
from ingest.encoders.methods.dior import DiorEncoder
from query.hits_wire import from_wire, to_wire

SAID = "Answered by the server"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated_gallery(tmp_path_factory.mktemp("running") / "g.cies").path


@pytest.fixture(scope="module")
def server(gallery: Path) -> Iterator[Served]:
    with served(gallery, SleepingEncoder(0, 16)) as one:
        yield one


@pytest.fixture
def world_server(world_gallery: Path, builtin: DiorEncoder) -> Iterator[Served]:
    with served(world_gallery, builtin) as one, announced(one.own):
        yield one


def search(*arguments: object) -> tuple[str, str]:
    """What ``cies search`` prints on stdout and on stderr."""
    done = CliRunner().invoke(app, ["search", *map(str, arguments)])
    assert done.exception is None, done.exception
    return done.stdout, done.stderr


def test_answers_are_the_same_with_and_without_the_server(
    world_server: Served, world_gallery: Path, world: Path, tmp_path: Path
) -> None:
    """Keys, files of the gallery, new files, texts, weights, filters, columns, tables and JSON."""
    file = world / "images" / "00005.jpg"
    new = tmp_path / "new.png"
    new.write_bytes(encoded(Image.open(file).rotate(90, expand=True), "PNG"))
    key = Gallery.open(world_gallery).files()[0].key
    questions: list[list[object]] = [
        [key, "-c", "color", "--json"],
        [file, "-c", "color=2", "-c", "shape", "-k", 5, "--json"],
        [new, "-c", "color", "--where", "width > 1", "--offset", 3, "--json"],
        [new, file, "-c", "shape", "--combine", "any", "--not", "color", "--jsonl"],
        [new, "-c", "shape", "--crop", "0.2,0.2,0.5,0.5", "--json"],
        ["--text", "red heart", "-c", "color", "--json"],
        [new, "-c", "shape", "-k", 4],
        ["new.png", "-c", "color", "-q"],
    ]
    for question in questions:
        out, said = search(*question, "-g", world_gallery)
        alone, quiet = search(*question, "-g", world_gallery, "--no-server")
        assert out == alone, question
        assert SAID in said and str(world_server.port) in said, question
        assert SAID not in quiet


def test_a_wrong_question_has_the_same_error(
    world_server: Served, world_gallery: Path, tmp_path: Path
) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    key = Gallery.open(world_gallery).files()[0].key
    for question in (
        ["missing.jpg", "-c", "color"],
        ["no.jpg", "-c", "color"],
        [key, "-c", "colr"],
        [key, "-c", "color", "--where", "a b"],
        [key, "-c", "color", "-k", "0"],
    ):
        asked = ["search", *question, "-g", str(world_gallery)]
        found = CliRunner().invoke(app, asked).exception
        alone = CliRunner().invoke(app, [*asked, "--no-server"]).exception
        assert type(found) is type(alone) and str(found) == str(alone) and found is not None


def test_values_keep_their_types_between_processes(world_gallery: Path) -> None:
    import datetime

    import cies

    g = cies.open(world_gallery)
    hits = g.search(g.at_moment.files()[0].key, {"color": 1, "shape": 2}, k=3)
    columns = {
        "date": datetime.date(2026, 1, 2),
        "time": datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
        "price": float("inf"),
        "name": "\udcff'\"\n{}",
    }
    hits = replace(hits, hits=(replace(hits[0], columns=columns, rows=(columns,)), *hits[1:]))
    assert from_wire(to_wire(hits)) == hits and "\n" not in to_wire(hits)
    for line in ("{}", "[]", "3", "not JSON", "[" * 100_000):
        with pytest.raises(ValueError):
            from_wire(line)


def test_the_file_can_be_used_by_its_user_only(server: Served, gallery: Path) -> None:
    assert find_server(gallery) is None
    with announced(server.own):
        path = running._file(os.path.realpath(gallery))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert find_server(gallery) == server.own
        (link := gallery.parent / "link").symlink_to(gallery)
        assert find_server(link) == server.own
        link.unlink()
        # Another index, device or version would answer differently.
        assert find_server(gallery, index="flat") is None
        assert find_server(gallery, device="cuda") is None
        path.chmod(0o644)
        assert find_server(gallery) is None
        path.chmod(0o600)
    assert not path.exists()


def test_a_file_that_a_killed_server_left_is_ignored(server: Served, gallery: Path) -> None:
    with announced(server.own):
        for changed in (
            {"token": "another"},
            {"pid": 2**22 + 1},
            {"version": "0.0.1"},
            {"machine": "elsewhere"},
            {"port": 1},
        ):
            with announced(replace(server.own, **changed)):  # type: ignore[arg-type]
                assert find_server(gallery) is None, changed
        path = running._file(os.path.realpath(gallery))
        for text in ("", "{}", "[]", "{", '{"port": "x"}', "[" * 3000):
            path.write_text(text)
            path.chmod(0o600)
            assert find_server(gallery) is None, text
        key = generated_key(0, 1)
        assert SAID not in search(key, "-c", "color", "-g", gallery, "-q")[1]


def test_the_token_is_never_sent_to_another_program(gallery: Path) -> None:
    """A program that listens at the port of a server that was killed learns nothing."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        own = running_server(gallery, "127.0.0.1", other.getsockname()[1], "auto", "auto")

        def answer() -> None:
            connection, _ = other.accept()
            got.append(connection.recv(4096))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with announced(own):
            assert find_server(gallery) is None
        thread.join()
    assert own.token.encode() not in got[0] and b"/local/hello" in got[0]


def test_local_addresses_need_the_token_of_the_file(server: Served) -> None:
    body = {"typed": {}, "pictures": {}}
    for headers in ({}, {"authorization": "Bearer "}, {"authorization": "Bearer wrong"}):
        assert server.ask("POST", "/local/search", body, headers).status == 404
    own = {"authorization": f"Bearer {server.own.token}"}
    assert server.ask("POST", "/local/search", body, own).status == 200  # then a problem
    page = {**own, "origin": f"http://127.0.0.1:{server.port}"}
    assert server.ask("POST", "/local/search", body, page).status == 404
    assert server.get("/local/hello?number=7").body.decode() == proof(server.own.token, "7")
    for wrong in ([], {"typed": 3}, "x"):
        found = server.ask("POST", "/local/search", json.dumps(wrong).encode(), own)
        assert found.status == 400


def test_a_picture_that_was_just_ingested_is_found(tmp_path: Path) -> None:
    """The server looks for a newer state before it answers a command."""
    from support.stand_in import StandIn

    import cies

    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(3):
        Image.new("RGB", (8, 8), (40 * n, 9, 9)).save(folder / f"{n}.png")
    g = tmp_path / "g.cies"
    cies.ingest(g, [folder], ["color"], model=StandIn())
    with served(g, StandIn()) as one, announced(one.own):
        assert len(search(folder / "0.png", "-c", "color", "-g", g, "-q")[0].split()) == 2
        Image.new("RGB", (8, 8), "white").save(folder / "new.png")
        cies.ingest(g, [folder], ["color"], model=StandIn())
        out, said = search(folder / "0.png", "-c", "color", "-g", g, "-q")
        assert str(folder / "new.png") in out and SAID in said
