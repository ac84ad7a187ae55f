"""Speed, recall and size of every index, compared with plain NumPy, FAISS and LanceDB."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from eval.bench.search.plain import K, SearchCall, faiss_flat, lancedb_scan, numpy_search
from eval.bench.search.vectors import mixture
from indexes.errors import CiesError, UsageError
from indexes.search.base import ExactIndex
from indexes.search.open_table import OpenTable
from indexes.search.table_loader import TableLoader
from indexes.vectors import Vectors, unit
from query.engine import Engine

#: Kinds of indexes that are measured in one run.
KINDS = ("exact", "faiss", "ivf", "hnsw", "pq", "lance")

#: The baselines.
PLAIN = (("numpy", numpy_search), ("faiss-flat", faiss_flat), ("lancedb", lancedb_scan))

#: Shares of the gallery that pass the filters.
SHARES = (0.01, 0.1, 0.5)

#: Number of queries, and the sizes of batches.
QUERIES = 1000
BATCHES = (100, 1000)

#: Most seconds for one figure, once it was taken three times.
_SECONDS = 5.0

#: Seconds after which fewer than three calls must do.
_PATIENCE = 30.0

#: New processes for one figure.
_COLD_RUNS = 3

#: Length of the noise that makes queries of a gallery's vectors.
_PERTURBED = 0.3

_TIE = 1e-5


@dataclass(frozen=True)
class SearchSpeed:
    """The figures of one way to search.

    Attributes:
        way: an index of CIES by name, or ``numpy``, ``faiss-flat``, ``lancedb``.
        made_as: FAISS factory string, or library.
        build_seconds: to build it from vectors in memory (baselines) or from the cached rows.
        megabytes: on the disk; an index of CIES counts the cached rows, which all share, too.
        recall_at_10: against exact search in float32, over held-out queries, ties counted as found.
        p50_ms: median time of a single query.
        p95_ms: 95th percentile of it.
        batch_ms: size of a batch to the median time.
        cold_ms: from the start of a new process to its first answer, median of three.
    """

    way: str
    made_as: str
    build_seconds: float
    megabytes: float
    recall_at_10: float
    p50_ms: float
    p95_ms: float
    batch_ms: dict[int, float]
    cold_ms: float


@dataclass(frozen=True)
class FilteredSpeed:
    """An exact search in a share of the gallery.

    Attributes:
        share: the share of the pictures that pass the filter.
        p50_ms: median time of a single query.
        over_unfiltered: this time over that of an exact search in all pictures.
    """

    share: float
    p50_ms: float
    over_unfiltered: float


@dataclass(frozen=True)
class SearchFigures:
    """All figures of a run.

    Attributes:
        vectors: number of vectors in the gallery.
        dimension: the dimension of each vector.
        rows_seconds: to cache the rows of the gallery's table.
        rows_megabytes: the size of the cached rows.
        lines: one entry a way.
        filtered: one entry a share.
    """

    vectors: int
    dimension: int
    rows_seconds: float
    rows_megabytes: float
    lines: list[SearchSpeed]
    filtered: list[FilteredSpeed]


def bench_search(
    engine: Engine,
    condition: str,
    seed: int | None,
    progress: Callable[[str], None] = lambda line: None,
    kinds: Sequence[str] = (),
) -> SearchFigures:
    """Measure indexes over one condition of a gallery.

    The gallery's choice of an index is restored afterwards, and new indexes are removed.

    Args:
        engine: over the gallery.
        condition: the condition of the gallery.
        seed: of the generated vectors of the gallery; ``None`` for a gallery of pictures, where
            queries are its own vectors with noise.
        progress: called with the name of each step.
        kinds: of indexes, of :data:`indexes.search.factory.KINDS` or FAISS factory strings; those
            of :data:`KINDS` by default.

    Raises:
        UsageError: if there are fewer than 20 pictures, or there is no such kind.
        CiesError: if the gallery cannot be written to.
    """
    table_loader = engine.table_loader(condition)
    before = table_loader.choice
    kinds_before = {built.kind for built in table_loader.known()}
    progress("Caching rows")
    began = time.perf_counter()
    table_loader.build("exact")
    rows_seconds = time.perf_counter() - began
    try:
        exact = table_loader.open("exact")
        queries = _queries(exact, seed)
        least = _least(exact, queries)
        lines = []
        for kind in kinds or KINDS:
            progress(f"Measuring {kind}")
            line = _measure_index(engine, table_loader, condition, kind, queries, least)
            if line is not None:
                lines.append(line)
        filtered = _filtered(exact, queries)
        vectors = exact.vectors(np.arange(len(exact)))
        del exact
        lines += _measure_baselines(vectors, queries, least, progress)
        rows_megabytes = table_loader.rows_bytes() / 1e6
        count, dimension = vectors.shape
        return SearchFigures(count, dimension, rows_seconds, rows_megabytes, lines, filtered)
    finally:
        table_loader.choose(before)
        table_loader.forget({built.kind for built in table_loader.known()} - kinds_before)


def _queries(table: OpenTable, seed: int | None) -> Vectors:
    dimension = table.vectors(np.arange(1)).shape[1]
    if seed is not None:
        return mixture(QUERIES, dimension, seed + 1)
    random = np.random.default_rng(3)
    own = table.vectors(random.integers(0, len(table), QUERIES))
    noise = random.standard_normal(own.shape, dtype=np.float32) / np.sqrt(dimension)
    return unit(own + np.float32(_PERTURBED) * noise.astype(np.float32))


def _least(table: OpenTable, queries: Vectors) -> Vectors:
    """Score of each query's tenth neighbour, by exact search: float32 [queries, 1]."""
    found = np.empty((len(queries), 1), dtype=np.float32)
    for start in range(0, len(queries), 25):
        scores = table.scores(queries[start : start + 25])
        found[start : start + 25, 0] = np.partition(scores, -K, axis=1)[:, -K]
    return found


