"""Metrics with ties equal the mean over all orders; chance equals formulas and Monte Carlo."""

from __future__ import annotations

import itertools
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.closed_forms import chance_hit_rate_at, chance_map_at_r, chance_precision_at_1

from eval.judge import MetricMean
from eval.metrics.formulas import (
    balanced_mean,
)
from eval.metrics.names import metric, names
from eval.metrics.ranked import by_position, in_order, rank
from indexes.errors import UsageError


def ap_sum(gains: tuple[float, ...], limit: int) -> float:
    """Sum of P(i) rel(i) for i up to a limit, place by place."""
    hits = [gain > 0 for gain in gains]
    return sum(sum(hits[:i]) / i for i in range(1, min(limit, len(hits)) + 1) if hits[i - 1])


def dcg(gains: tuple[float, ...], k: int) -> float:
    return sum(gain / math.log2(i + 2) for i, gain in enumerate(gains[:k]))


def hits(gains: tuple[float, ...], k: int) -> int:
    return sum(gain > 0 for gain in gains[:k])


def first(gains: tuple[float, ...]) -> int:
    return next(i for i, gain in enumerate(gains, 1) if gain > 0)


def inquire(gains: tuple[float, ...], k: int) -> float:
    """Mean precision over the hits of the first k, times hits over min(k, R)."""
    found = hits(gains, k)
    return ap_sum(gains, k) / found * found / min(k, hits(gains, len(gains))) if found else 0.0


def relevant(gains: tuple[float, ...]) -> int:
    return hits(gains, len(gains))


#: Name to its definition on one order of the candidates' gains.
SLOW = {
    "P@1": lambda g: float(g[0] > 0),
    "precision@3": lambda g: hits(g, 3) / 3,
    "R@2": lambda g: float(hits(g, 2) > 0),
    "recall@3 (hit)": lambda g: float(hits(g, 3) > 0),
    "recall@3 (true)": lambda g: hits(g, 3) / relevant(g),
    "recall@3 (capped)": lambda g: hits(g, 3) / min(3, relevant(g)),
    "subset recall@2": lambda g: float(hits(g, 2) > 0),
    "mMP@5": lambda g: hits(g, min(5, relevant(g))) / min(5, relevant(g)),
    "R-precision": lambda g: hits(g, relevant(g)) / relevant(g),
    "MAP@R": lambda g: ap_sum(g, relevant(g)) / relevant(g),
    "MAP": lambda g: ap_sum(g, len(g)) / relevant(g),
    "mAP@4": lambda g: ap_sum(g, 4) / min(4, relevant(g)),
    "AP@4": lambda g: inquire(g, 4),
    "MRR": lambda g: 1 / first(g),
    "MRR@2": lambda g: 1 / first(g) if first(g) <= 2 else 0.0,
    "nDCG": lambda g: dcg(g, len(g)) / dcg(tuple(sorted(g, reverse=True)), len(g)),
    "nDCG@3": lambda g: dcg(g, 3) / dcg(tuple(sorted(g, reverse=True)), 3),
}


@cache
def expected(gains: tuple[float, ...], scores: tuple[int, ...]) -> dict[str, float]:
    """Mean of every metric over all orders of the candidates that the scores allow."""
    ordered = []
    for score in sorted(set(scores), reverse=True):
        group = [gain for gain, own in zip(gains, scores, strict=True) if own == score]
        ordered.append(list(itertools.permutations(group)))
    orders = [sum(parts, ()) for parts in itertools.product(*ordered)]
    return {name: sum(map(slow, orders)) / len(orders) for name, slow in SLOW.items()}


