"""Judges every condition by every label: a search by color finds color, and not shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.labels import Labels, Triplet, match_files
from eval.metrics.blocks import by_value, itself, itself_and_alike, judge_all
from eval.metrics.definitions import (
    Measure as Measure,  # its home until lately; others import it here
)
from eval.metrics.definitions import balanced_mean, triplet_accuracy
from eval.metrics.names import metric
from indexes.errors import UsageError
from indexes.search.vectors import Vectors
from indexes.store.records import VectorColumn
from ingest.conditions import same_name
from query.engine import Engine

SCHEMA_VERSION = 1

#: What is measured, in this order.
METRICS = ("P@1", "recall@10", "MAP@R", "balanced MAP@R")

_MEASURED = {"P@1": "P@1", "recall@10": "recall@10 (hit)", "MAP@R": "MAP@R"}


@dataclass(frozen=True)
class Cell:
    """One condition judged by one label.

    Attributes:
        condition: searched under.
        label: judged by.
        own: whether the label is what the condition asks for.
        queries: pictures whose label is known and shared by another.
        metrics: one of each of :data:`METRICS`.
    """

    condition: str
    label: str
    own: bool
    queries: int
    metrics: Mapping[str, Measure]


@dataclass(frozen=True)
class Matrix:
    """All cells, with what they were measured on.

    Attributes:
        conditions: rows.
        labels: columns.
        cells: row by row.
        pictures: pictures of the gallery that the label file names.
        unmatched: files of the label file that are not in the gallery.
        left_out: the column whose equal values were left out of each query's ranking, if any.
    """

    conditions: tuple[str, ...]
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    pictures: int
    unmatched: int
    left_out: str | None

    def cell(self, condition: str, label: str) -> Cell:
        """One cell by names."""
        return next(c for c in self.cells if (c.condition, c.label) == (condition, label))

    def to_json(self) -> dict[str, Any]:
        """The document that ``cies eval --json`` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "protocol": {
                "ranking": "cosine, every labelled picture against all others of the label file",
                "query": "left out of its own ranking",
                "left_out": self.left_out,
                "unknown_label": "left out as query and as candidate",
                "P@1": "share of queries whose nearest picture has their label",
                "recall@10": "share of queries with their label among the first 10 (hit rate)",
                "MAP@R": "mean over queries of (1/R) sum of P(i) rel(i) for i up to R",
                "mean": "over queries; balanced: over the label's values",
                "chance": "expectation under a random ranking",
                "ties": "in expectation over all orders of equal scores",
            },
            "pictures": self.pictures,
            "unmatched": self.unmatched,
            "cells": [
                {
                    "condition": cell.condition,
                    "label": cell.label,
                    "own": cell.own,
                    "queries": cell.queries,
                    "metrics": {name: m.to_json() for name, m in cell.metrics.items()},
                }
                for cell in self.cells
            ],
        }


def judge(
    vectors: Vectors,
    labels: Mapping[str, NDArray[np.int64]],
    classes: NDArray[np.int64] | None = None,
) -> dict[str, tuple[int, dict[str, Measure]]]:
    """Measure one condition's vectors by some labels, ties in expectation.

    Args:
        vectors: float32 [n, dim], unit rows.
        labels: name to int64 [n], the label's value of each picture, all known.
        classes: int64 [n]; others with the query's class are left out of its ranking, unless
            it is -1.

    Returns:
        For each label the number of queries that had something to find, and the measures.
    """
    right = {name: by_value(values) for name, values in labels.items()}
    left_out = itself if classes is None else itself_and_alike(classes)
    measured = [metric(name) for name in _MEASURED.values()]
    judged = {}
    for name, found in judge_all(vectors, vectors, right, measured, left_out).items():
        if len(found.queries):
            value, chance = found.values, found.chance
            measures = {
                shown: Measure(float(value[one].mean()), float(chance[one].mean()))
                for shown, one in _MEASURED.items()
            }
            # A mean over the label's values, each of equal weight however common.
            of = labels[name][found.queries]
            measures["balanced MAP@R"] = Measure(
                balanced_mean(value["MAP@R"], of), balanced_mean(chance["MAP@R"], of)
            )
            judged[name] = (len(found.queries), measures)
    return judged


