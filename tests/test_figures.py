"""The built-in model's figures, on pictures of a seed its school never saw."""

from __future__ import annotations

from pathlib import Path

import pytest

import cies
from eval.labels import read_labels
from eval.matrix import Matrix, evaluate
from eval.world.factors import FACTORS
from eval.world.gallery import write_world


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    folder = tmp_path_factory.mktemp("figures")
    labels = write_world(folder / "world", 600, seed=777)
    gallery = cies.create(folder / "gallery")
    cies.ingest(gallery, [folder / "world" / "images"], list(FACTORS))
    return evaluate(cies.open(folder / "gallery"), read_labels(labels))


def test_nearest_neighbours_share_color_and_shape(matrix: Matrix) -> None:
    # In a gallery of 1,500 it is 0.976 and 0.931; in a smaller one fewer are near.
    assert matrix.cell("color", "color").metrics["P@1"].value >= 0.90
    assert matrix.cell("shape", "shape").metrics["P@1"].value >= 0.80


def test_every_condition_finds_its_own_label_best(matrix: Matrix) -> None:
    assert set(matrix.conditions) == set(matrix.labels) == set(FACTORS)
    for condition in matrix.conditions:
        corrected = {
            label: matrix.cell(condition, label).metrics["MAP@R"].corrected
            for label in matrix.labels
        }
        own = corrected.pop(condition)
        assert own > 0.5
        # What it should not have found is near chance.
        assert max(corrected.values()) < 0.15


def test_words_are_the_labels(tmp_path: Path, matrix: Matrix) -> None:
    labels = read_labels(write_world(tmp_path / "w", 100, seed=778))
    cies.ingest(cies.create(tmp_path / "g"), [tmp_path / "w" / "images"], ["color", "shape"])
    engine = cies.open(tmp_path / "g")
    for condition, least in (("color", 0.9), ("shape", 0.8)):
        column = engine.vectors(condition)
        said = {
            Path(engine.path(k)).name: w for k, w in zip(column.keys, column.words, strict=True)
        }
        right = [said[file] == row[condition] for file, row in labels.values.items()]
        assert sum(right) / len(right) >= least
