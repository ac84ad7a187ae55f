"""What a run would do and cost, told without doing it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np

from ingest.images import UnreadableImage
from ingest.known import KnownFiles
from ingest.plan import Plan
from ingest.sources.base import Found

#: Bytes that a row takes beside its vector, its path and its key: numbers, a word, and what Lance
#: keeps of it. Chosen to fit small galleries after maintenance; an estimate, no promise.
_VECTOR_ROW, _FILE_ROW, _IMAGE_ROW = 24, 32, 24
_KEY = 64


@dataclass(frozen=True)
class Cost:
    """What a run would take.

    Attributes:
        known: files not known yet, or changed, that hold a picture the gallery has.
        pictures: to be read and embedded. Copies among files that are all new count each.
        vectors: to be made, one for each picture and condition.
        passes: through the model: one a picture, or one a vector where the conditions of a
            picture cannot share one; ``None`` if that is not known.
        bytes: the gallery grows by, after maintenance; ``None`` if the model's vectors are not
            known.
        seconds: of embedding, ``None`` if the speed was never measured.
    """

    known: int
    pictures: int
    vectors: int
    passes: int | None
    bytes: int | None
    seconds: float | None


def estimate(
    plan: Plan,
    known: KnownFiles,
    missing: Callable[[str], Sequence[int]],
    conditions: int,
    packed: bool | None,
    dimension: int | None,
    rate: Callable[[int], float | None],
) -> Cost:
    """Count what a plan would take.

    A new file is read only if it is as long as a file the gallery knows, to see whether it is a
    copy: nothing else can tell.

    Args:
        plan: what is to be done.
        known: the files of the gallery.
        missing: the conditions that a picture lacks, by its key.
        conditions: how many the gallery will have.
        packed: whether all conditions of a picture share one pass.
        dimension: length of a vector.
        rate: pictures a second by the number of conditions asked in one go, ``None`` where that
            was never measured.
    """
    sizes = np.unique(known.sizes)
    copies = 0
    lacking = {key: len(missing(key)) for key in plan.kept.values()}
    fresh = vectors = path_bytes = 0
    for found in plan.todo:
        if found.path in plan.kept:
            continue
        path_bytes += len(found.path)
        key = _key(found, sizes)
        if key is not None and key not in lacking:
            lacking[key] = len(missing(key))
        if key is None or lacking[key] == conditions:
            fresh += 1
            vectors += conditions
        elif not lacking[key]:
            copies += 1
    asked = Counter(count for count in lacking.values() if 0 < count < conditions)
    vectors += sum(count * pictures for count, pictures in asked.items())
    asked[conditions] += fresh
    pictures = asked.total()
    size = None
    if dimension is not None:
        size = vectors * (2 * dimension + _KEY + _VECTOR_ROW) + fresh * (_KEY + _IMAGE_ROW)
        size += path_bytes + (fresh + copies) * (_KEY + _FILE_ROW)
    passes = None if packed is None else pictures if packed else vectors
    rates = {count: rate(count) for count, number in asked.items() if number}
    seconds = None
    if all(rates.values()):
        seconds = sum(asked[count] / (speed or 1.0) for count, speed in rates.items())
    return Cost(copies, pictures, vectors, passes, size, seconds)


def _key(found: Found, sizes: np.typing.NDArray[np.int64]) -> str | None:
    """The key of a file that may be a copy of a known one."""
    place = int(np.searchsorted(sizes, found.size))
    if not found.size or place == len(sizes) or sizes[place] != found.size:
        return None
    try:
        return found.read().key
    except UnreadableImage:
        return None
