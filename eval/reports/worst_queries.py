"""Finds the queries with the worst answers, and what was ranked first for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.runs.answers import Answers, queries_of
from eval.runs.measuring import load_figures, query_scores
from eval.runs.run import IMAGE, Run, System
from eval.tasks import LabelTask, QueryTask, Task
from indexes.search.multi_vector import similarities
from ingest.conditions import UNCONDITIONAL

#: Queries shown of a task, and answers of each.
QUERIES, ANSWERS = 8, 6


@dataclass(frozen=True)
class RankedImage:
    """A picture among the first answers.

    Attributes:
        id: the id of the picture.
        words: its labels, or empty.
        right: whether it is a right answer.
        score: cosine with the query.
    """

    id: str
    words: str
    right: bool
    score: float


@dataclass(frozen=True)
class WorstQuery:
    """A query with bad answers.

    Attributes:
        row: condition or part.
        image: id of the query's picture; empty for a text query.
        words: the query's labels, or its text.
        value: the headline metric of the query.
        answers: the first answers.
    """

    row: str
    image: str
    words: str
    value: float
    answers: tuple[RankedImage, ...]


def worst_queries(run: Run, task: Task, system: System, headline: str) -> list[WorstQuery]:
    """Return the worst query of each condition or part, the worst first, at most :data:`QUERIES`.

    Raises:
        CiesError: if a stored file is damaged.
    """
    figures = [
        f
        for f in load_figures(run)
        if (f.task, f.system, f.metric) == (task.name, system.name, headline) and f.own
    ]
    worst = []
    for figure in figures:
        scores = query_scores(run, task.name, system, figure.key)
        at = int(np.argmin(scores.values))
        worst.append((float(scores.values[at]), figure, int(scores.numbers[at])))
    worst = sorted(worst, key=lambda entry: entry[0])[:QUERIES]
    if isinstance(task, LabelTask):
        return [_of_labels(run, task, system, f.row, f.judge, n, v) for v, f, n in worst]
    answers = Answers.load(run.answers_path(task.name, system), len(queries_of(task)))
    return [_of_queries(task, answers, f.row, n, v) for v, f, n in worst]


def _of_labels(
    run: Run, task: LabelTask, system: System, row: str, judge: str, number: int, value: float
) -> WorstQuery:
    labels = task.labels[judge]
    query = task.known_queries(judge)[number]
    gallery = [key for key in task.known_gallery(judge) if task.is_ranked(query, key)]
    table = run.table(system)
    condition = UNCONDITIONAL if system.composer == IMAGE else row
    vectors = table.vectors(condition, [query, *gallery])
    scores = similarities(vectors[:1], vectors[1:], table.parts)[0]
    order = np.argsort(-scores, kind="stable")[:ANSWERS]
    answers = tuple(
        RankedImage(
            gallery[n],
            ", ".join(labels[gallery[n]]),
            bool(set(labels[gallery[n]]) & set(labels[query])),
            float(scores[n]),
        )
        for n in order
    )
    return WorstQuery(row, query, ", ".join(labels[query]), value, answers)


def _of_queries(
    task: QueryTask, answers: Answers, row: str, number: int, value: float
) -> WorstQuery:
    query = queries_of(task)[number][1]
    names = list(task.images)
    found, scores, head = answers.of_query(number)
    first = tuple(
        RankedImage(names[n], "", names[n] in query.relevant, float(score))
        for n, score in zip(found[: min(ANSWERS, head)], scores, strict=False)
    )
    return WorstQuery(row, query.image, query.text, value, first)
