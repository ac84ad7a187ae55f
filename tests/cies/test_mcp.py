"""A gallery for assistants, asked by the client of the official SDK."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.encoded import encoded
from support.served import Served, generated_gallery, served

from cies.mcp.run import add_mcp
from cies.mcp.tools import make_mcp_server
from eval.bench.search.vectors import generated_key
from ingest.encoders.methods.dior import DiorEncoder

pytest.importorskip("mcp")
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

TOOLS = {"conditions", "facets", "pictures", "search", "thumbnail", "add_picture"}


@pytest.fixture(scope="module")
def server(world_gallery: Path, builtin: DiorEncoder) -> Iterator[Served]:
    with served(world_gallery, builtin, extend=add_mcp) as one:
        yield one


def call(server: Any, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """The results of some tools."""

    async def run() -> list[Any]:
        async with Client(server) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
            return [await client.call_tool(name, given) for name, given in calls]

    return asyncio.run(run())


def test_a_gallery_is_searched_and_seen_over_http(server: Served) -> None:
    keys = [one["key"] for one in server.get("pictures?k=3").json["pictures"]]
    data = base64.b64encode(encoded(Image.new("RGB", (40, 30), "red"), "PNG")).decode()
    about, words, listed, found, small, sent = call(
        server.address + "mcp",
        ("conditions", {}),
        ("facets", {"condition": "color"}),
        ("pictures", {"k": 3}),
        ("search", {"pictures": [keys[0]], "conditions": {"color": 1}, "k": 5, "thumbnails": 2}),
        ("thumbnail", {"key": keys[0]}),
        ("add_picture", {"data": data}),
    )
    texts = [one.content[0].text for one in (about, words, listed, found, sent)]
    documents = [json.loads(text) for text in texts]
    assert documents[0] == server.get("gallery").json
    assert documents[1] == server.get("facets/color").json
    assert documents[2] == server.get("pictures?k=3").json
    # The documents of the tools are those of HTTP, which are those of the command line.
    assert documents[3] == server.get(f"search?key={keys[0]}&condition=color&k=5").json
    assert [one.type for one in found.content] == ["text", "image", "image"]
    shown = server.get(f"pictures/{documents[3]['hits'][0]['key']}/thumbnail").body
    assert base64.b64decode(found.content[1].data) == shown
    image = Image.open(io.BytesIO(base64.b64decode(small.content[0].data)))
    assert image.format == "JPEG" and small.content[0].mime_type == "image/jpeg"
    new = {"pictures": [documents[4]["key"]], "conditions": {"color": 1}, "thumbnails": 0}
    assert len(json.loads(call(server.address + "mcp", ("search", new))[0].content[0].text)["hits"])


def test_errors_are_the_sentences_of_the_command_line(server: Served) -> None:
    results = call(
        make_mcp_server(server.service),
        ("search", {"text": "red", "conditions": {"colr": 1}}),
        ("search", {"text": "red", "conditions": {"color": 1}, "where": "a b"}),
        ("search", {"pictures": ["/etc/passwd"], "conditions": {"color": 1}}),
        ("thumbnail", {"key": "a" * 64}),
        ("add_picture", {"data": "???"}),
        ("add_picture", {"data": base64.b64encode(b"no picture").decode()}),
    )
    sentences = ("colr", "filter", "pattern", "cannot be shown", "base64", "upload")
    for result, sentence in zip(results, sentences, strict=True):
        assert result.is_error and sentence in result.content[0].text, result.content


def test_the_address_is_guarded_as_all_others(server: Served) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert server.ask("POST", "/mcp", body, {"host": "evil.example"}).status == 421
    assert server.ask("POST", "/mcp", body, {"origin": "https://evil.example"}).status == 403


def test_an_assistant_starts_the_server_itself(tmp_path: Path) -> None:
    """Over stdio; stdout has nothing but the protocol."""
    place = generated_gallery(tmp_path / "g.cies").path
    started = StdioServerParameters(
        command=sys.executable,
        args=["-m", "cies", "mcp", "-g", str(place)],
        env=dict(os.environ),
    )
    asked = {"pictures": [generated_key(0, 1)], "conditions": {"color": 1, "shape": 2}, "k": 3}
    (found,) = call(started, ("search", asked))
    assert len(json.loads(found.content[0].text)["hits"]) == 3
