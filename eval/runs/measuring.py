"""Figures of a run: made from what was stored, so they can be made again and otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics.blocks import Rows, by_labels, judge_all
from eval.metrics.clustering import cluster_agreement
from eval.metrics.definitions import balanced_mean
from eval.metrics.figures import Figure, Single
from eval.metrics.intervals import bounds
from eval.metrics.names import Metric, metric
from eval.metrics.ranked import by_position, rank
from eval.runs.abstention import SHARED, SURENESS, shared_neighbours, sureness
from eval.runs.answers import Answers, queries_of
from eval.runs.files import read_arrays, read_json, write_arrays, write_json
from eval.runs.run import IMAGE, Run, Seeded, System
from eval.runs.vectors import Table
from eval.tasks import LabelTask, QueryTask
from indexes.errors import CiesError
from indexes.search.vectors import Vectors
from ingest.conditions import UNCONDITIONAL, same_name

#: What is told of a label task beside what its protocol publishes.
LABEL_METRICS = ("P@1", "precision@10", "recall@10 (hit)", "R-precision", "MAP@R")

#: Places at which the recall curves of reports are known.
CURVE = (1, 2, 3, 5, 10, 20, 50, 100)

#: Of clusters, not of queries: they have no interval, and none is tested.
OF_CLUSTERS = ("NMI", "AMI")

#: Seconds of measuring that a kill may cost: a world has some 6,000 figures, and to write all of
#: them down after each system took longer than to make them.
_WRITTEN_EVERY = 20.0

#: Pictures times clusters up to which clusters are made.
_MOST_CLUSTERING = 20_000_000

_SUBSET = "subset "
_BALANCED = "balanced "


Tell = Callable[[str], None]


def measure(run: Run, tell: Tell = lambda line: None, again: bool = False) -> list[Figure]:
    """Make all figures of a run that are not made yet, and write them down.

    Args:
        run: that was asked.
        tell: told what comes next.
        again: make all anew.

    Raises:
        CiesError: if what was stored is damaged or missing.
    """
    known = {} if again else {(f.task, f.system): True for f in measured(run, missing_ok=True)}
    figures = [] if again else measured(run, missing_ok=True)
    written = time.monotonic()
    for name, task in run.tasks.items():
        for system in run.systems(name):
            if (name, system.name) in known and run.measured_path(name, system).exists():
                continue
            tell(f"measuring {system.name} on {name}")
            figures = [f for f in figures if (f.task, f.system) != (name, system.name)]
            singles = dict(_singles(run, name, system))
            _save(run, name, system, singles)
            figures += _figures(run, name, task, system, singles)
            if time.monotonic() - written > _WRITTEN_EVERY:
                _write(run, figures)
                written = time.monotonic()
    _write(run, figures)
    return figures


def measured(run: Run, missing_ok: bool = False) -> list[Figure]:
    """Figures made before.

    Raises:
        CiesError: if there are none, unless that is ``missing_ok``, or they are damaged.
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
            f"{path} is damaged; measure anew with `cies bench measure {run.path} --again`."
        ) from error


def single(run: Run, task: str, system: System, cell: tuple[str, str, str]) -> Single:
    """The single queries behind a figure.

    Raises:
        CiesError: if they are damaged or missing.
    """
    path = run.measured_path(task, system)
    arrays = _kept(path, path.stat().st_mtime_ns if path.exists() else 0)
    key = "\t".join(cell)
    names = [str(name) for name in arrays["names"]]
    if key not in names:
        raise CiesError(
            f"{run.path} has no single queries of {' '.join(cell)}; measure anew with "
            f"`cies bench measure {run.path} --again`."
        )
    at = names.index(key)
    classes = arrays.get(f"classes{at}", np.empty(0, dtype=np.str_))
    return Single(arrays[f"numbers{at}"], arrays[f"values{at}"], arrays[f"chance{at}"], classes)


@lru_cache(maxsize=4)
def _kept(path: Path, changed: int) -> dict[str, NDArray[Any]]:
    """A file's arrays, read once for the many figures in it."""
    return read_arrays(path)


def _save(run: Run, task: str, system: System, singles: Mapping[Any, Single]) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "names": np.array(["\t".join(cell) for cell in singles], dtype=np.str_)
    }
    for at, one in enumerate(singles.values()):
        arrays |= {f"{name}{at}": array for name, array in vars(one).items()}
    write_arrays(run.measured_path(task, system), arrays)


