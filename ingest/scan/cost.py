"""What a run would do and cost, told without doing it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Callable, Iterable, Sequence

import numpy as np

from ingest.read.images import UnreadableImage
from ingest.scan.known_files import KnownFiles
from ingest.scan.plan import Plan
from ingest.sources.base import Found

#: Bytes that a row takes beside its vector, its path and its key: numbers, a word, and what Lance
#: keeps of it. Chosen to fit small galleries after maintenance; an estimate, no promise.
_VECTOR_ROW, _FILE_ROW, _IMAGE_ROW = 24, 32, 24
_KEY = 64


@dataclass(frozen=True)
class Load:
    """One maker's part of the work.

    Attributes:
        numbers: of its conditions among all of the gallery.
        packed: whether all conditions of a picture share one pass.
        dimension: length of a vector.
        rate: pictures a second by the number of conditions asked in one go, ``None`` where that
            was never measured.
    """

    numbers: frozenset[int]
    packed: bool | None
    dimension: int | None
    rate: Callable[[int], float | None]


@dataclass(frozen=True)
class Cost:
    """What a run, or one maker's part of it, would take.

    Attributes:
        pictures: to be read and embedded. Copies among files that are all new count each.
        vectors: to be made, one for each picture and condition.
        passes: through the model: one a picture, or one a vector where the conditions of a
            picture cannot share one; ``None`` if that is not known.
        bytes: the gallery grows by, after maintenance; ``None`` if the model's vectors are not
            known.
        seconds: of embedding, ``None`` if the speed was never measured.
    """

    pictures: int
    vectors: int
    passes: int | None
    bytes: int | None
    seconds: float | None


@dataclass(frozen=True)
class Estimate:
    """What a plan would take.

    Attributes:
        known: files not known yet, or changed, that hold a picture the gallery has.
        whole: all of it.
        parts: of each maker, in the order given.
    """

    known: int
    whole: Cost
    parts: tuple[Cost, ...]


def estimate(
    plan: Plan,
    known: KnownFiles,
    missing: Callable[[str], Sequence[int]],
    loads: Sequence[Load],
) -> Estimate:
    """Count what a plan would take.

    A new file is read only if it is as long as a file the gallery knows, to see whether it is a
    copy: nothing else can tell.

    Args:
        plan: what is to be done.
        known: the files of the gallery.
        missing: numbers of the conditions that a picture lacks, by its key.
        loads: one for each maker; all conditions together.
    """
    conditions = sum(len(load.numbers) for load in loads)
    sizes = np.unique(known.sizes)
    lacking = {key: tuple(missing(key)) for key in plan.kept.values()}
    copies = fresh = path_bytes = 0
    for found in plan.todo:
        if found.path in plan.kept:
            continue
        path_bytes += len(found.path)
        key = _key(found, sizes)
        lacks = () if key is None else lacking.get(key) or tuple(missing(key))
        if key is None or (len(lacks) == conditions and key not in lacking):
            fresh += 1
        elif lacks:
            lacking[key] = lacks
        else:
            copies += 1
    parts = tuple(_part(load, fresh, lacking.values()) for load in loads)
    pictures = fresh + sum(bool(lacks) for lacks in lacking.values())
    files = fresh * (_KEY + _IMAGE_ROW) + path_bytes + (fresh + copies) * (_KEY + _FILE_ROW)
    passes = _sum(part.passes for part in parts)
    size = _sum(part.bytes for part in parts)
    whole = Cost(
        pictures,
        sum(part.vectors for part in parts),
        None if passes is None else int(passes),
        None if size is None else int(size) + files,
        _sum(part.seconds for part in parts),
    )
    return Estimate(copies, whole, parts)


def _part(load: Load, fresh: int, lacking: Iterable[Sequence[int]]) -> Cost:
    """What falls to one maker: all of the fresh pictures, and what others lack of its own."""
    asked = Counter(sum(number in load.numbers for number in lacks) for lacks in lacking)
    asked[len(load.numbers)] += fresh
    del asked[0]
    pictures, vectors = asked.total(), sum(count * many for count, many in asked.items())
    passes = None if load.packed is None else pictures if load.packed else vectors
    size = None
    if load.dimension is not None:
        size = vectors * (2 * load.dimension + _KEY + _VECTOR_ROW)
    rates = {count: load.rate(count) for count, many in asked.items() if many}
    seconds = None
    if all(rates.values()):
        seconds = sum(asked[count] / (speed or 1.0) for count, speed in rates.items())
    return Cost(pictures, vectors, passes, size, seconds)


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum; ``None`` if one is not known."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _key(found: Found, sizes: np.typing.NDArray[np.int64]) -> str | None:
    """The key of a file that may be a copy of a known one."""
    place = int(np.searchsorted(sizes, found.size))
    if not found.size or place == len(sizes) or sizes[place] != found.size:
        return None
    try:
        return found.read().key
    except UnreadableImage:
        return None
