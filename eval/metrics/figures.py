"""Figures of a report, and the scores of the single queries they are means of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Row, judge and metric of a figure.
FigureKey = tuple[str, str, str]


@dataclass(frozen=True)
class Figure:
    """One figure of a report: a mean over queries.

    Attributes:
        task: name.
        system: name.
        row: the condition searched under, or the part of a query task.
        judge: the label judged by; empty for query tasks.
        metric: name.
        value: 0 to 1, the mean over queries, or over classes for a balanced metric.
        low: lower end of the 95 % bootstrap interval.
        high: upper end of it.
        chance: expectation under a random ranking.
        queries: number of queries with a right answer.
        own: whether the label is what the condition asks for; true for query tasks.
    """

    task: str
    system: str
    row: str
    judge: str
    metric: str
    value: float
    low: float
    high: float
    chance: float
    queries: int
    own: bool = True

    @property
    def corrected(self) -> float:
        """(value - chance) / (1 - chance): 0 is chance, 1 is perfect."""
        return (self.value - self.chance) / (1 - self.chance) if self.chance < 1 else 0.0

    @property
    def key(self) -> FigureKey:
        """Row, judge and metric: what is compared between systems."""
        return self.row, self.judge, self.metric


@dataclass(frozen=True)
class QueryScores:
    """A metric of single queries.

    Attributes:
        numbers: int64 [n], numbers of the queries: in a label task in the order of its queries
            with a known label, in a query task in the task's order.
        values: float64 [n].
        chance: float64 [n], expectation under a random ranking.
        classes: [n], the label of each query, for balanced means and for resampling.
    """

    numbers: NDArray[np.int64]
    values: NDArray[np.float64]
    chance: NDArray[np.float64]
    classes: NDArray[np.str_]
