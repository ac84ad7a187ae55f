"""Metrics equal values computed by hand, slow loops and Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
from support.closed_forms import (
    chance_hit_rate_at,
    chance_map_at_r,
    chance_precision_at_1,
    hit_rate_at,
    map_at_r,
    precision_at_1,
)
from support.judged import judge

from eval.metrics.formulas import (
    triplet_accuracy,
)


def slow_map_at_r(hits: list[bool], relevant: int) -> float:
    """The definition, place by place."""
    total = 0.0
    for place in range(1, relevant + 1):
        if hits[place - 1]:
            total += sum(hits[:place]) / place
    return total / relevant


def test_hand_worked() -> None:
    ranking = np.array([[True, False, True, False, True]])
    relevant = np.array([3])
    # P(1) = 1, place 2 is a miss, P(3) = 2/3; R = 3, so (1 + 2/3) / 3.
    assert map_at_r(ranking, relevant)[0] == pytest.approx(5 / 9)
    assert precision_at_1(ranking)[0] == 1
    assert hit_rate_at(np.array([[False, False, True]]), 2)[0] == 0
    assert hit_rate_at(np.array([[False, False, True]]), 3)[0] == 1


def test_map_at_r_equals_the_slow_definition(random: np.random.Generator) -> None:
    ranking = random.random((50, 40)) < 0.3
    ranking[:, 0] |= ~ranking.any(axis=1)
    relevant = ranking.sum(axis=1)
    slow = [slow_map_at_r(list(row), r) for row, r in zip(ranking, relevant, strict=True)]
    assert np.allclose(map_at_r(ranking, relevant), slow)


def test_map_at_r_refuses_a_short_ranking() -> None:
    with pytest.raises(ValueError, match="needs 3"):
        map_at_r(np.ones((1, 2), dtype=bool), np.array([3]))


@pytest.mark.parametrize(("relevant", "others"), [(1, 9), (5, 19), (12, 30), (3, 8)])
def test_chance_levels_against_monte_carlo(
    relevant: int, others: int, random: np.random.Generator
) -> None:
    rounds = 40_000
    ranking = np.zeros((rounds, others), dtype=bool)
    ranking[:, :relevant] = True
    ranking = random.permuted(ranking, axis=1)
    counts, sizes = np.full(1, relevant), np.full(1, others)
    every = np.full(rounds, relevant)
    for simulated, formula in [
        (precision_at_1(ranking), chance_precision_at_1(counts, sizes)),
        (hit_rate_at(ranking, 10), chance_hit_rate_at(counts, sizes, 10)),
        (map_at_r(ranking, every), chance_map_at_r(counts, sizes)),
    ]:
        error = simulated.std() / np.sqrt(rounds)
        assert abs(simulated.mean() - formula[0]) < 4 * error + 1e-9


def test_published_chance_levels() -> None:
    # 100 species of about 59 among 5,924: P@1 chance 1.0 %, MAP@R chance 0.09 % (CUB-200-2011
    # test half; label counts from the data set).
    counts, sizes = np.full(1, 58), np.full(1, 5923)
    assert 100 * chance_precision_at_1(counts, sizes)[0] == pytest.approx(0.98, abs=0.03)
    assert 100 * chance_map_at_r(counts, sizes)[0] == pytest.approx(0.09, abs=0.005)


def test_triplet_accuracy_counts_ties_one_half() -> None:
    near, far = np.array([0.9, 0.1, 0.5, 0.7]), np.array([0.2, 0.3, 0.5, 0.1])
    assert triplet_accuracy(near, far).tolist() == [1, 0, 0.5, 1]


def slow_judge(vectors, values, classes):
    """P@1, precision@10, recall@10 and MAP@R, one query at a time."""
    rows = []
    for query in range(len(vectors)):
        others = [
            i
            for i in range(len(vectors))
            if i != query and (classes is None or classes[i] < 0 or classes[i] != classes[query])
        ]
        others.sort(key=lambda i: -float(vectors[query] @ vectors[i]))
        hits = [bool(values[i] == values[query]) for i in others]
        if any(hits):
            precision = sum(hits[:10]) / 10
            whole = slow_map_at_r(hits, sum(hits))
            rows.append([hits[0], precision, any(hits[:10]), whole, values[query]])
    by_value = {row[4]: [r[3] for r in rows if r[4] == row[4]] for row in rows}
    balanced = np.mean([np.mean(scores) for scores in by_value.values()])
    return len(rows), [*np.mean(rows, axis=0)[:4], balanced]


@pytest.mark.parametrize("with_classes", [False, True])
def test_judge_equals_the_slow_definition(with_classes: bool, random: np.random.Generator) -> None:
    vectors = random.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = random.integers(0, 6, 60)
    values[0] = 99  # no right answer
    classes = random.integers(-1, 12, 60) if with_classes else None
    cell = judge(vectors, {"a": values}, classes)["a"]
    count, slow = slow_judge(vectors, values, classes)
    assert cell.queries == count
    assert np.allclose([mean.value for mean in cell.metrics.values()], slow, atol=1e-9)
    assert all(mean.low <= mean.value <= mean.high for mean in cell.metrics.values())


def test_perfect_and_random_vectors(random: np.random.Generator) -> None:
    values = np.repeat(np.arange(6), 50)
    perfect = np.eye(6, dtype=np.float32)[values]
    measures = judge(perfect, {"a": values})["a"].metrics
    assert [m.value for m in measures.values()] == [1] * 5
    assert all(m.low == m.high == pytest.approx(1) for m in measures.values())
    noise = random.normal(size=(300, 16)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    measures = judge(noise, {"a": values})["a"].metrics
    assert abs(measures["MAP@R"].corrected) < 0.02
