"""Composers by textual inversion, asked of a gallery, and the command that trains networks."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.galleries import draw_edits
from support.json_docs import documented, leaves, wrong

import cies
from cies.cli.app import app
from indexes.errors import ModelError, UsageError
from indexes.store.gallery import Gallery
from ingest.encoders.inversion.encoder import Inversion
from ingest.encoders.inversion.oti import OtiPlan, invert
from ingest.encoders.inversion.training import TrainingPlan
from ingest.encoders.methods.clip import ClipEncoder
from ingest.encoders.options import EncoderChoice
from query.composers import inversion as composers
from query.composers.factory import INVERSION

NETWORKS = [made.name for made in INVERSION if made.name != "searle-oti"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of each color, shape and ground, named by them."""
    place = tmp_path_factory.mktemp("inverted") / "pictures"
    draw_edits(place)
    return place


@pytest.fixture(scope="module")
def g(folder: Path) -> Any:
    made = Gallery.create(folder.parent / "gallery")
    cies.ingest(made, [folder], method="clip")
    return cies.open(made.path)


@pytest.fixture(scope="module")
def red(folder: Path) -> str:
    return str(folder / "red-heart-white.png")


def column(g: Any) -> Any:
    return g.gallery.column(g.gallery.conditions()[0])


@pytest.mark.parametrize("composer", NETWORKS)
def test_hits_are_those_of_the_sentence_with_the_word(g: Any, red: str, composer: str) -> None:
    hits = g.search(red, modify="the same in green", composer=composer, k=17)
    kept = column(g)
    inversion = Inversion(
        Inversion.of(ClipEncoder.load(EncoderChoice("clip", "tiny-clip")).dual).words
    )
    own = kept.vectors[kept.keys.index(hits.query.key)].astype(np.float32)
    own /= np.linalg.norm(own)
    token = inversion.tokens(composer, own[None])
    text = "a picture of $, the same in green"
    if composer == "palavra":
        text = "a picture of thing $, the same in green"
    scores = dict(zip(kept.keys, kept.vectors @ inversion.encode(text, token)[0], strict=True))
    assert [hit.score for hit in hits] == pytest.approx([scores[h.key] for h in hits], abs=2e-3)
    assert hits.query.composed["target"] == text
    assert hits.query.composed["composer"] == composer


def test_a_word_is_found_by_optimisation_once(
    g: Any, red: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = partial(invert, plan=OtiPlan(steps=80, average=0.9))
    monkeypatch.setattr("ingest.encoders.inversion.encoder.invert", quick)
    first = g.search(red, modify="the same in green", composer="searle-oti", k=5)
    assert all(Path(hit.path).stem.startswith("green") for hit in first[:3])

    def never(*given: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(Inversion, "tokens", never)
    again = g.search(red, modify="the same in green", composer="searle-oti", k=5)
    assert [(h.key, h.score) for h in again] == [(h.key, h.score) for h in first]
    other = g.search(red, modify="x", caption="a $ on black", composer="searle-oti", k=1)
    assert other.query.composed["target"] == "a $ on black"


def test_what_cannot_be_meant_is_told(g: Any, red: str) -> None:
    with pytest.raises(UsageError, match="has no \\$"):
        g.search(red, modify="green", composer="searle", caption="a green heart")
    with pytest.raises(UsageError, match="fewer words"):
        g.search(red, modify="green", composer="searle", caption="red " * 60 + "$")
    with pytest.raises(UsageError, match="no weight 'text'"):
        g.search(red, modify="green", composer="pic2word", weights={"text": 1})

    class Bare:
        """Tools of a place that knows nothing of words."""

    with pytest.raises(ModelError, match="cannot be used here"):
        composers.inversion_of("searle", Bare())  # type: ignore[arg-type]


def test_a_long_change_is_cut_and_said(g: Any, red: str) -> None:
    hits = g.search(red, modify="red " * 60, composer="searle", k=1)
    assert any("reads no more than" in note for note in hits.notes)


def trained(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    capsys.readouterr()
    app(["train-composer", *map(str, words), "--json"], standalone_mode=False)
    return json.loads(capsys.readouterr().out)


QUICK = ("--steps", 3, "--hidden", 8, "--oti-steps", 2)


def test_the_command_trains_what_the_search_finds(
    g: Any, red: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = g.search(red, modify="green", composer="pic2word", k=3)
    (folder / "bad.jpg").write_text("no picture")
    try:
        found = trained(capsys, "pic2word", "--images", folder, *QUICK)
    finally:
        (folder / "bad.jpg").unlink()
    assert (found["examples"], found["apart"], found["unreadable"]) == (17, 1, 1)
    page = documented("cies train-composer --json")
    assert wrong(found, page) == [] and set(found) == set(page)
    card = json.loads(Path(found["network"]).read_text())
    assert (card["model"], card["hidden"], card["trained"]["steps"]) == ("tiny-clip", 8, 3)
    engine = cies.open(g.gallery.path)
    hits = engine.search(red, modify="green", composer="pic2word", k=3)
    assert [h.score for h in hits] != [h.score for h in shipped]
    again = cies.train_composer("pic2word", folder, plan=TrainingPlan(steps=3, hidden=8))
    assert again.network == found["network"] and again.unreadable == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sum", "--images", "."), "no network of 'sum'"),
        (("searle",), "give --images FOLDER"),
        (("searle", "--images", "empty"), "There are no pictures in empty"),
        (("searle", "--images", "nowhere"), "nowhere"),
        (("lincir", "--images", "empty"), "leave --images out"),
        (("pic2word", "--images", "empty", "--texts", "a"), "on pictures alone"),
        (("lincir", "--texts", "nowhere"), "cannot be read: no such file"),
        (("lincir", "--texts", "bytes"), "not text in UTF-8"),
        (("lincir", "--texts", "few"), "trained on 16 texts or more; these are only 2"),
        (("lincir", "--model", "tiny-lvlm", "--texts", "few"), "tiny-lvlm"),
        (("lincir", "--model", "openai/clip"), "give --texts FILE"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "few").write_text("a red heart\n\na star\n")
    with pytest.raises((UsageError, ModelError), match=said):
        app(["train-composer", *words, *map(str, QUICK)], standalone_mode=False)


def test_the_benchmark_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "inversion", "--pictures", "8", "--rounds", "2", "--composer", "palavra"]
    app([*words, "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    page = documented("cies bench inversion --json")
    assert wrong(found, page) == [] and {path for path, _ in leaves(found, page)} == set(page)
    app([*words, "--markdown"], standalone_mode=False)
    assert capsys.readouterr().out.splitlines()[2].startswith("| palavra | ")
    with pytest.raises(UsageError, match="'sum' is not a composer by textual inversion"):
        app(["bench", "inversion", "--composer", "sum"], standalone_mode=False)
