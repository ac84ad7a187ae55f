"""Estimates what an ingest would take, without running it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Callable, Iterable, Sequence

import numpy as np

from ingest.read.images import UnreadableImage
from ingest.scan.known_files import KnownFiles
from ingest.scan.plan import IngestPlan
from ingest.sources.base import SourceFile

#: Bytes of a row besides its vector, path and key: numbers, a word, and Lance's own data. Fitted to
#: small galleries after maintenance; an estimate only.
_VECTOR_ROW, _FILE_ROW, _IMAGE_ROW = 24, 32, 24
_KEY = 64


@dataclass(frozen=True)
class Workload:
    """What one vector source would have to embed.

    Attributes:
        numbers: numbers of its conditions among all conditions of the gallery.
        packed: whether all conditions of a picture share one pass; ``None`` if not known.
        dimension: length of a vector; ``None`` if not known.
        rate: pictures a second by the number of conditions in one call; ``None`` if it was never
            measured.
    """

    numbers: frozenset[int]
    packed: bool | None
    dimension: int | None
    rate: Callable[[int], float | None]


@dataclass(frozen=True)
class IngestCost:
    """What an ingest, or one vector source's part of it, would take.

    Attributes:
        pictures: pictures to read and embed; every new copy of a new picture counts.
        vectors: vectors to compute, one for each picture and condition.
        passes: passes through the model: one for each picture, or one for each vector if the
            conditions of a picture cannot share one; ``None`` if that is not known.
        bytes: growth of the gallery after maintenance; ``None`` if the length of the model's
            vectors is not known.
        seconds: time for embedding; ``None`` if the speed was never measured.
    """

    pictures: int
    vectors: int
    passes: int | None
    bytes: int | None
    seconds: float | None


@dataclass(frozen=True)
class CostEstimate:
    """What a plan would take.

    Attributes:
        known: new or changed files that contain a picture the gallery already has.
        total: the cost of the whole plan.
        parts: the cost of each workload, in the order given.
    """

    known: int
    total: IngestCost
    parts: tuple[IngestCost, ...]


def estimate(
    plan: IngestPlan,
    known: KnownFiles,
    missing: Callable[[str], Sequence[int]],
    workloads: Sequence[Workload],
) -> CostEstimate:
    """Estimate what a plan would take.

    A new file is read only if the gallery has a file of the same size, to find out whether it is
    a copy.

    Args:
        plan: what the ingest has to do.
        known: the files of the gallery.
        missing: numbers of the conditions that a picture lacks, by its key.
        workloads: one for each vector source; they contain every condition.
    """
    conditions = sum(len(workload.numbers) for workload in workloads)
    sizes = np.unique(known.sizes)
    lacking = {key: tuple(missing(key)) for key in plan.kept.values()}
    copies = new = path_bytes = 0
    for file in plan.todo:
        if file.path in plan.kept:
            continue
        path_bytes += len(file.path)
        key = _key_of_possible_copy(file, sizes)
        lacks = () if key is None else lacking.get(key) or tuple(missing(key))
        if key is None or (len(lacks) == conditions and key not in lacking):
            new += 1
        elif lacks:
            lacking[key] = lacks
        else:
            copies += 1
    parts = tuple(_cost(workload, new, lacking.values()) for workload in workloads)
    pictures = new + sum(bool(lacks) for lacks in lacking.values())
    files = new * (_KEY + _IMAGE_ROW) + path_bytes + (new + copies) * (_KEY + _FILE_ROW)
    passes = _sum(part.passes for part in parts)
    size = _sum(part.bytes for part in parts)
    total = IngestCost(
        pictures,
        sum(part.vectors for part in parts),
        None if passes is None else int(passes),
        None if size is None else int(size) + files,
        _sum(part.seconds for part in parts),
    )
    return CostEstimate(copies, total, parts)


def _cost(workload: Workload, new: int, lacking: Iterable[Sequence[int]]) -> IngestCost:
    """The cost of all new pictures, and of the conditions that known pictures lack."""
    counts = Counter(sum(number in workload.numbers for number in lacks) for lacks in lacking)
    counts[len(workload.numbers)] += new
    del counts[0]
    pictures, vectors = counts.total(), sum(count * many for count, many in counts.items())
    passes = None if workload.packed is None else pictures if workload.packed else vectors
    size = None
    if workload.dimension is not None:
        size = vectors * (2 * workload.dimension + _KEY + _VECTOR_ROW)
    rates = {count: workload.rate(count) for count, many in counts.items() if many}
    seconds = None
    if all(rates.values()):
        seconds = sum(counts[count] / (rate or 1.0) for count, rate in rates.items())
    return IngestCost(pictures, vectors, passes, size, seconds)


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of values; ``None`` if one of them is ``None``."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _key_of_possible_copy(file: SourceFile, sizes: np.typing.NDArray[np.int64]) -> str | None:
    """The key of a file that has the size of a known file; ``None`` for any other."""
    position = int(np.searchsorted(sizes, file.size))
    if not file.size or position == len(sizes) or sizes[position] != file.size:
        return None
    try:
        return file.read().key
    except UnreadableImage:
        return None
