"""Exports a run as TREC files: a run file and a qrels file for each row of its report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from eval.adapters.trec import Ranking, write_qrels, write_run
from eval.runs.abstention import AUROC
from eval.runs.answers import Answers
from eval.runs.run import IMAGE, Run, System
from eval.tasks import LabelTask, QueryTask, TaskPart
from indexes.outputs import check_output
from indexes.search.multi_vector import similarities
from ingest.conditions import UNCONDITIONAL

#: Queries scored at once.
_BLOCK = 256


def export_run(run: Run, folder: Path, depth: int = 1000, force: bool = False) -> list[Path]:
    """Write ``TASK/ROW.qrels`` and ``TASK/ROW.SYSTEM.run`` for every ranking of a run.

    A row is a condition of a label task, or a part of a query task (``all`` if it has only one).
    Names are those of the data; characters that file names cannot hold are escaped by percent
    signs. Tasks that are not rankings are left out; queries whose answers are held back are not
    in the qrels.

    Args:
        run: a stored run; neither data nor models are needed.
        folder: created if needed.
        depth: answers to each query; fewer if the run stores fewer.
        force: replace files that CIES did not make.

    Returns:
        The files.

    Raises:
        CiesError: if the run is damaged.
        UsageError: if a file cannot be written, or a gain is not a whole number.
    """
    written = []
    for name in rankings(run):
        task = run.tasks[name]
        task_folder = folder / quote(name, safe=" ")
        task_folder.mkdir(parents=True, exist_ok=True)
        rows = list(task.labels) if isinstance(task, LabelTask) else [p.name for p in task.parts]
        for row in rows:
            stem = quote(row, safe=" ") or "all"
            path = task_folder / f"{stem}.qrels"
            check_output(path, force)
            write_qrels(path, _right(task, row))
            written.append(path)
            for system in run.systems(name):
                path = task_folder / f"{stem}.{quote(system.name, safe=' ')}.run"
                check_output(path, force)
                write_run(path, _answers(run, name, row, system, depth), system.name)
                written.append(path)
    return written


def rankings(run: Run) -> list[str]:
    """Return the names of a run's tasks that are rankings and can be exported."""
    return [
        name
        for name, task in run.tasks.items()
        if isinstance(task, QueryTask) or task.headline != AUROC
    ]


def _right(task: LabelTask | QueryTask, row: str) -> Iterator[tuple[str, Mapping[str, float]]]:
    if isinstance(task, QueryTask):
        yield from ((q.id, q.relevant) for q in _part(task, row).queries if q.relevant)
        return
    yield from ((query, dict.fromkeys(right, 1.0)) for query, right in task.right_answers(row))


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
                best = slice(0, min(head, depth))
                pairs = zip(found[best], scores[best], strict=True)
                yield query.id, [(names[key], float(score)) for key, score in pairs]
            number += 1


def _nearest(
    run: Run, task: LabelTask, row: str, system: System, depth: int
) -> Iterator[tuple[str, Ranking]]:
    gallery, queries = task.known_gallery(row), task.known_queries(row)
    if not queries or not gallery:
        return
    table = run.table(system)
    condition = UNCONDITIONAL if not table.conditional or system.composer == IMAGE else row
    vectors = table.vectors(condition, [*queries, *gallery])
    candidates = vectors[len(queries) :]
    left_out = _left_out(task, gallery)
    for start in range(0, len(queries), _BLOCK):
        block = vectors[start : min(start + _BLOCK, len(queries))]
        for query, scores in zip(
            queries[start:], similarities(block, candidates, table.parts), strict=False
        ):
            scores[left_out(query)] = -np.inf
            count = min(depth, int(np.count_nonzero(scores > -np.inf)))
            best = np.sort(np.argpartition(-scores, max(count - 1, 0))[:count])
            best = best[np.argsort(-scores[best], kind="stable")]
            yield query, [(gallery[number], float(scores[number])) for number in best]


def _left_out(task: LabelTask, gallery: Sequence[str]) -> Callable[[str], list[int]]:
    """Return a function of the gallery's rows not ranked for a query.

    They are the query itself and other views of its object.
    """
    views: dict[str, list[int]] = {}
    row_of = {key: number for number, key in enumerate(gallery)}
    for key, number in row_of.items():
        if key in task.views:
            views.setdefault(task.views[key], []).append(number)

    def rows(query: str) -> list[int]:
        itself = [row_of[query]] if query in row_of else []
        return itself + (views.get(task.views[query], []) if query in task.views else [])

    return rows


def _part(task: QueryTask, row: str) -> TaskPart:
    return next(part for part in task.parts if part.name == row)
