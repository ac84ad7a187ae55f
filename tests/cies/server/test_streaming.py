"""Long questions: a stream of events, nothing stored without leave, given up with the client."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from support.mixed import with_base
from support.served import Served, served

import cies
from cies.server.running import read_events
from indexes.store.gallery import Gallery
from indexes.store.locking import locked
from ingest.encoders.methods.clip import ClipEncoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice


@pytest.fixture(scope="module")
def clip() -> ClipEncoder:
    return ClipEncoder.load(EncoderChoice("clip", "tiny-clip"))


@pytest.fixture(scope="module")
def filled(
    world_gallery: Path, clip: ClipEncoder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Color and shape by DIOR beside base vectors; nothing about style."""
    return with_base(world_gallery, tmp_path_factory.mktemp("streams") / "gallery", clip)


def started(link: HTTPConnection, question: dict[str, Any]) -> HTTPResponse:
    head = {"Accept": "text/event-stream", "Content-Type": "application/json"}
    link.request("POST", "/api/v1/search", json.dumps(question), head)
    return link.getresponse()


def events(server: Served, question: dict[str, Any]) -> list[tuple[str, Any]]:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=120)) as link:
        answer = started(link, question)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [(event, json.loads(line)) for event, line in read_events(answer)]


def asked(place: Path) -> dict[str, Any]:
    key = sorted(record.key for record in Gallery.open(place).files())[4]
    return {"pictures": [key], "conditions": {"style": 1}, "k": 25, "rerank": 20}


def keys_of(document: dict[str, Any]) -> list[str]:
    return [hit["key"] for hit in document["hits"]]


@pytest.mark.parametrize("edit", [False, True])
def test_a_long_question_is_answered_in_steps(
    filled: Path, builtin: DiorEncoder, clip: ClipEncoder, tmp_path: Path, edit: bool
) -> None:
    place = Path(shutil.copytree(filled, tmp_path / "served"))
    question = asked(place)
    with served(place, builtin, edit=edit) as server:
        server.service.engine.encoders.loaded.append(clip)
        found = events(server, question)
        plain = server.post("search", question).json
        without = server.post("search", {**question, "rerank": 0}).json
        refused = server.post("search", {**question, "fill": True})
    names = [event for event, _ in found]
    assert names[0] == "first" and names[-1] == "answer" and set(names[1:-1]) == {"progress"}
    assert keys_of(found[0][1]) == keys_of(without)
    assert all(0 <= one["done"] <= one["total"] for event, one in found if event == "progress")
    answer = found[-1][1]
    assert answer["query"]["reranked"] == 20 and keys_of(plain) == keys_of(answer)
    # The same question in this process, of another copy.
    alone = cies.open(shutil.copytree(filled, tmp_path / "alone"))
    alone.encoders.loaded += [builtin, clip]
    hits = alone.search(question["pictures"][0], "style", 25, rerank=20)
    assert [hit.key for hit in hits] == keys_of(answer)
    stored = [table.name for table in Gallery.open(place).conditions() if table.partial]
    assert stored == (["style"] if edit else [])
    assert refused.status == (200 if edit else 403)
    if not edit:
        assert any("only reads" in note for note in answer["notes"])


def test_an_error_is_an_event(filled: Path) -> None:
    with served(filled) as server:
        found = events(server, {"text": "red", "conditions": {"colr": 1}})
        assert [event for event, _ in found] == ["problem"]
        assert found[0][1]["error"] == "UnknownCondition" and "colr" in found[0][1]["detail"]
        wrong = server.ask("POST", "search", {"k": -1}, {"accept": "text/event-stream"})
        assert wrong.status == 422


def test_the_work_ends_with_its_client(
    filled: Path,
    builtin: DiorEncoder,
    clip: ClipEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Path(shutil.copytree(filled, tmp_path / "served"))
    embedded: list[int] = []
    embed = builtin.embed

    def slow(images: Any, *arguments: Any, **more: Any) -> Any:
        time.sleep(0.3)
        embedded.append(len(images))
        return embed(images, *arguments, **more)

    monkeypatch.setattr(builtin, "embed", slow)
    with served(place, builtin, edit=True) as server:
        server.service.engine.encoders.loaded.append(clip)
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=120)) as link:
            answer = started(link, {**asked(place), "rerank": 58})
            for event, _ in read_events(answer):
                if event == "progress":
                    break
            link.sock.close()  # type: ignore[attr-defined]
            answer.close()
        time.sleep(3)
        so_far = sum(embedded)
        time.sleep(2)
        assert sum(embedded) == so_far < 59
        with locked(place):
            pass
        # Others are answered meanwhile and afterwards.
        question = {**asked(place), "conditions": {"color": 1}, "rerank": 0}
        assert server.post("search", question).status == 200
