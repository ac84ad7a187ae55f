"""Dual encoders as encoders: families against plain transformers, open_clip, views, refusals."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_duals import DEVIATION, MEAN, SAVERS, save_vision

import cies
from indexes.errors import ModelError, UsageError
from indexes.vectors import unit
from ingest.conditions import Condition
from ingest.encoders.factory import METHODS, WITHOUT_MODEL, make_encoder, remake_encoder
from ingest.encoders.methods.clip import ClipEncoder
from ingest.encoders.options import EncoderChoice, EncoderOptions
from ingest.encoders.projections.base import PROJECTIONS, fit_projection
from ingest.encoders.projections.encoder import ProjectionEncoder
from ingest.read.images import reduced
from ingest.vocabularies import Vocabulary

CONDITIONS = [Condition.parse(name) for name in ("color", "unconditional")]
TEXTS = ["red circle", "Describe the BLUE square", "x " * 60]


@pytest.fixture(scope="module")
def clip() -> ClipEncoder:
    return ClipEncoder.load(EncoderChoice("clip", "tiny-clip"))


def resized(images: list[Image.Image], return_tensors: str) -> dict[str, torch.Tensor]:
    """Pictures of 56 by 56 as numbers from 0 to 1."""
    small = [np.array(image.resize((56, 56), Image.Resampling.BILINEAR)) for image in images]
    return {"pixel_values": torch.tensor(np.stack(small)).permute(0, 3, 1, 2).float() / 255}


def plain_vectors(folder: Path, pictures: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """One picture and one text at a time, by the model's own features."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    by_hand = model.config.model_type == "tipsv2"  # its own processor needs torchvision
    eyes = resized if by_hand else AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    siglip = "siglip" in model.config.model_type
    seen, read = [], []
    with torch.inference_mode():
        for picture in pictures:
            out = model.get_image_features(**eyes(images=[picture], return_tensors="pt"))
            seen.append(getattr(out, "pooler_output", out)[0].numpy())
        for text in TEXTS:
            if siglip:  # small letters, cut and filled up to 16 tokens, and no mask
                ids = tokenizer(text.lower())["input_ids"][:16]
                ids = [*ids, *[tokenizer.pad_token_id] * (16 - len(ids))]
                out = model.get_text_features(input_ids=torch.tensor([ids]))
            else:
                longest = tokenizer.model_max_length
                tokens = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
                out = model.get_text_features(**tokens)
            read.append(getattr(out, "pooler_output", out)[0].numpy())
    return unit(np.stack(seen)), unit(np.stack(read))


