"""The contract of encoders: every built-in method, an object with encode, and a plug-in keep it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from indexes.errors import ModelError, UsageError
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.encoders.custom import CustomEncoder
from ingest.encoders.factory import (
    METHODS,
    WITHOUT_MODEL,
    as_encoder,
    make_encoder,
    method_info,
    remake_encoder,
)
from ingest.encoders.options import EncoderOptions

CONDITIONS = [Condition.parse(name) for name in ("color", "shape")]

PLUGIN = """
import numpy as np

class MeanColor:
    dimension = 4

    def __init__(self, model="four", device="auto"):
        self.model = model
        self.device = device

    def encode(self, images, conditions):
        colors = [[*np.asarray(image.resize((1, 1)))[0, 0], 1] for image in images]
        scales = [1 + sum(map(ord, c.phrase)) % 5 for c in conditions]
        return np.array([[np.power(color, 1 / s) for s in scales] for color in colors], dtype="f8")

def broken():
    raise RuntimeError("no licence. Buy one.")

def no_encoder():
    return 3
"""


class Gray:
    """The smallest encoder."""

    def encode(self, images: Any, conditions: Any) -> np.ndarray:
        rows = [np.asarray(image.convert("L").resize((3, 2))).ravel() + 1.0 for image in images]
        return np.array([[row * len(c.phrase + "x") for c in conditions] for row in rows])


def install(folder: Path, package: str, entries: dict[str, str]) -> None:
    """A distribution on ``sys.path`` with entry points of the group ``cies.encoders``."""
    module = package.replace("-", "_")
    (folder / f"{module}.py").write_text(PLUGIN)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {module}:{target}" for name, target in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[cies.encoders]", *lines]) + "\n")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that adds a method that works and three that do not."""
    entries = {"mean-color": "MeanColor", "unlicensed": "broken", "three": "no_encoder"}
    install(tmp_path, "color-methods", {**entries, "gone": "Missing"})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "color_methods", raising=False)
    return tmp_path


#: The others have no model to load, or none is built in; tests of learning, of imports and of
#: embedders hold them.
WITH_MODELS = [method for method in METHODS if method not in (*WITHOUT_MODEL, "embedder", "vision")]

