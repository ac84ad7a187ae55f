"""Ranks the candidates of query tasks and stores the best answers with their scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.runs.baselines import RandomVectors, SystemVectors
from eval.runs.files import damaged_file, read_arrays, write_arrays
from eval.runs.run import DEPTH, IMAGE
from eval.runs.vectors import TEXTS, RunVectors
from eval.tasks import QueryTask, TaskPart, TaskQuery
from indexes.search.multi_vector import joined, similarities
from indexes.vectors import Vectors, unit
from ingest.conditions import UNCONDITIONAL

#: Names of the baselines that need stored vectors only; a fourth is
#: :data:`eval.runs.run.IMAGE`.
TEXT, SUM, CONDITION = "text", "sum", "condition"

#: Scores in memory at once.
_BLOCK = 20_000_000


@dataclass(frozen=True)
class Answers:
    """One system's answers to all queries of a task, in the task's order.

    Attributes:
        offsets: int64 [queries + 1], where each query's answers start in ``found``.
        found: int32, numbers of pictures in the order of the task's images. First the best
            answers by falling score, then those right answers and members of the query's group
            that are not among the best.
        scores: float32, the score of each picture in ``found``.
        heads: int32 [queries], how many are best answers.
        candidates: int32 [queries], how many pictures were ranked.
    """

    offsets: NDArray[np.int64]
    found: NDArray[np.int32]
    scores: NDArray[np.float32]
    heads: NDArray[np.int32]
    candidates: NDArray[np.int32]

    def of_query(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.float32], int]:
        """Return one query's answers, best first.

        Returns:
            Picture numbers int32 [answers], scores float32 [answers], and how many are best
            answers.
        """
        rows = slice(int(self.offsets[number]), int(self.offsets[number + 1]))
        return self.found[rows], self.scores[rows], int(self.heads[number])

    def save(self, path: Path) -> None:
        """Write the answers to an ``.npz`` file."""
        write_arrays(path, vars(self))

    @classmethod
    def load(cls, path: Path, queries: int) -> Answers:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.
            queries: the number of queries that it must have.

        Raises:
            CiesError: if the file is damaged, missing, or of another task.
        """
        arrays = read_arrays(path)
        try:
            answers = cls(**arrays)
        except TypeError as error:
            raise damaged_file(path) from error
        if len(answers.heads) != queries or answers.offsets[-1] != len(answers.found):
            raise damaged_file(path)
        return answers


@dataclass(frozen=True)
class QueryVectors:
    """The vectors that a composer made of a task's queries.

    Attributes:
        vectors: part's name to float32 [its queries, dim], unit rows, in the part's order.
        captions: vectors of the pictures' captions; ``None`` if they do not count.
        share: weight of the similarity to captions, 0 to 1; the rest is the similarity to
            pictures.
        conditions: under which pictures are compared. Under several the mean cosine counts, and
            the vectors of a query are joined as in :mod:`indexes.search.multi_vector`.
    """

    vectors: Mapping[str, Vectors]
    captions: SystemVectors | None = None
    share: float = 0.0
    conditions: tuple[str, ...] = (UNCONDITIONAL,)


def queries_of(task: QueryTask) -> list[tuple[TaskPart, TaskQuery]]:
    """Return all queries in order, each with its part."""
    return [(part, query) for part in task.parts for query in part.queries]


def rank_queries(
    task: QueryTask,
    table: SystemVectors,
    composer: str,
    composed: QueryVectors | None = None,
    depth: int = DEPTH,
) -> Answers:
    """Rank every query's candidates by the cosine with the query's vector.

    Of rows of several parts the best counts, as in :mod:`indexes.search.multi_vector`.

    Args:
        task: the queries.
        table: vectors of its pictures and texts.
        composer: ``image``, ``text``, ``sum`` (of both unit vectors), ``condition`` (pictures
            under the text as a condition), or a composer's name.
        composed: the vectors that this composer made of the queries.
        depth: best answers to keep.

    Raises:
        CiesError: if vectors are missing.
    """
    number_of = {key: number for number, key in enumerate(task.images)}
    ranked: list[_RankedQuery] = []
    for part in task.parts:
        if composer == CONDITION:
            scored = _scores_under_conditions(part, table)
        else:
            scored = _scores_without_condition(part, table, composer, composed)
        found = {
            number: _best_answers(part.queries[number], ids, scores, number_of, depth)
            for number, ids, scores in scored
        }
        ranked += [found[number] for number in range(len(part.queries))]
    lengths = [len(query.found) for query in ranked]
    return Answers(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([query.found for query in ranked]),
        np.concatenate([query.scores for query in ranked]),
        np.array([query.head for query in ranked], dtype=np.int32),
        np.array([query.candidates for query in ranked], dtype=np.int32),
    )