@pytest.mark.parametrize("family", SAVERS)
def test_families_are_plain_transformers(
    family: str, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    folder = SAVERS[family](tmp_path / family)
    encoder = make_encoder("clip", str(folder))
    reading = encoder.embed(pictures, CONDITIONS)
    seen, read = plain_vectors(folder, pictures)
    assert np.allclose(reading.vectors[:, 0], seen, atol=1e-5)
    assert np.array_equal(reading.vectors[:, 0], reading.vectors[:, 1])
    assert reading.words == [["", ""]] * len(pictures) and not reading.word_probabilities.any()
    assert np.allclose(encoder.encode_text(TEXTS, CONDITIONS)[:, 0], read, atol=1e-5)
    # Pictures and texts differ, so the comparison is meaningful.
    assert np.abs(seen @ seen.T - 1).max() > 0.01 and np.abs(read @ read.T - 1).max() > 0.01
    assert encoder.dimension == seen.shape[1] == read.shape[1]
    assert not encoder.conditional
    again = remake_encoder(encoder.spec)
    assert again.spec == encoder.spec
    assert np.array_equal(again.encode(pictures, CONDITIONS), reading.vectors)


@pytest.mark.parametrize("kind", ["dinov2", "dinov3_vit", "dinov3_convnext", "vit"])
def test_models_of_pictures_alone_are_plain_transformers(
    kind: str, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    from transformers import AutoModel

    folder = save_vision(kind, tmp_path / kind)
    encoder = make_encoder("vision", str(folder))
    numbers = resized(pictures, "pt")["pixel_values"]
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
    with torch.inference_mode():
        model = AutoModel.from_pretrained(folder).eval()
        plain = model((numbers - mean) / deviation).last_hidden_state[:, 0].numpy()
    found = encoder.embed(pictures, CONDITIONS)
    assert np.abs(found.vectors[:, 0] - unit(plain)).max() < 1e-5
    assert np.allclose(found.norms[:, 1], np.linalg.norm(plain, axis=1), rtol=1e-5)
    assert np.abs(found.vectors[:, 0] @ found.vectors[:, 0].T - 1).max() > 1e-3
    assert not encoder.conditional and remake_encoder(encoder.spec).spec == encoder.spec
    with pytest.raises(UsageError, match="vision embeds pictures only"):
        encoder.encode_text(["red"], CONDITIONS)
    with pytest.raises(ModelError, match="or give --method vision"):
        make_encoder("clip", str(folder))


def test_dtype_side_and_memory_are_honoured(
    clip: ClipEncoder, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = make_encoder("clip", dtype="bfloat16", options=EncoderOptions(max_side=64))
    assert half.spec.settings == {"dtype": "bfloat16", "max_side": 64}
    assert half.spec.max_side == 64 and remake_encoder(half.spec).spec == half.spec
    small = [reduced(picture, 64) for picture in pictures]
    full = clip.encode(small, CONDITIONS)[:, 0]
    assert (half.encode(pictures, CONDITIONS)[:, 0] * full).sum(1).min() > 0.99
    # Two copies share the work, and the order stays.
    monkeypatch.setattr("ingest.encoders.methods.clip._SHARE", 2)
    double = ClipEncoder([clip.dual, ClipEncoder.load(EncoderChoice("clip", "tiny-clip")).dual])
    assert np.allclose(double.encode(small, CONDITIONS)[:, 0], full, atol=1e-5)
    assert double.device == "2 cpu"
    # There is memory for two images at once only.
    dual = ClipEncoder.load(EncoderChoice("clip", "tiny-clip")).dual
    seen, counts = dual._towers.image_features, []

    def scarce(given: Any) -> torch.Tensor:
        counts.append(len(given["pixel_values"]))
        if counts[-1] > 2:
            raise RuntimeError("CUDA out of memory")
        return seen(given)

    monkeypatch.setattr(dual._towers, "image_features", scarce)
    assert np.allclose(dual.encode_images(small), full, atol=1e-5)
    assert counts == [6, 3, 1, 1, 1, 1, 1, 1]
    monkeypatch.setattr(
        dual._towers, "image_features", lambda given: (_ for _ in ()).throw(MemoryError())
    )
    with pytest.raises(ModelError, match="not enough memory for tiny-clip"):
        dual.encode_images(small)


class StandInClip(torch.nn.Module):
    """A model with the documented interface of open_clip's."""

    def __init__(self) -> None:
        super().__init__()
        self.eyes = torch.nn.Linear(12, 8)
        self.words = torch.nn.Embedding(256, 8)

    def encode_image(self, image: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        assert not normalize
        return self.eyes(image.flatten(1))

    def encode_text(self, text: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        return self.words(text).mean(1)


@pytest.fixture
def open_clip(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A module with open_clip's interface; the real one needs torchvision."""
    asked: list[tuple[Any, ...]] = []

    def transform(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image.resize((2, 2)), dtype=np.float32) / 255)

    def create(name: str, pretrained: str | None = None, **options: Any) -> tuple[Any, Any]:
        asked.append((name, pretrained, options))
        if pretrained == "none":
            raise RuntimeError("Pretrained tag (none) not found.")
        torch.manual_seed(0)
        return StandInClip(), transform

    def tokenizer(texts: list[str]) -> torch.Tensor:
        return torch.tensor([[ord(letter) for letter in text[:4].ljust(4)] for text in texts])

    face = SimpleNamespace(
        create_model_from_pretrained=create, get_tokenizer=lambda name: tokenizer
    )
    monkeypatch.setitem(sys.modules, "open_clip", face)
    return asked


def test_open_clip_by_its_documented_interface(
    open_clip: list[tuple[Any, ...]], tmp_path: Path, pictures: list[Image.Image]
) -> None:
    encoder = make_encoder("clip", "open_clip:ViT-B-32/laion2b_s34b_b79k")
    assert open_clip[-1][:2] == ("ViT-B-32", "laion2b_s34b_b79k")
    assert open_clip[-1][2]["weights_only"] is True
    assert encoder.spec.model == "open_clip:ViT-B-32/laion2b_s34b_b79k"
    assert remake_encoder(encoder.spec).spec == encoder.spec
    torch.manual_seed(0)
    model = StandInClip()
    with torch.inference_mode():
        seen = [
            model.eyes(torch.from_numpy(np.asarray(p.resize((2, 2)), dtype="f4") / 255).flatten())
            for p in pictures
        ]
        read = model.words(torch.tensor([[ord(letter) for letter in "red "]])).mean(1)
    wanted = unit(torch.stack(seen).numpy())
    assert np.allclose(encoder.encode(pictures, CONDITIONS)[:, 0], wanted, atol=1e-6)
    assert np.allclose(encoder.encode_text(["red heart"], CONDITIONS)[:, 0], unit(read.numpy()))
    # A folder of one's own.
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(ModelError, match="no safetensors weights"):
        make_encoder("clip", f"open_clip:{folder}")
    (folder / "open_clip_model.safetensors").write_bytes(b"weights")
    own = make_encoder("clip", f"open_clip:{folder}")
    assert open_clip[-1][:2] == (f"local-dir:{folder}", None)
    assert remake_encoder(own.spec).spec == own.spec
    for wrong in ("open_clip:ViT-B-32", "open_clip:./nowhere"):
        with pytest.raises(ModelError, match=r"There is no model 'open_clip:.*; write open_clip:"):
            make_encoder("clip", wrong)
    with pytest.raises(ModelError, match=r"cannot be used \(Pretrained tag \(none\) not found\)"):
        make_encoder("clip", "open_clip:ViT-B-32/none")


def test_open_clip_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModelError, match=r"pip install 'cies\[open_clip\]'"):
        make_encoder("clip", "open_clip:ViT-B-32/laion2b_s34b_b79k")


def colors(condition: Condition) -> Vocabulary:
    words = ("red", "green", "blue", "yellow") if condition.name == "color" else ("one", "two")
    return Vocabulary(condition.name, words, "a {word} thing", "shipped")


@pytest.mark.parametrize("method", PROJECTIONS)
def test_views_are_encoders_too(
    method: str, clip: ClipEncoder, pictures: list[Image.Image]
) -> None:
    asked = [*CONDITIONS, Condition.parse("count")]
    mean = clip.base_images(pictures).mean(0)
    encoder = ProjectionEncoder(clip, method, colors, mean)
    reading = encoder.embed(pictures, asked)
    assert reading.vectors.shape == (len(pictures), 3, encoder.dimension)
    base, words = clip.base_images(pictures), colors(CONDITIONS[0])
    view = fit_projection(method, words.words, clip.base_texts(words.texts), mean)
    alone = view.images(base)
    found = reading.vectors[:, 0]
    assert np.allclose(found @ found.T, alone @ alone.T, atol=1e-5)
    texts = encoder.encode_text(["a red heart"], asked)[:, 0]
    assert np.allclose(texts @ found.T, view.texts(clip.base_texts(["a red heart"])) @ alone.T)
    # Without a condition the vector is the base vector; without words all are empty.
    assert np.array_equal(reading.vectors[:, 1, : clip.dimension], base)
    assert [row[0] for row in reading.words] == view.nearest_words(base)[0]
    assert {row[1] for row in reading.words} == {""}
    assert {row[2] for row in reading.words} <= {"one", "two"}


def test_views_by_name_take_the_shipped_words(pictures: list[Image.Image]) -> None:
    encoder = cies.Encoder.load(method="clay")
    assert encoder.method.spec.model == "tiny-clip"
    assert encoder.encode(pictures, ["color", "shape"]).shape == (6, 2, encoder.dimension)
    with pytest.raises(UsageError, match="qwertyness"):
        encoder.encode(pictures, "qwertyness")


def test_a_long_list_of_words_is_no_longer_than_the_vectors(clip: ClipEncoder) -> None:
    random = np.random.default_rng(0)
    texts = unit(random.normal(size=(50, 20)) + 2)
    seen, mean = unit(random.normal(size=(30, 20)) - 1), random.normal(size=20).astype("f4") / 9
    view = fit_projection("crl", [str(n) for n in range(50)], texts, mean)
    profiles = unit(seen @ texts.T)
    read = unit((texts + mean - texts.mean(0)) @ texts.T)
    assert view.dimension == 20
    assert np.allclose(view.images(seen) @ view.images(seen).T, profiles @ profiles.T, atol=1e-5)
    assert np.allclose(view.texts(texts) @ view.images(seen).T, read @ profiles.T, atol=1e-5)


def test_methods_name_their_kinds() -> None:
    assert set(PROJECTIONS) == {name for name, info in METHODS.items() if info.kind == "view"}
    assert {info.model for info in METHODS.values()} == {
        "tiny-clip",
        "tiny-lvlm",
        "efficientnet-lite0",
        "examples",
        "vectors",
        "Qwen/Qwen3-VL-Embedding-2B",
        "facebook/dinov2-base",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "clipp"}, "There is no method 'clipp'; choose one of dior, photo"),
        ({"method": "clip", "prompt": "express"}, "--prompt does not apply to the method clip"),
        (
            {"method": "clip", "options": EncoderOptions(layer=2)},
            "--layer 2 does not apply to the method clip; leave it out.",
        ),
        (
            {"method": "generative", "options": EncoderOptions(token="mean")},
            "--token mean does not apply to the method generative",
        ),
        (
            {"method": "dior", "options": EncoderOptions(sentences="x")},
            "--sentences x does not apply to the method dior",
        ),
        (
            {"method": "regional", "prompt": "Say the {condition}"},
            "must say 'this image' once",
        ),
    ],
)
def test_choices_a_method_lacks_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_encoder(**given)


@pytest.mark.parametrize("method", [method for method in METHODS if method not in WITHOUT_MODEL])
def test_a_model_of_the_other_kind_is_refused(method: str) -> None:
    stands_on_clip = METHODS[method].model == "tiny-clip"
    said = "does not embed pictures and texts" if stands_on_clip else "give --method clip"
    said = "has one model, efficientnet-lite0" if method == "photo" else said
    said = "no model of pictures alone" if method == "vision" else said
    if method == "embedder":
        with pytest.raises(UsageError, match="How tiny-clip was prompted in its training is not"):
            make_encoder(method, "tiny-clip")
        return
    with pytest.raises(ModelError, match=said):
        make_encoder(method, "tiny-lvlm" if stands_on_clip else "tiny-clip")
