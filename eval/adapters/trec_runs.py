"""What a run answered, and what is right, as TREC files: one pair for each row of its report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from eval.adapters.trec import Answers as Ranking
from eval.adapters.trec import write_qrels, write_run
from eval.runs.abstention import AUROC
from eval.runs.answers import Answers
from eval.runs.run import IMAGE, Run, System
from eval.tasks import LabelTask, QueryTask, TaskPart
from indexes.search.parts import likenesses
from ingest.conditions import UNCONDITIONAL

#: Queries scored at once.
_BLOCK = 256


def export_run(run: Run, folder: Path, depth: int = 1000) -> list[Path]:
    """Write ``TASK/ROW.qrels`` and ``TASK/ROW.SYSTEM.run`` for every ranking of a run.

    A row is a condition of a label task, or a part of a query task (``all`` where it has one).
    Names are those of the data; what file names cannot hold is escaped by percent signs. A task
    that is no ranking is left out, as are questions whose answers are held back from the qrels.

    Args:
        run: as it was stored; neither data nor model are needed.
        folder: made if it is not there.
        depth: answers of each question, fewer where a run kept fewer.

    Returns:
        The files.

    Raises:
        CiesError: if the run is damaged.
        UsageError: if a file cannot be written, or a gain is no whole number.
    """
    written = []
    for name in rankings(run):
        task = run.tasks[name]
        place = folder / quote(name, safe=" ")
        place.mkdir(parents=True, exist_ok=True)
        rows = list(task.labels) if isinstance(task, LabelTask) else [p.name for p in task.parts]
        for row in rows:
            stem = quote(row, safe=" ") or "all"
            path = place / f"{stem}.qrels"
            write_qrels(path, _right(task, row))
            written.append(path)
            for system in run.systems(name):
                path = place / f"{stem}.{quote(system.name, safe=' ')}.run"
                write_run(path, _answers(run, name, row, system, depth), system.name)
                written.append(path)
    return written


def rankings(run: Run) -> list[str]:
    """Names of a run's tasks that are rankings, which are those that can be written."""
    return [
        name
        for name, task in run.tasks.items()
        if isinstance(task, QueryTask) or task.headline != AUROC
    ]


def _right(task: LabelTask | QueryTask, row: str) -> Iterator[tuple[str, Mapping[str, float]]]:
    if isinstance(task, QueryTask):
        yield from ((q.id, q.relevant) for q in _part(task, row).queries if q.relevant)
        return
    labels, gallery = _ids(task, row)
    bearers: dict[str, list[str]] = {}
    for key in gallery:
        for label in labels[key]:
            bearers.setdefault(label, []).append(key)
    for query in _queries(task, row):
        found = {key: 1.0 for label in labels[query] for key in bearers.get(label, ())}
        right = {key: gain for key, gain in found.items() if _ranked(task, query, key)}
        if right:
            yield query, right


def _answers(
    run: Run, name: str, row: str, system: System, depth: int
) -> Iterator[tuple[str, Ranking]]:
    task = run.tasks[name]
    if isinstance(task, LabelTask):
        yield from _nearest(run, task, row, system, depth)
        return
    names = list(task.images)
    total = sum(len(part.queries) for part in task.parts)
    answers = Answers.load(run.answers_path(name, system), total)
    number = 0
    for part in task.parts:
        for query in part.queries:
            if part.name == row:
                found, scores, head = answers.of_query(number)
                kept = slice(0, min(head, depth))
                pairs = zip(found[kept], scores[kept], strict=True)
                yield query.id, [(names[key], float(score)) for key, score in pairs]
            number += 1


def _nearest(
    run: Run, task: LabelTask, row: str, system: System, depth: int
) -> Iterator[tuple[str, Ranking]]:
    _, gallery = _ids(task, row)
    queries = _queries(task, row)
    if not queries or not gallery:
        return
    table = run.table(system)
    asked = UNCONDITIONAL if not table.conditional or system.composer == IMAGE else row
    vectors = table.vectors(asked, [*queries, *gallery])
    shown = vectors[len(queries) :]
    out = _out(task, gallery)
    for start in range(0, len(queries), _BLOCK):
        some = vectors[start : min(start + _BLOCK, len(queries))]
        scores = likenesses(some, shown, table.parts)
        for query, own in zip(queries[start:], scores, strict=False):
            own[out(query)] = -np.inf
            count = min(depth, int(np.count_nonzero(own > -np.inf)))
            best = np.sort(np.argpartition(-own, max(count - 1, 0))[:count])
            best = best[np.argsort(-own[best], kind="stable")]
            yield query, [(gallery[number], float(own[number])) for number in best]


def _out(task: LabelTask, gallery: Sequence[str]) -> Callable[[str], list[int]]:
    """Rows of the gallery that are not ranked for a query: itself and other views of its thing."""
    views: dict[str, list[int]] = {}
    place = {key: number for number, key in enumerate(gallery)}
    for key, number in place.items():
        if key in task.views:
            views.setdefault(task.views[key], []).append(number)

    def rows(query: str) -> list[int]:
        own = [place[query]] if query in place else []
        return own + (views.get(task.views[query], []) if query in task.views else [])

    return rows


def _ids(task: LabelTask, row: str) -> tuple[Mapping[str, tuple[str, ...]], list[str]]:
    labels = {key: own for key, own in task.labels[row].items() if own}
    return labels, [key for key in task.gallery or task.images if key in labels]


def _queries(task: LabelTask, row: str) -> list[str]:
    return [key for key in task.queries or task.images if task.labels[row].get(key)]


def _ranked(task: LabelTask, query: str, key: str) -> bool:
    thing = task.views.get(query)
    return key != query and (thing is None or task.views.get(key) != thing)


def _part(task: QueryTask, row: str) -> TaskPart:
    return next(part for part in task.parts if part.name == row)
