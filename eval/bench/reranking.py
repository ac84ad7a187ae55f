"""Compares re-ranking of a projection's best hits with a full table of the large model.

No model runs: the vectors come from the full table. The re-ranking gets a picture's vector only
when it would have embedded the picture, so that every pass is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.labels import Labels, match_files
from eval.matrix import keys_by_path
from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from indexes.store.records import VectorColumn
from ingest.conditions import same_name
from ingest.fill.pipeline import Progress
from query.engine import Engine
from query.hits import Hits
from query.ranking.reranker import Reranker

#: Hits that are compared.
HITS = 10


@dataclass(frozen=True)
class RerankingQuality:
    """The figures of one condition.

    Attributes:
        condition: the condition under which the gallery is embedded by its large model.
        queries: number of pictures of the gallery that were queries.
        by_view: share of the large model's first ten that the projection's first ten have.
        reranked: share that the first ten have after re-ranking, without queries before.
        passes: mean number of pictures that were embedded for a query, besides the query.
        by_chance: share that could be found in as many pictures drawn at random.
        after: as ``reranked``, after other queries; ``None`` if it was not measured.
        passes_after: as ``passes``, for these.
        right_by_view: share of the projection's first ten that have the query's value; ``None`` if
            the values are not known.
        right_reranked: the same of the first ten after re-ranking.
        right_by_table: the same of the large model's first ten.
    """

    condition: str
    queries: int
    by_view: float
    reranked: float
    passes: float
    by_chance: float
    after: float | None = None
    passes_after: float | None = None
    right_by_view: float | None = None
    right_reranked: float | None = None
    right_by_table: float | None = None


class TableReranker(Reranker):
    """Takes vectors from a full table instead of embedding pictures."""

    def __init__(self, kept: set[str], *args: Any):
        """Begin with the pictures that were embedded before.

        Args:
            kept: keys of these pictures; newly embedded ones are added.
            args: the arguments of :class:`Reranker`.
        """
        super().__init__(*args)
        self._kept = kept

    def table(
        self,
        wanted: Sequence[str],
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> OpenTable | None:
        """See :class:`Reranker`."""
        self._kept.update(wanted)
        full = self._opened.tables.open_table(self.resolved)
        keys = sorted(key for key in self._kept if full.row(key) is not None)
        rows = [row for key in keys if (row := full.row(key)) is not None]
        column = VectorColumn(
            keys,
            full.vectors(np.array(rows, dtype=np.int64)),
            [full.words[row] for row in rows],
            full.word_probabilities[rows],
        )
        return OpenTable(self.resolved.table, column, "exact")


def bench_reranking(
    engine: Engine,
    count: int,
    method: str,
    queries: int = 100,
    conditions: Sequence[str] = (),
    labels: Labels | None = None,
    earlier: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> list[RerankingQuality]:
    """Search by a projection under conditions with a full table, and compare the hits.

    Args:
        engine: over a gallery with tables of a large model and base vectors.
        count: number of best hits that are ranked again.
        method: the projection.
        queries: number of pictures of the gallery that are queries, drawn at random.
        conditions: the conditions to measure; all conditions of the large model by default.
        labels: the labels of the pictures, with columns named as conditions.
        earlier: other queries before each query that is measured again; 0 to leave that out.
        progress: called with the name of each step.

    Raises:
        UsageError: if the gallery has no such tables, the label file does not fit it, or
            ``earlier`` is not less than ``queries``.
    """
    model = engine.reranking_model()
    if model is None:
        raise UsageError(
            f"The gallery at {engine.gallery.path} has no vectors of a large model to compare "
            "with; make them with `cies ingest --model`."
        )
    full = f"{model.spec.method}:{model.spec.model}"
    names = list(conditions or engine.names(full))
    if earlier >= queries:
        raise UsageError(
            f"--queries {queries} must be more than --earlier {earlier}; give more --queries, or "
            "fewer --earlier."
        )
    if labels is not None and not any(_column(labels, name) for name in names):
        raise UsageError(
            f"{labels.path} has no column for {', '.join(names)} (it has: "
            f"{', '.join(labels.columns)}); name another -c, or leave --labels out."
        )
    found = []
    usual = engine.make_reranker
    try:
        for condition in names:
            progress(f"Measuring {condition}")
            values = _values(engine, labels, condition) if labels is not None else {}
            found.append(
                _measured(engine, count, method, queries, condition, full, values, earlier)
            )
    finally:
        engine.make_reranker = usual
    return found


def _measured(
    engine: Engine,
    count: int,
    method: str,
    queries: int,
    condition: str,
    full: str,
    values: Mapping[str, str],
    earlier: int,
) -> RerankingQuality:
    keys = engine.opened(condition, full).keys
    drawn = [keys[row] for row in np.random.default_rng(0).permutation(len(keys))[:queries]]
    kept: set[str] = set()
    engine.make_reranker = lambda *args: TableReranker(kept, *args)

    def reranked(key: str) -> tuple[Hits, int]:
        before = {*kept, key}
        hits = engine.search(key, condition, HITS, method=method, rerank=count)
        return hits, len(kept - before)

    shares, right, after = [], [], []
    for key in drawn:
        want = engine.search(key, condition, HITS, method=full)
        projected = engine.search(key, condition, HITS, method=method, rerank=0)
        kept.clear()
        hits, passes = reranked(key)
        shares.append([_share(want, projected), _share(want, hits), passes])
        if values.get(key):
            right.append([_right(each, values[key], values) for each in (projected, hits, want)])
    for end in range(earlier, len(drawn), earlier + 1) if earlier else ():
        kept.clear()
        for key in drawn[end - earlier : end]:
            reranked(key)
        hits, passes = reranked(drawn[end])
        want = engine.search(drawn[end], condition, HITS, method=full)
        after.append([_share(want, hits), passes])
    by_view, by_reranking, passed = np.mean(shares, axis=0).tolist()
    later = np.mean(after, axis=0).tolist() if after else [None, None]
    correct = np.nanmean(right, axis=0).tolist() if right else [None] * 3
    chance = min(1.0, count / max(1, len(keys) - 1))
    return RerankingQuality(
        condition, len(drawn), by_view, by_reranking, passed, chance, *later, *correct
    )


def _share(want: Hits, got: Hits) -> float:
    """Share of the wanted hits that others have."""
    return len({hit.key for hit in want} & {hit.key for hit in got}) / max(1, len(want))


def _right(hits: Hits, value: str, values: Mapping[str, str]) -> float:
    """Share of hits with a value, among hits whose value is known."""
    known = [values[hit.key] == value for hit in hits if values.get(hit.key)]
    return float(np.mean(known)) if known else float("nan")


def _column(labels: Labels, condition: str) -> str:
    """The column of a condition's values, or an empty text."""
    return next((name for name in labels.columns if same_name(name, condition)), "")


def _values(engine: Engine, labels: Labels, condition: str) -> dict[str, str]:
    """Content key to value of a condition, for the pictures of a label file."""
    column = _column(labels, condition)
    if not column:
        return {}
    keys = keys_by_path(engine)
    matched = match_files(labels.values, keys, labels.path)
    return {keys[path]: labels.values[file][column] for file, path in matched.items()}
