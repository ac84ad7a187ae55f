"""Measures a run from what it stored, so that figures can be computed again at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.judge import LabelJudge, VectorsOf, mean_of
from eval.metrics.clustering import (
    CLUSTER_METRICS,
    cluster_agreement,
    is_feasible,
    missing_libraries,
)
from eval.metrics.figures import Figure, FigureKey, QueryScores
from eval.metrics.names import metric
from eval.metrics.ranked import by_position, rank
from eval.runs.abstention import AUROC, SHARED_NEIGHBOURS, abstention_auroc, shared_neighbours
from eval.runs.answers import Answers, queries_of
from eval.runs.baselines import SystemVectors
from eval.runs.files import read_arrays, read_json, write_arrays, write_json
from eval.runs.run import IMAGE, Run, System
from eval.tasks import LabelTask, QueryTask
from indexes.errors import CiesError
from ingest.conditions import UNCONDITIONAL, same_name

#: Metrics of every label task, besides those of its protocol.
LABEL_METRICS = ("P@1", "precision@10", "recall@10 (hit)", "R-precision", "MAP@R")

#: Places at which the recall curves of reports are measured.
CURVE_PLACES = (1, 2, 3, 5, 10, 20, 50, 100)

#: Seconds of measuring that an interrupted run loses at most. The world has some 6,000 figures;
#: writing all of them after each system took longer than measuring.
_WRITTEN_EVERY = 20.0

_SUBSET = "subset "
_BALANCED = "balanced "

#: Keys of figures with the scores of their queries.
_Scores = Iterator[tuple[FigureKey, QueryScores]]


def measure(
    run: Run, progress: Callable[[str], None] = lambda line: None, again: bool = False
) -> list[Figure]:
    """Measure every system of a run that is not measured yet, and store the figures.

    Args:
        run: a run with stored answers.
        progress: called with a line before each system.
        again: measure all systems again.

    Raises:
        CiesError: if a stored file is damaged or missing.
    """
    figures = [] if again else load_figures(run, missing_ok=True)
    known = {(f.task, f.system) for f in figures}
    written = time.monotonic()
    for name, task in run.tasks.items():
        for system in run.systems(name):
            if (name, system.name) in known and run.measured_path(name, system).exists():
                continue
            progress(f"measuring {system.name} on {name}")
            figures = [f for f in figures if (f.task, f.system) != (name, system.name)]
            scores = dict(_measure_system(run, name, system))
            _save_scores(run, name, system, scores)
            figures += _figures(run, name, task, system, scores)
            if time.monotonic() - written > _WRITTEN_EVERY:
                _save_figures(run, figures)
                written = time.monotonic()
    _save_figures(run, figures)
    return figures


def load_figures(run: Run, missing_ok: bool = False) -> list[Figure]:
    """Return the stored figures.

    Raises:
        CiesError: if they are damaged, or missing and not ``missing_ok``.
    """
    path = run.path / "measured.json"
    if not path.exists() and missing_ok:
        return []
    try:
        return [
            Figure(**{k: v for k, v in f.items() if k != "corrected"})
            for f in read_json(path)["figures"]
        ]
    except (KeyError, TypeError) as error:
        raise CiesError(
            f"{path} is damaged; measure again with `cies bench measure {run.path} --again`."
        ) from error


def query_scores(run: Run, task: str, system: System, key: FigureKey) -> QueryScores:
    """Return the scores of single queries that a figure is the mean of.

    Raises:
        CiesError: if they are damaged or missing.
    """
    path = run.measured_path(task, system)
    arrays = _cached_arrays(path, path.stat().st_mtime_ns if path.exists() else 0)
    stored = [str(name) for name in arrays["names"]]
    name = "\t".join(key)
    if name not in stored:
        raise CiesError(
            f"{run.path} has no scores of single queries for {' '.join(key)}; measure again with "
            f"`cies bench measure {run.path} --again`."
        )
    at = stored.index(name)
    classes = arrays.get(f"classes{at}", np.empty(0, dtype=np.str_))
    return QueryScores(
        arrays[f"numbers{at}"], arrays[f"values{at}"], arrays[f"chance{at}"], classes
    )


@lru_cache(maxsize=4)
def _cached_arrays(path: Path, changed: int) -> dict[str, NDArray[Any]]:
    """Return a file's arrays; cached, because many figures are in one file."""
    return read_arrays(path)


def _save_scores(
    run: Run, task: str, system: System, scores: Mapping[FigureKey, QueryScores]
) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "names": np.array(["\t".join(key) for key in scores], dtype=np.str_)
    }
    for at, one in enumerate(scores.values()):
        arrays |= {f"{name}{at}": array for name, array in vars(one).items()}
    write_arrays(run.measured_path(task, system), arrays)


def _save_figures(run: Run, figures: Sequence[Figure]) -> None:
    order = {
        (task, system.name): (i, j)
        for i, task in enumerate(run.tasks)
        for j, system in enumerate(run.systems(task))
    }
    kept = sorted(
        (f for f in figures if (f.task, f.system) in order), key=lambda f: order[f.task, f.system]
    )
    document = [vars(f) | {"corrected": f.corrected} for f in kept]
    write_json(run.path / "measured.json", {"schema_version": 1, "figures": document})


def _figures(
    run: Run,
    name: str,
    task: LabelTask | QueryTask,
    system: System,
    scores: Mapping[FigureKey, QueryScores],
) -> Iterator[Figure]:
    seed = int(run.document["seed"])
    for (row, judge, metric_name), one in scores.items():
        mean = mean_of(one, metric_name.startswith(_BALANCED), seed)
        yield Figure(
            task=name,
            system=system.name,
            row=row,
            judge=judge,
            metric=metric_name,
            value=mean.value,
            low=mean.low,
            high=mean.high,
            chance=mean.chance,
            queries=len(one.numbers),
            own=isinstance(task, QueryTask) or not task.crossed or same_name(row, judge),
        )


