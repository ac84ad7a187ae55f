"""A condition without a word list: the gallery's LVLM lists the words, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.mixed import with_base

import cies
from indexes.errors import CiesError, ModelError
from indexes.store.gallery import Gallery
from ingest.encoders.factory import make_encoder
from ingest.encoders.vlm.value_lists import LvlmWordLister
from ingest.vocabularies import vocabulary_of

ANSWER = "flat, still, fizzy, bubbly, foamy, sparkling, frothy, calm, wild"


@pytest.fixture
def mixed_gallery(world_gallery: Path, tmp_path: Path) -> Path:
    """Color and shape by the built-in LVLM, and base vectors of the built-in CLIP."""
    place = world_gallery.parent / f"made-words-{tmp_path.name}"
    return with_base(world_gallery, place, make_encoder("clip"))


def test_the_gallerys_model_makes_the_words_once(
    mixed_gallery: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(self: LvlmWordLister, condition: str) -> tuple[str, bool]:
        asked.append(condition)
        return ANSWER, True

    picture = world / "images" / "00001.jpg"
    # The built-in model lists no words; the error names the way out.
    with pytest.raises(CiesError, match="cies conditions edit"):
        cies.open(mixed_gallery).search(picture, condition="fizziness")
    monkeypatch.setattr("ingest.encoders.vlm.value_lists.can_list_values", lambda model: True)
    monkeypatch.setattr(LvlmWordLister, "answer", answer)
    for _ in range(2):
        hits = cies.open(mixed_gallery).search(picture, condition="fizziness", k=3)
        assert len(hits) == 3
        assert any("9 words (made by tiny-lvlm)" in note for note in hits.notes)
    assert asked == ["fizziness"]
    kept = vocabulary_of("fizziness", Gallery.open(mixed_gallery))
    assert kept.words[:2] == ("flat", "still") and kept.source == "made by tiny-lvlm"
    # A condition with a word list asks no model.
    cies.open(mixed_gallery).search(picture, condition="mood")
    assert asked == ["fizziness"]


def test_a_model_that_lists_nothing_is_named(
    mixed_gallery: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.encoders.vlm.value_lists.can_list_values", lambda model: True)
    monkeypatch.setattr(LvlmWordLister, "answer", lambda self, condition: ("I cannot.", True))
    with pytest.raises(ModelError, match=r"tiny-lvlm did not list values.*conditions edit"):
        cies.open(mixed_gallery).search(world / "images" / "00001.jpg", condition="fizziness")
    assert Gallery.open(mixed_gallery).words() == {}


def test_the_model_that_is_asked_is_the_one_that_is_loaded(
    mixed_gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingest.encoders.methods.dior import DiorEncoder

    monkeypatch.setattr("ingest.encoders.vlm.value_lists.can_list_values", lambda model: True)
    engine = cies.open(mixed_gallery)
    lister = engine._opened.resolver._projections.lister()
    assert isinstance(lister, LvlmWordLister)
    model, processor = lister._load_once()
    loaded = engine.encoder(engine.gallery.conditions()[0])
    assert isinstance(loaded, DiorEncoder)
    assert model is loaded.lvlm.model and processor is loaded.processor
