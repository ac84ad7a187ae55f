"""What is measured of conditions and is no ranking: sureness, and the wordings of one condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eval.runs.vectors import Said
from eval.tasks import LabelTask
from indexes.search.parts import likenesses
from indexes.search.vectors import Vectors

#: How well sureness tells pictures that a condition applies to from those it does not.
SURENESS = "AUROC"

#: Share of the first ten neighbours that two wordings of a condition have in common.
SHARED = "shared neighbours@10"

#: Label of pictures that a condition applies to, in a task measured by :data:`SURENESS`.
APPLIES = "applies"

#: Label of those it does not.
ABSENT = "absent"

_NEIGHBOURS = 10

_BLOCK = 1024


class Vectored(Protocol):
    """Vectors of a run, and what was said."""

    @property
    def parts(self) -> int:
        """How many vectors a row holds, of which the best counts."""
        ...

    def vectors(self, condition: str, ids: Sequence[str]) -> Vectors:
        """float32 [ids, dim]."""
        ...

    def said(self, condition: str, ids: Sequence[str]) -> Said | None:
        """Words with their probabilities, where there are some."""
        ...


def sureness(
    table: Vectored, condition: str, labels: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.float64]]]:
    """How well a method knows when a condition does not apply.

    Sureness is the probability of the word that was said, and, of every method, the cosine with
    the nearest other picture under the condition.

    Args:
        table: vectors and words.
        condition: asked for.
        labels: picture to :data:`APPLIES` or :data:`ABSENT`.

    Yields:
        The metric's name, numbers of the pictures without (in the order of ``labels``), and for
        each the share of pictures with that are surer, ties one half. The mean is the area under
        the ROC curve (Hanley and McNeil, Radiology 1982).
    """
    ids = list(labels)
    applies = np.array([labels[key] == (APPLIES,) for key in ids])
    said = table.said(condition, ids)
    kinds = {} if said is None else {f"{SURENESS} (word)": said.probabilities}
    kinds[f"{SURENESS} (nearest)"] = _nearest(table.vectors(condition, ids), table.parts)
    for name, sure in kinds.items():
        ordered = np.sort(sure[applies])
        without = sure[~applies]
        below = np.searchsorted(ordered, without, "left")
        to = np.searchsorted(ordered, without, "right")
        surer = (len(ordered) - to) + 0.5 * (to - below)
        yield name, np.flatnonzero(~applies), surer / len(ordered)


def _nearest(vectors: Vectors, parts: int) -> NDArray[np.float32]:
    """Cosine with the nearest other: float32 [n]."""
    best = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK):
        scores = likenesses(vectors[start : start + _BLOCK], vectors, parts)
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf
        best[start : start + _BLOCK] = scores.max(axis=1)
    return best


def shared_neighbours(
    table: Vectored, task: LabelTask
) -> Iterator[tuple[str, str, NDArray[np.float64], float]]:
    """What the first wording of a condition and each other one find in common.

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
        found = _neighbours(table.vectors(first, ids), table.parts)
        for other in others:
            again = _neighbours(table.vectors(other, ids), table.parts)
            both = [
                len(np.intersect1d(a, b, assume_unique=True))
                for a, b in zip(found, again, strict=True)
            ]
            yield first, other, np.array(both) / found.shape[1], chance


def _neighbours(vectors: Vectors, parts: int) -> NDArray[np.int64]:
    """The nearest others of every picture: int64 [n, 10], in no order."""
    count = min(_NEIGHBOURS, len(vectors) - 1)
    found = np.empty((len(vectors), count), dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        scores = likenesses(vectors[start : start + _BLOCK], vectors, parts)
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf
        found[start : start + _BLOCK] = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    return found
