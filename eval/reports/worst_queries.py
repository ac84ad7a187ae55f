"""The queries that were answered worst, with what was found in place of the right answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.runs.answers import Answers, queries_of
from eval.runs.measuring import load_figures, query_scores
from eval.runs.run import IMAGE, Run, System
from eval.tasks import LabelTask, QueryTask, Task
from indexes.search.parts import likenesses
from ingest.conditions import UNCONDITIONAL

#: Queries shown of a task, and answers of each.
QUERIES, ANSWERS = 8, 6


@dataclass(frozen=True)
class RankedImage:
    """One picture of a contact sheet.

    Attributes:
        id: of the picture.
        words: its labels, or nothing.
        right: whether it is a right answer.
        score: cosine with the query.
    """

    id: str
    words: str
    right: bool
    score: float


@dataclass(frozen=True)
class WorstQuery:
    """One query.

    Attributes:
        row: condition or part.
        image: id of the query's picture; empty for a question in words.
        words: the query's labels, or its text.
        value: the headline's.
        answers: the first ones.
    """

    row: str
    image: str
    words: str
    value: float
    answers: tuple[RankedImage, ...]


def worst_queries(run: Run, task: Task, system: System, headline: str) -> list[WorstQuery]:
    """The worst query of each condition or part, the worst first, at most :data:`QUERIES`.

    Raises:
        CiesError: if what was stored is damaged.
    """
    figures = [
        f
        for f in load_figures(run)
        if (f.task, f.system, f.metric) == (task.name, system.name, headline) and f.own
    ]
    chosen = []
    for figure in figures:
        one = query_scores(run, task.name, system, figure.key)
        at = int(np.argmin(one.values))
        chosen.append((float(one.values[at]), figure, int(one.numbers[at])))
    chosen.sort(key=lambda entry: entry[0])
    if isinstance(task, LabelTask):
        return [_of_labels(run, task, system, f.row, f.judge, n, v) for v, f, n in chosen[:QUERIES]]
    answers = Answers.load(run.answers_path(task.name, system), len(queries_of(task)))
    return [_of_queries(task, answers, f.row, n, v) for v, f, n in chosen[:QUERIES]]


def _of_labels(
    run: Run, task: LabelTask, system: System, row: str, judge: str, number: int, value: float
) -> WorstQuery:
    labels = task.labels[judge]
    queries = [key for key in task.queries or task.images if labels.get(key)]
    query = queries[number]
    gallery = [
        key
        for key in task.gallery or task.images
        if labels.get(key)
        and key != query
        and not (key in task.views and task.views[key] == task.views.get(query))
    ]
    table = run.table(system)
    asked = UNCONDITIONAL if system.composer == IMAGE else row
    vectors = table.vectors(asked, [query, *gallery])
    scores = likenesses(vectors[:1], vectors[1:], table.parts)[0]
    order = np.argsort(-scores, kind="stable")[:ANSWERS]
    shown = tuple(
        RankedImage(
            gallery[n],
            ", ".join(labels[gallery[n]]),
            bool(set(labels[gallery[n]]) & set(labels[query])),
            float(scores[n]),
        )
        for n in order
    )
    return WorstQuery(row, query, ", ".join(labels[query]), value, shown)


def _of_queries(
    task: QueryTask, answers: Answers, row: str, number: int, value: float
) -> WorstQuery:
    query = queries_of(task)[number][1]
    names = list(task.images)
    found, scores, head = answers.of_query(number)
    shown = tuple(
        RankedImage(names[n], "", names[n] in query.relevant, float(score))
        for n, score in zip(found[: min(ANSWERS, head)], scores, strict=False)
    )
    return WorstQuery(row, query.image, query.text, value, shown)
