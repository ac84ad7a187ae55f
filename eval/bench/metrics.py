"""Time and memory to measure a whole gallery against itself."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

import numpy as np

from eval.bench.search.vectors import mixture
from eval.metrics.blocks import by_value, itself, judge_all
from eval.metrics.names import metric

#: Metrics of the whole rankings.
NAMES = ("P@1", "R-precision", "MAP@R", "MAP")

#: Queries of the plain way, which is too slow for all of them.
_PLAIN = 64


@dataclass(frozen=True)
class MetricsSpeed:
    """The figures of one run.

    Attributes:
        vectors: number of vectors, ranked against each other.
        dimension: the dimension of each vector.
        labels: number of distinct labels, drawn uniformly.
        seconds: for all metrics over all queries.
        cpu_seconds: processor time of all threads, which other work does not change.
        plain_seconds: processor time of scores and argsort of whole rows alone, estimated from
            some queries.
        peak_megabytes: peak resident memory of this process, with the vectors.
        matrix_megabytes: memory of all ranks for all queries as int64, which evaluators that rank
            everything at once need.
        values: metric's name to its mean.
        chance: metric's name to its chance level.
    """

    vectors: int
    dimension: int
    labels: int
    seconds: float
    cpu_seconds: float
    plain_seconds: float
    peak_megabytes: float
    matrix_megabytes: float
    values: dict[str, float]
    chance: dict[str, float]


def measure_metrics(vectors: int, dimension: int, labels: int, seed: int) -> MetricsSpeed:
    """Rank generated vectors against each other, without the query, and measure.

    Args:
        vectors: number of vectors.
        dimension: the dimension of each vector.
        labels: number of distinct labels.
        seed: the seed of vectors and labels.
    """
    rows = mixture(vectors, dimension, seed)
    values = np.random.default_rng([13, seed]).integers(0, labels, vectors)
    measured = [metric(name) for name in NAMES]
    started, used = time.perf_counter(), time.process_time()
    judged = judge_all(rows, rows, {"": by_value(values)}, measured, itself)[""]
    seconds, used = time.perf_counter() - started, time.process_time() - used
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    plain = min(_PLAIN, vectors)
    started = time.process_time()
    np.argsort(-(rows[:plain] @ rows.T), axis=1)
    plain_seconds = (time.process_time() - started) * vectors / plain
    return MetricsSpeed(
        vectors,
        dimension,
        labels,
        seconds,
        used,
        plain_seconds,
        peak,
        vectors * (vectors - 1) * 8 / 1e6,
        {name: float(judged.values[name].mean()) for name in NAMES},
        {name: float(judged.chance[name].mean()) for name in NAMES},
    )