def _write(run: Run, figures: Sequence[Figure]) -> None:
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
    run: Run, name: str, task: LabelTask | QueryTask, system: System, singles: Mapping[Any, Single]
) -> Iterator[Figure]:
    seed = int(run.document["seed"])
    for (row, judge, of), one in singles.items():
        balanced = of.startswith(_BALANCED)
        low, high = bounds(one.values, one.classes if balanced else None, seed)
        value, chance = (_mean(values, one, balanced) for values in (one.values, one.chance))
        own = isinstance(task, QueryTask) or not task.crossed or same_name(row, judge)
        yield Figure(
            name,
            system.name,
            row,
            judge,
            of,
            value,
            low,
            high,
            chance,
            len(one.numbers),
            own,
        )


def _mean(values: NDArray[np.float64], one: Single, balanced: bool) -> float:
    return balanced_mean(values, one.classes) if balanced else float(values.mean())


def _singles(run: Run, name: str, system: System) -> Iterator[tuple[tuple[str, str, str], Single]]:
    task = run.tasks[name]
    if isinstance(task, LabelTask):
        yield from _of_labels(task, system, run.table(system))
        return
    answers = Answers.load(run.answers_path(name, system), len(queries_of(task)))
    yield from _of_queries(task, answers)


def _of_labels(
    task: LabelTask, system: System, table: Table | Seeded
) -> Iterator[tuple[tuple[str, str, str], Single]]:
    """Every condition judged by every label; what knows no condition has one row."""
    blind = not table.conditional or system.composer == IMAGE
    if task.headline == SURENESS:
        for condition, labels in task.labels.items():
            asked = UNCONDITIONAL if blind else condition
            for name, queries, values in sureness(table, asked, labels):
                yield (condition, condition, name), _single(queries, values, 0.5)
        return
    wanted = dict.fromkeys((task.headline, *task.metrics, *LABEL_METRICS))
    metrics = [metric(name) for name in wanted if name not in (SHARED, *OF_CLUSTERS)]
    curve = [metric(f"recall@{k} (hit)") for k in CURVE if f"recall@{k} (hit)" not in wanted]
    balanced = [one for one in metrics if one.name == "MAP@R"]
    for condition in task.labels:
        # Without a condition, a row says the same whatever is asked, and is judged by its own.
        judges = tuple(task.labels) if task.crossed and not blind else (condition,)
        asked = UNCONDITIONAL if blind else condition
        for known, names in _by_known(task, judges).items():
            more = curve if condition in names else []
            yield from _judged(
                task, table, asked, condition, names, known, [*metrics, *more], balanced
            )
    if SHARED in task.metrics and not blind:
        for first, other, values, chance in shared_neighbours(table, task):
            numbers = np.arange(len(values))
            yield (other, first, SHARED), _single(numbers, values, chance)


def _single(numbers: NDArray[np.int64], values: NDArray[np.float64], chance: float) -> Single:
    """Values that all have the same chance level and no classes."""
    return Single(numbers, values, np.full(len(values), chance), np.empty(0, dtype=np.str_))


