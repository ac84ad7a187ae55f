"""Training pictures without a word: objects of several parts, and unnamed drawing styles."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from eval.training.pictures import UNKNOWN, VISIBLE_VALUES, draw_pictures, training_scenes
from eval.world.captions import caption
from eval.world.factors import FACTORS, FILLED, TONES, Scene
from eval.world.manners import MANNERS, manner
from eval.world.render import render
from eval.world.shapes import FORMS
from eval.world.things import LEAST_OWN, THINGS, own_share, thing

PLAIN = {
    "color": "red",
    "shape": "apple",
    "pattern": "plain",
    "material": "matte",
    "background": "white",
    "size": "large",
    "count": "one",
    "style": "flat",
    "stroke": FILLED,
    "frame": "none",
}


def scene(seed: int, form: int = 0, hand: int = 0, **labels: str) -> Scene:
    return Scene({**PLAIN, **labels}, seed, form=form, manner=hand)


def drawn(number: int) -> np.ndarray:
    """What is seen of a thing, tone by tone, 5 outside; independent of the renderer."""
    image = Image.new("L", (64, 64), 5)
    for part in thing(number):
        ImageDraw.Draw(image).polygon(
            [(32 + 31 * float(x), 32 + 31 * float(y)) for x, y in part.line], fill=part.tone
        )
    return np.asarray(image)


def test_things_are_always_the_same_and_fit_the_unit_circle() -> None:
    for number in range(1, THINGS + 1):
        corners = np.concatenate([part.line for part in thing(number)])
        assert np.linalg.norm(corners, axis=1).max() == pytest.approx(1.0)
        assert len(thing(number)) > 1 and own_share(thing(number)) >= LEAST_OWN
    first = [part.line for part in thing(7)]
    thing.cache_clear()
    assert all(np.array_equal(a, b.line) for a, b in zip(first, thing(7), strict=True))


def test_no_two_things_look_alike() -> None:
    seen = [drawn(number) for number in range(1, THINGS + 1)]
    for first, second in combinations(seen, 2):
        either = (first != 5) | (second != 5)
        assert (first == second)[either].mean() < 0.97


def test_a_thing_shows_its_color_and_its_parts() -> None:
    reds = []
    for number in range(1, 41):
        pixels = np.asarray(render(scene(number, form=FORMS + number, shape=""), 96), dtype=float)
        ground = np.median(pixels[[0, -1]].reshape(-1, 3), axis=0)
        thing_of = np.abs(pixels - ground).max(-1) > 40
        assert thing_of.mean() > 0.03
        red = (pixels[..., 0] > 2 * pixels[..., 1]) & (pixels[..., 0] > 2 * pixels[..., 2])
        reds.append(red[thing_of].mean())
    assert np.mean(reds) > 0.6
    # Drawn in lines, a part hides the lines of what lies behind it, but shows its own.
    lines = scene(5, form=FORMS + 1, shape="", stroke="thin", material="", color="black")
    few = (np.asarray(render(lines, 96).convert("L")) < 120).mean()
    assert 0.01 < few < 0.2


def test_manners_differ_and_are_always_the_same() -> None:
    kinds = [manner(number) for number in range(1, MANNERS + 1)]
    assert len(set(kinds)) == MANNERS
    manner.cache_clear()
    assert [manner(number) for number in range(1, MANNERS + 1)] == kinds
    pictures = [
        np.asarray(render(scene(3, hand=number, style=""), 96), dtype=float)
        for number in range(1, MANNERS + 1)
    ]
    for first, second in combinations(pictures, 2):
        assert np.abs(first - second).mean() > 0.5


def test_a_manner_leaves_colors_true() -> None:
    """The middle of a thing is nearer to a tone of its own color word than to any other's."""
    names = [name for name, tones in TONES.items() for _ in tones]
    tones = np.array([tone for tones in TONES.values() for tone in tones], dtype=float)
    true, asked = 0, 0
    for number in range(1, MANNERS + 1):
        for color in ("red", "green", "blue", "yellow", "purple", "black", "gray"):
            labels = {"color": color, "style": "", "shape": "square", "background": "beige"}
            pixels = np.asarray(render(scene(11, hand=number, **labels), 96), dtype=float)
            ground = np.median(pixels[[0, -1]].reshape(-1, 3), axis=0)
            inner = pixels[np.abs(pixels - ground).max(-1) > 45]
            near = np.linalg.norm(tones - np.median(inner, axis=0), axis=1).argmin()
            true, asked = true + (names[near] == color), asked + 1
    assert true / asked > 0.85


def test_training_shows_unnamed_values_and_never_names_them() -> None:
    scenes = training_scenes(1600, 9)
    random = np.random.default_rng(0)
    formed = [each for each in scenes if each.form]
    assert len(formed) == 600 and sum(each.form > FORMS for each in formed) == 400
    by_hand = [each for each in scenes if each.manner]
    assert 0.15 < len(by_hand) / len(scenes) < 0.3
    for each in scenes:
        assert bool(each.labels["shape"]) == (not each.form)
        assert bool(each.labels["style"]) == (not each.manner)
        assert not (each.manner and each.labels["stroke"] != FILLED)
        if each.manner and manner(each.manner).gloss:
            assert not each.labels["material"]
        named = caption(each.labels, random).named
        assert not named & {name for name in FACTORS if not each.labels[name]}


def test_what_is_seen_has_a_number_with_a_word_or_without(tmp_path: Path) -> None:
    pictures = draw_pictures(200, 5, 16, 2, tmp_path, lambda done: None)
    for column, name in enumerate(FACTORS):
        answers, seen = pictures.answers[:, column], pictures.seen[:, column]
        named = answers != UNKNOWN
        assert np.array_equal(answers[named], seen[named]) and seen.max() < VISIBLE_VALUES[name]
        nameless = seen[~named & (seen != UNKNOWN)]
        assert (nameless >= len(FACTORS[name])).all()
        assert len(nameless) == {
            "shape": sum(each.form > 0 for each in pictures.scenes),
            "style": sum(each.manner > 0 for each in pictures.scenes),
        }.get(name, 0)
