"""Photographs on the command line: the method that is taken, and the demo on one's own pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from support.commands import run

from cies import first_run
from eval.world.gallery import is_world
from indexes.store.gallery import Gallery
from ingest.fill.encoder_choice import choose_target
from query.explore.varying import typical_query, varying_conditions


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Discs and squares of three colors."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        image = Image.new("RGB", (96, 96), "white")
        draw = ImageDraw.Draw(image)
        paint = draw.ellipse if number % 2 else draw.rectangle
        paint((12 + number % 3, 12, 84, 84), fill=("red", "blue", "green")[number % 3])
        image.save(folder / f"{number:02d}.png")
    return folder


def test_a_new_gallery_takes_photo_where_it_answers(photos: Path, tmp_path: Path) -> None:
    done = run("ingest", photos, "-g", tmp_path / "g", "-c", "colour", "-c", "category", "--json")
    assert done.returncode == 0, done.stderr
    assert "Method: photo, which answers colour, category on photographs" in done.stderr
    (made,) = json.loads(done.stdout)["makers"]
    assert (made["method"], made["conditions"]) == ("photo", ["colour", "category"])
    gallery = Gallery.open(tmp_path / "g")
    assert gallery.geometry == "centred"
    found = json.loads(
        run(
            "search", photos / "00.png", "-g", gallery.path, "-c", "color", "-k", 3, "--json"
        ).stdout
    )
    assert found["hits"][0]["word"] == "red"
    again = run("ingest", photos, "-g", gallery.path, "-c", "mood")
    assert again.returncode == 5 and "does not answer 'mood'" in again.stderr
    assert again.stderr.count("\n") <= 3


def test_the_method_depends_on_what_is_asked(
    photos: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cies.reports.ingest import open_named_sources
    from ingest.sources.base import SourceOptions

    def method(source: Path, *conditions: str) -> str | None:
        opened = open_named_sources(tmp_path / "g", [str(source)], SourceOptions())
        return first_run.usual_method(tmp_path / "g", opened, conditions)

    assert method(photos, "color", "kind") == method(photos) == "photo"
    assert method(photos, "color", "count") is None
    assert method(world / "images", "color") is None and is_world(world / "images" / "00001.jpg")
    assert not is_world(photos)
    assert first_run.usual_geometry(tmp_path / "g", "photo", None) == "centred"
    assert first_run.usual_geometry(tmp_path / "g", None, "tiny-lvlm") is None
    assert choose_target(None, model="efficientnet-lite0").method == "photo"
    monkeypatch.setattr("ingest.encoders.models.find.find_photo_weights", lambda: None)
    assert method(photos, "color") is None


def test_the_advice_is_given_once_and_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first_run.advise_once()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    first_run.advise_once()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all("GB" in line and "Apache-2.0" in line for line in said)
    first_run.advise_once()
    assert capsys.readouterr().err == ""


def test_the_demo_on_own_pictures(photos: Path, tmp_path: Path) -> None:
    before = sorted(photos.iterdir())
    done = run("demo", "--photos", photos, "--folder", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    assert "color" in page and page.count("data:image/jpeg") >= 10
    assert sorted(photos.iterdir()) == before
    none = run("demo", "--photos", tmp_path / "none")
    assert none.returncode == 2 and "There is no folder" in none.stderr


def test_conditions_are_chosen_by_what_varies() -> None:
    random = np.random.default_rng(1)

    def unit(rows: np.ndarray) -> np.ndarray:
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    groups = unit(random.normal(size=(5, 16)))[np.arange(60) % 5]
    noise = unit(random.normal(size=(60, 16)))
    vectors = {
        "noise": noise,
        "groups": unit(groups + 0.05 * noise),
        "same as groups": unit(groups + 0.06 * noise),
        "constant": np.repeat(noise[:1], 60, axis=0),
    }
    chosen = varying_conditions(vectors, 4)
    assert chosen[0] in ("groups", "same as groups") and "constant" not in chosen
    assert len({"groups", "same as groups"} & set(chosen)) == 1
    assert 0 <= typical_query(vectors) < 60
