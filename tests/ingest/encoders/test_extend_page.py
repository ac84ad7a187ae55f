"""The code of docs/extend.md runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cies
from ingest.conditions import Condition
from ingest.encoders.factory import as_encoder, make_encoder
from query.composers.base import ComposerContext, ComposerInput, Modification

PAGE = Path(__file__).parents[3] / "docs" / "extend.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
COLORS = {"a": "red", "b": "blue", "c": "maroon"}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name, color in COLORS.items():
        Image.new("RGB", (24, 24), color).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


def test_the_encoder_fills_and_searches_a_gallery(photos: Path) -> None:
    page: dict[str, Any] = {}
    exec(BLOCKS[0], page)
    encoder = as_encoder(page["GridColors"]())
    conditions = [Condition.parse("color")]
    vectors = encoder.encode([Image.open(photos / "a.png")], conditions)
    assert vectors.shape == (1, 1, encoder.dimension)
    exec(BLOCKS[1], page)
    assert [Path(hit.path).name for hit in page["hits"]] == ["c.png", "b.png"]
    (source,) = {table.made_by["method"] for table in cies.create("photos.cies").conditions()}
    assert source == "grid-colors"
    other = photos.parent / "new.png"
    Image.new("RGB", (24, 24), "darkred").save(other)
    assert Path(page["g"].search(other, condition="color", k=1)[0].path).name == "c.png"


def test_the_composer_lies_between_picture_and_words() -> None:
    page: dict[str, Any] = {}
    exec(BLOCKS[2], page)
    clip = make_encoder("clip")
    context = ComposerContext("tiny-clip", lambda: clip, pytest.fail, lambda: False)
    text = context.texts(["a blue heart"])[0]
    image = clip.encode([Image.new("RGB", (64, 64), "red")], [Condition.parse("unconditional")])
    query = ComposerInput(Modification("a blue heart"), image[0, 0], pytest.fail)
    vector = page["Slerp"]().compose(query, context).vector
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert vector @ text == pytest.approx(vector @ image[0, 0], abs=1e-4)
    assert vector @ text > text @ image[0, 0]


def test_the_benchmark_reads_a_folder(tmp_path: Path) -> None:
    page: dict[str, Any] = {}
    exec(BLOCKS[3], page)
    for kind in ("cats", "dogs"):
        (tmp_path / kind).mkdir()
        for number in range(2):
            Image.new("RGB", (8, 8)).save(tmp_path / kind / f"{number}.png")
    task = page["FOLDERS"].load(tmp_path)
    assert task.name == "folders" and len(task.images) == 4
    assert task.labels["kind"]["cats/0.png"] == ("cats",)


def test_the_encoder_is_short() -> None:
    assert len(BLOCKS[0].splitlines()) + len(BLOCKS[1].splitlines()) <= 30