def _measure_system(run: Run, name: str, system: System) -> _Scores:
    task = run.tasks[name]
    if isinstance(task, LabelTask):
        return _measure_labels(task, system, run.table(system))
    return _measure_queries(
        task, Answers.load(run.answers_path(name, system), len(queries_of(task)))
    )


def _measure_labels(task: LabelTask, system: System, table: SystemVectors) -> _Scores:
    """Judge every condition by every label; vectors without conditions are judged once a label."""
    unconditional = not table.conditional or system.composer == IMAGE
    if task.headline == AUROC:
        for condition, labels in task.labels.items():
            searched = UNCONDITIONAL if unconditional else condition
            for name, queries, values in abstention_auroc(table, searched, labels):
                yield (condition, condition, name), _equal_chance(queries, values, 0.5)
        return
    wanted = dict.fromkeys((task.headline, *task.metrics, *LABEL_METRICS))
    metrics = [metric(name) for name in wanted if name not in (SHARED_NEIGHBOURS, *CLUSTER_METRICS)]
    curve = [metric(name) for k in CURVE_PLACES if (name := f"recall@{k} (hit)") not in wanted]
    judge = LabelJudge(list(task.images), task.labels, task.queries, task.gallery, task.views)
    for condition in task.labels:
        # Vectors without conditions rank the same in every row, so each row has its own label only.
        judges = tuple(task.labels) if task.crossed and not unconditional else (condition,)
        vectors_of = partial(table.vectors, UNCONDITIONAL if unconditional else condition)
        for label, scores in judge.scores(vectors_of, [*metrics, *curve], judges, table.parts):
            own = label == condition
            for name, one in scores.items():
                # Recall curves are for a condition's own label.
                if own or not name.startswith("recall@") or name in LABEL_METRICS:
                    yield (condition, label, name), one
            if own:
                yield from _measure_clusters(task, label, vectors_of, judge.query_ids(label))
                yield (condition, label, f"{_BALANCED}MAP@R"), scores["MAP@R"]
    if SHARED_NEIGHBOURS in task.metrics and not unconditional:
        for first, other, values, chance in shared_neighbours(table, task):
            one = _equal_chance(np.arange(len(values)), values, chance)
            yield (other, first, SHARED_NEIGHBOURS), one


def _equal_chance(
    numbers: NDArray[np.int64], values: NDArray[np.float64], chance: float
) -> QueryScores:
    """Return scores that all have the same chance level and no classes."""
    return QueryScores(numbers, values, np.full(len(values), chance), np.empty(0, dtype=np.str_))


def _measure_clusters(
    task: LabelTask, label: str, vectors_of: VectorsOf, queries: Sequence[str]
) -> _Scores:
    """Measure NMI and AMI of k-means with as many clusters as there are values of a label.

    Nothing is measured if a task has queries of its own, would need too many clusters, or FAISS
    or scikit-learn is not installed.
    """
    values = ["|".join(task.labels[label][key]) for key in queries]
    feasible = is_feasible(len(queries), len(set(values)))
    if task.crossed and task.queries is None and feasible and not missing_libraries():
        found = cluster_agreement(vectors_of(queries), values)
        whole = np.zeros(1, dtype=np.int64)
        for name, value, chance in (("NMI", found.nmi, found.nmi_chance), ("AMI", found.ami, 0.0)):
            yield (label, label, name), _equal_chance(whole, np.array([value]), chance)


def _measure_queries(task: QueryTask, answers: Answers) -> _Scores:
    """Measure every part by every metric, over the queries whose right answers are published."""
    number_of = {key: number for number, key in enumerate(task.images)}
    number = -1
    for part in task.parts:
        # Number, scores, gains, all gains and candidates of each query; True: within its group.
        rows: dict[bool, list[tuple[int, Any, Any, Any, int]]] = {False: [], True: []}
        for query in part.queries:
            number += 1
            if not query.relevant:
                continue
            found, scores, head = answers.of_query(number)
            ranked_by = by_position(scores) if task.ties == "position" else scores
            gain_of = {number_of[key]: value for key, value in query.relevant.items()}
            gains = np.array([gain_of.get(int(key), 0.0) for key in found])
            all_gains = list(query.relevant.values())
            count = int(answers.candidates[number])
            rows[False].append((number, ranked_by[:head], gains[:head], all_gains, count))
            if query.group:
                group = {number_of[key] for key in query.group} - {number_of.get(query.image, -1)}
                inside = np.array([int(key) in group for key in found], dtype=bool)
                gains = gains[inside]
                rows[True].append(
                    (number, ranked_by[inside], gains, gains[gains > 0], int(inside.sum()))
                )
        fewest = min((row[4] for row in rows[False]), default=0)
        curve = (f"R@{k}" for k in CURVE_PLACES if k <= fewest)
        for name in dict.fromkeys((*task.metrics, *curve)):
            chosen = rows[name.startswith(_SUBSET)]
            if not chosen:
                continue
            numbers, scored, gained, every, counts = zip(*chosen, strict=True)
            ranked = rank(scored, gained, every, np.array(counts, dtype=np.int64))
            one = metric(name)
            try:
                values = one(ranked)
            except ValueError as error:
                most = max((int(head) for head in answers.heads), default=0)
                raise CiesError(
                    f"{task.name}: {error}; this run stores the best {most} answers, so run the "
                    "benchmark into a new folder with a greater --depth."
                ) from error
            order = np.array(numbers, dtype=np.int64)
            no_classes = np.empty(0, dtype=np.str_)
            yield (part.name, "", name), QueryScores(order, values, one.chance(ranked), no_classes)
