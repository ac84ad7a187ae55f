"""Named lists of pictures: kept in the gallery, exported, and used as examples and labels."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from support.served import Served, served
from support.shell import Shell

import cies
from cies import collections, maintain
from indexes.errors import GalleryLocked, UsageError
from indexes.merge import find_merge
from indexes.store.gallery import Gallery
from indexes.verify import verify
from ingest.encoders.methods.dior import DiorEncoder


@pytest.fixture
def keys(world_gallery: Path) -> list[str]:
    records = Gallery.open(world_gallery).files()
    return [record.key for record in sorted(records, key=lambda record: record.path)]


@pytest.fixture
def gallery(world_gallery: Path, tmp_path: Path) -> Gallery:
    shutil.copytree(world_gallery, tmp_path / "g.cies")
    return Gallery.open(tmp_path / "g.cies")


def test_what_is_added_is_kept_once_and_in_order(gallery: Gallery, keys: list[str]) -> None:
    assert collections.add(gallery, "reds", [keys[5], keys[2]]).pictures == 2
    done = collections.add(gallery, "reds", [keys[2], keys[9], keys[9]])
    assert (done.changed, done.pictures) == (1, 3)
    again = Gallery.open(gallery.path)
    assert again.collections() == {"reds": [keys[5], keys[2], keys[9]]}
    assert list(collections.members(again, "reds")) == [keys[5], keys[2], keys[9]]
    assert collections.take_out(again, "reds", [keys[2], keys[0]]).changed == 1
    collections.add(again, "more", ["@reds", keys[0]])
    assert Gallery.open(gallery.path).collections()["more"] == [keys[5], keys[9], keys[0]]
    collections.remove(again, "reds")
    assert list(Gallery.open(gallery.path).collections()) == ["more"]
    assert not [finding for finding in verify(gallery.path) if finding.damage]
    # It is in the copy of the manifest too, from which a damaged one is restored.
    assert "collection:more" in (gallery.path / "gallery.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["", "  ", "@a", "-x", "a,b", "a=b", "a/b", "a\nb", "x" * 101])
def test_names_that_options_cannot_hold_are_refused(
    gallery: Gallery, keys: list[str], name: str
) -> None:
    with pytest.raises(UsageError, match="A collection cannot be called"):
        collections.add(gallery, name, keys[:1])
    assert gallery.collections() == {}


def test_pictures_that_are_removed_leave_and_come_back(gallery: Gallery, keys: list[str]) -> None:
    collections.add(gallery, "some", keys[:3])
    maintain.remove(gallery, keys[1])
    now = Gallery.open(gallery.path)
    assert list(collections.members(now, "some")) == [keys[0], keys[2]]
    assert collections.collections(now) == {"some": 2}
    hits = cies.open(gallery.path).search("@some", "color", k=3)
    assert hits.query.keys == (keys[0], keys[2])


def test_one_writer_at_a_time(gallery: Gallery, keys: list[str]) -> None:
    with Gallery.open(gallery.path).writer(), pytest.raises(GalleryLocked):
        collections.add(gallery, "some", keys[:1])
    assert gallery.collections() == {}


def test_a_merge_adds_collections(world_gallery: Path, tmp_path: Path, keys: list[str]) -> None:
    places = [tmp_path / "a" / "g.cies", tmp_path / "b" / "g.cies"]
    for place in places:
        shutil.copytree(world_gallery, place)
    first, second = (Gallery.open(place) for place in places)
    collections.add(first, "both", keys[:2])
    collections.add(second, "both", keys[1:3])
    collections.add(second, "theirs", keys[:1])
    assert find_merge(first, second).collections == ["both", "theirs"]
    maintain.merge(first, second)
    found = Gallery.open(places[0]).collections()
    assert found == {"both": keys[:3], "theirs": keys[:1]}
    assert find_merge(Gallery.open(places[0]), second).collections == []


def test_the_command_line(gallery: Gallery, keys: list[str], shell: Shell, tmp_path: Path) -> None:
    g = ["-g", gallery.path]
    paths = [gallery.location(gallery.paths()[key][0]) for key in keys]
    code, _, err = shell("collections", "add", "mugs", "-", *g, stdin=f"{paths[0]}\n{paths[3]}\n")
    assert code == 0 and "mugs: 2 added; 2 pictures now." in err
    shell.done("collections", "add", "cups", "--where", "path LIKE '%0000%'", *g)
    listed = json.loads(shell.done("collections", "list", "--json", *g)[0])["collections"]
    cups = sum("0000" in path for path in paths)
    assert listed == [{"name": "cups", "pictures": cups}, {"name": "mugs", "pictures": 2}]
    out, _ = shell.done("collections", "export", "mugs", *g)
    assert out.splitlines() == [paths[0], paths[3]]
    out, _ = shell.done("collections", "export", "mugs", "-0", *g)
    assert out == f"{paths[0]}\0{paths[3]}\0"
    sheet, copies = tmp_path / "mugs.csv", tmp_path / "copies"
    shell.done("collections", "export", "mugs", "--csv", sheet, "--copy-to", copies, *g)
    with sheet.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["key", "path"],
            [keys[0], paths[0]],
            [keys[3], paths[3]],
        ]
    assert sorted(one.read_bytes() for one in copies.iterdir()) == sorted(
        Path(path).read_bytes() for path in (paths[0], paths[3])
    )
    found, _ = shell.done("search", "-c", "color", "--like", "@mugs", "-k", 2, "-q", *g)
    assert len(found.splitlines()) == 2 and not {paths[0], paths[3]} & set(found.splitlines())
    assert "did you mean 'mugs'" in shell.refused("search", "@mug", "-c", "color", *g)
    assert "is not in the gallery" in shell.refused("collections", "add", "mugs", "no.jpg", *g)
    shell.done("collections", "remove", "mugs", paths[0], *g)
    assert shell.done("collections", "export", "mugs", *g)[0].splitlines() == [paths[3]]
    shell.done("collections", "remove", "mugs", "--dry-run", *g)
    shell.done("collections", "remove", "mugs", *g)
    assert "There is no collection 'mugs'" in shell.refused("collections", "export", "mugs", *g)


def test_collections_are_labels_and_groups(gallery: Gallery, shell: Shell, tmp_path: Path) -> None:
    """The same figures as from a table of labels, and the same groups as by paths."""
    opened = cies.open(gallery.path)
    facets = opened.facets("color")[:3]
    table = ["file,color"]
    for facet in facets:
        collections.add(gallery, facet.word, facet.keys)
        table += [f"{Path(path).name},{facet.word}" for path in facet.paths]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(table), encoding="utf-8")
    g = ["-g", gallery.path, "--json"]
    names = ",".join(facet.word for facet in facets)
    by_table = json.loads(shell.done("eval", "--labels", labels, *g)[0])
    assert json.loads(shell.done("eval", "--collections", f"color={names}", *g)[0]) == by_table
    assert "in one way" in shell.refused("eval", *g)
    assert "two collections" in shell.refused("eval", "--collections", "color=x", *g)
    groups = [part for facet in facets for part in ("--group", f"@{facet.word}")]
    learned = json.loads(shell.done("conditions", "learn", "hue", *groups, "--dry-run", *g)[0])
    assert learned["groups"].keys() == {facet.word for facet in facets}
    assert learned["cross_validation"]["distinguishable"]
    collections.add(gallery, facets[0].word, facets[1].keys[:1])
    assert "is in the collections" in shell.refused("eval", "--collections", f"color={names}", *g)


@pytest.fixture
def server(gallery: Gallery, builtin: DiorEncoder) -> Iterator[Served]:
    with served(gallery.path, builtin, edit=True) as one:
        yield one


def test_over_http(server: Served, gallery: Gallery, keys: list[str]) -> None:
    done = server.post("collections/my mugs".replace(" ", "%20"), {"add": keys[:3]})
    assert done.json == {"name": "my mugs", "changed": 3, "pictures": 3}
    assert server.get("collections").json == {"collections": {"my mugs": 3}, "editable": True}
    assert Gallery.open(gallery.path).collections() == {"my mugs": keys[:3]}
    shown = server.get("collections/my%20mugs?k=2&offset=1").json
    assert [one["key"] for one in shown["pictures"]] == keys[1:3] and shown["total"] == 3
    sheet = server.get("collections/my%20mugs/export")
    assert sheet.headers["content-disposition"] == 'attachment; filename="my mugs.csv"'
    names = [Path(gallery.paths()[key][0]).name for key in keys[:3]]
    assert sheet.body.decode().splitlines()[1] == f"{keys[0]},{names[0]}"
    with zipfile.ZipFile(BytesIO(server.get("collections/my%20mugs/export?form=zip").body)) as box:
        assert box.namelist() == [f"{n}-{name}" for n, name in enumerate(names, start=1)]
        path = gallery.location(gallery.paths()[keys[1]][0])
        assert box.read(f"2-{names[1]}") == Path(path).read_bytes()
    question = {"pictures": [keys[9]], "conditions": {"color": 1}, "k": 4}
    named = server.post("search", {**question, "like": ["@my mugs"]}).json
    assert named == server.post("search", {**question, "like": keys[:3]}).json
    assert named["query"]["like"] == keys[:3]
    assert server.post("search", {**question, "like": ["@../etc/passwd"]}).status == 404
    # A removal says first what it would do.
    asked = server.post("removals", {"keys": keys[:1]}).json
    assert asked["removed"] is False and asked["pictures"] == 1
    assert server.get("gallery").json["pictures"] == len(keys)
    assert server.post("removals", {"keys": keys[:1], "confirm": True}).json["removed"] is True
    assert server.get("gallery").json["pictures"] == len(keys) - 1
    assert server.ask("DELETE", "collections/my%20mugs").json["changed"] == 3
    assert server.get("collections/my%20mugs").status == 404


def test_a_server_without_edit_only_reads(world_gallery: Path, keys: list[str]) -> None:
    before = Gallery.open(world_gallery).newest_moment()
    with served(world_gallery) as server:
        answers = [
            server.post("collections/some", {"add": keys[:1]}),
            server.ask("DELETE", "collections/some"),
            server.post("removals", {"keys": keys[:1], "confirm": True}),
        ]
        assert server.get("gallery").json["editable"] is False
    for answer in answers:
        assert answer.status == 403 and "cies serve --edit" in answer.json["detail"]
    assert Gallery.open(world_gallery).newest_moment() == before
