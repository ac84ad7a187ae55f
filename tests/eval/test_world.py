"""The rendered world: balanced, independent, seeded, and in the form of any labelled folder."""

from __future__ import annotations

import csv
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from eval.world.factors import FACTORS, FILLED, PALETTE, WEIGHTS, Scene, sample_scenes
from eval.world.gallery import write_world
from eval.world.render import render
from eval.world.shapes import FORMS, form, holes, outline


def test_factors_are_as_many_as_promised() -> None:
    sizes = {name: len(values) for name, values in FACTORS.items()}
    assert sizes["shape"] >= 40 and sizes["color"] >= 12 and sizes["pattern"] >= 5
    assert set(sizes) == {
        "color", "shape", "pattern", "material", "background", "size", "count", "style",
        "stroke", "frame",
    }  # fmt: skip


def test_values_are_balanced() -> None:
    scenes = sample_scenes(1501, seed=3)
    for name, values in FACTORS.items():
        counts = Counter(scene.labels[name] for scene in scenes)
        if name == "material":
            drawn = counts.pop("")
            assert drawn == sum(scene.labels["stroke"] != FILLED for scene in scenes)
            # Filled things alone have a material, so these are a sample, not a deal.
            assert set(counts) == set(values) and min(counts.values()) > 0.8 * max(counts.values())
            continue
        assert set(counts) == set(values)
        weights = {value: WEIGHTS.get(name, {}).get(value, 1) for value in values}
        for value, weight in weights.items():
            share = len(scenes) * weight / sum(weights.values())
            assert abs(counts[value] - share) <= weight, (name, value)


def test_factors_are_independent() -> None:
    scenes = sample_scenes(6000, seed=5)
    names = list(FACTORS)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            table = np.zeros((len(FACTORS[first]), len(FACTORS[second])))
            for scene in scenes:
                if not (scene.labels[first] and scene.labels[second]):
                    continue
                row = FACTORS[first].index(scene.labels[first])
                table[row, FACTORS[second].index(scene.labels[second])] += 1
            table = table[table.any(1)][:, table.any(0)]
            expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
            chi2 = ((table - expected) ** 2 / expected).sum()
            freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
            # Far beyond this, the two would tell of each other (mean plus 4.5 deviations).
            assert chi2 <= freedom + 4.5 * np.sqrt(2 * freedom), (first, second)


def test_seeds_decide_everything() -> None:
    assert sample_scenes(50, 1) == sample_scenes(50, 1) != sample_scenes(50, 2)
    scene = sample_scenes(1, 7)[0]
    assert np.array_equal(np.asarray(render(scene, 64)), np.asarray(render(scene, 64)))
    with pytest.raises(ValueError, match="at least one"):
        sample_scenes(0, 1)


def plain(**labels: str) -> Scene:
    base = {
        "color": "red",
        "shape": "circle",
        "pattern": "plain",
        "background": "white",
        "size": "large",
        "count": "one",
        "style": "flat",
        "material": "matte",
        "stroke": "filled",
        "frame": "none",
    }
    return Scene({**base, **labels}, seed=42)


@pytest.mark.parametrize("color", list(PALETTE))
def test_the_color_is_there(color: str) -> None:
    background = "white" if color != "white" else "green"
    pixels = np.asarray(render(plain(color=color, background=background), 96), dtype=float)
    near = np.linalg.norm(pixels - np.array(PALETTE[color]), axis=-1) < 75
    # A large circle covers at least a fifth of the picture.
    assert near.mean() > 0.1


def test_larger_means_more_paint_and_more_means_more() -> None:
    def paint(**labels: str) -> float:
        pixels = np.asarray(render(plain(**labels), 96), dtype=float)
        return float((np.linalg.norm(pixels - np.array(PALETTE["red"]), axis=-1) < 90).mean())

    small, medium, large = (paint(size=size) for size in FACTORS["size"])
    assert 2 * small < 1.3 * medium < 1.3 * large
    counts = [paint(size="small", count=count) for count in FACTORS["count"]]
    assert all(after > 1.03 * before for before, after in pairwise(counts))
    lines = [paint(stroke=stroke) for stroke in ("thin", "regular", "bold", "filled")]
    assert all(after > 1.25 * before for before, after in pairwise(lines))


@pytest.mark.parametrize("shape", FACTORS["shape"])
def test_outlines_fit_the_unit_circle(shape: str) -> None:
    radius = np.linalg.norm(outline(shape), axis=1)
    assert 0.85 < radius.max() < 1.35
    assert all(np.linalg.norm(hole, axis=1).max() < radius.max() for hole in holes(shape))


def test_outlines_differ() -> None:
    def mask(line: np.ndarray) -> np.ndarray:
        image = Image.new("1", (48, 48))
        ImageDraw.Draw(image).polygon([(24 + 18 * x, 24 + 18 * y) for x, y in line], fill=1)
        return np.asarray(image)

    drawn = [mask(outline(shape)) for shape in FACTORS["shape"] if not holes(shape)]
    for i, first in enumerate(drawn):
        for second in drawn[i + 1 :]:
            assert (first & second).sum() / (first | second).sum() < 0.95


def test_nameless_forms_are_always_the_same() -> None:
    line, cut = form(3)
    assert np.array_equal(line, form(3)[0]) and len(cut) == len(form(3)[1])
    assert not np.array_equal(line[:5], form(4)[0][:5])
    for number in range(1, FORMS, 20):
        assert np.linalg.norm(form(number)[0], axis=1).max() == pytest.approx(1.0)


def test_same_color_as_the_ground_stays_visible() -> None:
    for color in PALETTE:
        pixels = np.asarray(render(plain(color=color, background=color), 96), dtype=float)
        assert pixels.mean(-1).max() - pixels.mean(-1).min() > 20


def test_written_as_any_labelled_folder(tmp_path: Path) -> None:
    ticks: list[int] = []
    labels = write_world(
        tmp_path / "w", 30, 9, size=64, workers=1, progress=lambda done, total: ticks.append(done)
    )
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", *FACTORS]
    assert ticks == list(range(1, 31))
    scenes = sample_scenes(30, 9)
    for row, scene in zip(rows, scenes, strict=True):
        assert {name: row[name] for name in FACTORS} == dict(scene.labels)
        assert Image.open(tmp_path / "w" / "images" / row["file"]).size == (64, 64)