def test_every_metric_has_a_slow_definition() -> None:
    families = {name.replace("@k", "@") for name in names()}
    tested = {"".join(c for c in name if not c.isdigit() or name == "P@1") for name in SLOW}
    assert families == tested


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 0, 1, 1, 1, 3]), st.integers(0, 2)), min_size=1, max_size=6
    ).filter(lambda rows: any(gain for gain, _ in rows))
)
def test_ties_equal_the_mean_over_all_orders(rows: list[tuple[int, int]]) -> None:
    gains, scores = (tuple(column) for column in zip(*rows, strict=True))
    ranked = rank([scores], [gains])
    slow = expected(gains, scores)
    for name, value in slow.items():
        assert metric(name)(ranked)[0] == pytest.approx(value, abs=1e-12), name
    # All tie: chance is the mean over all orders whatever the scores.
    random = expected(gains, (0,) * len(gains))
    for name, value in random.items():
        assert metric(name).chance(ranked)[0] == pytest.approx(value, abs=1e-12), name


def test_queries_do_not_affect_one_another(random: np.random.Generator) -> None:
    scores = [random.integers(0, 4, n) for n in (3, 6, 5, 6, 4)]
    gains = [np.append(1, random.integers(0, 2, len(row) - 1)) for row in scores]
    ranked = rank(scores, gains)
    for name in SLOW:
        alone = [expected(tuple(g), tuple(s))[name] for g, s in zip(gains, scores, strict=True)]
        assert np.allclose(metric(name)(ranked), alone, atol=1e-12), name


def test_best_and_worst_order_of_a_tie() -> None:
    # Places 2 to 4 tie, one of them right; R = 2, the other right one is last.
    ranked = rank([[9, 5, 5, 5, 1]], [[0, 1, 0, 0, 1]])
    assert metric("MRR")(ranked.best())[0] == pytest.approx(1 / 2)
    assert metric("MRR")(ranked)[0] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
    assert metric("MRR")(ranked.worst())[0] == pytest.approx(1 / 4)
    # GeneCIS puts the target at index 0, which wins every tie by order.
    assert metric("P@1")(rank([by_position([5, 5, 5])], [[1, 0, 0]]))[0] == 1
    assert metric("P@1")(rank([by_position([5, 5, 5])], [[0, 1, 0]]))[0] == 0


def test_one_target_in_a_tie_has_the_closed_form(random: np.random.Generator) -> None:
    """With one target the expected hit is clip((k - g) / t, 0, 1)."""
    for _ in range(50):
        scores = random.integers(0, 5, 15)
        higher, same = int((scores > scores[0]).sum()), int((scores == scores[0]).sum())
        ranked = rank([scores], [np.eye(15)[0]])
        for k in (1, 2, 3):
            assert metric(f"R@{k}")(ranked)[0] == pytest.approx(
                np.clip((k - higher) / same, 0, 1), abs=1e-12
            )


COUNTS = np.array([[1, 9], [5, 19], [12, 30], [3, 8], [7, 7], [58, 5923], [6142, 8051]])


def test_chance_equals_the_closed_forms() -> None:
    right, others = COUNTS.T
    ranked = rank([np.zeros(m) for m in others], [np.arange(m) < r for r, m in COUNTS])
    assert np.allclose(metric("P@1").chance(ranked), chance_precision_at_1(right, others))
    assert np.allclose(metric("R-precision").chance(ranked), right / others)
    assert np.allclose(metric("MAP@R").chance(ranked), chance_map_at_r(right, others), rtol=1e-12)
    for k in (1, 2, 10, 100):
        hit = chance_hit_rate_at(right, others, k)
        assert np.allclose(metric(f"recall@{k} (hit)").chance(ranked), hit, rtol=1e-12), k
        capped = np.minimum(k, others) * right / others / np.minimum(k, right)
        assert np.allclose(metric(f"recall@{k} (capped)").chance(ranked), capped, rtol=1e-12), k
        assert np.allclose(metric(f"mMP@{k}").chance(ranked), right / others, rtol=1e-12), k
    harmonic = np.array([np.sum(1 / np.arange(1, m + 1)) for m in others])
    full = (harmonic + (others - harmonic) * (right - 1) / (others - 1)) / others
    assert np.allclose(metric("MAP").chance(ranked), full, rtol=1e-12)
    # Five others of a group, one the target: 20 % (CIRR).
    five = rank([np.zeros(5)], [np.eye(5)[2]])
    assert metric("subset recall@1").chance(five)[0] == pytest.approx(0.2)


