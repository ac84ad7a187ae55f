"""Makes the answer of a ranking: which hits, in which order, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from indexes.store.gallery import Gallery
from query.examples import Example
from query.explore.duplicates import duplicate_groups
from query.filters.filters import Allowed
from query.hits import Hit, Hits, Query
from query.question import Question
from query.ranking.combination import Term, common_rows
from query.ranking.ranking import Ranking
from query.resolver import ResolvedCondition


@dataclass(frozen=True)
class Asked:
    """One condition of a question, as one method answers it.

    Attributes:
        resolved: the method and its table.
        term: the open table and the condition's weight.
    """

    resolved: ResolvedCondition
    term: Term


class Places(Protocol):
    """Knows where pictures lie, as the engine does."""

    gallery: Gallery

    def path(self, key: str) -> str:
        """Where a picture lies on this machine."""
        ...

    def names(self, method: str | None = None) -> list[str]:
        """The conditions that are embedded as a whole, by one maker."""
        ...

    def opened(self, condition: str, method: str | None = None) -> OpenTable:
        """A condition's table, open for search."""
        ...


class Answer:
    """One question's answer in the making."""

    def __init__(
        self,
        places: Places,
        question: Question,
        ranking: Ranking,
        allowed: Allowed | None,
    ):
        """Rank nothing yet.

        Args:
            places: where pictures lie.
            question: what was asked.
            ranking: of the pictures.
            allowed: what may be found; ``None`` for everything.
        """
        self._places = places
        self._question = question
        self._table = ranking.table
        self._ranking = ranking
        self._allowed = allowed

    def hits(self, query: Query, notes: tuple[str, ...] = ()) -> Hits:
        """The hits, with what is said of them."""
        question = self._question
        own = frozenset(row for key in query.keys if (row := self._table.row(key)) is not None)
        mask = None if self._allowed is None else self._allowed.mask(self._table.keys)
        folded: dict[int, list[int]] = {}
        if question.group_duplicates:
            rows, scores, folded = self._grouped(mask, own)
        else:
            rows, scores = self._ranking.best(question.k, mask, own)
        percentiles = self._ranking.percentiles(rows, scores)
        # A text's likeness to pictures is lower throughout, and no measure of this was taken.
        nothing = bool(len(rows)) and not question.text
        nothing = nothing and bool(percentiles.max() < question.alike_above)
        words = [self._ranking.word(int(row)) for row in rows]
        found = [
            Hit(
                rank=rank,
                key=self._table.keys[row],
                path=self._path(self._table.keys[row]),
                score=float(score),
                percentile=float(percentile),
                word=words[rank - 1][0],
                word_probability=words[rank - 1][1],
                parts=self._ranking.parts(int(row)),
                duplicates=tuple(self._path(self._table.keys[r]) for r in folded.get(int(row), ())),
            )
            for rank, (row, score, percentile) in enumerate(
                zip(rows, scores, percentiles, strict=True), start=1
            )
            if percentile >= question.min_percentile
        ]
        if question.min_percentile and len(rows) and not found:
            notes = (
                *notes,
                f"All {len(rows)} hits lie below the percentile {question.min_percentile:g}; the "
                f"best is at {float(percentiles.max()):.1f}.",
            )
        hidden = sum(len(hit.duplicates) for hit in found)
        if hidden:
            notes = (*notes, f"{hidden} near-duplicates are folded into the hits most like them.")
        ordered = tuple(self._sorted(found))
        return Hits(query, ordered, nothing, question.alike_above, notes)

    def _grouped(
        self, mask: NDArray[np.bool_] | None, own: frozenset[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[int, list[int]]]:
        """The best of each group of near-duplicates, and the rows folded into each.

        Raises:
            UsageError: if not all pictures are embedded under all of the gallery's conditions,
                by which together near-duplicates are known.
        """
        names = self._places.names()
        tables = [self._table, *(self._places.opened(name) for name in names)]
        common = common_rows(tables).shape[1]
        if any(len(table) != common for table in tables):
            raise UsageError(
                "Not all pictures are embedded under all conditions of the gallery, by which "
                "near-duplicates are known; run `cies ingest`, or leave --group-dupes out."
            )
        take = 4 * self._question.k
        while True:
            rows, scores = self._ranking.best(take, mask, own)
            among = np.zeros(len(self._table), dtype=np.bool_)
            among[rows] = True
            group_of = {
                row: number
                for number, group in enumerate(duplicate_groups(tables, allowed=among))
                for row in group
            }
            first: dict[int, int] = {}
            folded: dict[int, list[int]] = {}
            kept = []
            for place, row in enumerate(rows.tolist()):
                group = group_of.get(row, -1 - row)
                if group in first:
                    folded.setdefault(first[group], []).append(row)
                else:
                    first[group] = row
                    kept.append(place)
            if len(kept) >= self._question.k or len(rows) < take:
                kept = kept[: self._question.k]
                return rows[kept], scores[kept], folded
            take *= 4

    def _path(self, key: str) -> str:
        if self._allowed is None:
            return self._places.path(key)
        return self._places.gallery.location(self._allowed.paths[key])

    def _sorted(self, hits: list[Hit]) -> list[Hit]:
        if self._question.sort == "path":
            return sorted(hits, key=lambda hit: hit.path)
        if self._question.sort == "date":
            wanted = {hit.key for hit in hits}
            images = self._places.gallery.images()
            taken = {i.key: i.taken_at for i in images if i.key in wanted}
            dates = {key: at for key, at in taken.items() if at is not None}
            return sorted(hits, key=lambda hit: (hit.key not in dates, -dates.get(hit.key, 0)))
        return hits


def query_of(
    question: Question, methods: Sequence[Sequence[Asked]], examples: Sequence[Example]
) -> Query:
    """What was asked, as the answer says it.

    Args:
        question: what was asked.
        methods: of each method the conditions, as it answers them.
        examples: what was asked with.
    """
    asked = methods[0]
    wanted = {one.resolved.name: one.term.weight for one in asked if one.term.weight > 0}
    unlike = {one.resolved.name: -one.term.weight for one in asked if one.term.weight < 0}
    resolver = [one.resolved for own in methods for one in own]
    first = examples[0]
    query = Query(
        image=first.shown,
        condition=next(iter(wanted)) if len(asked) == 1 else _line(wanted, unlike),
        key=first.key,
        in_gallery=all(example.in_gallery for example in examples),
        word=first.words[0],
        word_probability=first.word_probabilities[0],
        text=question.text,
        conditions=wanted,
        unlike=unlike,
        combine=question.combine,
        crop=str(question.region or ""),
        where=question.where or "",
        exclude_same=question.exclude_same or "",
        sort=question.sort,
        method=_joined(resolved.method for resolved in resolver),
        model=_joined(resolved.model for resolved in resolver),
        view=any(resolved.view is not None for resolved in resolver),
    )
    if question.text:
        return query
    return replace(
        query,
        images=tuple(example.shown for example in examples),
        keys=tuple(example.key for example in examples),
    )


def _joined(names: Iterable[str]) -> str:
    """Different names in one line."""
    return " + ".join(dict.fromkeys(names))


def _line(wanted: dict[str, float], unlike: dict[str, float]) -> str:
    """Weighted conditions as one line: ``shape=2 color not size``."""

    def part(name: str, weight: float) -> str:
        return name if weight == 1 else f"{name}={weight:g}"

    alike = " ".join(part(name, weight) for name, weight in wanted.items())
    return " ".join([alike, *(f"not {part(name, weight)}" for name, weight in unlike.items())])
