"""The contract of composers, which every one keeps, and the registry that finds them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import cies
from indexes.errors import CiesError, ModelError, UsageError
from ingest.encoders.inversion.oti import OtiPlan, invert
from query.composers.base import Interpretation
from query.composers.factory import GROUP, composer_descriptions, make_composer

CHANGE = "the same in green"

PLUGIN = '''
"""A composer of another package."""
from query.composers.base import ComposedQuery


class Plugin:
    name = "plugin"
    about = "the picture alone, by another package"

    def compose(self, query, context):
        weights = query.weights(self.name)
        return ComposedQuery(query.vector, query.interpret(self.name, weights=weights))


class Raises:
    def __init__(self):
        raise RuntimeError("a\\nb")


class Nothing:
    pass
'''


@pytest.fixture(scope="module")
def g(edits_gallery: Path) -> Any:
    return cies.open(edits_gallery)


@pytest.fixture
def red(edits_folder: Path) -> str:
    return str(edits_folder / "red-heart-white.png")


@pytest.fixture(autouse=True)
def quick_inversion(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partial(invert, plan=OtiPlan(steps=20, average=0.9))
    monkeypatch.setattr("ingest.encoders.inversion.encoder.invert", quick)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with a composer and three broken ones."""
    info = tmp_path / "site" / "cies_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cies-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\nplugin = cies_plugin:Plugin\nmissing = cies_plugin_gone:Plugin\n"
        "raises = cies_plugin:Raises\nnone = cies_plugin:Nothing\nsum = cies_plugin_gone:Sum\n"
    )
    code = (
        PLUGIN + "\n\nclass Raises:\n    def __init__(self):\n        raise RuntimeError('a\\nb')\n"
    )
    (tmp_path / "site" / "cies_plugin.py").write_text(code + "\n\nclass Nothing:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path / "site")


def check_contract(g: Any, picture: str, composer: str) -> None:
    """What a search by any composer gives, on a gallery of 18 pictures."""
    hits = g.search(picture, modify=CHANGE, composer=composer, k=18)
    assert len(hits) == 17 and hits.query.key not in {hit.key for hit in hits}
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert [hit.rank for hit in hits] == list(range(1, 18))
    composed = hits.query.composed
    assert (composed["composer"], composed["modification"]) == (composer, CHANGE)
    assert Interpretation(**composed).lines()[0] == f"Understood by {composer}: {CHANGE}"
    again = g.search(picture, modify=CHANGE, composer=composer, k=18)
    assert [(hit.key, hit.score) for hit in again] == [(hit.key, hit.score) for hit in hits]
    # The pixels alone are not recognised as a picture of the gallery, which is then found as well.
    pixels = g.search(Image.open(picture), modify=CHANGE, composer=composer, k=18)
    assert len(pixels) == 18
    try:
        kept = g.search(picture, "shape", modify=CHANGE, composer=composer, k=18)
    except CiesError as error:
        assert "\n" not in str(error) and str(error).endswith(".")
    else:
        assert len(kept) == 17 and kept.query.composed["composer"] == composer
        assert [hit.score for hit in kept] == sorted((hit.score for hit in kept), reverse=True)
    with pytest.raises(UsageError) as wrong:
        g.search(picture, modify=CHANGE, composer=composer, weights={"no such weight": 1.0})
    assert "\n" not in str(wrong.value) and composer in str(wrong.value)


@pytest.mark.parametrize("composer", [c for c in composer_descriptions() if c != "embedder"])
def test_every_composer_keeps_the_contract(g: Any, red: str, composer: str) -> None:
    check_contract(g, red, composer)


def test_a_composer_of_another_package_keeps_it_too(g: Any, red: str, plugins: None) -> None:
    check_contract(g, red, "plugin")


def test_a_broken_plugin_is_one_sentence_that_names_the_package(
    g: Any, red: str, plugins: None
) -> None:
    for composer in ("missing", "raises", "none"):
        with pytest.raises(ModelError, match="of the package cies-plugin") as error:
            g.search(red, modify=CHANGE, composer=composer)
        assert "\n" not in str(error.value)
    # A plug-in is not asked for a name that is built in, and is among the names of an error.
    assert make_composer("sum").about.endswith("(baseline)")
    with pytest.raises(UsageError, match=r"no composer 'other'.* plugin"):
        g.search(red, modify=CHANGE, composer="other")