MAKERS: dict[str, Callable[[], BaseEncoder]] = {
    **{method: lambda method=method: make_encoder(method) for method in WITH_MODELS},
    "own class": lambda: as_encoder(Gray()),
    "plug-in": lambda: make_encoder("mean-color"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_encoder_keeps_the_contract(
    name: str, plugin: Path, pictures: list[Image.Image]
) -> None:
    encoder = MAKERS[name]()
    encoder.check(CONDITIONS)
    vectors = encoder.encode(pictures, CONDITIONS)
    assert vectors.shape == (len(pictures), len(CONDITIONS), encoder.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)
    assert np.array_equal(encoder.encode(pictures, CONDITIONS), vectors)
    for number, picture in enumerate(pictures):
        assert np.allclose(encoder.encode([picture], CONDITIONS)[0], vectors[number], atol=2e-5)
    assert encoder.encode([], CONDITIONS).shape == (0, len(CONDITIONS), encoder.dimension)
    if encoder.conditional and name not in ("own class",):
        assert not np.allclose(vectors[:, 0], vectors[:, 1], atol=1e-4)
    else:
        assert np.allclose(vectors[:, 0], vectors[:, 1], atol=1e-5)
    embeddings = encoder.embed(pictures, CONDITIONS)
    assert np.allclose(embeddings.vectors, vectors, atol=1e-6)
    assert np.shape(embeddings.words) == (len(pictures), len(CONDITIONS))
    assert embeddings.word_probabilities.shape == (len(pictures), len(CONDITIONS))
    for condition in CONDITIONS:
        assert EncoderSpec.from_made_by(encoder.spec.made_by(condition)) == encoder.spec
    assert encoder.description and name in (encoder.spec.method, "own class", "plug-in")
    try:
        texts = encoder.encode_text(["red heart"], CONDITIONS)
    except UsageError as error:
        assert "pictures only" in str(error)
    else:
        assert texts.shape == (1, len(CONDITIONS), encoder.dimension)
        assert np.allclose(np.linalg.norm(texts, axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("method", WITH_MODELS)
def test_every_stored_spec_loads_the_same_encoder(method: str) -> None:
    encoder = make_encoder(method)
    again = remake_encoder(encoder.spec)
    assert again.spec == encoder.spec and type(again) is type(encoder)


# -- an object of one's own ----------------------------------------------------------------------


def test_attributes_of_an_object_are_used(pictures: list[Image.Image]) -> None:
    checked: list[str] = []

    class Named(Gray):
        name, model, revision, dimension = "gray", "2x3", "7", 6
        settings = MappingProxyType({"max_side": 64})

        def check(self, conditions: Any) -> None:
            checked.extend(c.name for c in conditions)

        def encode_text(self, texts: Any, conditions: Any) -> np.ndarray:
            return np.ones((len(texts), len(conditions), 6))

    encoder = as_encoder(Named())
    assert encoder.spec == EncoderSpec("gray", "2x3", "7", {"max_side": 64})
    assert encoder.spec.max_side == 64
    assert as_encoder(encoder) is encoder
    assert as_encoder(Named(), "other").spec.method == "other"
    encoder.encode(pictures, CONDITIONS)
    assert checked == ["color", "shape"]
    assert np.allclose(encoder.encode_text(["red"], CONDITIONS), 6**-0.5)
    plain = as_encoder(Gray())
    assert plain.spec.method == "Gray" and plain.spec.revision == "1"
    assert plain.spec.model.endswith("test_contract.Gray")


class Wrong:
    """Returns whatever it is given."""

    def __init__(self, array: np.ndarray):
        self.array = array

    dimension = 3

    def encode(self, images: Any, conditions: Any) -> np.ndarray:
        return self.array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((1, 3)), re.escape("shape (1, 3) in place of (1, 1, 3)")),
        (np.zeros((1, 1, 3)), "unusable vectors: 1 of 1 vectors are zero"),
        (np.full((1, 1, 3), np.nan), "unusable vectors"),
    ],
)
def test_wrong_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        as_encoder(Wrong(array)).encode([Image.new("RGB", (8, 8))], CONDITIONS[:1])


@pytest.mark.parametrize(
    ("source", "method", "message"),
    [
        (Gray, None, r"Gray is a class .*such as Gray\(\)"),
        (3, None, r"int has no method encode"),
        (Gray(), "dior", "cannot be named 'dior', which is a built-in method"),
        (Gray(), "two words", "cannot be named 'two words'; use letters"),
    ],
)
def test_objects_that_are_no_encoders_are_refused(
    source: Any, method: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        as_encoder(source, method)


# -- plug-ins ------------------------------------------------------------------------------------


def test_a_plugin_is_loaded_by_name_and_again_by_its_spec(plugin: Path) -> None:
    assert method_info("mean-color").about == "added by the package color-methods"
    assert "color_methods" not in sys.modules  # not imported before it is needed
    encoder = make_encoder("mean-color", device="cpu")
    assert isinstance(encoder, CustomEncoder) and encoder.source.device == "cpu"  # type: ignore[attr-defined]
    assert encoder.spec == EncoderSpec("mean-color", "four", "1", {})
    other = make_encoder("mean-color", model="five")
    assert other.spec.model == "five"
    for one in (encoder, other):
        assert remake_encoder(one.spec, force=True).spec == one.spec


def test_built_in_methods_do_not_look_for_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "entry_points", pytest.fail)
    assert make_encoder("clip").spec.method == "clip"


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"method": "unlicensed"}, ModelError, "package color-methods cannot be loaded: no lic"),
        ({"method": "three"}, ModelError, "package color-methods cannot be loaded: int has no"),
        ({"method": "gone"}, ModelError, "package color-methods cannot be loaded.*Missing"),
        ({"method": "nothing"}, UsageError, "no method 'nothing'; choose .*clay, gone, mean-color"),
        ({"method": "mean-color", "dtype": "float16"}, UsageError, "--dtype float16 does not app"),
        ({"method": "mean-color", "prompt": "x"}, UsageError, "--prompt x does not apply"),
        ({"method": "mean-color", "device_map": "auto"}, UsageError, "--device-map auto does not"),
        (
            {"method": "mean-color", "options": EncoderOptions(layer=2)},
            UsageError,
            "--layer 2 does not apply to the method mean-color",
        ),
    ],
)
def test_plugins_that_do_not_work_are_named(
    plugin: Path, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as raised:
        make_encoder(**given)
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)


def test_two_packages_of_one_method_are_both_named(plugin: Path) -> None:
    install(plugin, "more-colors", {"mean-color": "MeanColor"})
    with pytest.raises(ModelError, match=r"color-methods and more-colors all add .*'mean-color'"):
        make_encoder("mean-color")


def test_a_gallery_of_a_plugin_that_is_gone_says_so() -> None:
    spec = EncoderSpec("mean-color", "four", "1", {})
    with pytest.raises(UsageError, match="vectors of 'mean-color', but there is no such method"):
        remake_encoder(spec)


def test_an_encoder_needs_no_condition() -> None:
    whole = [Condition.parse(UNCONDITIONAL)]
    assert as_encoder(Gray()).encode([Image.new("RGB", (8, 8))], whole).shape == (1, 1, 6)
