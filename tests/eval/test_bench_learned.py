"""The benchmark of learned conditions, against a count of neighbours by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cies.cli.app import app
from eval.bench.learned import bench_learning, mean_differences
from indexes.errors import UsageError
from indexes.vectors import Vectors, unit
from query.explore.learning import CandidatePart


def part(name: str, vectors: Vectors, method: str = "photo") -> CandidatePart:
    """A condition whose centred vectors are the given ones."""
    mean = np.zeros(vectors.shape[1], dtype=np.float32)
    return CandidatePart(name, {"method": method, "name": name}, mean, 0.3, vectors)


@pytest.fixture(scope="module")
def world_of_two() -> tuple[list[CandidatePart], list[str], dict[str, dict[str, str]]]:
    """80 pictures with labels of four values each, one that 'a' shows and one that 'b' shows."""
    random = np.random.default_rng(3)
    values = random.permuted(np.tile(np.repeat(np.arange(4), 20), (2, 1)), axis=1)
    centers = np.eye(8, dtype=np.float32)[:4]
    clouds = [
        unit((centers[of] + 0.25 * random.normal(size=(80, 8))).astype(np.float32)) for of in values
    ]
    keys = [f"{n:02d}" for n in range(80)]
    labels = {
        name: {key: f"v{value}" for key, value in zip(keys, of, strict=True)}
        for name, of in zip(("first", "other"), values, strict=True)
    }
    return [part("a", clouds[0]), part("b", clouds[1])], keys, labels


def test_the_right_condition_is_found_from_examples(world_of_two) -> None:
    parts, keys, labels = world_of_two
    figures = bench_learning(parts, keys, labels, [3], 2, seed=5)
    assert [(f.label, f.unseen, f.values) for f in figures] == [
        ("first", False, 4),
        ("first", True, 2),
        ("other", False, 4),
        ("other", True, 2),
    ]
    assert [f.best_name for f in figures] == ["a", "a", "b", "b"]
    for figure in figures:
        assert figure.best_single > 2 * figure.chance or figure.unseen
        assert figure.learned > figure.best_single - 0.05
        assert figure.low <= figure.difference <= figure.high
        assert figure.difference == pytest.approx(figure.learned - figure.best_single)
    shown, unseen = mean_differences(figures)
    assert shown[:2] == (3, False) and unseen[:2] == (3, True)
    assert shown[2] == pytest.approx((figures[0].difference + figures[2].difference) / 2)


def test_the_figure_is_precision_of_pictures_that_were_not_shown(world_of_two) -> None:
    parts, keys, labels = world_of_two
    (figure,) = [
        f for f in bench_learning(parts[:1], keys, labels, [4], 1, seed=7) if f.label == "first"
    ][:1]
    value = np.array([labels["first"][key] for key in keys])
    random = np.random.default_rng([7, 0])
    shown = [random.permutation(np.flatnonzero(value == name))[:4] for name in np.unique(value)]
    rest = np.setdiff1d(np.arange(80), np.concatenate(shown))
    cosines = parts[0].vectors[rest] @ parts[0].vectors[rest].T
    np.fill_diagonal(cosines, -9)
    nearest = rest[np.argsort(-cosines, axis=1)[:, :10]]
    right = (value[nearest] == value[rest][:, None]).mean(axis=1)
    by_value = [right[value[rest] == name].mean() for name in np.unique(value)]
    assert figure.best_single == pytest.approx(np.mean(by_value))
    # One condition: what is learned is that condition.
    assert figure.learned == pytest.approx(figure.best_single)
    assert figure.chance == pytest.approx(15 / 63)


def test_typed(world_gallery: Path, world: Path) -> None:
    typed = ["bench", "learn", "-g", str(world_gallery), "--labels", str(world / "labels.csv")]
    done = CliRunner().invoke(
        app, [*typed, "--column", "style", "--examples", "2", "--draws", "1", "--json"]
    )
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)["figures"]
    assert [(f["label"], f["unseen"], f["values"]) for f in figures] == [
        ("style", False, 5),
        ("style", True, 2),
    ]
    assert {f["best_name"] for f in figures} <= {"color", "shape"}
    for more, message in [
        (["--examples", "1"], "numbers from 2 on"),
        (["--column", "mood"], "no column 'mood'"),
        (["-m", "clip"], "no vectors of the methods clip"),
        (["--examples", "500"], "show fewer examples"),
    ]:
        done = CliRunner().invoke(app, [*typed, *more])
        assert isinstance(done.exception, UsageError) and message in str(done.exception)
