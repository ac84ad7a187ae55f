"""The rendered world: balanced, independent, seeded, and in the form of any labelled folder."""

from __future__ import annotations

import csv
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.world.factors import FACTORS, PALETTE, Scene, sample_scenes
from eval.world.gallery import write_world
from eval.world.render import render
from eval.world.shapes import hole, outline


def test_factors_are_as_many_as_promised() -> None:
    sizes = {name: len(values) for name, values in FACTORS.items()}
    assert sizes["shape"] >= 12 and sizes["color"] >= 12 and sizes["pattern"] >= 5
    assert set(sizes) == {"color", "shape", "pattern", "background", "size", "count", "style"}


def test_values_are_balanced() -> None:
    scenes = sample_scenes(1501, seed=3)
    for name, values in FACTORS.items():
        counts = Counter(scene.labels[name] for scene in scenes)
        assert set(counts) == set(values)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_factors_are_independent() -> None:
    scenes = sample_scenes(6000, seed=5)
    names = list(FACTORS)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            table = np.zeros((len(FACTORS[first]), len(FACTORS[second])))
            for scene in scenes:
                row = FACTORS[first].index(scene.labels[first])
                table[row, FACTORS[second].index(scene.labels[second])] += 1
            expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
            chi2 = ((table - expected) ** 2 / expected).sum()
            freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
            # Far beyond this, the two would tell of each other (mean plus 4.5 deviations).
            assert chi2 < freedom + 4.5 * np.sqrt(2 * freedom), (first, second)


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
    }
    return Scene({**base, **labels}, seed=42)


@pytest.mark.parametrize("color", list(PALETTE))
def test_the_color_is_there(color: str) -> None:
    background = "white" if color != "white" else "green"
    pixels = np.asarray(render(plain(color=color, background=background), 96), dtype=float)
    near = np.linalg.norm(pixels - np.array(PALETTE[color]), axis=-1) < 75
    # A large circle of radius 0.23 covers about 0.14 of the picture.
    assert near.mean() > 0.08


def test_larger_means_more_paint_and_more_means_more() -> None:
    def paint(**labels: str) -> float:
        pixels = np.asarray(render(plain(**labels), 96), dtype=float)
        return float((np.linalg.norm(pixels - np.array(PALETTE["red"]), axis=-1) < 90).mean())

    small, medium, large = (paint(size=size) for size in FACTORS["size"])
    assert 2 * small < 1.3 * medium < 1.3 * large
    counts = [paint(size="small", count=count) for count in FACTORS["count"]]
    assert all(after > 1.15 * before for before, after in pairwise(counts))


@pytest.mark.parametrize("shape", FACTORS["shape"])
def test_outlines_fit_the_unit_circle(shape: str) -> None:
    radius = np.linalg.norm(outline(shape), axis=1)
    assert 0.85 < radius.max() < 1.3
    assert (hole(shape) is not None) == (shape == "ring")


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
