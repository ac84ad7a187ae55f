"""Two measurements that are not rankings: abstention, and agreement between wordings.

Abstention is whether a method can tell the pictures that a condition does not apply to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.runs.baselines import SystemVectors
from eval.tasks import LabelTask
from indexes.search.multi_vector import similarities
from indexes.vectors import Vectors

#: Metric of how well confidence separates pictures that a condition applies to from others.
AUROC = "AUROC"

#: Share of the first ten neighbours that two wordings of a condition have in common.
SHARED_NEIGHBOURS = "shared neighbours@10"

#: Label of pictures that a condition applies to, in a task measured by :data:`AUROC`.
APPLIES = "applies"

#: Label of the others.
ABSENT = "absent"

_NEIGHBOURS = 10

_BLOCK = 1024


def abstention_auroc(
    table: SystemVectors, condition: str, labels: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.float64]]]:
    """Measure how well confidence tells whether a condition applies to a picture.

    Confidence is the probability of the generated word, and, for every method, the cosine with
    the nearest other picture under the condition.

    Args:
        table: vectors and words.
        condition: the condition to measure.
        labels: picture to :data:`APPLIES` or :data:`ABSENT`.

    Yields:
        The metric's name, numbers of the pictures it does not apply to (in the order of
        ``labels``), and for each the share of pictures it applies to with a higher confidence,
        ties one half. The mean is the area under the ROC curve (Hanley and McNeil, Radiology
        1982).
    """
    ids = list(labels)
    applies = np.array([labels[key] == (APPLIES,) for key in ids])
    words = table.generated_words(condition, ids)
    confidences = {} if words is None else {f"{AUROC} (word)": words.probabilities}
    nearest = np.empty(len(ids), dtype=np.float32)
    for rows, scores in _cosines_with_others(table.vectors(condition, ids), table.parts):
        nearest[rows] = scores.max(axis=1)
    confidences[f"{AUROC} (nearest)"] = nearest
    for name, confidence in confidences.items():
        ordered = np.sort(confidence[applies])
        absent = confidence[~applies]
        below = np.searchsorted(ordered, absent, "left")
        up_to = np.searchsorted(ordered, absent, "right")
        higher = (len(ordered) - up_to) + 0.5 * (up_to - below)
        yield name, np.flatnonzero(~applies), higher / len(ordered)


def shared_neighbours(
    table: SystemVectors, task: LabelTask
) -> Iterator[tuple[str, str, NDArray[np.float64], float]]:
    """Measure what the first wording of a condition and each other one find in common.

    Wordings of one condition are those with equal labels.

    Yields:
        First wording, other wording, float64 [pictures] share of the first 10 neighbours, chance.
    """
    ids = list(task.images)
    groups: list[list[str]] = []
    for condition, labels in task.labels.items():
        same = [group for group in groups if task.labels[group[0]] == labels]
        if same:
            same[0].append(condition)
        else:
            groups.append([condition])
    chance = _NEIGHBOURS / (len(ids) - 1)
    for first, *others in groups:
        expected = _neighbours(table, first, ids)
        for other in others:
            found = _neighbours(table, other, ids)
            common = [
                len(np.intersect1d(a, b, assume_unique=True))
                for a, b in zip(expected, found, strict=True)
            ]
            yield first, other, np.array(common) / expected.shape[1], chance


def _neighbours(table: SystemVectors, condition: str, ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the nearest others of every picture: int64 [n, 10], in no order."""
    vectors = table.vectors(condition, ids)
    count = min(_NEIGHBOURS, len(vectors) - 1)
    found = np.empty((len(vectors), count), dtype=np.int64)
    for rows, scores in _cosines_with_others(vectors, table.parts):
        found[rows] = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    return found


def _cosines_with_others(
    vectors: Vectors, parts: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield blocks of rows with their cosines to all rows; -inf to themselves."""
    for start in range(0, len(vectors), _BLOCK):
        scores = similarities(vectors[start : start + _BLOCK], vectors, parts)
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf
        yield slice(start, start + _BLOCK), scores
