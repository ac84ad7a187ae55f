"""Answers to the questions of a query task: the first ones with their scores, kept on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.runs.files import damaged, read_arrays, write_arrays
from eval.runs.run import DEPTH, IMAGE, Seeded
from eval.runs.vectors import TEXTS, Table
from eval.tasks import Part, Query, QueryTask
from indexes.search.parts import joined, likenesses
from indexes.search.vectors import Vectors, unit
from ingest.conditions import UNCONDITIONAL

#: Names of composers that need no more than stored vectors, beside
#: :data:`eval.runs.run.IMAGE`.
TEXT, SUM, CONDITION = "text", "sum", "condition"

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


@dataclass(frozen=True)
class Composed:
    """What a composer made of a task's questions.

    Attributes:
        vectors: part's name to float32 [its questions, dim], unit rows, in their order.
        captions: vectors of the captions of the pictures; ``None`` where they do not count.
        share: between 0 and 1, how much the likeness to captions counts in place of that to
            pictures.
        conditions: under which pictures are compared; of several the mean cosine counts, and a
            question's vectors stand one after another, as :mod:`indexes.search.parts` joins them.
    """

    vectors: Mapping[str, Vectors]
    captions: Table | Seeded | None = None
    share: float = 0.0
    conditions: tuple[str, ...] = (UNCONDITIONAL,)


def queries_of(task: QueryTask) -> list[tuple[Part, Query]]:
    """All questions in order, each with its part."""
    return [(part, query) for part in task.parts for query in part.queries]


def answer(
    task: QueryTask,
    table: Table | Seeded,
    composer: str,
    composed: Composed | None = None,
    depth: int = DEPTH,
) -> Answers:
    """Rank every question's candidates by the cosine with the query's vector.

    Of rows of several parts the best counts, as in :mod:`indexes.search.parts`.

    Args:
        task: the questions.
        table: vectors of its pictures and texts.
        composer: ``image``, ``text``, ``sum`` (of both unit vectors), ``condition`` (pictures
            under the text as a condition), or a composer's name.
        composed: what that composer made of the questions.
        depth: best answers to keep.

    Raises:
        CiesError: if vectors are missing.
    """
    place = {key: number for number, key in enumerate(task.images)}
    kept: list[_Kept] = []
    for part in task.parts:
        if composer == CONDITION:
            scored = _by_condition(part, table)
        else:
            scored = _at_once(part, table, composer, composed)
        found = {
            number: _best(part.queries[number], ids, scores, place, depth)
            for number, ids, scores in scored
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


def _at_once(
    part: Part, table: Table | Seeded, composer: str, composed: Composed | None
) -> _Scored:
    """All questions over the vectors without a condition."""
    owned = (key for query in part.queries for key in query.gallery or ())
    every = list(dict.fromkeys((*part.gallery, *owned)))
    column = {key: number for number, key in enumerate(every)}
    conditions = (UNCONDITIONAL,) if composed is None else composed.conditions
    gallery = joined(np.stack([table.vectors(name, every) for name in conditions], axis=1))
    if composed is not None and composed.captions is not None and composed.share:
        said = composed.captions.vectors(UNCONDITIONAL, every)
        gallery = (1 - composed.share) * gallery + composed.share * said
    block = max(1, _BLOCK // max(1, len(every)))
    for start in range(0, len(part.queries), block):
        some = part.queries[start : start + block]
        if composed is None:
            asked = _asked(some, table, composer)
        else:
            asked = composed.vectors[part.name][start : start + block]
        scores = likenesses(asked, gallery, table.parts)
        for row, query in enumerate(some):
            ids = part.gallery if query.gallery is None else query.gallery
            yield start + row, ids, scores[row, [column[key] for key in ids]]


def _asked(queries: Sequence[Query], table: Table | Seeded, composer: str) -> Vectors:
    """The queries' vectors: float32 [queries, dim]."""
    if isinstance(table, Seeded):
        return table.vectors(UNCONDITIONAL, [query.id for query in queries], "questions")
    images = [query.image for query in queries]
    if composer == IMAGE:
        return table.vectors(UNCONDITIONAL, images)
    said = _said(queries, table)
    if composer == TEXT:
        return said
    return unit(table.vectors(UNCONDITIONAL, images) + said)


def _said(queries: Sequence[Query], table: Table) -> Vectors:
    """Vectors of the queries' texts; of those said in several ways, the mean's direction."""
    ways = [(query.text, *query.otherwise) for query in queries]
    every = table.vectors(UNCONDITIONAL, [text for texts in ways for text in texts], TEXTS)
    if len(every) == len(ways):
        return every
    starts = np.cumsum([0, *(len(texts) for texts in ways[:-1])])
    return unit(np.add.reduceat(every, starts, axis=0))


def _by_condition(part: Part, table: Table | Seeded) -> _Scored:
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
            rows = gallery[[column[key] for key in ids]]
            yield number, ids, likenesses(vector[None], rows, table.parts)[0]


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
