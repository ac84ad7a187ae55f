"""Judges a gallery: every condition by every label, and by triplets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.judge import (
    LabelCell,
    LabelJudge,
    LabelMatrix,
    VectorsOf,
    judge_conditions,
    judge_triplets,
)
from eval.labels import Labels, Triplet, match_files
from eval.metrics.clustering import cluster_agreement, is_feasible, missing_libraries
from indexes.errors import UsageError
from indexes.vectors import Vectors
from ingest.conditions import same_name

if TYPE_CHECKING:
    from query.engine import Engine

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class GalleryMatrix(LabelMatrix):
    """The matrix of a gallery, with what it was measured on.

    Attributes:
        pictures: pictures of the gallery that the label file names.
        unmatched: files of the label file that are not in the gallery.
        unmeasured: labels that were left out, because no two pictures share a value of them.
        left_out: the column whose equal values were left out of each query's ranking, if any.
        unclustered: why NMI and AMI of some cells were not measured, as one sentence; empty if
            nothing was left out.
    """

    pictures: int
    unmatched: int
    unmeasured: tuple[str, ...]
    left_out: str | None
    unclustered: str = ""

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
                "precision@10": "share of the first 10 that have the query's label",
                "recall@10": "share of queries with their label among the first 10 (hit rate)",
                "MAP@R": "mean over queries of (1/R) sum of P(i) rel(i) for i up to R",
                "mean": "over queries; balanced: over the label's values",
                "chance": "expectation under a random ranking",
                "interval": "95 % percentile bootstrap over queries, 1000 resamples",
                "ties": "in expectation over all orders of equal scores",
                "NMI": "of the labels and as many FAISS k-means clusters (20 iterations, seed "
                "1234), over the mean of the entropies; chance is the mean over shuffled labels",
                "AMI": "of the same clusters, adjusted: 0 by chance",
            },
            "pictures": self.pictures,
            "unmatched": self.unmatched,
            "unmeasured": list(self.unmeasured),
            "cells": [
                {
                    "condition": cell.condition,
                    "label": cell.label,
                    "own": cell.own,
                    "queries": cell.queries,
                    "metrics": {name: m.to_json() for name, m in cell.metrics.items()},
                    "clusters": None if cell.clusters is None else cell.clusters.to_json(),
                }
                for cell in self.cells
            ],
        }


def evaluate(
    engine: Engine, labels: Labels, left_out: str | None = None, pairs: bool = False
) -> GalleryMatrix:
    """Judge every condition of a gallery by every label.

    Args:
        engine: over the gallery.
        labels: the labels of its pictures.
        left_out: a column; pictures with the query's value of it are not ranked, because they
            show the same thing (the same product again).
        pairs: measure NMI and AMI of every condition and label, not only of a condition and its
            own label. They are left out without FAISS or scikit-learn.

    Raises:
        UsageError: if the label file does not fit the gallery.
    """
    key_by_path = keys_by_path(engine)
    matched = match_files(labels.values, key_by_path, labels.path)
    if left_out is not None and left_out not in labels.columns:
        raise UsageError(
            f"{labels.path} has no column '{left_out}' to leave out; it has "
            f"{', '.join(labels.columns)}."
        )
    groups = {}
    if left_out is not None:
        groups = {f: labels.values[f][left_out] for f in matched if labels.values[f][left_out]}
    judge = LabelJudge(
        list(matched),
        {
            name: {f: (labels.values[f][name],) for f in matched if labels.values[f][name]}
            for name in labels.columns
            if name != left_out
        },
        groups=groups,
    )
    key_of = {file: key_by_path[path] for file, path in matched.items()}
    vectors = {name: _vectors_of(engine, name, key_of) for name in engine.names()}
    found = judge_conditions(judge, vectors.items())
    if not found.cells:
        raise UsageError(_nothing_to_measure(engine, labels, judge))
    unmeasured = tuple(name for name in judge.labels if name not in found.labels)
    unmatched = len(labels.values) - len(matched)
    cells, unclustered = _clustered(judge, found.cells, vectors, pairs)
    return GalleryMatrix(cells, len(matched), unmatched, unmeasured, left_out, unclustered)


def _clustered(
    judge: LabelJudge,
    cells: Sequence[LabelCell],
    vectors: Mapping[str, VectorsOf],
    pairs: bool,
) -> tuple[tuple[LabelCell, ...], str]:
    """The cells with NMI and AMI, and why some have none.

    Args:
        judge: knows the pictures and their labels.
        cells: the cells of a matrix.
        vectors: condition to what gives its vectors.
        pairs: whether all cells are measured, or those of a condition and its own label; if there
            is no such cell, all are.
    """
    lacking = missing_libraries()
    if lacking:
        return tuple(cells), lacking
    every = pairs or not any(cell.own for cell in cells)
    measured, too_many = [], []
    for cell in cells:
        pictures = judge.query_ids(cell.label)
        values = [judge.labels[cell.label][key][0] for key in pictures]
        if not (every or cell.own):
            measured.append(cell)
        elif is_feasible(len(pictures), len(set(values))):
            found = cluster_agreement(vectors[cell.condition](pictures), values)
            measured.append(replace(cell, clusters=found))
        else:
            measured.append(cell)
            too_many.append(cell.label)
    names = ", ".join(dict.fromkeys(too_many))
    reason = f"NMI and AMI are left out of {names}: too many values, or only one."
    return tuple(measured), reason if too_many else ""


def _nothing_to_measure(engine: Engine, labels: Labels, judge: LabelJudge) -> str:
    """Why no condition can be judged by any label."""
    if not engine.names():
        return (
            f"The gallery {engine.gallery.path} has no condition to measure; embed under one with "
            "`cies ingest -c color`."
        )
    return (
        f"Nothing can be measured by {labels.path}: no two pictures of the gallery share a value "
        f"of {' or of '.join(judge.labels) or 'a label'}, so that a search has nothing to find; "
        "give labels that several pictures share."
    )


def keys_by_path(engine: Engine) -> dict[str, str]:
    """A gallery's paths to the content keys of their pictures."""
    return {path: key for key, paths in engine.gallery.paths().items() for path in paths}


