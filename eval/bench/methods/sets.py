"""Triplet accuracy of every method on sets of the user's own pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.bench.methods.compare import (
    MEASURED,
    SHIPPED,
    MethodEncoder,
    Progress,
    fitted,
    load_methods,
)
from eval.judge import MetricMean, judge_triplets
from eval.labels import Triplet, read_triplets
from indexes.errors import UsageError
from indexes.vectors import Vectors
from ingest.conditions import Condition
from ingest.encoders.projections.base import PROJECTIONS
from ingest.read.images import UnreadableImage, read_bytes
from ingest.read.isolated import decode_isolated
from ingest.vocabularies import find_vocabulary

#: Longest side that pictures are read at; models see less.
_SIDE = 700


@dataclass(frozen=True)
class TripletAccuracy:
    """The triplets of one pair of conditions, compared under one of them.

    Attributes:
        pair: the pair of conditions.
        condition: the condition of the triplets.
        asked: the condition that the methods were asked for.
        triplets: how many.
        methods: method to the share it gets right; a projection without words is missing.
    """

    pair: str
    condition: str
    asked: str
    triplets: int
    methods: Mapping[str, MetricMean]


@dataclass(frozen=True)
class SetScores:
    """All pairs of one set.

    Attributes:
        name: the name of the folder of the triplet file.
        pictures: number of pictures that the triplets name.
        rows: one entry a pair and condition.
    """

    name: str
    pictures: int
    rows: list[TripletAccuracy]

    def mean(self, method: str) -> float | None:
        """Mean over pairs and conditions; ``None`` if the method has no figure for one of them."""
        found = [row.methods[method].value for row in self.rows if method in row.methods]
        return float(np.mean(found)) if len(found) == len(self.rows) else None


def score_sets(
    files: Sequence[Path],
    lvlm: str,
    clip: str,
    asked: Mapping[str, str],
    methods: Sequence[str] = MEASURED,
    progress: Progress = lambda line: None,
) -> list[SetScores]:
    """Measure every method on triplet files.

    Args:
        files: CSV with pair, condition, query, positive, negative; pictures are in the folder
            ``images`` next to a file, or in the folder of the file.
        lvlm: an LVLM's name, as ``--model`` takes it.
        clip: a dual encoder's name.
        asked: condition of a file to the condition that is asked for, where that differs.
        methods: which of them; a projection brings ``clip`` with it.
        progress: called with the name of each step.

    Raises:
        UsageError: if a file or a picture cannot be read.
        ModelError: if a model is not available.
    """
    sets = [(file, read_triplets(file)) for file in files]
    for file, triplets in sets:
        if not triplets:
            raise UsageError(f"{file} holds no triplet below its first line.")
    encoders = list(load_methods(lvlm, clip, methods))
    projections = [method for method in PROJECTIONS if method in methods]
    return [_score(file, some, encoders, projections, asked, progress) for file, some in sets]


def _score(
    file: Path,
    triplets: Sequence[Triplet],
    encoders: Sequence[MethodEncoder],
    projections: Sequence[str],
    asked: Mapping[str, str],
    progress: Progress,
) -> SetScores:
    names = sorted({name for triplet in triplets for name in triplet.files})
    row = {name: number for number, name in enumerate(names)}
    pictures = [_picture(file, name) for name in names]
    groups: dict[tuple[str, str], list[list[int]]] = {}
    for triplet in triplets:
        rows = [row[name] for name in triplet.files]
        groups.setdefault((triplet.pair, triplet.condition), []).append(rows)
    conditions = {t.condition: asked.get(t.condition, t.condition) for t in triplets}
    wordings = sorted(set(conditions.values()))
    found: dict[tuple[str, str], dict[str, MetricMean]] = {group: {} for group in groups}

    def judge(method: str, wording: str, vectors: Vectors, parts: int = 1) -> None:
        for group, some in groups.items():
            if conditions[group[1]] == wording:
                places: NDArray[np.int64] = np.array(some, dtype=np.int64)
                found[group][method] = judge_triplets(vectors, places, parts)

    for one in encoders:
        progress(f"{file.parent.name}: {len(names)} pictures by {one.method}")
        parsed = one.asked([Condition.parse(wording) for wording in wordings])
        embedded = one.embed(pictures, parsed)
        for column, wording in enumerate(wordings):
            vectors = embedded[:, min(column, len(parsed) - 1)]
            judge(one.method, wording, vectors, one.parts)
            if one.method == "clip" and find_vocabulary(wording) is not None:
                for method in projections:
                    projection = fitted(one.encoder, method, wording, vectors, SHIPPED)
                    judge(method, wording, projection.images(vectors))
    scores = [
        TripletAccuracy(
            pair,
            condition,
            conditions[condition],
            len(some),
            {m: found[pair, condition][m] for m in MEASURED if m in found[pair, condition]},
        )
        for (pair, condition), some in sorted(groups.items())
    ]
    return SetScores(file.absolute().parent.name, len(names), scores)


def _picture(file: Path, name: str) -> Image.Image:
    places = [file.parent / "images" / name, file.parent / name]
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        raise UsageError(
            f"{file} names {name}, which does not exist; its pictures must be in a "
            "folder 'images' next to it, or in its own folder."
        )
    try:
        image = decode_isolated(read_bytes(path).data, None, path.suffix.lower()).image
    except UnreadableImage as error:
        raise UsageError(f"Cannot read {path}: {error}; leave out the triplets with it.") from error
    image.thumbnail((_SIDE, _SIDE))
    return image
