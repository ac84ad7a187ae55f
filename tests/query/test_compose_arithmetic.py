"""Composers as formulas, compared with the formulas written out, with texts of made-up vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval.training import curriculum
from indexes.errors import UsageError
from indexes.vectors import unit
from query.composers.base import (
    ComposerInput,
    WrittenCaption,
    compose_settings,
    published_weights,
)
from query.composers.caption_writer import differences
from query.composers.dior import conditions_in_change
from query.composers.factory import COMPOSERS, compose, composer_descriptions
from query.composers.modification import Modification, take_modification

PICTURE = Image.new("RGB", (8, 8))
DIMENSION = 24


def vector(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return unit(np.random.default_rng(seed).normal(size=(1, DIMENSION)))[0]


class Writes:
    """A writer that counts."""

    name = "a writer"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def caption(self, image: Image.Image) -> str:
        self.calls.append("caption")
        return "a red heart"

    def changed(self, image: Image.Image, change: str) -> WrittenCaption:
        self.calls.append("changed")
        return WrittenCaption("a green heart")

    def reasoned(self, image: Image.Image, change: str) -> WrittenCaption:
        self.calls.append("reasoned")
        return WrittenCaption("a green heart", ("green",), ("red", "blue"))


class Has:
    """What composers work with."""

    base_model = "tiny-clip"

    def __init__(self, captions: bool = True):
        self.writer = Writes()
        self.has_captions = captions

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([vector(text) for text in texts])

    def cut(self, text: str) -> str:
        return " ".join(text.split()[:5])


SEEN = vector("the picture")
CHANGE = "the same in green"


def asked(name: str, **more: object) -> tuple[np.ndarray, object, Has]:
    tools = Has()
    change = Modification(CHANGE, name, **more)
    composed = compose(name, ComposerInput(change, SEEN, lambda: PICTURE), tools)
    assert np.linalg.norm(composed.vector) == pytest.approx(1, abs=1e-6)
    return composed.vector, composed.interpretation, tools


def test_image_and_text_are_what_they_say_and_ask_no_model() -> None:
    found, _, tools = asked("image")
    assert np.array_equal(found, SEEN)
    text, interpretation, more = asked("text")
    assert np.array_equal(text, vector(CHANGE)) and interpretation.target == CHANGE
    assert not tools.writer.calls and not more.writer.calls


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_sum_is_weighted(share: float) -> None:
    found, _, _ = asked("sum", weights={"text": share})
    expected = unit(((1 - share) * SEEN + share * vector(CHANGE))[None])[0]
    assert np.allclose(found, expected, atol=1e-6)


def test_pdv_at_zero_is_the_plain_query_to_the_bit() -> None:
    image, _, _ = asked("pdv", weights={"alpha_i": 0, "beta": 0})
    before, _, _ = asked("pdv", weights={"alpha_t": 0, "beta": 1})
    after, _, _ = asked("pdv", weights={"alpha_t": 1, "beta": 1})
    assert np.array_equal(image, SEEN)
    assert np.allclose(before, vector("a red heart"), atol=1e-7)
    cirevl, _, _ = asked("cirevl")
    assert np.allclose(after, cirevl, atol=1e-7)


def test_pdv_is_its_formula() -> None:
    found, interpretation, _ = asked("pdv")
    assert dict(interpretation.weights) == {"alpha_i": 1.4, "alpha_t": 1.2, "beta": 0.75}
    old, new = vector("a red heart"), vector("a green heart")
    seen = unit((SEEN + 1.4 * (new - old))[None])[0]
    said = unit((old + 1.2 * (new - old))[None])[0]
    assert np.allclose(found, unit((0.25 * seen + 0.75 * said)[None])[0], atol=1e-6)
    assert (interpretation.caption, interpretation.target) == ("a red heart", "a green heart")


@pytest.mark.parametrize(("slider", "beta"), [("alpha_i", 0.0), ("alpha_t", 1.0)])
def test_pdv_moves_along_the_change_without_turning_back(slider: str, beta: float) -> None:
    change = vector("a green heart") - vector("a red heart")
    along = [
        float(asked("pdv", weights={slider: value, "beta": beta})[0] @ change)
        for value in np.linspace(-0.5, 2, 11)
    ]
    assert (np.diff(along) > 0).all()
    target = vector("a green heart")
    nearer = [
        float(asked("pdv", weights={"beta": value, "alpha_i": 0, "alpha_t": 1})[0] @ target)
        for value in np.linspace(0, 1, 6)
    ]
    assert (np.diff(nearer) > 0).all()


def test_weimo_mixes_in_the_pictures_own_vector_and_says_how_much_captions_count() -> None:
    tools = Has()
    change = ComposerInput(Modification(CHANGE), SEEN, lambda: PICTURE)
    found = compose("weimo", change, tools)
    expected = unit((0.2 * SEEN + 0.8 * vector(CHANGE))[None])[0]
    assert np.allclose(found.vector, expected, atol=1e-6) and found.captions == 0.1
    with pytest.raises(UsageError, match="--method captions"):
        compose("weimo", change, Has(captions=False))


def test_cotmr_rewards_and_punishes() -> None:
    found, interpretation, _ = asked("cotmr", weights={"must": 2, "must_not": 0.5})
    mean = (vector("red") + vector("blue")) / 2
    total = vector("a green heart") + 2 * vector("green") - 0.5 * mean
    assert np.allclose(found, unit(total[None])[0], atol=1e-6)
    assert (interpretation.must, interpretation.must_not) == (("green",), ("red", "blue"))


def test_what_is_given_is_not_asked_for() -> None:
    _, interpretation, tools = asked("cirevl", caption="two green hearts")
    assert interpretation.target == "two green hearts" and not tools.writer.calls
    _, interpretation, tools = asked("cotmr", caption="x", must=("a",), must_not=())
    assert (interpretation.must, interpretation.must_not) == (("a",), ()) and not tools.writer.calls
    found, interpretation, _ = asked("sum", must=("a dog",))
    plain, _, _ = asked("sum")
    total = plain.astype(float) + 0.5 * vector("a dog")
    assert np.allclose(found, unit(total[None])[0], atol=1e-6) and interpretation.must == ("a dog",)


def test_a_text_that_is_cut_is_told() -> None:
    _, interpretation, _ = asked("cirevl", caption="one two three four five six")
    (note,) = interpretation.notes
    assert "no more than 'one two three four five'" in note


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("sum", {"beta": 1}),
        ("sum", {"text": 2}),
        ("image", {"text": 1}),
        ("pdv", {"beta": 1.5}),
        ("pdv", {"alpha_i": 99}),
        ("nothing", {}),
    ],
)
def test_wrong_names_and_numbers_are_refused(name: str, weights: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        asked(name, weights=weights)


@pytest.mark.parametrize(
    "change",
    [
        {"text": " "},
        {"text": "a\0b"},
        {"text": "x" * 501},
        {"text": "\ud800"},
        {"text": "x", "caption": " \n"},
        {"text": "x", "must": ("",)},
        {"text": "x", "weights": {"text": float("nan")}},
        {"text": "x", "verify": -1},
    ],
)
def test_a_change_that_cannot_be_meant_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Modification(**change)


def test_options_of_a_change_need_a_change() -> None:
    assert take_modification({"modify": None, "verify": 0, "must": None}) is None
    found = take_modification({"modify": "x", "must": "a dog", "k": 1})
    assert found is not None and found.must == ("a dog",)
    with pytest.raises(UsageError, match="--must-not"):
        take_modification({"must_not": ("a",)})
    with pytest.raises(UsageError, match="--composer"):
        take_modification({"modify": Modification("x"), "composer": "sum"})


def test_published_weights_go_by_the_clip() -> None:
    assert published_weights("pdv", "openai/clip-vit-base-patch32")["beta"] == 0.75
    assert published_weights("pdv", "openai/clip-vit-large-patch14")["beta"] == 0.55
    assert published_weights("pdv", "open_clip:ViT-L-14/openai")["beta"] == 0.55


def test_every_composer_says_what_it_is() -> None:
    assert set(COMPOSERS) < set(composer_descriptions())
    assert all(about for about in composer_descriptions().values())


def test_the_schooled_prompts_are_those_of_the_school() -> None:
    prompts = compose_settings()["prompts"]["schooled"]
    assert prompts == {"describe": curriculum.DESCRIBE, "changed": curriculum.DESCRIBE_CHANGED}


def test_differences_of_captions_are_what_must_and_must_not_be() -> None:
    before = "a photo of one large red plain heart on white"
    assert differences(before, before) == ((), ())
    assert differences(before, before.replace("red", "green")) == (("green",), ("red",))
    assert differences(before, before.replace("white", "red")) == (("on red",), ("on white",))


def test_what_a_change_speaks_of() -> None:
    names = ["color", "background", "shape"]

    def spoken(change: str, *said: str, **others: Any) -> dict[int, str]:
        return conditions_in_change(change, names, said, **{"changed_words": list, **others})

    red = "on a red background"
    assert spoken(red, "red", "red", "star") == {1: red}
    assert spoken("two hearts", "blue", "white", "heart") == {2: "two hearts"}
    assert spoken("with a cat", "blue", "white", "star") == {}
    after = {"changed_words": lambda: ["red", "white", "star"]}
    assert spoken("in red", "red", "red", "star", **after) == {0: "in red"}
    neither = {"changed_words": lambda: ["blue", "white", "star"]}
    assert list(spoken("in red", "red", "red", "star", **neither)) == [0, 1]
    known = spoken("in red", "red", "blue", "red", **neither, is_gallery_word=lambda n: n == 0)
    assert known == {0: "in red"}


def test_a_named_condition_has_the_word_beside_it() -> None:
    names = ["color", "background", "shape"]

    def spoken(change: str, *said: str) -> dict[int, str]:
        return conditions_in_change(change, names, said, list)

    # The model saw the pink, and took it for the color alone.
    for change in ("a Pink background", "the background to pink", "the same with background pink"):
        assert spoken(change, "pink", "white", "star") == {1: "pink"}
    assert list(spoken("the same background but pink", "pink", "white", "star")) == [0]
    # Each word has a condition of its own.
    both = "a red heart on a blue background"
    assert spoken(both, "red", "blue", "heart") == {0: both, 1: both, 2: both}
    assert spoken(both, "blue", "white", "heart") == {1: "blue", 2: both}
