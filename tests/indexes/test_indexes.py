"""Exact search against a plain sort, FAISS against exact search, and geometries."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from indexes.errors import UsageError
from indexes.geometry import Statistics, residual
from indexes.search.base import ExactIndex
from indexes.search.factory import EXACT_LIMIT, make_index
from indexes.search.faiss import FaissIndex
from indexes.vectors import checksums, unit


def clustered(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    """Unit vectors as hidden states lie: clusters of low rank around a common offset."""
    shape, random = np.random.default_rng(9), np.random.default_rng(seed)
    centers = shape.normal(size=(40, dimension))
    spread = shape.normal(size=(12, dimension)) / 2
    rows = centers[random.integers(0, 40, count)] + random.normal(size=(count, 12)) @ spread
    return unit((rows + 0.5).astype(np.float32))


@pytest.mark.parametrize("k", [1, 10, 200, 900])
def test_exact_equals_a_plain_sort(k: int) -> None:
    vectors = clustered(600, 32)
    queries = clustered(30, 32, seed=1)
    rows, scores = ExactIndex(vectors).search(queries, k)
    cosines = queries @ vectors.T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    assert np.array_equal(rows, order)
    assert np.allclose(scores, np.take_along_axis(cosines, order, axis=1))


def test_exact_gives_ties_in_row_order() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 400, axis=0)
    rows, _ = ExactIndex(vectors).search(vectors[:1], 5)
    assert rows.tolist() == [[0, 1, 2, 3, 4]]


def test_exact_of_nothing() -> None:
    rows, scores = ExactIndex(np.empty((0, 4), dtype=np.float32)).search(
        np.eye(4, dtype=np.float32)[:2], 3
    )
    assert rows.shape == scores.shape == (2, 0)


@pytest.mark.parametrize(
    ("factory", "recall"), [("Flat", 1.0), ("RaBitQfs,Refine(SQfp16)", 0.99), ("HNSW32", 0.95)]
)
def test_faiss_against_exact(factory: str, recall: float) -> None:
    vectors, queries = clustered(5000, 192), clustered(50, 192, seed=1)
    rows, scores = FaissIndex.build(lambda rows: vectors[rows], *vectors.shape, factory).search(
        queries, 10
    )
    _, true_scores = ExactIndex(vectors).search(queries, 10)
    # A hit counts when its true cosine reaches the tenth best: ties are as good.
    reached = np.take_along_axis(queries @ vectors.T, rows, axis=1)
    assert (reached >= true_scores[:, -1:] - 1e-3).mean() >= recall
    assert np.abs(scores - reached).max() < 2e-3
    assert (np.diff(scores, axis=1) <= 1e-6).all()


def test_faiss_patched_for_torch() -> None:
    """Libraries such as pytorch-metric-learning replace FAISS's search by one for tensors."""
    code = """
import numpy as np
from indexes.search.faiss import FaissIndex
vectors = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
index = FaissIndex.build(lambda rows: vectors[rows], *vectors.shape, "RaBitQfs,Refine(SQfp16)")
before, _ = index.search(vectors[:20], 5)
import faiss.contrib.torch_utils
after, _ = index.search(vectors[:20], 5)
print(np.array_equal(before, after), (after[:, 0] == np.arange(20)).all())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["True", "True"], run.stderr


def test_kind_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(300, 16)
    assert isinstance(make_index(vectors), ExactIndex)
    monkeypatch.setattr("indexes.search.factory.EXACT_LIMIT", 200)
    assert isinstance(make_index(vectors), FaissIndex)
    assert isinstance(make_index(vectors, "exact"), ExactIndex)
    assert EXACT_LIMIT == 50_000
    with pytest.raises(UsageError, match="no index"):
        make_index(vectors, "magic")


def test_unit_refuses_vectors_without_direction() -> None:
    good = np.array([[3.0, 4.0]])
    assert unit(good).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]
    for bad in ([0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]):
        with pytest.raises(ValueError, match="1 of 1"):
            unit(np.array([bad]))


def test_checksums_see_one_flipped_bit() -> None:
    rows = np.ones((4, 8), dtype=np.float16)
    keys, words, sure = list("abcd"), ["", "x", "y", "z"], np.ones(4, dtype=np.float32)
    before = checksums(rows, keys, words, sure)
    rows.view(np.uint16)[2, 3] ^= 1
    after = checksums(rows, keys, words, sure)
    assert (before != after).tolist() == [False, False, True, False]
    for other in (
        checksums(rows, list("abce"), words, sure),
        checksums(rows, keys, ["", "x", "y", "u"], sure),
        checksums(rows, keys, words, np.array([1, 1, 1, 0.5], dtype=np.float32)),
    ):
        assert (after != other).tolist() == [False, False, False, True]


def test_statistics_in_parts_are_those_of_the_whole() -> None:
    vectors = clustered(400, 24)
    whole, parts = Statistics.of(vectors), Statistics.of_parts(np.split(vectors, [7, 300]), 24)
    assert parts.count == 400
    assert np.allclose(parts.mean, whole.mean, atol=1e-6)
    assert np.allclose(parts.std, whole.std, atol=1e-5)


def test_geometries_against_their_formulas() -> None:
    vectors = clustered(400, 24)
    statistics = Statistics.of(vectors)
    assert np.array_equal(statistics.apply(vectors, "raw"), vectors)
    centred = vectors - vectors.mean(axis=0)
    for geometry, moved in [("centred", centred), ("standardised", centred / vectors.std(axis=0))]:
        expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        assert np.allclose(statistics.apply(vectors, geometry), expected, atol=1e-4)
    # A common offset, as all prompts of one condition share, is taken away: pairs are as often
    # alike as unlike.
    pairs = statistics.apply(vectors, "centred")
    assert abs((pairs @ pairs.T).mean()) < 0.02 < (vectors @ vectors.T).mean()


def test_residual_is_what_a_projection_leaves() -> None:
    vectors, unconditional = clustered(50, 24), clustered(50, 24, seed=1)
    vectors[7] = unconditional[7]
    left = residual(vectors, unconditional)
    for number, (v, u) in enumerate(zip(vectors, unconditional, strict=True)):
        want = (np.eye(24) - np.outer(u, u)) @ v if number != 7 else v
        assert np.allclose(left[number], want / np.linalg.norm(want), atol=1e-5)
    orthogonal = np.delete(np.sum(left * unconditional, axis=1), 7)
    assert np.abs(orthogonal).max() < 1e-5 < np.abs(np.sum(vectors * unconditional, axis=1)).min()
    assert np.allclose(np.linalg.norm(left, axis=1), 1, atol=1e-6)


def test_geometry_of_degenerate_galleries() -> None:
    same = np.repeat(unit(np.ones((1, 8))), 30, axis=0)
    assert np.allclose(Statistics.of(same).apply(same, "centred"), same)
    few = clustered(5, 8)
    assert np.array_equal(Statistics.of(few).apply(few, "standardised"), few)
