"""Composers as they were published: weights by architecture, templates, sums of raw features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny_families import build

from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.dual.sentences import load_sentences
from ingest.encoders.factory import make_encoder, remake_encoder
from ingest.encoders.inversion.phrases import query_text
from ingest.encoders.methods.captions import CaptionsEncoder
from ingest.encoders.vlm.generation import TextGenerator
from query.composers.base import ComposerInput, compose_settings, published_weights, task_weights
from query.composers.factory import compose
from query.composers.modification import Modification

FASHION_IQ, CIRCO = 0.55, 0.75


def folder_of(place: Path, name: str, config: dict[str, object]) -> str:
    """A model folder with nothing but a configuration."""
    (place / name).mkdir()
    (place / name / "config.json").write_text(json.dumps(config))
    return str(place / name)


@pytest.mark.parametrize(
    ("name", "config", "beta"),
    [
        ("my-clip", {"num_hidden_layers": 24, "hidden_size": 1024, "patch_size": 14}, FASHION_IQ),
        ("a-vit-l-14", {"num_hidden_layers": 12, "hidden_size": 768, "patch_size": 32}, CIRCO),
        ("clip-vit-large-patch14-tuned", {}, CIRCO),
        ("huge-patch14", {"num_hidden_layers": 32, "hidden_size": 1280, "patch_size": 14}, CIRCO),
    ],
)
def test_the_weights_of_pdv_go_by_the_tower_and_not_by_the_name(
    name: str, config: dict[str, int], beta: float, tmp_path: Path
) -> None:
    model = folder_of(tmp_path, name, {"model_type": "clip", "vision_config": config})
    assert published_weights("pdv", model)["beta"] == beta


def test_models_that_are_no_clip_have_the_usual_weights(tmp_path: Path) -> None:
    vision = {"num_hidden_layers": 24, "hidden_size": 1024, "patch_size": 14}
    siglip = {"model_type": "siglip", "vision_config": vision}
    model = folder_of(tmp_path, "siglip-so400m-patch14-384", siglip)
    assert published_weights("pdv", model)["beta"] == CIRCO
    assert published_weights("pdv", "tiny-clip")["beta"] == CIRCO
    assert published_weights("pdv", "open_clip:ViT-SO400M-14-SigLIP/webli")["beta"] == CIRCO
    assert published_weights("pdv", "open_clip:ViT-L-14-336/openai")["beta"] == FASHION_IQ
    clip = tmp_path / "exported"
    clip.mkdir()
    tower = {"layers": 24, "width": 1024, "patch_size": 14}
    settings = {"model_cfg": {"embed_dim": 768, "vision_cfg": tower}}
    (clip / "open_clip_config.json").write_text(json.dumps(settings))
    assert published_weights("pdv", f"open_clip:{clip}")["beta"] == FASHION_IQ


def test_pic2word_has_its_own_query() -> None:
    assert query_text("openai/clip-vit-base-patch32", "pic2word", "red") == "a photo of $, red"
    for other in ("searle", "searle-oti", "lincir", "palavra"):
        assert query_text("openai/clip-vit-base-patch32", other, "red") == "a photo of $ that red"
    # Only the built-in model has queries of its own, whatever others are called.
    assert query_text("tiny-clip", "searle", "red") == "a picture of $, red"
    assert query_text("wkcn/TinyCLIP-ViT-8M-16", "searle", "red") == "a photo of $ that red"


class Raw:
    """What composers work with: raw features of length 7 for words."""

    base_model = "tiny-clip"
    has_captions = True

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.words = random.normal(size=24).astype(np.float32)
        self.words *= 7 / np.linalg.norm(self.words)
        self.picture = random.normal(size=24).astype(np.float32)
        self.picture *= 10 / np.linalg.norm(self.picture)

    def texts(self, texts: list[str]) -> np.ndarray:
        return self.features(texts) / 7

    def features(self, texts: list[str]) -> np.ndarray:
        return np.stack([self.words] * len(texts))

    def cut(self, text: str) -> str:
        return text


def test_weimo_scales_after_the_sum() -> None:
    context = Raw()
    change = Modification("in green", "weimo", weights={"alpha": 0.8, "beta": 0.1})
    given = ComposerInput(
        change, context.picture / 10, lambda: Image.new("RGB", (8, 8)), lambda: 10.0
    )
    found = compose("weimo", given, context)  # type: ignore[arg-type]
    raw = 0.2 * context.picture + 0.8 * context.words
    assert np.abs(found.vector - raw / np.linalg.norm(raw)).max() < 1e-6
    assert found.captions == 0.1 and not found.interpretation.notes
    # A model that gives unit vectors only has no other sum, which is said.
    alone = compose("weimo", ComposerInput(change, given.vector, given.image), context)  # type: ignore[arg-type]
    plain = 0.2 * context.picture / 10 + 0.8 * context.words / 7
    assert np.abs(alone.vector - plain / np.linalg.norm(plain)).max() < 1e-6
    assert "gives unit vectors only" in alone.interpretation.notes[0]
    assert np.abs(alone.vector - found.vector).max() > 1e-3


def test_cirevl_averages_with_the_picture_where_an_attribute_is_in_focus() -> None:
    assert task_weights("cirevl", "focus_attribute") == {"image": 0.5}
    assert task_weights("cirevl", "change_object") == task_weights("pdv", "focus_attribute") == {}
    context = Raw()
    unit = context.picture / 10

    def asked(weights: dict[str, float]) -> np.ndarray:
        change = Modification("color", "cirevl", caption="a red heart", weights=weights)
        given = ComposerInput(change, unit, lambda: Image.new("RGB", (8, 8)))
        return compose("cirevl", given, context).vector  # type: ignore[arg-type]

    assert np.abs(asked({}) - context.words / 7).max() < 1e-6
    both = (unit + context.words / 7) / 2
    assert np.abs(asked({"image": 0.5}) - both / np.linalg.norm(both)).max() < 1e-6


def test_a_picture_has_three_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tokenizer of the tiny model has few words.
    monkeypatch.setattr(CaptionsEncoder, "check_vocabulary", lambda *_: None)
    model = str(build("llava", tmp_path / "model"))
    encoder = make_encoder("captions", model)
    assert isinstance(encoder, CaptionsEncoder)
    questions = encoder.spec.settings["questions"]
    general = compose_settings()["prompts"]["general"]
    assert questions == [general["describe"], *general["describe_again"]] and len(questions) == 3
    pictures = [Image.new("RGB", (96, 96), color) for color in ("red", "navy")]
    found = encoder.embed(pictures, [Condition.parse(UNCONDITIONAL)])
    sentences, generator = load_sentences("tiny-clip", "cpu"), TextGenerator(encoder)
    for row, picture in enumerate(pictures):
        answers = []
        for question in questions:
            said = generator.generate([picture], question, 48)[0]
            answers.append(" ".join(said.split()).strip(" .\"'“”‘’"))
        assert found.words[row][0] == answers[0]
        mean = sentences.encode_texts(answers).mean(0)
        assert np.abs(found.vectors[row, 0] - mean / np.linalg.norm(mean)).max() < 1e-5
        assert found.norms[row, 0] == pytest.approx(np.linalg.norm(mean), abs=1e-5)
    again = remake_encoder(encoder.spec)
    assert again.spec == encoder.spec
    # A gallery of an earlier version keeps its one caption.
    older = {name: value for name, value in encoder.spec.settings.items() if name != "questions"}
    one = remake_encoder(type(encoder.spec)("captions", model, encoder.spec.revision, older))
    assert one.spec.settings == older
    assert one.embed(pictures, [Condition.parse(UNCONDITIONAL)]).words == found.words
