"""Answers to the questions of a query task: the first ones with their scores, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.runs.files import damaged, read_arrays, write_arrays
from eval.runs.run import IMAGE, Seeded
from eval.runs.vectors import TEXTS, Table
from eval.tasks import Part, Query, QueryTask
from indexes.vectors import Vectors, unit
from ingest.conditions import UNCONDITIONAL

#: Some questions, with the vectors of their pictures and of their texts, each float32 [n, dim],
#: unit rows, to the vectors that are searched with.
Composer = Callable[[Sequence[Query], Vectors, Vectors], Vectors]

#: Names of composers, beside :data:`eval.runs.run.IMAGE`.
TEXT, SUM, CONDITION = "text", "sum", "condition"

#: Best answers that are kept of each question.
DEPTH = 1000

#: Scores held at once.
_BLOCK = 20_000_000


@dataclass(frozen=True)
class Answers:
    """One system's answers to all questions of a task, in the task's order.

    Attributes:
        offsets: int64 [questions + 1], where each question's answers begin below.
        found: int32, numbers of pictures in the order of the task's images. First the best by
            falling score, then, from ``heads`` on, those right answers and members of the
            question's group that are not among the best.
        scores: float32, beside them.
        heads: int32 [questions], how many are the best.
        candidates: int32 [questions], how many were ranked.
    """

    offsets: NDArray[np.int64]
    found: NDArray[np.int32]
    scores: NDArray[np.float32]
    heads: NDArray[np.int32]
    candidates: NDArray[np.int32]

    def of(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.float32], int]:
        """Pictures' numbers, scores, and how many of them are the best, of one question."""
        here = slice(int(self.offsets[number]), int(self.offsets[number + 1]))
        return self.found[here], self.scores[here], int(self.heads[number])

    def save(self, path: Path) -> None:
        """Write them down."""
        write_arrays(path, vars(self))

    @classmethod
    def load(cls, path: Path, questions: int) -> Answers:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.
            questions: how many there must be.

        Raises:
            CiesError: if the file is damaged, missing, or of another task.
        """
        arrays = read_arrays(path)
        try:
            answers = cls(**arrays)
        except TypeError as error:
            raise damaged(path) from error
        if len(answers.heads) != questions or answers.offsets[-1] != len(answers.found):
            raise damaged(path)
        return answers


def sum_of(queries: Sequence[Query], images: Vectors, texts: Vectors) -> Vectors:
    """The sum of both unit vectors, as unit vectors."""
    return unit(images + texts)


def queries_of(task: QueryTask) -> list[tuple[Part, Query]]:
    """All questions in order, each with its part."""
    return [(part, query) for part in task.parts for query in part.queries]


def answer(
    task: QueryTask,
    table: Table | Seeded,
    composer: str,
    compose: Composer = sum_of,
    depth: int = DEPTH,
) -> Answers:
    """Rank every question's candidates by the cosine with the query's vector.

    Args:
        task: the questions.
        table: vectors of its pictures and texts.
        composer: ``image``, ``text``, ``condition`` (pictures under the text as a condition), or
            any other name, which ``compose`` stands for.
        compose: makes queries' vectors of both sides.
        depth: best answers to keep.

    Raises:
        CiesError: if vectors are missing.
    """
    place = {key: number for number, key in enumerate(task.images)}
    kept: list[_Kept] = []
    for part in task.parts:
        scored = _by_condition if composer == CONDITION else _at_once
        found = {
            number: _best(part.queries[number], ids, scores, place, depth)
            for number, ids, scores in scored(part, table, composer, compose)
        }
        kept += [found[number] for number in range(len(part.queries))]
    lengths = [len(one.found) for one in kept]
    return Answers(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([one.found for one in kept]),
        np.concatenate([one.scores for one in kept]),
        np.array([one.head for one in kept], dtype=np.int32),
        np.array([one.candidates for one in kept], dtype=np.int32),
    )


@dataclass(frozen=True)
class _Kept:
    found: NDArray[np.int32]
    scores: NDArray[np.float32]
    head: int
    candidates: int


#: A question's number in its part, its candidates, and their scores.
_Scored = Iterator[tuple[int, Sequence[str], NDArray[np.float32]]]


def _at_once(part: Part, table: Table | Seeded, composer: str, compose: Composer) -> _Scored:
    """All questions over the vectors without a condition."""
    owned = (key for query in part.queries for key in query.gallery or ())
    every = list(dict.fromkeys((*part.gallery, *owned)))
    column = {key: number for number, key in enumerate(every)}
    gallery = table.vectors(UNCONDITIONAL, every)
    block = max(1, _BLOCK // max(1, len(every)))
    for start in range(0, len(part.queries), block):
        some = part.queries[start : start + block]
        scores = _asked(some, table, composer, compose) @ gallery.T
        for row, query in enumerate(some):
            ids = part.gallery if query.gallery is None else query.gallery
            yield start + row, ids, scores[row, [column[key] for key in ids]]


def _asked(
    queries: Sequence[Query], table: Table | Seeded, composer: str, compose: Composer
) -> Vectors:
    """The queries' vectors: float32 [queries, dim]."""
    if isinstance(table, Seeded):
        return table.vectors(UNCONDITIONAL, [query.id for query in queries], "questions")
    images = [query.image for query in queries]
    texts = [query.text for query in queries]
    if composer == IMAGE:
        return table.vectors(UNCONDITIONAL, images)
    said = table.vectors(UNCONDITIONAL, texts, TEXTS)
    if composer == TEXT:
        return said
    return compose(queries, table.vectors(UNCONDITIONAL, images), said)


def _by_condition(part: Part, table: Table | Seeded, composer: str, compose: Composer) -> _Scored:
    """Each question over the vectors under its text as the condition."""
    groups: dict[str, list[int]] = {}
    for number, query in enumerate(part.queries):
        groups.setdefault(query.text, []).append(number)
    for condition, numbers in groups.items():
        own = [part.queries[n].gallery or part.gallery for n in numbers]
        every = list(dict.fromkeys(key for ids in own for key in ids))
        column = {key: number for number, key in enumerate(every)}
        gallery = table.vectors(condition, every)
        asked = table.vectors(condition, [part.queries[n].image for n in numbers])
        for number, ids, vector in zip(numbers, own, asked, strict=True):
            yield number, ids, gallery[[column[key] for key in ids]] @ vector


def _best(
    query: Query,
    ids: Sequence[str],
    scores: NDArray[np.float32],
    place: Mapping[str, int],
    depth: int,
) -> _Kept:
    """The best answers, then what else must be known of this question."""
    if query.exclude:
        excluded = set(query.exclude)
        allowed = [number for number, key in enumerate(ids) if key not in excluded]
        ids, scores = [ids[number] for number in allowed], scores[allowed]
    order = np.argsort(-scores, kind="stable")
    head = min(depth, len(order))
    best = order[:head]
    wanted = set(query.relevant) | set(query.group)
    beside = [number for number in order[head:] if ids[number] in wanted] if wanted else []
    chosen = np.concatenate([best, np.array(beside, dtype=np.int64)])
    return _Kept(
        np.array([place[ids[number]] for number in chosen], dtype=np.int32),
        scores[chosen].astype(np.float32),
        head,
        len(order),
    )
