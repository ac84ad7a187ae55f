"""docs/json.md lists every field that the commands print, with its type, and no other."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from support.json_docs import documented, leaves, printed, wrong

import cies
from eval.bench.start import ColdStart
from ingest.encoders.methods.dior import DiorEncoder
from query.hits import ConditionScore, Hit, Query


@pytest.fixture(scope="module")
def gallery(world: Path, tmp_path_factory: pytest.TempPathFactory, builtin: DiorEncoder) -> Path:
    """A few pictures, one that cannot be read and one that is gone."""
    folder = tmp_path_factory.mktemp("json")
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(1, 7):
        name = f"0000{number}.jpg"
        (pictures / name).write_bytes((world / "images" / name).read_bytes())
    (pictures / "bad.jpg").write_text("no picture")
    (pictures / "copy.jpg").write_bytes((pictures / "00001.jpg").read_bytes())
    # Other bytes, same pixels: a near-duplicate.
    (pictures / "near.jpg").write_bytes((pictures / "00001.jpg").read_bytes() + b"\0")
    cies.ingest(cies.create(folder / "gallery"), [pictures], ["color", "shape"])
    (pictures / "00006.jpg").unlink()
    (folder / "catalog.csv").write_text("file,sku\npictures/00002.jpg,007\n")
    cies.ingest(cies.create(folder / "gallery"), [pictures, folder / "catalog.csv"])
    shutil.copytree(pictures, folder / "moved")
    return folder / "gallery"


LABELS = "file,color\n" + "".join(f"pictures/0000{n}.jpg,{'ab'[n % 2]}\n" for n in range(1, 6))


@pytest.mark.parametrize(
    ("heading", "arguments", "at_least", "whole"),
    [
        (
            "cies search --json",
            "search {picture} -g {gallery} -c color --json",
            {"hits[].word"},
            True,
        ),
        (
            "cies search --json",
            "search {picture} -g {gallery} -c color -c shape --json",
            {"hits[].parts[].word"},
            True,
        ),
        (
            "cies ingest --json",
            "ingest {pictures} -g new -c color --json",
            {"failed[].gone_at"},
            True,
        ),
        (
            "cies ingest --plan --json",
            "ingest {pictures} -g new -c color --plan --json",
            set(),
            True,
        ),
        (
            "cies status --json",
            "status -g {gallery} --json",
            {"failed[].path", "gone[].since", "conditions[].settings"},
            False,
        ),
        ("cies status --json", "status -g {gallery} --failed --json", {"failed_by_status"}, False),
        ("cies status --json", "conditions -g {gallery} --json", {"conditions[].name"}, False),
        (
            "cies conditions words --json",
            "conditions words -g {gallery} --json",
            {"lists[].aliases[]", "lists[].words[]"},
            True,
        ),
        (
            "cies conditions edit --json",
            "conditions edit hue -g {gallery} --words red,blue --json",
            {"words[]", "aliases[]"},
            True,
        ),
        ("cies facets --json", "facets -g {gallery} -c color --json", {"facets[].word"}, True),
        (
            "cies gallery --json",
            "gallery -g {gallery} -c color --json",
            {"conditions[].groups[].pictures[].key", "conditions[].groups[].representatives[]"},
            True,
        ),
        (
            "cies outliers --json",
            "outliers -g {gallery} -c color --json",
            {"outliers[].nearest_word"},
            True,
        ),
        (
            "cies dupes --json",
            "dupes -g {gallery} -c color --json",
            {"exact[].paths[]", "near[][].files"},
            True,
        ),
        ("cies config --json", "config --json", {"settings[].from", "files[].read"}, True),
        ("cies verify --json", "verify -g {gallery} --json", {"damaged"}, True),
        ("cies repair --json", "repair -g {gallery} --dry-run --json", {"dry_run"}, True),
        ("cies prune --json", "prune -g {gallery} --dry-run --json", {"paths[]"}, True),
        (
            "cies remove --json",
            "remove {picture} -g {gallery} --dry-run --json",
            {"paths[]"},
            True,
        ),
        (
            "cies relocate --json",
            "relocate {pictures} {pictures}/../moved -g {gallery} --dry-run --json",
            {"sources[].old"},
            True,
        ),
        ("cies merge --json", "merge {gallery} -g merged --json", {"sources[]"}, True),
        (
            "cies conditions remove --json",
            "conditions remove color -g {gallery} --dry-run --json",
            {"tables[]"},
            True,
        ),
        (
            "cies conditions remove --json",
            "conditions rename color hue -g {gallery} --dry-run --json",
            {"tables[]"},
            True,
        ),
        ("cies columns --json", "columns list -g {gallery} --json", {"columns[].type"}, True),
        (
            "cies columns remove --json",
            "columns remove sku -g {gallery} --dry-run --json",
            {"removed[]"},
            True,
        ),
        (
            "cies columns rename --json",
            "columns rename sku number -g {gallery} --dry-run --json",
            set(),
            True,
        ),
        (
            "cies eval --json",
            "eval {gallery} --labels labels.csv --json",
            {"cells[].metrics"},
            True,
        ),
        ("cies models --json", "models --json", {"hub[].runs_on", "families"}, True),
        ("cies bench list --json", "bench list --json", {"protocols[].options[].about"}, True),
    ],
)
def test_a_document_is_as_the_page_says(
    heading: str,
    arguments: str,
    at_least: set[str],
    whole: bool,
    gallery: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = documented(heading)
    pictures = gallery.parent / "pictures"
    (gallery.parent / "labels.csv").write_text(LABELS)
    places = {"picture": pictures / "00001.jpg", "pictures": pictures, "gallery": gallery}
    words = [
        str(gallery.parent / word) if word == "labels.csv" else word.format(**places)
        for word in arguments.split()
    ]
    document = json.loads(printed(capsys, *words))
    assert document["schema_version"] == 1
    assert wrong(document, table) == []
    paths = {path for path, _ in leaves(document, table)}
    assert paths >= at_least | {"schema_version"}
    if whole:
        # Lists may be empty; every other field must be printed.
        assert {path for path in table if "[]" not in path} <= paths


def test_lines_are_the_hits_of_the_document(
    gallery: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {
        path.removeprefix("hits[]."): kind
        for path, kind in documented("cies search --json").items()
        if path.startswith("hits[].") or path == "schema_version"
    }
    picture = gallery.parent / "pictures" / "00001.jpg"
    out = printed(capsys, "search", picture, "-g", gallery, "-c", "color", "--jsonl")
    lines = out.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert wrong(json.loads(line), table) == []


def test_the_page_has_every_field_of_the_values_behind_it() -> None:
    search = documented("cies search --json")
    for prefix, names in (
        ("hits[]", [field.name for field in fields(Hit)]),
        ("hits[].parts[]", list(ConditionScore.__annotations__)),
        ("query", [field.name for field in fields(Query)]),
    ):
        for name in names:
            assert any(path.startswith(f"{prefix}.{name}") for path in search), name
    starts = documented("cies bench start --json")
    for field in fields(ColdStart):
        assert any(path.startswith(f"starts[].{field.name}") for path in starts)


def test_the_comparison_can_fail() -> None:
    table = {"a": "int", "b[].c": "text or null", "d": "object"}
    assert wrong({"a": 1, "b": [{"c": None}, {"c": "x"}], "d": {"any": 1}}, table) == []
    assert len(wrong({"a": True, "b": [{"c": 1}], "e": 1}, table)) == 3
