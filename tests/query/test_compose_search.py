"""A gallery asked for what it shows, but changed; the built-in models throughout."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cies
from cies.cli.app import app
from indexes.errors import CiesError, ModelError, UsageError
from indexes.store.gallery import Gallery
from indexes.vectors import unit
from indexes.verify import verify
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.factory import make_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.vlm.generation import TextGenerator
from ingest.fill.pipeline import ingest
from query.composers.base import compose_settings
from query.composers.modification import Modification
from query.composers.verification import verify_hits

NAMES = ("color", "shape", "background")
WHOLE = [Condition.parse(UNCONDITIONAL)]


@pytest.fixture(scope="module")
def folder(edits_folder: Path) -> Path:
    return edits_folder


@pytest.fixture(scope="module")
def gallery(edits_gallery: Path) -> Path:
    return edits_gallery


@pytest.fixture(scope="module")
def g(gallery: Path) -> Any:
    return cies.open(gallery)


def names(hits: Any) -> list[str]:
    return [Path(hit.path).stem for hit in hits]


@pytest.fixture(scope="module")
def red(folder: Path) -> str:
    return str(folder / "red-heart-white.png")


@pytest.mark.parametrize("composer", ["cirevl", "pdv", "cotmr", "dior", "dior-split", None])
def test_the_same_in_another_color_is_found(g: Any, red: str, composer: str | None) -> None:
    hits = g.search(red, modify="the same in green", composer=composer, k=3)
    assert names(hits)[0] == "green-heart-white"
    assert "red-heart-white" not in names(hits)
    assert hits.query.composed["composer"] == (composer or "dior-split")
    assert hits.query.composed["modification"] == "the same in green"
    assert not hits.nothing_alike


def test_baselines_are_cosines_with_the_base_vectors(g: Any, red: str, gallery: Path) -> None:
    opened = Gallery.open(gallery)
    table = next(t for t in opened.conditions() if t.made_by["method"] == "clip")
    column = opened.column(table)
    clip = make_encoder("clip")
    seen = column.vectors[column.keys.index(g.search(red, "color").query.key)]
    text = clip.encode_text(["in green"], WHOLE)[0, 0]
    for composer, vector in (
        ("image", seen),
        ("text", text),
        ("sum", unit((seen + text)[None])[0]),
    ):
        hits = g.search(red, modify="in green", composer=composer, k=17)
        scores = dict(zip(column.keys, column.vectors @ vector, strict=True))
        assert [hit.score for hit in hits] == pytest.approx([scores[h.key] for h in hits], abs=1e-5)
        assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)
        assert len(hits) == 17


def test_pdv_at_zero_finds_what_the_picture_or_the_text_finds(g: Any, red: str) -> None:
    def found(**more: object) -> list[tuple[str, float]]:
        hits = g.search(red, modify="in green", k=17, **more)
        return [(hit.key, hit.score) for hit in hits]

    zero = found(composer="pdv", weights={"alpha_i": 0, "beta": 0})
    assert zero == found(composer="image")
    whole = found(composer="pdv", weights={"alpha_t": 1, "beta": 1})
    other = found(composer="cirevl")
    assert [key for key, _ in whole] == [key for key, _ in other]
    assert [score for _, score in whole] == pytest.approx([score for _, score in other], abs=1e-6)


def test_weimo_counts_the_gallerys_captions(g: Any, red: str, gallery: Path) -> None:
    hits = g.search(red, modify="in green", composer="weimo", weights={"beta": 0.5}, k=17)
    opened = Gallery.open(gallery)
    columns = {
        t.made_by["method"]: opened.column(t)
        for t in opened.conditions()
        if t.name == UNCONDITIONAL
    }
    seen, said = columns["clip"], columns["captions"]
    # The sum is of features before they are scaled to unit length.
    clip = make_encoder("clip")
    own = clip.embed([Image.open(red).convert("RGB")], WHOLE, words=False)
    text = clip.embed_text(["in green"], WHOLE, words=False)
    raw = [one.norms[0, 0] * one.vectors[0, 0] for one in (own, text)]
    assert abs(own.norms[0, 0] / text.norms[0, 0] - 1) > 0.01
    query = unit((0.2 * raw[0] + 0.8 * raw[1])[None])[0]
    for hit in hits:
        first = seen.vectors[seen.keys.index(hit.key)] @ query
        second = said.vectors[said.keys.index(hit.key)] @ query
        assert hit.score == pytest.approx(0.5 * first + 0.5 * second, abs=1e-4)
        assert hit.word == said.words[said.keys.index(hit.key)] and " on " in hit.word


def test_conditions_say_what_is_kept(g: Any, red: str) -> None:
    split = g.search(red, ["shape"], modify="in green", composer="dior-split", k=2)
    assert {name[: name.rindex("-")] for name in names(split)} == {"green-heart"}
    conditions = split.query.composed["conditions"]
    assert set(conditions) == {"shape", "color"} and "from the words" in conditions["color"]
    for picture, wanted in ((red, "green-heart"), (red.replace("red", "blue"), "green-heart")):
        how = {"modify": "the same in green", "composer": "dior"}
        told = g.search(picture, ["color", "shape"], k=2, **how)
        assert {name[: name.rindex("-")] for name in names(told)} == {wanted}
    mixed = g.search(red, ["shape", "background"], modify="green", composer="text", k=1)
    assert names(mixed) == ["green-heart-white"]
    assert {part["condition"] for part in mixed[0].parts} == {UNCONDITIONAL, "shape", "background"}


def test_a_named_condition_has_the_word_beside_it(g: Any, red: str) -> None:
    for ground, other in (("white", "black"), ("black", "white")):
        start = red.replace("white", other)
        change = f"with a {ground} background"
        hits = g.search(start, list(NAMES), modify=change, composer="dior-split", k=1)
        assert names(hits) == [f"red-heart-{ground}"]
        assert hits.query.composed["conditions"] == {
            "color": "red (from the picture)",
            "shape": "heart (from the picture)",
            "background": f"{ground} (from the words)",
        }


def test_a_change_that_speaks_of_no_condition_is_told_of(g: Any, red: str) -> None:
    hits = g.search(red, modify="with a frame", composer="dior-split")
    assert len(hits) == 10 and "names none of the conditions" in hits.notes[0]


def test_a_file_a_key_and_a_picture_in_memory_ask_the_same(g: Any, red: str) -> None:
    for composer in ("sum", "dior-split"):
        by_path = g.search(red, modify="in green", composer=composer)
        key = by_path.query.key
        picture = Image.open(red).convert("RGB")
        for given in (key, Path(red).read_bytes(), picture, np.asarray(picture)):
            hits = g.search(given, modify="in green", composer=composer, k=3)
            found = [name for name in names(hits) if name != "red-heart-white"]
            assert found[0] == names(by_path)[0]


def test_captions_are_kept_like_any_vectors(
    gallery: Path, folder: Path, builtin: DiorEncoder
) -> None:
    opened = Gallery.open(gallery)
    assert not [finding for finding in verify(gallery) if finding.damage]
    (table,) = (t for t in opened.conditions() if t.made_by["method"] == "captions")
    assert table.made_by["settings"]["sentences"] == "tiny-clip"
    column = opened.column(table)
    kept = dict(zip(column.keys, column.words, strict=True))
    prompt = compose_settings()["prompts"]["schooled"]["describe"]
    pictures = sorted(folder.iterdir())
    assert len(kept) == len(pictures) == 18
    right = 0
    for path in pictures:
        (said,) = TextGenerator(builtin).generate([Image.open(path).convert("RGB")], prompt)
        assert kept[hashlib.sha256(path.read_bytes()).hexdigest()] == said
        color, shape, ground = path.stem.split("-")
        right += f" {color} plain {shape}" in said and said.endswith(f" on {ground}")
    assert right == 18


def test_filters_and_geometry_go_with_a_change(gallery: Path, red: str) -> None:
    centred = cies.open(gallery, geometry="centred")
    plain = cies.open(gallery)
    # Base vectors are compared as they are whatever the gallery's geometry.
    for where in (None, "path LIKE '%black%'"):
        both = [
            one.search(red, modify="in green", composer="sum", where=where)
            for one in (centred, plain)
        ]
        assert names(both[0]) == names(both[1])
        assert where is None or all("black" in name for name in names(both[0]))
    assert names(centred.search(red, modify="in green", k=1)) == ["green-heart-white"]


def test_what_is_said_can_be_said_again_otherwise(g: Any, red: str) -> None:
    hits = g.search(red, modify="make it green", composer="cotmr")
    said = hits.query.composed
    assert "green" in " ".join(said["must"]) and "red" in " ".join(said["must_not"])
    again = g.search(
        red,
        modify=Modification(
            "in green",
            "cotmr",
            said["target"].replace("green", "blue"),
            ("blue",),
            ("red",),
        ),
        k=1,
    )
    assert names(again) == ["blue-heart-white"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"modify": ""}, "empty"),
        ({"modify": "  \n "}, "empty"),
        ({"modify": "x" * 501}, "501 characters"),
        ({"modify": "a\0b"}, "control characters"),
        ({"modify": "x", "composer": "nothing"}, "There is no composer 'nothing'"),
        ({"modify": "<image> in green"}, "<image>"),
        ({"modify": "<image> in green", "composer": "cirevl"}, "<image>"),
        ({"modify": "x" * 495, "composer": "dior"}, "no token"),
        ({"modify": "x" * 495, "composer": "sum"}, "no token"),
        ({"modify": "x" * 495, "composer": "cirevl"}, "no token"),
        ({"modify": "x", "composer": "dior", "caption": "y"}, "searches by no text"),
        ({"modify": "x", "composer": "dior", "weights": {"a": 1}}, "no weights"),
        ({"modify": "x", "composer": "sum", "weights": {"a": 1}}, "no weight 'a'"),
        ({"modify": "x", "verify": 5}, "not trained to answer yes or no"),
        ({"modify": "x", "verify": 5, "sort": "path"}, "--sort"),
        ({"modify": "x", "rerank": 5}, "--rerank"),
        ({"modify": "x", "rewriter": "nonsense"}, "not an address"),
        ({"modify": "x", "lvlm": "no/such-model", "composer": "cirevl"}, "no/such-model"),
        ({"composer": "sum"}, "--composer needs a change"),
        ({}, "No condition"),
    ],
)
def test_bad_input_is_one_sentence(g: Any, red: str, more: dict[str, object], words: str) -> None:
    with pytest.raises(CiesError, match=words) as error:
        g.search(red, **more)
    assert "\n" not in str(error.value)


def test_braces_and_lines_are_words_like_others(g: Any, red: str) -> None:
    for change in ("in {condition} green {", "in\ngreen.", "{0} {change}"):
        for composer in ("dior", "dior-split", "cirevl"):
            assert len(g.search(red, modify=change, composer=composer)) == 10


def test_a_gallery_that_lacks_something_says_how_to_get_it(
    folder: Path, builtin: DiorEncoder, red: str, tmp_path: Path
) -> None:
    bare = Gallery.create(tmp_path / "dior")
    ingest(bare, [folder], [Condition.parse("color")], lambda spec: builtin)
    with pytest.raises(UsageError, match="cies ingest --method clip"):
        cies.open(bare.path).search(red, modify="in green", composer="sum")
    cies.ingest(bare, method="clip")
    with pytest.raises(UsageError, match="cies ingest --method captions"):
        cies.open(bare.path).search(red, modify="in green", composer="weimo")


def test_verifying_puts_the_best_in_the_order_of_the_votes(g: Any, red: str) -> None:
    hits = g.search(red, modify="in green", composer="image", k=6)

    class Voter:
        name = "a voter"
        mass = 0.9

        def judge(self, asked: str, images: list[Image.Image]) -> object:
            assert asked == "a green heart"
            greens = [
                np.asarray(i)[48:80, 48:80, 1].mean() - np.asarray(i)[48:80, 48:80, 0].mean()
                for i in images
            ]
            yes = 1 / (1 + np.exp(-np.array(greens)))
            return SimpleNamespace(yes=yes, mass=np.full(len(images), self.mass))

    found = verify_hits(hits, Voter(), "a green heart", 4, 5)
    votes = [hit.verified for hit in found]
    assert len(found) == 5 and votes[4] is None and found[4].key == hits[4].key
    assert votes[:4] == sorted(votes[:4], reverse=True)
    assert {hit.key for hit in found[:4]} == {hit.key for hit in hits[:4]}
    assert [hit.rank for hit in found] == [1, 2, 3, 4, 5]
    assert "4 hits were compared with the query by a voter in" in found.notes[-1]
    evasive = Voter()
    evasive.mass = 0.001
    with pytest.raises(ModelError, match="neither yes nor no"):
        verify_hits(hits, evasive, "a green heart", 4, 5)


def test_the_command_tells_what_was_understood(
    gallery: Path, red: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    words = ["search", red, "-g", str(gallery), "--modify", "make it green", "--composer", "cotmr"]
    app([*words, "--weight", "must=1", "--json", "--html", str(page)], standalone_mode=False)
    printed = capsys.readouterr()
    composed = json.loads(printed.out)["query"]["composed"]
    assert "green" in composed["must"][0] and composed["weights"] == {"must": 1.0, "must_not": 0.5}
    line = f"must: {', '.join(composed['must'])}"
    assert line in printed.err and line in page.read_text()
    app([*words, "--must", "", "--must-not", "black", "-q", "-k", "2"], standalone_mode=False)
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert "must not: black" in printed.err and "must: " not in printed.err
    with pytest.raises(UsageError, match="not a weight"):
        app([*words, "--weight", "much"], standalone_mode=False)
    with pytest.raises(UsageError, match="--modify"):
        app(["search", red, "-g", str(gallery)], standalone_mode=False)