def _vectors_of(engine: Engine, condition: str, key_of: dict[str, str]) -> VectorsOf:
    """What gives the vectors of files under a condition."""
    column = engine.vectors(condition)
    rows = {key: row for row, key in enumerate(column.keys)}

    def vectors(files: Sequence[str]) -> Vectors:
        missing = [file for file in files if key_of[file] not in rows]
        if missing:
            raise UsageError(
                f"{len(missing)} labelled pictures are not embedded under every condition; run "
                "`cies ingest` on their folder again."
            )
        chosen: Vectors = column.vectors[[rows[key_of[file]] for file in files]]
        return chosen

    return vectors


@dataclass(frozen=True)
class TripletScore:
    """Share of one pair's triplets that a condition gets right; 0.5 ignores the condition.

    Attributes:
        pair: the pair of conditions.
        condition: one of them, under which the triplets are compared.
        triplets: how many.
        accuracy: 0 to 1, ties one half.
        interval: 95 % bootstrap interval of it, over triplets.
    """

    pair: str
    condition: str
    triplets: int
    accuracy: float
    interval: tuple[float, float]


def evaluate_triplets(
    engine: Engine, triplets: Sequence[Triplet], source: Path
) -> list[TripletScore]:
    """Triplet accuracy of each pair and condition that the gallery has.

    Args:
        engine: over the gallery.
        triplets: the triplets from :func:`eval.labels.read_triplets`.
        source: the triplet file, for messages.

    Raises:
        UsageError: if the file does not fit the gallery.
    """
    key_by_path = keys_by_path(engine)
    names = {name for triplet in triplets for name in triplet.files}
    matched = match_files(sorted(names), key_by_path, source)
    key_of = {file: key_by_path[path] for file, path in matched.items()}
    scores = []
    for pair, condition in sorted({(t.pair, t.condition) for t in triplets}):
        stored = next((c for c in engine.names() if same_name(c, condition)), None)
        chosen = [
            t.files
            for t in triplets
            if (t.pair, t.condition) == (pair, condition) and matched.keys() >= set(t.files)
        ]
        if stored is None or not chosen:
            continue
        files = sorted({file for each in chosen for file in each})
        row = {file: number for number, file in enumerate(files)}
        rows = np.array([[row[file] for file in each] for each in chosen], dtype=np.int64)
        found = judge_triplets(_vectors_of(engine, stored, key_of)(files), rows)
        interval = (found.low, found.high)
        scores.append(TripletScore(pair, condition, len(chosen), found.value, interval))
    return scores
