"""Figures, and the single queries behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Figure:
    """One number of a report.

    Attributes:
        task: name.
        system: name.
        row: the condition searched under, or the part of a query task.
        judge: the label judged by; of query tasks empty.
        metric: name.
        value: 0 to 1, the mean over queries, or of a balanced metric over classes.
        low: lower end of the 95 % bootstrap interval.
        high: its upper end.
        chance: expectation under a random ranking.
        queries: how many had something to find.
        own: whether the label is what the condition asks for; of query tasks true.
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
    def cell(self) -> tuple[str, str, str]:
        """Row, judge and metric: what is compared between systems."""
        return self.row, self.judge, self.metric


@dataclass(frozen=True)
class Single:
    """A metric of single queries.

    Attributes:
        numbers: int64 [n], of the queries in their order: of a label task in the order of those
            asked, of a query task in its own.
        values: float64 [n].
        chance: float64 [n].
        classes: [n], the label of each query, for balanced means and for resampling.
    """

    numbers: NDArray[np.int64]
    values: NDArray[np.float64]
    chance: NDArray[np.float64]
    classes: NDArray[np.str_]
