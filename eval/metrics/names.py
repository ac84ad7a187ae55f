"""Metrics by the names that reports print, each with its exact definition."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from eval.metrics.formulas import (
    Scores,
    average_precision,
    average_precision_at,
    average_precision_at_r,
    capped_recall_at,
    hit_rate,
    modified_precision_at,
    ndcg,
    precision_at,
    r_precision,
    reciprocal_rank,
    true_recall_at,
)
from eval.metrics.ranked import Counts, Ranked
from indexes.errors import UsageError

_TIES = "Equal scores count in expectation over all their orders."
_BALANCED = "balanced "


@dataclass(frozen=True)
class Metric:
    """One metric, with its k.

    Attributes:
        name: as asked for, such as ``recall@10 (hit)``.
        definition: in words and formulas, for reports.
        k: places that count; ``None`` if the name has none.
        balanced: whether its mean is over classes
            (:func:`eval.metrics.formulas.balanced_mean`) and not over queries.
    """

    name: str
    definition: str
    k: int | None
    balanced: bool
    _of: Callable[[Ranked], Scores]
    _places: Callable[[Ranked], Counts]

    def __call__(self, ranked: Ranked) -> Scores:
        """Return the metric of each query: float64 [queries].

        Raises:
            ValueError: if a cut list is too short for the metric.
        """
        needed = np.minimum(self._places(ranked), ranked.others)
        short = (ranked.reach < needed) & (ranked.found < ranked.relevant)
        if short.any():
            at = int(np.argmax(short))
            raise ValueError(
                f"{self.name} needs {needed[at]} places of query {at}, and {ranked.reach[at]} are "
                "known"
            )
        return self._of(ranked)

    def chance(self, ranked: Ranked) -> Scores:
        """Return the expectation under a random ranking of the candidates: float64 [queries]."""
        return self._of(ranked.by_chance())


def metric(name: str) -> Metric:
    """Return a metric by its name.

    Args:
        name: one of :func:`names` with a number of places for ``k``; with the prefix
            ``balanced `` for the mean over classes.

    Raises:
        UsageError: if there is no such metric, or the kind of recall is not named.
    """
    plain = name.removeprefix(_BALANCED)
    number = re.search(r"@([1-9][0-9]*)(?= |$)", plain)
    k = int(number[1]) if number else None
    family = plain.replace(f"@{k}", "@k") if number and plain not in _FAMILIES else plain
    if family == "recall@k":
        recalls = ", ".join(f"'{name} ({kind})'" for kind in ("hit", "true", "capped"))
        raise UsageError(f"'{name}' has three meanings; name one of {recalls}.")
    if family not in _FAMILIES or (k is None and "@k" in family):
        raise UsageError(f"There is no metric '{name}'; choose one of {', '.join(names())}.")
    definition, of, places = _FAMILIES[family]
    if k is not None:
        definition = re.sub(r"\bk\b", str(k), definition)
    if name != plain:
        definition += " Mean over the classes of the mean over each class's queries."
    return Metric(
        name,
        f"{definition} {_TIES}",
        k,
        name != plain,
        lambda ranked: of(ranked, k or 0),
        lambda ranked: np.broadcast_to(np.asarray(places(ranked, k or 0)), (len(ranked),)),
    )


def names() -> list[str]:
    """Return the names of all metrics, with ``k`` for a number of places."""
    return list(_FAMILIES)


def _k(ranked: Ranked, k: int) -> int:
    return k


def _r(ranked: Ranked, k: int) -> Counts:
    return ranked.relevant


def _all(ranked: Ranked, k: int) -> Counts:
    return ranked.others


_HIT = "Share of queries with a right answer among the first k (hit rate)."
_CUT = "Sum of P(i) rel(i) for i up to k, over min(k, R)."

_FAMILIES: Mapping[
    str, tuple[str, Callable[[Ranked, int], Scores], Callable[[Ranked, int], int | Counts]]
] = {
    "P@1": (
        "Share of queries whose nearest is right (R@1 of metric learning).",
        lambda ranked, k: hit_rate(ranked, 1),
        lambda ranked, k: 1,
    ),
    "precision@k": ("Right answers among the first k, over k.", precision_at, _k),
    "R@k": (_HIT[:-1] + ", as composed retrieval names it.", hit_rate, _k),
    "recall@k (hit)": (_HIT, hit_rate, _k),
    "recall@k (true)": ("Right answers among the first k, over R.", true_recall_at, _k),
    "recall@k (capped)": (
        "Right answers among the first k, over min(k, R).",
        capped_recall_at,
        _k,
    ),
    "subset recall@k": (
        "Share of queries with the target among the first k of its own group, the reference left "
        "out (CIRR).",
        hit_rate,
        _k,
    ),
    "mMP@k": (
        "P(min(k, R)): right answers among the first min(k, R), over as many (UnED).",
        modified_precision_at,
        lambda ranked, k: np.minimum(k, ranked.relevant),
    ),
    "R-precision": ("P(R).", lambda ranked, k: r_precision(ranked), _r),
    "MAP@R": (
        "Sum of P(i) rel(i) for i up to R, over R.",
        lambda ranked, k: average_precision_at_r(ranked),
        _r,
    ),
    "MAP": (
        "Sum of P(i) rel(i) over the whole ranking, over R.",
        lambda ranked, k: average_precision(ranked),
        _all,
    ),
    "mAP@k": (_CUT, average_precision_at, _k),
    "AP@k": (
        _CUT[:-1] + " (INQUIRE: the mean of P(i) over the hits of the first k, times hits over "
        "min(k, R), which is the same).",
        average_precision_at,
        _k,
    ),
    "MRR": ("1 over the place of the first right answer.", lambda r, k: reciprocal_rank(r), _all),
    "MRR@k": (
        "1 over the place of the first right answer, 0 beyond place k.",
        reciprocal_rank,
        _k,
    ),
    "nDCG": (
        "Sum of gain(i) / log2(i + 1), over the same of the best order.",
        lambda ranked, k: ndcg(ranked),
        _all,
    ),
    "nDCG@k": (
        "Sum of gain(i) / log2(i + 1) for i up to k, over the same of the best order.",
        ndcg,
        _k,
    ),
}