def _select(column: VectorColumn, keys: Sequence[str]) -> Vectors:
    rows = {key: row for row, key in enumerate(column.keys)}
    missing = [key for key in keys if key not in rows]
    if missing:
        raise UsageError(
            f"{len(missing)} labelled pictures are not embedded under every condition; run "
            "`cies ingest` on their folder again."
        )
    chosen: Vectors = column.vectors[[rows[key] for key in keys]]
    return chosen


def evaluate(engine: Engine, labels: Labels, left_out: str | None = None) -> Matrix:
    """Judge every condition of a gallery by every label.

    Args:
        engine: over the gallery.
        labels: of its pictures.
        left_out: a column; pictures with the query's value of it are not ranked, because they
            are views of one thing (the same product again).

    Raises:
        UsageError: if the label file does not fit the gallery.
    """
    keys_of = {path: key for key, paths in engine.gallery.paths().items() for path in paths}
    matched = match_files(labels.values, keys_of, labels.path)
    if left_out is not None and left_out not in labels.columns:
        raise UsageError(
            f"{labels.path} has no column '{left_out}' to leave out; it has "
            f"{', '.join(labels.columns)}."
        )
    conditions = engine.names()
    names = [name for name in labels.columns if name != left_out]
    known = {name: [f for f in matched if labels.values[f][name]] for name in names}
    cells = []
    for condition in conditions:
        column = engine.vectors(condition)
        judged: dict[str, tuple[int, dict[str, Measure]]] = {}
        # Labels known for the same pictures share their rankings.
        for files in {tuple(files) for files in known.values() if files}:
            vectors = _select(column, [keys_of[matched[file]] for file in files])
            values = {
                name: _numbers([labels.values[file][name] for file in files])
                for name in names
                if tuple(known[name]) == files
            }
            classes = None
            if left_out is not None:
                classes = _numbers([labels.values[file][left_out] for file in files])
            judged.update(judge(vectors, values, classes))
        for name in names:
            if name in judged:
                own = same_name(condition, name)
                cells.append(Cell(condition, name, own, *judged[name]))
    present = {cell.label for cell in cells}
    return Matrix(
        tuple(conditions),
        tuple(name for name in names if name in present),
        tuple(cells),
        len(matched),
        len(labels.values) - len(matched),
        left_out,
    )


def _numbers(values: Sequence[str]) -> NDArray[np.int64]:
    """Values as numbers; an empty value, unknown, is -1."""
    known = {value: number for number, value in enumerate(sorted(set(values) - {""}))}
    return np.array([known.get(value, -1) for value in values], dtype=np.int64)


@dataclass(frozen=True)
class TripletScore:
    """Share of one pair's triplets that a condition gets right; 0.5 ignores the condition."""

    pair: str
    condition: str
    triplets: int
    accuracy: float


def evaluate_triplets(
    engine: Engine, triplets: Sequence[Triplet], source: Any
) -> list[TripletScore]:
    """Triplet accuracy of each pair and condition that the gallery has.

    Args:
        engine: over the gallery.
        triplets: from :func:`eval.labels.read_triplets`.
        source: the triplet file, for messages.

    Raises:
        UsageError: if the file does not fit the gallery.
    """
    keys_of = {path: key for key, paths in engine.gallery.paths().items() for path in paths}
    names = {name for t in triplets for name in (t.query, t.positive, t.negative)}
    matched = match_files(sorted(names), keys_of, source)
    conditions = engine.names()
    scores = []
    for pair, asked in sorted({(t.pair, t.condition) for t in triplets}):
        own = next((c for c in conditions if same_name(c, asked)), None)
        if own is None:
            continue
        column = engine.vectors(own)
        chosen = [t for t in triplets if (t.pair, t.condition) == (pair, asked)]
        chosen = [t for t in chosen if {t.query, t.positive, t.negative} <= matched.keys()]

        query, positive, negative = (
            _select(column, [keys_of[matched[getattr(t, side)]] for t in chosen])
            for side in ("query", "positive", "negative")
        )
        near = np.einsum("nd,nd->n", query, positive)
        far = np.einsum("nd,nd->n", query, negative)
        scores.append(TripletScore(pair, asked, len(chosen), triplet_accuracy(near, far)))
    return scores