@dataclass(frozen=True)
class _RankedQuery:
    found: NDArray[np.int32]
    scores: NDArray[np.float32]
    head: int
    candidates: int


#: A query's number in its part, its candidates, and their scores.
_Scored = Iterator[tuple[int, Sequence[str], NDArray[np.float32]]]


def _scores_without_condition(
    part: TaskPart, table: SystemVectors, composer: str, composed: QueryVectors | None
) -> _Scored:
    """Score the candidates of all queries over vectors without a condition, block by block."""
    own_galleries = (key for query in part.queries for key in query.gallery or ())
    every = list(dict.fromkeys((*part.gallery, *own_galleries)))
    column = {key: number for number, key in enumerate(every)}
    conditions = (UNCONDITIONAL,) if composed is None else composed.conditions
    gallery = joined(np.stack([table.vectors(name, every) for name in conditions], axis=1))
    if composed is not None and composed.captions is not None and composed.share:
        captions = composed.captions.vectors(UNCONDITIONAL, every)
        gallery = (1 - composed.share) * gallery + composed.share * captions
    block = max(1, _BLOCK // max(1, len(every)))
    for start in range(0, len(part.queries), block):
        queries = part.queries[start : start + block]
        if composed is None:
            vectors = _query_vectors(queries, table, composer)
        else:
            vectors = composed.vectors[part.name][start : start + block]
        scores = similarities(vectors, gallery, table.parts)
        for row, query in enumerate(queries):
            ids = part.gallery if query.gallery is None else query.gallery
            yield start + row, ids, scores[row, [column[key] for key in ids]]


def _query_vectors(queries: Sequence[TaskQuery], table: SystemVectors, composer: str) -> Vectors:
    """Return the queries' vectors: float32 [queries, dim]."""
    if isinstance(table, RandomVectors):
        return table.vectors(UNCONDITIONAL, [query.id for query in queries], "questions")
    images = [query.image for query in queries]
    if composer == IMAGE:
        return table.vectors(UNCONDITIONAL, images)
    texts = _text_vectors(queries, table)
    if composer == TEXT:
        return texts
    return unit(table.vectors(UNCONDITIONAL, images) + texts)


def _text_vectors(queries: Sequence[TaskQuery], table: RunVectors) -> Vectors:
    """Return vectors of the queries' texts; the unit mean if there are several wordings."""
    wordings = [(query.text, *query.rewordings) for query in queries]
    every = table.vectors(UNCONDITIONAL, [text for texts in wordings for text in texts], TEXTS)
    if len(every) == len(wordings):
        return every
    starts = np.cumsum([0, *(len(texts) for texts in wordings[:-1])])
    return unit(np.add.reduceat(every, starts, axis=0))


def _scores_under_conditions(part: TaskPart, table: SystemVectors) -> _Scored:
    """Score each query's candidates over vectors under the query's text as the condition."""
    groups: dict[str, list[int]] = {}
    for number, query in enumerate(part.queries):
        groups.setdefault(query.text, []).append(number)
    for condition, numbers in groups.items():
        galleries = [part.queries[n].gallery or part.gallery for n in numbers]
        every = list(dict.fromkeys(key for ids in galleries for key in ids))
        column = {key: number for number, key in enumerate(every)}
        gallery = table.vectors(condition, every)
        vectors = table.vectors(condition, [part.queries[n].image for n in numbers])
        for number, ids, vector in zip(numbers, galleries, vectors, strict=True):
            rows = gallery[[column[key] for key in ids]]
            yield number, ids, similarities(vector[None], rows, table.parts)[0]


def _best_answers(
    query: TaskQuery,
    ids: Sequence[str],
    scores: NDArray[np.float32],
    number_of: Mapping[str, int],
    depth: int,
) -> _RankedQuery:
    """Return the best answers, then the remaining right answers and members of the group."""
    if query.exclude:
        excluded = set(query.exclude)
        allowed = [number for number, key in enumerate(ids) if key not in excluded]
        ids, scores = [ids[number] for number in allowed], scores[allowed]
    order = np.argsort(-scores, kind="stable")
    head = min(depth, len(order))
    needed = set(query.relevant) | set(query.group)
    others = [number for number in order[head:] if ids[number] in needed] if needed else []
    chosen = np.concatenate([order[:head], np.array(others, dtype=np.int64)])
    return _RankedQuery(
        np.array([number_of[ids[number]] for number in chosen], dtype=np.int32),
        scores[chosen].astype(np.float32),
        head,
        len(order),
    )
