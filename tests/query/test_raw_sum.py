"""Stored lengths of vectors, and the sum of raw features that BGE-VL was trained with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_duals import save_bge_vl

import cies
from indexes.store.gallery import Gallery
from ingest.fill.vector_sources import base_vector_source
from query.composers.factory import usual_sum

CHANGE = "a green square"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BGE-VL, pictures, and a gallery of them."""
    root = tmp_path_factory.mktemp("raw")
    save_bge_vl(root / "BGE-VL-base")
    (root / "in").mkdir()
    draw = np.random.default_rng(3)
    for number in range(6):
        pixels = draw.integers(0, 256 // (1 + number), (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(root / "in" / f"{number}.png")
    cies.ingest(root / "g.cies", [root / "in"], [], model=str(root / "BGE-VL-base"))
    return root


def raw_features(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features of the pictures and of the change by transformers alone, as BGE-VL's code takes
    them: not scaled.
    """
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    folder = root / "BGE-VL-base"
    model = CLIPModel.from_pretrained(folder).eval()
    eyes = CLIPImageProcessorPil.from_pretrained(folder)
    files = sorted((root / "in").iterdir())
    pixels = eyes(images=[Image.open(file) for file in files], return_tensors="pt")
    words = AutoTokenizer.from_pretrained(folder)([CHANGE], return_tensors="pt")
    with torch.inference_mode():
        seen, read = model.get_image_features(**pixels), model.get_text_features(**words)
    return (
        getattr(seen, "pooler_output", seen).double().numpy(),
        getattr(read, "pooler_output", read).double().numpy()[0],
    )


def test_each_stored_vector_keeps_its_length(made: Path) -> None:
    gallery = Gallery.open(made / "g.cies")
    source = base_vector_source(gallery)
    assert source is not None
    lengths = np.linalg.norm(raw_features(made)[0], axis=1)
    assert lengths.max() / lengths.min() > 1.01
    keys = {record.path: record.key for record in gallery.files()}
    for number, length in enumerate(lengths):
        key = next(key for path, key in keys.items() if path.endswith(f"{number}.png"))
        assert gallery.norm(source.tables[0], key) == pytest.approx(length, rel=1e-5)
    assert gallery.norm(source.tables[0], "0" * 64) is None


def test_the_sum_is_of_raw_features_and_usual_for_bge_vl(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, read = raw_features(made)
    query = seen[2] + read
    units = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    expected = units @ (query / np.linalg.norm(query))
    g = cies.open(made / "g.cies")

    def scores(picture: object, **more: object) -> dict[int, float]:
        hits = g.search(picture, modify=CHANGE, k=9, **more)
        assert hits.query.composed["composer"] == "sum-raw"
        return {int(Path(hit.path).stem): hit.score for hit in hits}

    found = scores(made / "in" / "2.png")
    assert all(found[n] == pytest.approx(expected[n], abs=1e-3) for n in found) and len(found) >= 5
    # A picture that is new, and one in a gallery of an earlier version, have no stored length.
    with Image.open(made / "in" / "2.png") as image:
        new = scores(image.copy(), composer="sum-raw")
    assert all(new[n] == pytest.approx(expected[n], abs=1e-3) for n in new) and len(new) >= 5
    monkeypatch.setattr(Gallery, "norm", lambda *_: None)
    again = scores(made / "in" / "2.png")
    assert all(again[n] == pytest.approx(found[n], abs=1e-4) for n in found)


def test_the_usual_sum_is_chosen_by_the_whole_name() -> None:
    assert usual_sum("BAAI/BGE-VL-large@0123") == usual_sum("/m/BGE-VL-base") == "sum-raw"
    assert usual_sum("openai/clip-vit-base-patch32") == usual_sum("x/BGE-VL-base-2") == "sum"
