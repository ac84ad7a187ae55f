"""How fast, how right and how large each index is, beside NumPy, FAISS and LanceDB used plainly."""

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

from eval.bench.search.plain import Ask, K, faiss_flat, lancedb_scan, numpy_search
from eval.bench.search.vectors import mixture
from indexes.errors import CiesError, UsageError
from indexes.search.base import ExactIndex
from indexes.search.open_table import OpenTable
from indexes.search.table_loader import TableLoader
from indexes.vectors import Vectors, unit
from query.engine import Engine

#: The kinds measured, each beside the others in one run.
KINDS = ("exact", "faiss", "ivf", "hnsw", "pq", "lance")

#: What ours is compared with.
PLAIN = (("numpy", numpy_search), ("faiss-flat", faiss_flat), ("lancedb", lancedb_scan))

#: Shares of the gallery that filters let through.
SHARES = (0.01, 0.1, 0.5)

#: Questions, and the batches they are asked in.
QUERIES = 1000
BATCHES = (100, 1000)

#: Seconds spent on one figure, at most, once it was taken three times.
_SECONDS = 5.0

#: Seconds after which not even three calls are waited for.
_PATIENCE = 30.0

#: New processes started for one figure.
_COLD_RUNS = 3

#: Length of what is added to a gallery's own vectors to make questions of them.
_PERTURBED = 0.3

_TIE = 1e-5


@dataclass(frozen=True)
class SearchSpeed:
    """What was measured of one way to search.

    Attributes:
        way: an index of ours by name, or ``numpy``, ``faiss-flat``, ``lancedb``.
        made_as: FAISS factory, or library.
        build_seconds: to make it from vectors in memory (theirs) or from our cached rows.
        megabytes: on the disk; for ours those of the rows, which all of ours share, and its own.
        recall_at_10: against exact search in float32, over held-out questions, ties counted.
        p50_ms: of a single question, and ``p95_ms``.
        batch_ms: median of a batch, by its size.
        cold_ms: a new process from its start to its first answer, median of three.
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
    """A search among a share of the gallery, exact.

    Attributes:
        share: of the pictures that may be found.
        p50_ms: of a single question.
        over_unfiltered: that, over an exact search among all.
    """

    share: float
    p50_ms: float
    over_unfiltered: float


@dataclass(frozen=True)
class SearchFigures:
    """All of a run.

    Attributes:
        vectors: in the gallery.
        dimension: of each.
        rows_seconds: to cache the rows from the gallery's table.
        rows_megabytes: of the cached rows.
        lines: one a way.
        filtered: one a share.
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

    The gallery's choice of an index is as before afterwards, and indexes that were not there are
    removed.

    Args:
        engine: over the gallery.
        condition: one it has.
        seed: of the generated vectors that it holds; ``None`` for a gallery of pictures, whose
            questions are its own vectors with noise added.
        progress: told what is being done.
        kinds: of indexes, of :data:`indexes.search.factory.KINDS` or FAISS factory strings; those
            of :data:`KINDS` by default.

    Raises:
        UsageError: if there are fewer than 20 pictures, or there is no such kind.
        CiesError: if the gallery cannot be written to.
    """
    table_loader = engine.table_loader(condition)
    before = table_loader.choice
    had = {built.kind for built in table_loader.known()}
    progress("Caching rows")
    began = time.perf_counter()
    table_loader.build("exact")
    rows_seconds = time.perf_counter() - began
    try:
        exact = table_loader.open("exact")
        queries = _questions(exact, seed)
        least = _least(exact, queries)
        lines = []
        for kind in kinds or KINDS:
            progress(f"Measuring {kind}")
            line = _ours(engine, table_loader, condition, kind, queries, least)
            if line is not None:
                lines.append(line)
        filtered = _filtered(exact, queries)
        vectors = exact.vectors(np.arange(len(exact)))
        del exact
        lines += _theirs(vectors, queries, least, progress)
        rows_megabytes = table_loader.rows_bytes() / 1e6
        count, dimension = vectors.shape
        return SearchFigures(count, dimension, rows_seconds, rows_megabytes, lines, filtered)
    finally:
        table_loader.choose(before)
        table_loader.forget({built.kind for built in table_loader.known()} - had)


def _questions(table: OpenTable, seed: int | None) -> Vectors:
    dimension = table.vectors(np.arange(1)).shape[1]
    if seed is not None:
        return mixture(QUERIES, dimension, seed + 1)
    random = np.random.default_rng(3)
    own = table.vectors(random.integers(0, len(table), QUERIES))
    noise = random.standard_normal(own.shape, dtype=np.float32) / np.sqrt(dimension)
    return unit(own + np.float32(_PERTURBED) * noise.astype(np.float32))


def _least(table: OpenTable, queries: Vectors) -> Vectors:
    """Score of each question's tenth neighbour, by brute force: float32 [queries, 1]."""
    found = np.empty((len(queries), 1), dtype=np.float32)
    for start in range(0, len(queries), 25):
        scores = table.scores(queries[start : start + 25])
        found[start : start + 25, 0] = np.partition(scores, -K, axis=1)[:, -K]
    return found


def _ours(
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
        raise  # a name that is none, not a library that is missing
    except CiesError as error:
        print(f"{kind} is left out: {error}", file=sys.stderr)  # noqa: T201
        return None
    table = table_loader.open(kind)
    p50, p95, batches, recall = _asked(lambda asked: table.search(asked, K), queries, least)
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


def _theirs(
    vectors: Vectors, queries: Vectors, least: Vectors, progress: Callable[[str], None]
) -> list[SearchSpeed]:
    """The same with the libraries as anyone would use them first."""
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
            p50, p95, batches, recall = _asked(ask, queries, least, vectors)
            size = sum(p.stat().st_size for p in [file, *file.rglob("*")] if p.is_file())
            cold = _cold(way, str(file), str(asked))
            lines.append(
                SearchSpeed(way, version, seconds, size / 1e6, recall, p50, p95, batches, cold)
            )
            del ask
    return lines


def _asked(
    ask: Ask, queries: Vectors, least: Vectors, vectors: Vectors | None = None
) -> tuple[float, float, dict[int, float], float]:
    """Milliseconds of single questions (p50, p95) and of batches, and the recall.

    Args:
        ask: what is measured.
        queries: float32 [n, dim].
        least: float32 [n, 1], score of the tenth neighbour.
        vectors: to take the scores from where ``ask`` gives none that are exact.
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
    """Seconds of each call: as many as asked for, or as fit in the time, and three at least.

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
    """A filtered search that were not exact would be no figure at all."""
    rows, scores = table.search(queries, K, allowed)
    among = np.flatnonzero(allowed)
    _, truth = ExactIndex(table.vectors(among)).search(queries, K)
    if not allowed[rows].all() or np.abs(scores - truth).max() > _TIE:
        raise AssertionError("a filtered search was not exact")


def _cold(*words: str) -> float:
    """Milliseconds of a new process from its start to its first answer: median of three."""
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
