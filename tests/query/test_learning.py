"""Conditions learned from examples: the formulas, and the command on a real gallery."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cies
from cies.cli.app import app
from cies.learn import learn
from indexes.errors import GalleryMismatch, UsageError
from indexes.store.gallery import Gallery
from ingest.encoders.factory import remake_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.methods.learned import LearnedCondition, LearnedEncoder, LearnedPart
from query.explore.learning import CandidatePart, fit_discriminants, fit_weights, learn_condition


def cloud(random: np.random.Generator, groups: np.ndarray, noise: float, dim: int = 12):
    """Unit vectors around a random centre for each group."""
    centres = random.normal(size=(groups.max() + 1, dim))
    found = centres[groups] + noise * random.normal(size=(len(groups), dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def candidate(name: str, vectors: np.ndarray) -> CandidatePart:
    mean = vectors.mean(axis=0)
    return CandidatePart(name, {"name": name}, mean, 0.3, vectors)


def test_what_tells_the_groups_apart_gets_the_weight(random: np.random.Generator) -> None:
    groups = np.repeat(np.arange(5), 4)
    other = random.permutation(groups)
    parts = [
        candidate("true", cloud(random, groups, 0.4)),
        candidate("false", cloud(random, other, 0.1)),
    ]
    result = learn_condition(parts, groups, [f"g{n}" for n in range(5)])
    weights = {part.name: part.weight for part in result.learned.parts}
    assert weights["true"] > 0.85 and sum(weights.values()) == pytest.approx(1)
    assert result.validation is not None and result.validation.distinguishable
    assert result.validation.learned > result.validation.equal
    assert result.validation.chance == pytest.approx(3 / 19)


def test_groups_that_cannot_be_told_apart_are_named_so(random: np.random.Generator) -> None:
    groups = np.repeat(np.arange(4), 5)
    parts = [candidate("noise", cloud(random, random.permutation(groups), 0.3))]
    found = learn_condition(parts, groups, list("abcd")).validation
    assert found is not None and not found.distinguishable


def test_weights_are_the_maximum_of_the_formula(random: np.random.Generator) -> None:
    """No step away from the fitted weights makes the penalised likelihood larger."""
    from query.explore.learning import SHRINKAGE

    groups = np.repeat(np.arange(4), 4)
    vectors = [cloud(random, groups, 1.5), cloud(random, random.permutation(groups), 0.5)]
    cosines = np.stack([one @ one.T for one in vectors]).astype(np.float64)
    spreads = np.array([0.3, 0.5])
    weights = fit_weights(cosines, groups, spreads)
    first, second = np.triu_indices(16, k=1)
    same = groups[first] == groups[second]

    def loss(scale: float, bias: float, weights: np.ndarray) -> float:
        slopes = scale * weights * spreads
        logits = bias + (slopes / spreads) @ cosines[:, first, second]
        right = np.logaddexp(0, np.where(same, -logits, logits))
        penalty = SHRINKAGE / np.sqrt(same.sum()) * (slopes**2).sum()
        return 0.5 * right[same].mean() + 0.5 * right[~same].mean() + penalty

    def best(weights: np.ndarray) -> float:
        scales, biases = np.geomspace(0.3, 60, 120), np.linspace(-8, 4, 61)
        return min(loss(scale, bias, weights) for scale in scales for bias in biases)

    fitted = best(weights)
    for first_weight in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        assert fitted <= best(np.array([first_weight, 1 - first_weight])) + 1e-3


def test_discriminants_are_fishers(random: np.random.Generator) -> None:
    """They span what the plain formula spans, and are white within groups."""
    groups = np.repeat(np.arange(3), 12)
    vectors = cloud(random, groups, 1.0, dim=6)
    found = fit_discriminants(vectors, groups)
    means = np.stack([vectors[groups == group].mean(axis=0) for group in range(3)])
    within = vectors - means[groups]
    covariance = within.T @ within / 33
    shrunk = 0.3 * covariance + 0.7 * np.trace(covariance) / 6 * np.eye(6)
    expected = np.linalg.solve(shrunk, (means - means.mean(axis=0)).T).T
    assert found.directions.shape == (2, 6)
    rest = found.directions - found.directions @ np.linalg.pinv(expected) @ expected
    assert np.abs(rest).max() < 1e-4 * np.abs(found.directions).max()
    white = found.directions @ shrunk @ found.directions.T
    assert white == pytest.approx(np.eye(2), abs=1e-3)


def test_a_condition_survives_storage(random: np.random.Generator) -> None:
    groups = np.repeat(np.arange(3), 10)
    parts = [candidate("a", cloud(random, groups, 0.8)), candidate("b", cloud(random, groups, 0.9))]
    learned = learn_condition(parts, groups, ["x", "y", "z"]).learned
    stored = json.loads(json.dumps(dict(learned.spec(448).settings)))
    again = LearnedCondition.from_settings(stored)
    kept = [parts["ab".index(part.name)].vectors for part in learned.parts]
    assert np.array_equal(again.vectors(kept), learned.vectors(kept))
    assert (
        again.nearest_words(again.vectors(kept))[0]
        == learned.nearest_words(learned.vectors(kept))[0]
    )
    assert np.allclose(np.linalg.norm(learned.vectors(kept), axis=1), 1, atol=1e-5)
    for damage in ("arrays", "made_from", "groups"):
        with pytest.raises(GalleryMismatch, match="conditions learn"):
            LearnedCondition.from_settings({**stored, damage: "x"})


def test_the_cosine_is_the_weighted_mean_of_centred_cosines(random: np.random.Generator) -> None:
    vectors = [cloud(random, np.arange(8), 1.0), cloud(random, np.arange(8), 1.0, dim=5)]
    means = [one.mean(axis=0) for one in vectors]
    none = np.zeros((0, 17), dtype=np.float32)
    parts = tuple(
        LearnedPart({}, name, weight, mean)
        for name, weight, mean in zip("ab", (0.7, 0.3), means, strict=True)
    )
    joined = LearnedCondition(parts, (), none, none[:, 0], 1.0).vectors(vectors)
    expected = np.zeros((8, 8))
    for weight, one, mean in zip((0.7, 0.3), vectors, means, strict=True):
        moved = one - mean
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        expected += weight * moved @ moved.T
    assert joined @ joined.T == pytest.approx(expected, abs=1e-5)


@pytest.fixture
def place(world_gallery: Path, tmp_path: Path) -> Path:
    """A copy of the rendered gallery, beside its pictures."""
    import shutil

    target = world_gallery.with_name(tmp_path.name)
    shutil.copytree(world_gallery, target)
    return target


def labelled(world: Path, column: str, values: int, count: int) -> dict[str, list[str]]:
    """The first pictures of the most frequent values of a label."""
    import csv
    from collections import defaultdict

    groups: dict[str, list[str]] = defaultdict(list)
    with (world / "labels.csv").open() as file:
        for row in csv.DictReader(file):
            groups[row[column]].append(Path(row["file"]).name)
    common = sorted(groups, key=lambda value: -len(groups[value]))[:values]
    return {value: groups[value][:count] for value in common}


def test_learned_typed_searched_and_grown(
    place: Path, world: Path, builtin: DiorEncoder, tmp_path: Path
) -> None:
    groups = labelled(world, "color", 3, 4)
    words = [part for name, files in groups.items() for part in ("--group", f"{name}:", *files)]
    done = CliRunner().invoke(
        app, ["conditions", "learn", "my tint", "-g", str(place), "--json", *words]
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["weights"][0]["condition"] == "color"
    assert document["groups"] == dict.fromkeys(groups, 4)
    opened = cies.open(place)
    assert "my tint" in [table.name for table in Gallery.open(place).conditions()]
    name, files = next(iter(groups.items()))
    hits = opened.search(
        next(p for p in (world / "images").iterdir() if p.name == files[0]), "my tint", k=3
    )
    assert hits.query.word == name and hits[0].word in groups
    # A new picture is embedded through the gallery's own model, to the same vector.
    table = next(t for t in Gallery.open(place).conditions() if t.name == "my tint")
    column = Gallery.open(place).column(table)
    from ingest.encoders.base import EncoderSpec

    encoder = remake_encoder(EncoderSpec.from_made_by(table.made_by))
    assert isinstance(encoder, LearnedEncoder)
    from PIL import Image

    from ingest.conditions import Condition

    file = world / "images" / files[0]
    with Image.open(file) as image:
        made = encoder.embed([image.convert("RGB")], [Condition("my tint", "my tint")])
    import hashlib

    row = column.keys.index(hashlib.sha256(file.read_bytes()).hexdigest())
    assert made.vectors[0, 0] @ column.vectors[row] == pytest.approx(1, abs=2e-3)
    assert made.words == [[column.words[row]]]
    # Learned again with other groups, it replaces the first.
    learn(Gallery.open(place), "my tint", labelled(world, "shape", 3, 4))
    tables = [t for t in Gallery.open(place).conditions() if t.name == "my tint"]
    assert len(tables) == 1 and tables[0].table != table.table
    # The usual method of the gallery stays what it was.
    assert cies.open(place).conditions == ["color", "shape"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tint"], "Show the examples in one way"),
        (["tint", "a.jpg"], "is in no group"),
        (["tint", "--group", "00001.jpg", "nowhere.jpg"], "nowhere.jpg is not in the gallery"),
        (["tint", "--group", "00001.jpg", "--groop", "00002.jpg"], "no option --groop"),
        (["tint", "--group", "00001.jpg", "--group", "00002.jpg"], "two pictures or more"),
        (["tint", "--group", "00001.jpg", "--group", "00001.jpg"], "in two groups"),
        (["color", "--like", "00001.jpg"], "has a condition 'color' already"),
    ],
)
def test_wrong_examples_are_one_sentence(
    world_gallery: Path, arguments: list[str], message: str
) -> None:
    done = CliRunner().invoke(app, ["conditions", "learn", "-g", str(world_gallery), *arguments])
    assert isinstance(done.exception, UsageError) and message in str(done.exception)
