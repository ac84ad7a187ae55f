"""Candidates chosen in rounds: by what a large model said of the last, and what is learned."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from indexes.search.open_table import OpenTable
from indexes.store.records import VectorColumn, VectorTable
from indexes.vectors import unit
from query.ranking.fusion import FusedRanking
from query.ranking.rank_regression import RankRegression
from query.ranking.ranking import ConditionRanking
from query.ranking.reranking import RerankedRanking


def test_rounds_follow_what_the_large_model_said() -> None:
    """A large model that ranks by something no projection shows is followed nevertheless."""
    random = np.random.default_rng(5)
    base = unit(random.standard_normal((1000, 32)).astype(np.float32))
    view = unit(base[:, :4])
    model = unit(base[:, 4:16])
    tables = [_open(name, rows) for name, rows in (("view", view), ("base", base))]
    asked: list[list[str]] = []

    def again(keys: Sequence[str], total: int) -> ConditionRanking:
        asked.append(list(keys))
        rows = sorted({0, *(tables[0].row(key) or 0 for key in keys)})
        return ConditionRanking(_open("model", model[rows], rows), model[:1], "mean")

    first, plain = (
        ConditionRanking(tables[0], view[:1], "mean"),
        ConditionRanking(tables[1], base[:1], "mean"),
    )
    ranking = RerankedRanking(first, FusedRanking([first, plain]), 100, again)
    found, scores = ranking.best(10, None, frozenset({0}))
    # A fifth first, then rounds; nothing twice, nothing that is asked with, never more.
    assert [len(keys) for keys in asked] == list(range(20, 101, 10))
    assert all(later[: len(keys)] == keys for keys, later in pairwise(asked))
    assert len(set(asked[-1])) == 100 and tables[0].keys[0] not in asked[-1]
    exact = model @ model[0]
    assert scores.tolist() == pytest.approx(exact[found].tolist(), abs=1e-6)
    best = set(np.argsort(-exact, kind="stable")[1:11].tolist())
    fused = set(FusedRanking([first, plain]).best(100, None, frozenset({0}))[0].tolist())
    assert len(best & set(found.tolist())) >= len(best & fused) + 3
    # Among some only some are asked for.
    among = np.arange(1000) % 3 == 1
    rows, _ = RerankedRanking(first, FusedRanking([first, plain]), 50, again).best(
        10, among, frozenset()
    )
    assert among[rows].all() and all(int(key, 16) % 3 == 1 for key in asked[-1])


def test_a_guess_is_the_ridge_regression_of_its_formula() -> None:
    random = np.random.default_rng(3)
    parts = [unit(random.standard_normal((40, width)).astype(np.float32)) for width in (6, 9)]
    seen = random.permutation(40)[:15]
    tables = [_open(str(number), rows) for number, rows in enumerate(parts)]
    rows = np.stack([np.arange(40)] * 2)
    found = RankRegression(tables, rows, [0.2, 1.0]).predict(seen)
    # Each table less its mean, at its share of the mean squared length; then plain ridge, primal.
    columns = []
    for part, weight in zip(parts, (0.2, 1.0), strict=True):
        centred = part.astype(np.float64) - part[seen].astype(np.float64).mean(axis=0)
        spread = np.mean(np.sum(centred[seen] ** 2, axis=1))
        columns.append(centred * np.sqrt(weight / 1.2 / spread))
    x = np.concatenate(columns, axis=1)
    y = -np.log(np.arange(1, 16))
    normal = x[seen].T @ x[seen] + 0.5 * np.eye(x.shape[1])
    want = x @ np.linalg.solve(normal, x[seen].T @ (y - y.mean())) + y.mean()
    assert found == pytest.approx(want, abs=1e-5)
    same = _open("same", np.repeat(parts[0][:1], 40, axis=0))
    assert len(set(RankRegression([same], rows[:1], [1.0]).predict(seen).tolist())) == 1


def _open(name: str, vectors: np.ndarray, rows: Sequence[int] | None = None) -> OpenTable:
    """An open table; a picture's key is its number."""
    keys = [f"{row:064x}" for row in (rows if rows is not None else range(len(vectors)))]
    column = VectorColumn(keys, vectors, [""] * len(keys), np.zeros(len(keys), dtype=np.float32))
    return OpenTable(VectorTable(name, vectors.shape[1], {}), column, "exact")