def _measure_index(
    engine: Engine,
    table_loader: TableLoader,
    condition: str,
    kind: str,
    queries: Vectors,
    least: Vectors,
) -> SearchSpeed | None:
    try:
        built = table_loader.build(kind)
    except UsageError:
        raise  # the kind is unknown; a missing library is another error
    except CiesError as error:
        print(f"{kind} is left out: {error}", file=sys.stderr)  # noqa: T201
        return None
    table = table_loader.open(kind)
    p50, p95, batches, recall = _time_queries(lambda asked: table.search(asked, K), queries, least)
    key = table.keys[len(table) // 2]
    cold = _cold("cies", str(engine.gallery.path), condition, kind, key)
    return SearchSpeed(
        way=kind,
        made_as=(built.factory or built.library) if built is not None else "numpy fp32",
        build_seconds=built.build_seconds if built is not None else 0.0,
        megabytes=(table_loader.rows_bytes() + (built.bytes if built is not None else 0)) / 1e6,
        recall_at_10=recall,
        p50_ms=p50,
        p95_ms=p95,
        batch_ms=batches,
        cold_ms=cold,
    )


def _measure_baselines(
    vectors: Vectors, queries: Vectors, least: Vectors, progress: Callable[[str], None]
) -> list[SearchSpeed]:
    """Measure the baselines."""
    lines = []
    with TemporaryDirectory(prefix="cies-bench-") as made:
        place = Path(made)
        asked = place / "query.npy"
        np.save(asked, queries[:1])
        for way, make in PLAIN:
            progress(f"Measuring {way}")
            try:
                began = time.perf_counter()
                ask, file, version = make(vectors, place)
                seconds = time.perf_counter() - began
            except ImportError as error:
                print(f"{way} is left out: {error}", file=sys.stderr)  # noqa: T201
                continue
            p50, p95, batches, recall = _time_queries(ask, queries, least, vectors)
            size = sum(p.stat().st_size for p in [file, *file.rglob("*")] if p.is_file())
            cold = _cold(way, str(file), str(asked))
            lines.append(
                SearchSpeed(way, version, seconds, size / 1e6, recall, p50, p95, batches, cold)
            )
            del ask
    return lines


def _time_queries(
    ask: SearchCall, queries: Vectors, least: Vectors, vectors: Vectors | None = None
) -> tuple[float, float, dict[int, float], float]:
    """Milliseconds of single queries (p50, p95) and of batches, and the recall.

    Args:
        ask: runs a search.
        queries: float32 [n, dim].
        least: float32 [n, 1], score of the tenth neighbour.
        vectors: to compute the scores from, if those of ``ask`` are not exact.
    """
    for warm in range(3):
        ask(queries[warm : warm + 1])
    singles = _timed(lambda n: ask(queries[n % len(queries)][None]), 200)
    batches = {}
    answers: list[tuple[NDArray[np.int64], Vectors]] = []
    for size in BATCHES:
        times = _timed(lambda n, size=size: answers.append(ask(queries[:size])), 5)  # type: ignore[misc]
        batches[size] = 1000 * statistics.median(times)
    rows, scores = answers[-1]
    if vectors is not None:
        scores = np.einsum("nkd,nd->nk", vectors[rows], queries[: len(rows)])
    recall = float((scores >= least[: len(rows)] - _TIE).mean())
    return (
        1000 * statistics.median(singles),
        1000 * float(np.percentile(singles, 95)),
        batches,
        recall,
    )


def _timed(work: Callable[[int], object], most: int) -> list[float]:
    """Seconds of each call: ``most`` calls or as many as fit in the time, but at least three.

    A call that alone takes several times as long is made once.
    """
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < most:
        spent = time.perf_counter() - began
        if spent >= (_SECONDS if len(times) >= 3 else _PATIENCE):
            break
        start = time.perf_counter()
        work(len(times))
        times.append(time.perf_counter() - start)
    return times


def _filtered(table: OpenTable, queries: Vectors) -> list[FilteredSpeed]:
    random = np.random.default_rng(5)
    table.search(queries[:1], K)
    base = statistics.median(
        _timed(lambda n: table.search(queries[n % len(queries)][None], K), 100)
    )
    found = []
    for share in SHARES:
        allowed = random.random(len(table)) < share

        def ask(n: int, allowed: NDArray[np.bool_] = allowed) -> object:
            return table.search(queries[n % len(queries)][None], K, allowed)

        median = statistics.median(_timed(ask, 100))
        found.append(FilteredSpeed(share, 1000 * median, median / base))
        _check_filtered(table, queries[:3], allowed)
    return found


def _check_filtered(table: OpenTable, queries: Vectors, allowed: NDArray[np.bool_]) -> None:
    """Check that a filtered search is exact; its time would mean nothing otherwise."""
    rows, scores = table.search(queries, K, allowed)
    among = np.flatnonzero(allowed)
    _, truth = ExactIndex(table.vectors(among)).search(queries, K)
    if not allowed[rows].all() or np.abs(scores - truth).max() > _TIE:
        raise AssertionError("a filtered search was not exact")


def _cold(*words: str) -> float:
    """Milliseconds from the start of a new process to its first answer: median of three."""
    times = []
    for _ in range(_COLD_RUNS):
        started = time.time()
        done = subprocess.run(
            [sys.executable, "-m", "eval.bench.search.cold", *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if done.returncode:
            raise CiesError(f"A new process could not search: {done.stderr.strip()[-300:]}")
        times.append(1000 * (float(done.stdout) - started))
    return statistics.median(times)