def _by_known(task: LabelTask, judges: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
    """Labels known for the same pictures share their rankings: those pictures to labels."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for judge in judges:
        known = tuple(key for key in task.images if task.labels[judge].get(key))
        groups.setdefault(known, []).append(judge)
    return groups


def _judged(
    task: LabelTask,
    table: Table | Seeded,
    asked: str,
    row: str,
    judges: Sequence[str],
    known: Sequence[str],
    metrics: Sequence[Metric],
    balanced: Sequence[Metric],
) -> Iterator[tuple[tuple[str, str, str], Single]]:
    there = set(known)
    queries = [key for key in task.queries or task.images if key in there]
    gallery = [key for key in task.gallery or task.images if key in there]
    if not queries or len(gallery) < 2:
        return
    both = table.vectors(asked, [*queries, *gallery])
    right = {
        judge: by_labels(
            [task.labels[judge][key] for key in queries],
            [task.labels[judge][key] for key in gallery],
        )
        for judge in judges
    }
    found = judge_all(
        both[: len(queries)],
        both[len(queries) :],
        right,
        metrics,
        _left_out(task, queries, gallery),
        parts=table.parts,
    )
    for judge, judged in found.items():
        if not len(judged.queries):
            continue
        classes = np.array(["|".join(task.labels[judge][queries[n]]) for n in judged.queries])
        for one in metrics:
            if judge != row and one.name.startswith("recall@") and one.name not in LABEL_METRICS:
                continue
            values, chance = judged.values[one.name], judged.chance[one.name]
            yield (row, judge, one.name), Single(judged.queries, values, chance, classes)
        if judge == row:
            yield from _of_clusters(task, row, both[: len(queries)], queries)
        for one in balanced if judge == row else ():
            values, chance = judged.values[one.name], judged.chance[one.name]
            name = _BALANCED + one.name
            yield (row, judge, name), Single(judged.queries, values, chance, classes)


def _of_clusters(
    task: LabelTask, row: str, vectors: Vectors, queries: Sequence[str]
) -> Iterator[tuple[tuple[str, str, str], Single]]:
    """NMI and AMI of k-means with as many clusters as labels, where that is meant and feasible."""
    labels = ["|".join(task.labels[row][key]) for key in queries]
    count = len(set(labels))
    small = len(queries) * count <= _MOST_CLUSTERING and 1 < count < len(queries)
    if task.crossed and task.queries is None and small and find_spec("faiss"):
        found = cluster_agreement(vectors, labels)
        whole = np.zeros(1, dtype=np.int64)
        for name, value, chance in (("NMI", found.nmi, found.nmi_chance), ("AMI", found.ami, 0.0)):
            yield (row, row, name), _single(whole, np.array([value]), chance)


def _left_out(task: LabelTask, queries: Sequence[str], gallery: Sequence[str]) -> Rows:
    """The query itself, and other views of its thing."""
    place = {key: row for row, key in enumerate(gallery)}
    views: dict[str, list[int]] = {}
    for key, row in place.items():
        if key in task.views:
            views.setdefault(task.views[key], []).append(row)

    def rows(query: int) -> NDArray[np.integer]:
        key = queries[query]
        out = views.get(task.views[key], []) if key in task.views else []
        itself = [place[key]] if key in place else []
        return np.unique(np.array([*out, *itself], dtype=np.int64))

    return rows


def _of_queries(task: QueryTask, answers: Answers) -> Iterator[tuple[tuple[str, str, str], Single]]:
    """Every part by every metric, over the questions whose answers are published."""
    names = list(task.images)
    place = {key: number for number, key in enumerate(names)}
    number = -1
    for part in task.parts:
        rows: dict[bool, list[tuple[int, Any, Any, Any, int]]] = {False: [], True: []}
        for query in part.queries:
            number += 1
            if not query.relevant:
                continue
            found, scores, head = answers.of(number)
            ranked_by = by_position(scores) if task.ties == "position" else scores
            gain = {place[key]: value for key, value in query.relevant.items()}
            gains = np.array([gain.get(int(key), 0.0) for key in found])
            every = list(query.relevant.values())
            count = int(answers.candidates[number])
            rows[False].append((number, ranked_by[:head], gains[:head], every, count))
            if query.group:
                group = {place[key] for key in query.group} - {place.get(query.image, -1)}
                inside = np.array([int(key) in group for key in found], dtype=bool)
                ours = gains[inside]
                rows[True].append(
                    (number, ranked_by[inside], ours, ours[ours > 0], int(inside.sum()))
                )
        fewest = min((row[4] for row in rows[False]), default=0)
        curve = (f"R@{k}" for k in CURVE if k <= fewest)
        for name in dict.fromkeys((*task.metrics, *curve)):
            chosen = rows[name.startswith(_SUBSET)]
            if not chosen:
                continue
            numbers, scored, gained, all_gains, counts = zip(*chosen, strict=True)
            ranked = rank(scored, gained, all_gains, np.array(counts, dtype=np.int64))
            one = metric(name)
            try:
                values = one(ranked)
            except ValueError as error:
                most = max((int(head) for head in answers.heads), default=0)
                raise CiesError(
                    f"{task.name}: {error}, which are too few for it: of a larger gallery this run "
                    f"keeps the best {most}; run it into a new folder with a greater --depth."
                ) from error
            order = np.array(numbers, dtype=np.int64)
            empty = np.empty(0, dtype=np.str_)
            yield (part.name, "", name), Single(order, values, one.chance(ranked), empty)
