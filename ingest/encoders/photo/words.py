"""The word of a picture under a condition: a true one, or none.

Under "kind" it is the everyday word of the classes that are probable together, or the word of their
group; under the colors the name of most of the subject, or of the ground; under measured values the
range that the value is in. The other conditions have no words: no probe on the rendered world was
sure enough on photographs (docs/photographs.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ingest.encoders.photo.colors import lab, shares_of_names
from ingest.encoders.photo.descriptors import VALUES, probabilities
from ingest.encoders.photo.measurements import Measurements, ground_weights, subject_weights
from ingest.encoders.photo.network import CLASSES
from ingest.encoders.photo.pictures import PreparedPictures
from ingest.encoders.photo.settings import kind_groups, photo_settings

#: A word and its probability, from 0 to 1; an empty word if none is sure.
Word = tuple[str, float]

NO_WORD: Word = ("", 0.0)


def words_of(condition: str, measured: Measurements, pictures: PreparedPictures) -> list[Word]:
    """The words of some pictures under a condition.

    Args:
        condition: of ``configs/photo.toml``, or ``unconditional``.
        measured: of these pictures.
        pictures: the pictures.
    """
    thresholds = photo_settings()["thresholds"]
    if condition == "kind":
        sure = probabilities(measured["logits"])
        return [_kind(row, thresholds["kind"], thresholds["group"]) for row in sure]
    if condition in ("color", "background color"):
        strong = measured["strength"].reshape(-1, 7, 7)
        weigh: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
        weigh = subject_weights if condition == "color" else ground_weights
        weights = weigh(strong, pictures.inside)
        return [
            _color(small, weight, thresholds[condition])
            for small, weight in zip(pictures.small, weights, strict=True)
        ]
    if condition in VALUES:
        return [_of_value(condition, float(value)) for value in measured[condition][:, 0]]
    return [NO_WORD] * len(pictures.small)


@cache
def _kind_words() -> tuple[
    tuple[str, ...], tuple[str, ...], NDArray[np.float32], NDArray[np.float32]
]:
    """Words, groups, and which classes each has: float32 [classes, words], [classes, groups]."""
    groups = kind_groups()
    words = [(word, classes) for entry in groups.values() for word, classes in entry.items()]
    members = np.zeros((CLASSES, len(words)), dtype=np.float32)
    for column, (_, classes) in enumerate(words):
        members[classes, column] = 1
    owners = np.zeros((CLASSES, len(groups)), dtype=np.float32)
    for column, entry in enumerate(groups.values()):
        owners[[number for classes in entry.values() for number in classes], column] = 1
    return tuple(word for word, _ in words), tuple(groups), members, owners


def _kind(sure: NDArray[np.float32], least: float, least_group: float) -> Word:
    """The word of the classes that are probable together, else of their group."""
    words, groups, members, owners = _kind_words()
    by_word = sure @ members
    best = int(by_word.argmax())
    if by_word[best] >= least:
        return words[best], float(by_word[best])
    by_group = sure @ owners
    best = int(by_group.argmax())
    return (groups[best], float(by_group[best])) if by_group[best] >= least_group else NO_WORD


def _color(small: NDArray[np.uint8], weights: NDArray[np.float32], least: float) -> Word:
    """The color name that most of the weight has."""
    names = tuple(photo_settings()["colors"])
    shares = shares_of_names(lab(small).reshape(-1, 3), weights.reshape(-1))
    best = int(shares.argmax())
    return (names[best], float(shares[best])) if shares[best] >= least else NO_WORD


def _of_value(condition: str, value: float) -> Word:
    """The word of the range that a measured value is in."""
    words = photo_settings()["values"][condition]
    found = [word for word, start in words.items() if value >= start]
    return found[-1], 1.0
