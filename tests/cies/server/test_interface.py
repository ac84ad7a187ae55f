"""The HTTP interface over a real gallery, asked by plain HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.commands import run
from support.encoded import encoded
from support.served import Served, served

import cies
from indexes.store.gallery import Gallery
from ingest.encoders.methods.dior import DiorEncoder


@pytest.fixture(scope="module")
def server(world_gallery: Path, builtin: DiorEncoder) -> Iterator[Served]:
    with served(world_gallery, builtin, show_paths=True) as one:
        yield one


@pytest.fixture(scope="module")
def keys(world_gallery: Path) -> list[str]:
    records = Gallery.open(world_gallery).files()
    return [record.key for record in sorted(records, key=lambda record: record.path)]


def test_a_search_is_that_of_the_command_line(
    server: Served, world_gallery: Path, keys: list[str]
) -> None:
    found = server.post("search", {"pictures": [keys[3]], "conditions": {"color": 1}, "k": 7})
    assert found.status == 200
    printed = run("search", keys[3], "-c", "color", "-k", 7, "-g", world_gallery, "--json")
    assert found.json == json.loads(printed.stdout)
    by_address = server.get(f"search?key={keys[3]}&condition=color&k=7")
    assert by_address.json == found.json


def test_facets_are_those_of_the_command_line(server: Served, world_gallery: Path) -> None:
    expected = json.loads(run("facets", "-c", "shape", "-g", world_gallery, "--json").stdout)
    found = server.get("facets/shape").json
    assert found == {name: value for name, value in expected.items() if name != "gallery"}


def test_pages_of_hits_follow_each_other(server: Served, keys: list[str]) -> None:
    question = {"pictures": [keys[0]], "conditions": {"color": 2, "shape": 1}, "sort": "score"}
    whole = server.post("search", {**question, "k": 40}).json["hits"]
    parts = [
        hit
        for offset in range(0, 40, 10)
        for hit in server.post("search", {**question, "k": 10, "offset": offset}).json["hits"]
    ]
    assert [hit["key"] for hit in parts] == [hit["key"] for hit in whole]
    assert [hit["rank"] for hit in parts] == list(range(1, 41))


def test_an_upload_is_searched_like_the_file(server: Served, world: Path, keys: list[str]) -> None:
    data = (world / "images" / "00005.jpg").read_bytes()
    sent = server.post("uploads", data)
    assert sent.status == 201 and sent.json["in_gallery"] and sent.json["key"] in keys
    other = encoded(Image.open(world / "images" / "00007.jpg").rotate(90, expand=True), "PNG")
    new = server.post("uploads", other).json
    assert not new["in_gallery"] and (new["width"], new["height"]) == (128, 128)
    calls = server.service.queue.calls
    question = {"pictures": [new["key"]], "conditions": {"color": 1}, "k": 5}
    first = server.post("search", question).json
    # Another weight or filter does not embed the picture again.
    server.post("search", {**question, "conditions": {"color": 3}, "where": "width > 1"})
    assert server.service.queue.calls == calls + 1
    expected = cies.open(server.service.engine.gallery.path).search(other, "color", k=5)
    assert [hit["key"] for hit in first["hits"]] == [hit.key for hit in expected]


def test_vectors_are_those_that_are_compared(server: Served, keys: list[str]) -> None:
    found = server.post("embed", {"pictures": keys[:2], "conditions": ["color", "shape"]}).json
    vectors = np.array(found["vectors"])
    assert vectors.shape[:2] == (2, 2)
    hits = server.get(f"search?key={keys[0]}&condition=shape&k=59").json["hits"]
    score = next(hit["score"] for hit in hits if hit["key"] == keys[1])
    assert vectors[0, 1] @ vectors[1, 1] == pytest.approx(score, abs=1e-3)


def test_pictures_are_sent_as_jpeg_without_metadata(
    server: Served, world: Path, keys: list[str]
) -> None:
    small = server.get(f"pictures/{keys[0]}/thumbnail")
    assert small.headers["content-type"] == "image/jpeg" and small.body[:2] == b"\xff\xd8"
    assert "immutable" in small.headers["cache-control"]
    turned = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    sent = server.post("uploads", encoded(turned, "JPEG", exif=exif)).json
    assert (sent["width"], sent["height"]) == (20, 40)
    large = server.get(f"pictures/{sent['key']}")
    (place := world / "large.jpg").write_bytes(large.body)
    with Image.open(place) as image:
        assert image.size == (20, 40) and not image.getexif()
    place.unlink()
    file = server.get(f"pictures/{keys[0]}/file")
    assert file.headers["content-disposition"].startswith("attachment")
    assert file.body == sorted((world / "images").iterdir())[0].read_bytes()


def test_the_list_of_pictures(server: Served, world: Path, keys: list[str]) -> None:
    first = server.get("pictures?k=4").json
    assert first["total"] == 60 and [one["key"] for one in first["pictures"]] == keys[:4]
    word = server.get("facets/shape").json["facets"][0]
    named = " OR ".join(f"word = '{one['word']}'" for one in word["words"])
    where = named.replace(" ", "%20").replace("'", "%27")
    found = server.get(f"pictures?k=60&condition=shape&where={where}").json
    assert found["total"] == word["pictures"]


@pytest.mark.parametrize(
    ("question", "status", "error", "sentence"),
    [
        ({"conditions": {"color": 1}}, 400, "UsageError", "either pictures or a text"),
        ({"conditions": {"mood": 1}, "text": "red"}, 404, "UnknownCondition", "mood"),
        ({"pictures": ["a" * 64], "conditions": {"color": 1}}, 404, "NotInGallery", "upload it"),
        ({"pictures": ["/etc/passwd"], "conditions": {"color": 1}}, 422, "UsageError", "pictures"),
        ({"conditions": {"color": -1}, "text": "red"}, 400, "UsageError", "weight"),
        ({"conditions": {"color": 1}, "text": "red", "k": 0}, 422, "UsageError", "'k'"),
        ({"conditions": {"color": 1}, "text": "red", "lvlm": "x"}, 422, "UsageError", "lvlm"),
        ({"conditions": {"color": 1}, "text": "red", "where": "a b"}, 400, "UsageError", "filter"),
    ],
)
def test_errors_are_problem_documents(
    server: Served, question: dict[str, object], status: int, error: str, sentence: str
) -> None:
    found = server.post("search", question)
    assert found.headers["content-type"] == "application/problem+json"
    assert (found.status, found.json["status"]) == (status, status)
    assert found.json["error"] == error and sentence in found.json["detail"]


def test_a_file_that_is_no_picture_is_refused(server: Served) -> None:
    found = server.post("uploads", b"no picture")
    assert found.status == 400 and "Cannot read the upload" in found.json["detail"]


def test_health_and_numbers(server: Served, keys: list[str]) -> None:
    assert server.get("health").json["status"] == server.get("ready").json["status"] == "ok"
    server.get(f"search?key={keys[0]}&condition=color")
    text = server.get("metrics").body.decode()
    assert 'cies_requests_total{route="/api/v1/search",status="200"}' in text
    assert "cies_pictures 60" in text
    for line in text.splitlines():
        assert line.startswith("# TYPE ") or float(line.rsplit(" ", 1)[1]) >= 0


def test_the_description_names_every_route(server: Served) -> None:
    described = server.get("openapi.json").json["paths"]
    page = server.get("/docs").body.decode()
    assert set(described) >= {"/api/v1/search", "/api/v1/uploads", "/api/v1/embed"}
    assert all(path in page for path in described)


def test_new_pictures_are_found_without_a_restart(
    tmp_path: Path, world: Path, builtin: DiorEncoder
) -> None:
    from ingest.conditions import Condition
    from ingest.fill.pipeline import ingest

    folder = tmp_path / "photos"
    folder.mkdir()
    files = sorted((world / "images").iterdir())[:4]
    for file in files[:3]:
        (folder / file.name).write_bytes(file.read_bytes())
    gallery = Gallery.create(tmp_path / "photos.cies")
    ingest(gallery, [folder], [Condition.parse("color")], lambda spec: builtin)
    with served(gallery.path, builtin) as server:
        before = server.get("gallery").json
        (folder / files[3].name).write_bytes(files[3].read_bytes())
        ingest(gallery, [folder], [], lambda spec: builtin)
        import time

        time.sleep(1.1)  # the server looks once a second
        after = server.get("gallery").json
        assert (before["pictures"], after["pictures"]) == (3, 4)
        assert before["version"] != after["version"]
        key = server.get("pictures").json["pictures"][0]["key"]
        hits = server.get(f"search?key={key}&condition=color").json["hits"]
        assert files[3].name in [hit["path"] for hit in hits]
