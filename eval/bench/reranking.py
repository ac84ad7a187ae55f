"""What re-ranking a view's best finds of what a full table of the large model gives.

The full table stands in for the model: a picture's vector is shown to the re-ranking only when it
would be embedded, so that no pass is made and none is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.labels import Labels, match_files
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
    """Under one condition.

    Attributes:
        condition: that the gallery is embedded under by its large model.
        queries: pictures of the gallery that were asked with.
        by_view: share of the large model's ten nearest that the view's own ten hold.
        reranked: share that the ten hold after re-ranking, where no other question was asked
            before.
        passes: pictures that were embedded for a question, on the mean, besides its own.
        by_chance: share that as many pictures drawn at random would let be found.
        after: as ``reranked``, where others were asked before; ``None`` if that was not measured.
        passes_after: as ``passes``, for these.
        right_by_view: share of the view's ten that have the query's value; ``None`` if its values
            are not known.
        right_reranked: of the ten after re-ranking.
        right_by_table: of the large model's ten.
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
    """Takes from a full table what it would embed."""

    def __init__(self, kept: set[str], *args: Any):
        """Know what was embedded before.

        Args:
            kept: keys of pictures that were; those that are embedded now are added.
            args: of :class:`Reranker`.
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
    """Ask by a view what the gallery has a full table for, and compare.

    Args:
        engine: over a gallery with tables of a large model and base vectors.
        count: how many of the best are ranked again.
        method: the view.
        queries: pictures of the gallery that are asked with, drawn at random.
        conditions: those that are asked for; all of the large model's by default.
        labels: of its pictures, with columns named as conditions.
        earlier: how many other questions come before each of those that are asked a second time;
            0 for no such measurement.
        progress: told what is being done.

    Raises:
        UsageError: if the gallery has no such tables, the label file does not fit it, or there are
            no more questions than shall come earlier.
    """
    model = engine.reranking_model()
    if model is None:
        raise UsageError(
            f"The gallery at {engine.gallery.path} has no vectors by a large model to compare with."
        )
    full = f"{model.spec.method}:{model.spec.model}"
    names = list(conditions or engine.names(full))
    if earlier >= queries:
        raise UsageError(
            f"{queries} questions are not more than the {earlier} that come before; give more "
            "--queries, or fewer --earlier."
        )
    if labels is not None and not any(_column(labels, name) for name in names):
        raise UsageError(
            f"{labels.path} has a column for none of {', '.join(names)} (it has: "
            f"{', '.join(labels.columns)}); name one that has, or leave --labels out."
        )
    found = []
    kind = engine.make_reranker
    try:
        for condition in names:
            progress(f"Measuring {condition}")
            values = _values(engine, labels, condition) if labels is not None else {}
            found.append(
                _measured(engine, count, method, queries, condition, full, values, earlier)
            )
    finally:
        engine.make_reranker = kind
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
        view = engine.search(key, condition, HITS, method=method, rerank=0)
        kept.clear()
        hits, passes = reranked(key)
        shares.append([_share(want, view), _share(want, hits), passes])
        if values.get(key):
            right.append([_right(each, values[key], values) for each in (view, hits, want)])
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
    """How many of some hits others hold, as a share."""
    return len({hit.key for hit in want} & {hit.key for hit in got}) / max(1, len(want))


def _right(hits: Hits, value: str, values: Mapping[str, str]) -> float:
    """The share of hits with a value, of those whose value is known."""
    known = [values[hit.key] == value for hit in hits if values.get(hit.key)]
    return float(np.mean(known)) if known else float("nan")


def _column(labels: Labels, condition: str) -> str:
    """The column of a condition's values, or nothing."""
    return next((name for name in labels.columns if same_name(name, condition)), "")


def _values(engine: Engine, labels: Labels, condition: str) -> dict[str, str]:
    """Content key to value under a condition, of the pictures that a label file knows."""
    column = _column(labels, condition)
    if not column:
        return {}
    keys = {path: key for key, paths in engine.gallery.paths().items() for path in paths}
    matched = match_files(labels.values, keys, labels.path)
    return {keys[path]: labels.values[file][column] for file, path in matched.items()}
