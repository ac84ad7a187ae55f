"""Builds the hits of a ranking: which pictures, in which order, with which notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from query.examples import Example, ExampleEmbedder
from query.filters.filters import PICTURE_COLUMNS, Allowed, Row
from query.hits import Hit, Hits, Query
from query.open_gallery import OpenGallery
from query.open_tables import OpenCondition
from query.question import SORT, Question
from query.ranking.combination import common_rows
from query.ranking.ranking import Ranking


def build_hits(
    opened: OpenGallery,
    question: Question,
    ranking: Ranking,
    query: Query,
    notes: tuple[str, ...] = (),
) -> Hits:
    """The hits of a question.

    Args:
        opened: the gallery.
        question: the question; its filters are applied here.
        ranking: the ranking of the gallery's pictures.
        query: what the result says about the question.
        notes: notes for the user, a sentence each; more may be added.

    Raises:
        UsageError: if a filter is wrong, or duplicates cannot be grouped.
    """
    table = ranking.table
    columns = _check_columns(opened, question)
    mask, allowed = None, None
    if question.where is not None or question.exclude_same is not None:
        shown = zip(query.keys, query.images, strict=True)
        examples = {key: name for key, name in shown if key}
        allowed = opened.filters.allowed(table, question.where, question.exclude_same, examples)
        mask = allowed.mask
    elif question.offset is not None:
        # Only a comparison with every vector gives the same order whatever the number of hits.
        mask = np.ones(len(table), dtype=np.bool_)

    seen = (*query.keys, *query.like, *query.dislike)
    example_rows = frozenset(row for key in seen if (row := table.row(key)) is not None)
    duplicates: dict[int, list[int]] = {}
    start = question.offset or 0
    if question.group_duplicates:
        found = _best_of_groups(opened, question, ranking, mask, example_rows)
        rows, scores, duplicates = found
    else:
        rows, scores = ranking.best(question.k + start, mask, example_rows)
    percentiles = ranking.percentiles(rows, scores)[start:]
    rows, scores = rows[start:], scores[start:]
    hits, missing = [], 0
    for rank, (row, score, percentile) in enumerate(
        zip(rows.tolist(), scores.tolist(), percentiles.tolist(), strict=True), start=start + 1
    ):
        if percentile < question.min_percentile:
            continue
        word, probability = ranking.word(row)
        path, exists = _path(opened, table.keys[row], allowed)
        missing += not exists
        hits.append(
            Hit(
                rank=rank,
                key=table.keys[row],
                path=path,
                score=score,
                percentile=percentile,
                word=word,
                word_probability=probability,
                parts=ranking.parts(row),
                duplicates=tuple(
                    _path(opened, table.keys[other], allowed)[0]
                    for other in duplicates.get(row, ())
                ),
            )
        )
    hits = _with_columns(opened, hits, columns, allowed)
    if question.min_percentile and len(rows) and not hits:
        notes = (
            *notes,
            f"All {len(rows)} hits lie below the percentile {question.min_percentile:g}; the "
            f"best is at {float(percentiles.max()):.1f}.",
        )
    folded = sum(len(hit.duplicates) for hit in hits)
    if folded:
        notes = (*notes, f"{folded} near-duplicates are folded into the hits most like them.")
    if missing:
        notes = (
            *notes,
            f"{missing} of these files {'is' if missing == 1 else 'are'} not there now; connect "
            "the drive, or run `cies ingest` or `cies relocate OLD NEW` if they were moved.",
        )
    # Scores between texts and pictures are lower throughout, and no threshold was measured there.
    unlike_all = bool(len(rows)) and not question.text
    unlike_all = unlike_all and bool(percentiles.max() < question.alike_above)
    ordered = tuple(_sorted(opened, question.sort, hits, allowed))
    return Hits(query, ordered, unlike_all, question.alike_above, notes)


def _best_of_groups(
    opened: OpenGallery,
    question: Question,
    ranking: Ranking,
    mask: NDArray[np.bool_] | None,
    excluded: frozenset[int],
) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[int, list[int]]]:
    """The best picture of each group of near-duplicates.

    Returns:
        Rows, their scores, and for each row the rows of its near-duplicates.

    Raises:
        UsageError: if some picture is not embedded under one of the gallery's conditions, which
            together decide what a near-duplicate is.
    """
    from query.explore.duplicates import duplicate_groups

    names = opened.resolver.names()
    tables = [opened.tables.open_table(opened.resolver.resolve(name)) for name in names]
    tables = [ranking.table, *tables]
    common = common_rows(tables).shape[1]
    if any(len(table) != common for table in tables):
        raise UsageError(
            "Not all pictures are embedded under all conditions of the gallery, by which "
            "near-duplicates are known; run `cies ingest`, or leave --group-dupes out."
        )
    wanted = question.k + (question.offset or 0)
    count = 4 * wanted
    while True:
        rows, scores = ranking.best(count, mask, excluded)
        candidates = np.zeros(len(ranking.table), dtype=np.bool_)
        candidates[rows] = True
        group_of = {
            row: number
            for number, group in enumerate(duplicate_groups(tables, allowed=candidates))
            for row in group
        }
        best_of: dict[int, int] = {}
        duplicates: dict[int, list[int]] = {}
        positions = []
        for position, row in enumerate(rows.tolist()):
            group = group_of.get(row, -1 - row)
            if group in best_of:
                duplicates.setdefault(best_of[group], []).append(row)
            else:
                best_of[group] = row
                positions.append(position)
        if len(positions) >= wanted or len(rows) < count:
            positions = positions[:wanted]
            return rows[positions], scores[positions], duplicates
        count *= 4


def _path(opened: OpenGallery, key: str, allowed: Allowed | None) -> tuple[str, bool]:
    """A picture's path: of its files that pass the filter, the first that exists; and whether one
    does.
    """
    paths = opened.paths.get(key) or []
    if allowed is not None:
        paths = allowed.paths_of(key) or paths
    return opened.existing(paths)


def _check_columns(opened: OpenGallery, question: Question) -> tuple[str, ...]:
    """The columns that hits carry.

    Raises:
        UsageError: if there is no such column, here or to sort by.
    """
    if question.sort not in SORT:
        known = [*SORT, *opened.filters.user_columns, *PICTURE_COLUMNS]
        opened.filters.check_columns([question.sort.removeprefix("-")], "--sort", known)
    if question.show is None:
        return tuple(opened.filters.user_columns)
    opened.filters.check_columns(question.show, "--show")
    return question.show


def _rows_of(
    opened: OpenGallery, hits: Sequence[Hit], columns: Sequence[str], allowed: Allowed | None
) -> list[list[Row]]:
    """The rows of each hit that pass the filter, at least one each."""
    if allowed is not None:
        # A row that does not pass the filter is not why its picture was found.
        table = allowed.files.table.select(list(columns))
        return [table.take(allowed.rows(hit.key)).to_pylist() for hit in hits]
    paths = [opened.paths.get(hit.key) or [] for hit in hits]
    return opened.filters.columns_of(paths, columns, [hit.key for hit in hits])


def _with_columns(
    opened: OpenGallery, hits: list[Hit], columns: Sequence[str], allowed: Allowed | None
) -> list[Hit]:
    """Hits with the values of columns."""
    if not columns:
        return hits
    rows = _rows_of(opened, hits, columns, allowed)
    return [
        replace(hit, columns=own[0], rows=tuple(own)) for hit, own in zip(hits, rows, strict=True)
    ]


def _sorted(opened: OpenGallery, order: str, hits: list[Hit], allowed: Allowed | None) -> list[Hit]:
    """Hits in one of the orders :data:`query.question.SORT`, or in that of a column."""
    if order == "score":
        return hits
    if order == "path":
        return sorted(hits, key=lambda hit: hit.path)
    descending = order == "date" or order.startswith("-")
    column = "taken_at" if order == "date" else order.removeprefix("-")
    value_of = {
        hit.key: own[0][column]
        for hit, own in zip(hits, _rows_of(opened, hits, [column], allowed), strict=True)
    }
    known = [hit for hit in hits if value_of[hit.key] is not None]
    known.sort(key=lambda hit: value_of[hit.key], reverse=descending)
    return [*known, *(hit for hit in hits if value_of[hit.key] is None)]


def describe_query(
    question: Question,
    methods: Sequence[Sequence[OpenCondition]],
    examples: Sequence[Example],
    embedder: ExampleEmbedder,
) -> Query:
    """What a result says about its question.

    Args:
        question: the question.
        methods: for each method, its conditions.
        examples: the question's examples.
        embedder: knows the keys of the rated pictures.
    """
    conditions = methods[0]
    alike = {one.resolved.name: one.weight for one in conditions if one.weight > 0}
    unlike = {one.resolved.name: -one.weight for one in conditions if one.weight < 0}
    resolved = [one.resolved for conditions_of in methods for one in conditions_of]
    first = examples[0]
    query = Query(
        image=first.shown,
        condition=next(iter(alike)) if len(conditions) == 1 else _line(alike, unlike),
        key=first.key,
        in_gallery=all(example.in_gallery for example in examples),
        word=first.words[0],
        word_probability=first.word_probabilities[0],
        text=question.text,
        conditions=alike,
        unlike=unlike,
        combine=question.combine,
        crop=str(question.region or ""),
        where=question.where or "",
        exclude_same=question.exclude_same or "",
        sort=question.sort,
        by=" ".join(f"{column}={value}" for column, value in question.by),
        offset=question.offset or 0,
        like=embedder.keys(question.like),
        dislike=embedder.keys(question.dislike),
        feedback=question.feedback if question.like or question.dislike else "",
        method=_unique(one.method for one in resolved),
        model=_unique(one.model for one in resolved),
        view=any(one.projection is not None for one in resolved),
    )
    if question.text:
        return query
    return replace(
        query,
        images=tuple(example.shown for example in examples),
        keys=tuple(example.key for example in examples),
    )


def _unique(names: Iterable[str]) -> str:
    """Different names in one line."""
    return " + ".join(dict.fromkeys(names))


def _line(alike: Mapping[str, float], unlike: Mapping[str, float]) -> str:
    """Weighted conditions in one line: ``shape=2 color not size``."""

    def part(name: str, weight: float) -> str:
        return name if weight == 1 else f"{name}={weight:g}"

    wanted = " ".join(part(name, weight) for name, weight in alike.items())
    return " ".join([wanted, *(f"not {part(name, weight)}" for name, weight in unlike.items())])
