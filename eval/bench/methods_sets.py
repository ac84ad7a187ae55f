"""Triplet accuracy of every method on sets of pictures of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.bench.methods import MEASURED, SHIPPED, Progress, Way, check_methods, fitted, ways
from eval.labels import Triplet, read_triplets
from eval.metrics.definitions import triplet_accuracy
from indexes.errors import UsageError
from indexes.search.parts import split
from indexes.search.vectors import Vectors
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.factory import make_encoder
from ingest.encoders.projections.base import PROJECTIONS
from ingest.read.images import UnreadableImage, load
from ingest.vocabularies import known_vocabulary

#: Longest side that pictures are read at; models see less.
_SIDE = 700


@dataclass(frozen=True)
class TripletAccuracy:
    """One pair of conditions, asked under one of them.

    Attributes:
        pair: of conditions.
        condition: of the triplets.
        asked: how the methods were asked for it.
        triplets: how many.
        methods: method to the share it gets right; a view that has no words is missing.
    """

    pair: str
    condition: str
    asked: str
    triplets: int
    methods: Mapping[str, float]


@dataclass(frozen=True)
class SetScores:
    """All pairs of one set.

    Attributes:
        name: of the folder the triplets lie in.
        pictures: that the triplets name.
        rows: one a pair and condition.
    """

    name: str
    pictures: int
    rows: list[TripletAccuracy]

    def mean(self, method: str) -> float | None:
        """Mean over pairs and conditions; ``None`` if the method has no figure for one."""
        found = [row.methods[method] for row in self.rows if method in row.methods]
        return float(np.mean(found)) if len(found) == len(self.rows) else None


def score_sets(
    files: Sequence[Path],
    lvlm: str,
    clip: str,
    asked: Mapping[str, str],
    methods: Sequence[str] = MEASURED,
    progress: Progress = lambda line: None,
) -> list[SetScores]:
    """Measure every method on some triplet files.

    Args:
        files: CSV with pair, condition, query, positive, negative; pictures lie in the folder
            ``images`` beside a file, or beside it.
        lvlm: an LVLM's name, as ``--model`` takes it.
        clip: a dual encoder's name.
        asked: condition of a file to how it is asked for, where that differs.
        methods: which of them; a view brings ``clip`` with it.
        progress: told what comes next.

    Raises:
        UsageError: if a file or a picture cannot be read.
        ModelError: if a model cannot be had.
    """
    sets = [(file, read_triplets(file)) for file in files]
    for file, triplets in sets:
        if not triplets:
            raise UsageError(f"{file} holds no triplet below its first line.")
    stored = check_methods(methods)
    every_way = [
        Way(method, make_encoder(method, model, force=True))
        for method, model in ways(lvlm, clip)
        if method in stored
    ]
    views = [view for view in PROJECTIONS if view in methods]
    return [_score(file, some, every_way, views, asked, progress) for file, some in sets]


def _score(
    file: Path,
    triplets: Sequence[Triplet],
    every_way: Sequence[Way],
    views: Sequence[str],
    asked: Mapping[str, str],
    progress: Progress,
) -> SetScores:
    names = sorted({name for t in triplets for name in (t.query, t.positive, t.negative)})
    place = {name: row for row, name in enumerate(names)}
    pictures = [_picture(file, name) for name in names]
    conditions = {t.condition: asked.get(t.condition, t.condition) for t in triplets}
    wordings = sorted(set(conditions.values()))
    groups: dict[tuple[str, str], list[Triplet]] = {}
    for triplet in triplets:
        groups.setdefault((triplet.pair, triplet.condition), []).append(triplet)
    found: dict[tuple[str, str], dict[str, float]] = {group: {} for group in groups}

    def judge(method: str, wording: str, near: Callable[[Vectors], NDArray[np.float32]]) -> None:
        for (pair, condition), some in groups.items():
            if conditions[condition] != wording:
                continue
            rows = np.array([[place[t.query], place[t.positive], place[t.negative]] for t in some])
            found[pair, condition][method] = triplet_accuracy(near(rows[:, :2]), near(rows[:, ::2]))

    for way in every_way:
        progress(f"{file.parent.name}: {len(names)} pictures by {way.method}")
        whole = [Condition.parse(UNCONDITIONAL)]
        parsed = [Condition.parse(w) for w in wordings] if way.encoder.conditional else whole
        rows = way.embed(pictures, parsed)
        for column, wording in enumerate(wordings):
            own = rows[:, min(column, len(parsed) - 1)]
            judge(way.method, wording, lambda pairs, own=own, way=way: _alike(way, own, pairs))  # type: ignore[misc]
            if way.method == "clip" and known_vocabulary(wording) is not None:
                for view in views:
                    moved = fitted(way.encoder, view, wording, own, SHIPPED).images(own)
                    judge(view, wording, lambda pairs, moved=moved: _cosines(moved, pairs))  # type: ignore[misc]
    order = list(MEASURED)
    scores = [
        TripletAccuracy(
            pair,
            condition,
            conditions[condition],
            len(some),
            {m: found[pair, condition][m] for m in order if m in found[pair, condition]},
        )
        for (pair, condition), some in sorted(groups.items())
    ]
    return SetScores(file.absolute().parent.name, len(names), scores)


def _picture(file: Path, name: str) -> Image.Image:
    places = [file.parent / "images" / name, file.parent / name]
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        raise UsageError(
            f"{file} names {name}, which is not there; its pictures lie in a folder 'images' "
            "beside it, or beside it."
        )
    try:
        image = load(path).image
    except UnreadableImage as error:
        raise UsageError(f"Cannot read {path}: {error}; leave out the triplets with it.") from error
    image.thumbnail((_SIDE, _SIDE))
    return image


def _alike(way: Way, rows: Vectors, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """How alike some pairs of rows are, as the method compares them: float32 [pairs]."""
    if way.parts == 1:
        return _cosines(rows, pairs)
    asking = split(rows, way.parts)[:, 0]
    cosines = np.einsum("nd,npd->np", asking[pairs[:, 0]], split(rows[pairs[:, 1]], way.parts))
    best: NDArray[np.float32] = cosines.max(axis=1)
    return best


def _cosines(rows: Vectors, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.einsum("nd,nd->n", rows[pairs[:, 0]], rows[pairs[:, 1]])
    return found
