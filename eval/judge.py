"""The one judge of embeddings by labels.

`cies eval`, `cies bench methods` and the label tasks of `cies bench NAME` rank and measure here.
Equal scores count in expectation over all their orders (:mod:`eval.metrics.ranked`), and every
mean comes with its exact chance level and a 95 % bootstrap interval over queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics.blocks import RowsOfQuery, by_labels, judge_all
from eval.metrics.clustering import ClusterAgreement
from eval.metrics.figures import QueryScores
from eval.metrics.formulas import balanced_mean, triplet_accuracy
from eval.metrics.names import Metric, metric
from eval.metrics.statistics import bounds
from indexes.search.multi_vector import split
from indexes.vectors import Vectors
from ingest.conditions import same_name

#: Metrics of a label matrix: the name that is shown, and the name in :mod:`eval.metrics.names`.
MATRIX_METRICS = {
    "P@1": "P@1",
    "precision@10": "precision@10",
    "recall@10": "recall@10 (hit)",
    "MAP@R": "MAP@R",
    "balanced MAP@R": "balanced MAP@R",
}

#: Pictures' ids to their vectors under one condition: float32 [pictures, dim], unit rows.
VectorsOf = Callable[[Sequence[str]], Vectors]

_BALANCED = "balanced "


@dataclass(frozen=True)
class MetricMean:
    """The mean of a metric over queries.

    Attributes:
        value: 0 to 1.
        chance: expectation under a random ranking, 0 to 1.
        low: lower end of the 95 % bootstrap interval of ``value``.
        high: its upper end.
    """

    value: float
    chance: float
    low: float
    high: float

    @property
    def corrected(self) -> float:
        """(value - chance) / (1 - chance): 0 is chance, 1 is perfect."""
        return (self.value - self.chance) / (1 - self.chance) if self.chance < 1 else 0.0

    def to_json(self) -> dict[str, Any]:
        """For documents."""
        return {
            "value": self.value,
            "chance": self.chance,
            "corrected": self.corrected,
            "interval": [self.low, self.high],
        }


def mean_of(scores: QueryScores, balanced: bool = False, seed: int = 0) -> MetricMean:
    """The mean over queries, or over classes of the mean over each class's queries.

    Args:
        scores: the scores of single queries.
        balanced: whether every class counts alike, however common it is.
        seed: the seed of the resampling.
    """
    low, high = bounds(scores.values, scores.classes if balanced else None, seed)
    if balanced:
        value = balanced_mean(scores.values, scores.classes)
        return MetricMean(value, balanced_mean(scores.chance, scores.classes), low, high)
    return MetricMean(float(scores.values.mean()), float(scores.chance.mean()), low, high)


@dataclass(frozen=True)
class LabelJudge:
    """Judges vectors of labelled pictures by their labels.

    Every query ranks the gallery by cosine, without itself. A picture is right that shares a value
    of the label with the query. Pictures without a value of a label are neither queries nor
    candidates under it.

    Attributes:
        pictures: ids.
        labels: label's name to picture's id to its values, one or several.
        queries: ids that are queries; ``None`` for all pictures.
        gallery: ids that are ranked; ``None`` for all pictures.
        groups: picture's id to the thing it shows; other pictures of the query's thing are not
            ranked. A picture without an entry is alone.
    """

    pictures: Sequence[str]
    labels: Mapping[str, Mapping[str, tuple[str, ...]]]
    queries: Sequence[str] | None = None
    gallery: Sequence[str] | None = None
    groups: Mapping[str, str] | None = None

    def query_ids(self, label: str) -> list[str]:
        """The queries under a label, in their order."""
        known = self.labels[label]
        return [key for key in self.queries or self.pictures if known.get(key)]

    def scores(
        self,
        vectors_of: VectorsOf,
        metrics: Sequence[Metric],
        labels: Sequence[str] | None = None,
        parts: int = 1,
    ) -> Iterator[tuple[str, dict[str, QueryScores]]]:
        """Rank and measure by each label.

        Args:
            vectors_of: gives pictures' vectors under one condition.
            metrics: the metrics to measure.
            labels: the labels to judge by; all by default.
            parts: vectors in each row, of which the best counts: see
                :mod:`indexes.search.multi_vector`.

        Yields:
            A label under which a query has something to find, and metric's name to the scores of
            single queries.
        """
        # Labels known for the same pictures share their rankings.
        alike: dict[tuple[str, ...], list[str]] = {}
        for label in self.labels if labels is None else labels:
            known = self.labels[label]
            pictures = tuple(key for key in self.pictures if known.get(key))
            alike.setdefault(pictures, []).append(label)
        for keys, names in alike.items():
            yield from self._ranked(set(keys), names, vectors_of, metrics, parts)

    def _ranked(
        self,
        known: set[str],
        labels: Sequence[str],
        vectors_of: VectorsOf,
        metrics: Sequence[Metric],
        parts: int,
    ) -> Iterator[tuple[str, dict[str, QueryScores]]]:
        queries = [key for key in self.queries or self.pictures if key in known]
        gallery = [key for key in self.gallery or self.pictures if key in known]
        if not queries or len(gallery) < 2:
            return
        asked = vectors_of(queries)
        ranked = asked if queries == gallery else vectors_of(gallery)
        right = {
            label: by_labels(
                [self.labels[label][key] for key in queries],
                [self.labels[label][key] for key in gallery],
            )
            for label in labels
        }
        left_out = self._left_out(queries, gallery)
        judged = judge_all(asked, ranked, right, metrics, left_out, parts=parts)
        for label, found in judged.items():
            if len(found.queries):
                values = self.labels[label]
                classes = np.array(["|".join(values[queries[n]]) for n in found.queries])
                yield (
                    label,
                    {
                        name: QueryScores(found.queries, scores, found.chance[name], classes)
                        for name, scores in found.values.items()
                    },
                )

    def _left_out(self, queries: Sequence[str], gallery: Sequence[str]) -> RowsOfQuery:
        """Rows that are not ranked for a query: itself, and other pictures of its thing."""
        place = {key: row for row, key in enumerate(gallery)}
        groups = self.groups or {}
        rows: dict[str, list[int]] = {}
        for key, row in place.items():
            if key in groups:
                rows.setdefault(groups[key], []).append(row)
        members = {group: np.array(found, dtype=np.int64) for group, found in rows.items()}
        nothing = np.empty(0, dtype=np.int64)

        def left_out(query: int) -> NDArray[np.integer]:
            key = queries[query]
            if key in groups:
                return members.get(groups[key], nothing)
            return np.array([place[key]]) if key in place else nothing

        return left_out


@dataclass(frozen=True)
class LabelCell:
    """One condition judged by one label.

    Attributes:
        condition: the condition under which the pictures are embedded.
        label: the label that says which pictures are right.
        own: whether the label is what the condition asks for.
        queries: pictures whose label is known and shared by another picture.
        metrics: name, of :data:`MATRIX_METRICS` or fewer, to the mean.
        clusters: NMI and AMI of the pictures with the label; ``None`` if they were not measured.
    """

    condition: str
    label: str
    own: bool
    queries: int
    metrics: Mapping[str, MetricMean]
    clusters: ClusterAgreement | None = None


@dataclass(frozen=True)
class LabelMatrix:
    """Every condition judged by every label.

    Attributes:
        cells: condition by condition, in the order of the labels.
    """

    cells: tuple[LabelCell, ...]

    @property
    def conditions(self) -> tuple[str, ...]:
        """The rows."""
        return tuple(dict.fromkeys(cell.condition for cell in self.cells))

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(dict.fromkeys(cell.label for cell in self.cells))

    def cell(self, condition: str, label: str) -> LabelCell:
        """One cell by its names."""
        return next(c for c in self.cells if (c.condition, c.label) == (condition, label))

    @property
    def own(self) -> float:
        """Mean MAP@R of the conditions under their own labels."""
        return float(np.mean([cell.metrics["MAP@R"].value for cell in self.cells if cell.own]))

    @property
    def leakage(self) -> float:
        """Mean MAP@R over chance of the conditions under all other labels."""
        others = [cell.metrics["MAP@R"].corrected for cell in self.cells if not cell.own]
        return float(np.mean(others))


def judge_conditions(
    judge: LabelJudge,
    conditions: Iterable[tuple[str, VectorsOf]],
    metrics: Sequence[str] = tuple(MATRIX_METRICS),
    parts: int = 1,
) -> LabelMatrix:
    """Judge vectors under every condition by every label.

    Args:
        judge: knows the pictures and their labels.
        conditions: names, each with what gives the vectors under it.
        metrics: keys of :data:`MATRIX_METRICS`.
        parts: as for :meth:`LabelJudge.scores`.
    """
    plain = dict.fromkeys(MATRIX_METRICS[name].removeprefix(_BALANCED) for name in metrics)
    measured = [metric(name) for name in plain]
    cells = []
    for condition, vectors_of in conditions:
        judged = dict(judge.scores(vectors_of, measured, parts=parts))
        for label in (name for name in judge.labels if name in judged):
            scores = judged[label]
            means = {
                name: mean_of(
                    scores[MATRIX_METRICS[name].removeprefix(_BALANCED)], name.startswith(_BALANCED)
                )
                for name in metrics
            }
            queries = len(next(iter(scores.values())).numbers)
            own = same_name(condition, label)
            cells.append(LabelCell(condition, label, own, queries, means))
    return LabelMatrix(tuple(cells))


def judge_triplets(vectors: Vectors, triplets: NDArray[np.int64], parts: int = 1) -> MetricMean:
    """Triplet accuracy: the share of queries that are nearer to the positive than the negative.

    Ties count one half. A similarity that ignores the condition has 0.5.

    Args:
        vectors: float32 [n, dim], unit rows.
        triplets: int64 [triplets, 3], rows of query, positive and negative; at least one triplet.
        parts: as for :meth:`LabelJudge.scores`.
    """
    near = _likeness(vectors, triplets[:, 0], triplets[:, 1], parts)
    far = _likeness(vectors, triplets[:, 0], triplets[:, 2], parts)
    right = triplet_accuracy(near, far)
    low, high = bounds(right, None, 0)
    return MetricMean(float(right.mean()), 0.5, low, high)


def _likeness(
    vectors: Vectors, queries: NDArray[np.int64], others: NDArray[np.int64], parts: int
) -> NDArray[np.float32]:
    """Cosine of each pair of rows, of several parts with the best one: float32 [pairs]."""
    if parts == 1:
        cosines: NDArray[np.float32] = np.einsum("nd,nd->n", vectors[queries], vectors[others])
        return cosines
    whole = split(vectors[queries], parts)[:, 0]
    best: NDArray[np.float32] = np.einsum("nd,npd->np", whole, split(vectors[others], parts)).max(1)
    return best