def test_chance_equals_monte_carlo(random: np.random.Generator) -> None:
    rounds, right, others = 20_000, 7, 40
    shuffled = random.permuted(np.tile(np.arange(others) < right, (rounds, 1)), axis=1)
    ranked = in_order(shuffled, np.full(rounds, right))
    for name in SLOW:
        simulated = metric(name)(ranked)
        error = simulated.std() / np.sqrt(rounds)
        chance = metric(name).chance(ranked)[0]
        assert abs(simulated.mean() - chance) < 4 * error + 1e-9, name


def test_large_ties_stay_exact() -> None:
    """One right answer among 100,000 tied candidates: places are uniform."""
    n = 100_000
    ranked = rank([np.zeros(n)], [np.arange(n) == 5])
    harmonic = np.sum(1 / np.arange(1, n + 1))
    assert metric("MRR")(ranked)[0] == pytest.approx(harmonic / n, rel=1e-10)
    assert metric("MAP")(ranked)[0] == pytest.approx(harmonic / n, rel=1e-10)
    assert metric("recall@50 (hit)")(ranked)[0] == pytest.approx(50 / n, rel=1e-12)


def test_a_cut_list_only_works_up_to_its_length() -> None:
    ranked = rank([[9, 8, 7]], [[0, 1, 0]], all_gains=[[1, 1, 1, 1]], others=[50])
    assert metric("mAP@3")(ranked)[0] == pytest.approx(0.5 / 3)
    assert metric("recall@3 (true)").chance(ranked)[0] == pytest.approx(3 / 50)
    with pytest.raises(ValueError, match="MAP@R needs 4 places of query 0, and 3 are known"):
        metric("MAP@R")(ranked)
    with pytest.raises(ValueError, match="nDCG needs 50 places"):
        metric("nDCG")(ranked)
    # All right answers are in the list, so that nothing behind the cut can change the figure.
    whole = rank([[9, 8, 7]], [[0, 1, 0]], all_gains=[[1]], others=[50])
    assert metric("MAP")(whole)[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("scores", "gains", "message"),
    [
        ([[1, 2]], [[0, 0]], "query 0 has no right answer"),
        ([[1, np.nan]], [[0, 1]], "not finite"),
        ([[1, 2]], [[0, -1]], "gain below 0"),
        ([[1, 2]], [[1]], "2.* scores and .*1.* gains"),
    ],
)
def test_wrong_rankings_are_refused(scores, gains, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rank(scores, gains)


def test_unclear_metric_names_are_refused() -> None:
    with pytest.raises(UsageError, match=r"three meanings.*'recall@10 \(true\)'"):
        metric("recall@10")
    for name in ("MAP@10", "recall@k (hit)", "P@0", "mAP@", "hit"):
        with pytest.raises(UsageError, match="There is no metric"):
            metric(name)


def test_definitions_name_their_k() -> None:
    assert metric("mAP@5").definition.startswith("Sum of P(i) rel(i) for i up to 5, over min(5, R)")
    assert metric("mAP@5").k == 5
    balanced = metric("balanced MAP@R")
    assert balanced.balanced and "each class's queries" in balanced.definition
    for name in SLOW:
        assert "equal scores" in metric(name).definition.lower()


def test_balanced_mean_and_correction() -> None:
    values, classes = np.array([1.0, 1.0, 1.0, 0.0]), np.array(["a", "a", "a", "b"])
    assert balanced_mean(values, classes) == pytest.approx(0.5)
    assert MetricMean(0.6, 0.2, 0.5, 0.7).corrected == pytest.approx(0.5)


def test_the_page_names_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name in names():
        assert f"`{name}`" in page, name
