"""What re-ranking a view's best finds of what a full table of the large model gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from indexes.errors import UsageError
from query.engine import Engine

#: Hits that are compared.
HITS = 10


@dataclass(frozen=True)
class Found:
    """Under one condition.

    Attributes:
        condition: that the gallery is embedded under by its large model.
        queries: pictures of the gallery that were asked with.
        by_view: share of the large model's ten nearest that the view's own ten hold.
        reranked: share that the ten hold after re-ranking.
        by_chance: share that as many pictures drawn at random would let be found.
    """

    condition: str
    queries: int
    by_view: float
    reranked: float
    by_chance: float


def bench_reranking(
    engine: Engine,
    count: int,
    method: str,
    queries: int = 100,
    conditions: Sequence[str] = (),
) -> list[Found]:
    """Ask by a view what the gallery has a full table for, and compare.

    Args:
        engine: over a gallery with tables of a large model and base vectors.
        count: how many of the best are ranked again.
        method: the view.
        queries: pictures of the gallery that are asked with, drawn at random.
        conditions: those that are asked for; all of the large model's by default.

    Raises:
        UsageError: if the gallery has no such tables.
    """
    maker = engine.reranker()
    if maker is None:
        raise UsageError(
            f"The gallery at {engine.gallery.path} has no vectors by a large model to compare with."
        )
    full = f"{maker[0].method}:{maker[0].model}"
    found = []
    for condition in conditions or engine.names(full):
        keys = engine.opened(condition, full).keys
        drawn = np.random.default_rng(0).permutation(len(keys))[:queries]
        shares = []
        for row in drawn.tolist():
            want = {h.key for h in engine.search(keys[row], condition, HITS, method=full)}
            ways = (0, count)
            got = [
                {h.key for h in engine.search(keys[row], condition, HITS, method=method, rerank=n)}
                for n in ways
            ]
            shares.append([len(want & own) / max(1, len(want)) for own in got])
        by_view, reranked = np.mean(shares, axis=0).tolist()
        chance = min(1.0, count / max(1, len(keys) - 1))
        found.append(Found(condition, len(drawn), by_view, reranked, chance))
    return found
