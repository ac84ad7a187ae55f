"""Intervals and tests agree with enumeration, formulas and repeated experiments."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from eval.metrics.statistics import EXACT, holm, interval, paired_test


def test_interval_has_the_width_of_the_normal_interval(random: np.random.Generator) -> None:
    values = random.normal(size=400)
    found = interval(values, seed=3)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert found == interval(values, seed=3)
    assert found != interval(values, seed=4)


def test_interval_coverage_is_the_stated_level(random: np.random.Generator) -> None:
    inside = 0
    for seed in range(300):
        hits = random.random(80) < 0.3
        found = interval(hits, level=0.9, resamples=400, seed=seed)
        inside += found.low <= 0.3 <= found.high
    assert 0.83 < inside / 300 < 0.96


def test_hits_and_other_values_are_resampled_equally(random: np.random.Generator) -> None:
    hits = (random.random(500) < 0.4).astype(float)
    nearly = hits + np.arange(500) * 1e-9  # no two alike, so drawn one by one
    a, b = interval(hits, resamples=20_000), interval(nearly, resamples=20_000)
    assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.004)


def test_strata_are_resampled_within_themselves(random: np.random.Generator) -> None:
    strata = np.repeat(["rare", "common"], [20, 400])
    values = np.where(strata == "rare", random.normal(5, 1, 420), random.normal(0, 1, 420))
    found = interval(values, strata)
    means = [values[strata == name].mean() for name in ("rare", "common")]
    parts = [values[strata == n].std() / math.sqrt((strata == n).sum()) for n in ("rare", "common")]
    half = 1.96 * math.hypot(*parts) / 2
    assert (found.low + found.high) / 2 == pytest.approx(np.mean(means), abs=0.1 * half)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_small_tests_use_all_signs(random: np.random.Generator) -> None:
    for n in (1, 2, 5, 9):
        a, b = random.integers(0, 4, n) / 3, random.integers(0, 4, n) / 3
        differences = a - b
        sums = [
            abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in itertools.product([1, -1], repeat=n)
        ]
        slow = np.mean([s >= abs(differences.sum()) - 1e-9 for s in sums])
        found = paired_test(a, b)
        assert found.exact and found.p_value == pytest.approx(slow)
        assert found.difference == pytest.approx(a.mean() - b.mean())


def test_drawn_signs_agree_with_the_sign_test(random: np.random.Generator) -> None:
    """For hits it is McNemar's test: changed queries are binomial with one half."""
    first, second = np.zeros(200), np.zeros(200)
    first[:30], second[30:44] = 1, 1
    found = paired_test(first, second, rounds=50_000)
    tail = sum(math.comb(44, wins) for wins in range(30, 45)) / 2**44
    assert not found.exact and found.unequal == 44 > EXACT
    assert found.p_value == pytest.approx(2 * tail, abs=0.003)


def test_p_values_are_uniform_for_equal_runs(random: np.random.Generator) -> None:
    pairs = random.normal(size=(400, 2, 40))
    found = [paired_test(a, b, rounds=300, resamples=1).p_value for a, b in pairs]
    assert np.mean(np.array(found) <= 0.05) < 0.09
    assert abs(np.mean(found) - 0.5) < 0.06


def test_equal_runs_and_strata() -> None:
    same = paired_test([1, 0, 1], [1, 0, 1])
    assert (same.p_value, same.difference, same.unequal) == (1.0, 0.0, 0)
    # The rare class weighs as much as the common one.
    rare = paired_test([1, 0, 0, 0], [0, 0, 0, 0], strata=[0, 1, 1, 1])
    assert rare.difference == pytest.approx(0.5)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        interval([])
    with pytest.raises(ValueError, match="same"):
        paired_test([1, 2], [1])
