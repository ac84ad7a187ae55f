"""An LVLM checks whether the best hits of a composed query show what is wanted."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from indexes.errors import ModelError, UsageError
from ingest.read.images import UnreadableImage
from ingest.read.isolated import decode_isolated
from ingest.sources.factory import file_at
from query.composers.base import compose_settings
from query.hits import Hits

if TYPE_CHECKING:
    from ingest.encoders.vlm.generation import TextGenerator

#: The least mean probability of yes and no together; below it, a model answers something else.
_LEAST_MASS = 0.05

#: Pictures in memory at once.
_BATCH = 16


def verify_hits(hits: Hits, generator: TextGenerator, target: str, count: int, k: int) -> Hits:
    """The best hits, sorted by the probability with which an LVLM says that they are right.

    Args:
        hits: best first.
        generator: looks at them.
        target: what they should show.
        count: how many of the first are checked.
        k: how many are returned.

    Returns:
        The first ``k``, with a note of the time it took. Hits that cannot be read any more come
        after all that were checked.

    Raises:
        ModelError: if the model answers neither yes nor no.
    """
    started = time.perf_counter()
    question = compose_settings()["prompts"]["general"]["verify"].format(target=target)
    best, rest = list(hits[:count]), list(hits[count:])
    votes: dict[str, float] = {}
    masses: list[float] = []
    for start in range(0, len(best), _BATCH):
        opened = [(hit, _image(hit.path)) for hit in best[start : start + _BATCH]]
        shown = [(hit, image) for hit, image in opened if image is not None]
        answers = generator.yes_probabilities([image for _, image in shown], question)
        votes |= {hit.key: float(yes) for (hit, _), yes in zip(shown, answers.yes, strict=True)}
        masses += answers.mass.tolist()
    mass = float(np.mean(masses)) if masses else 1.0
    if mass < _LEAST_MASS:
        raise ModelError(
            f"{generator.name} answers neither yes nor no (together they have a probability of "
            f"{mass:.3f}); leave --verify out, or name another --lvlm."
        )
    best.sort(key=lambda hit: -votes.get(hit.key, -1.0))
    seconds = time.perf_counter() - started
    notes = [
        f"{len(votes)} hits were verified by {generator.name} in {seconds:.1f} s "
        f"({seconds / max(1, len(votes)):.2f} s each): '{target}'?"
    ]
    if len(best) > len(votes):
        notes.append(f"{len(best) - len(votes)} of the best cannot be read now.")
    ordered = [
        replace(hit, rank=rank, verified=votes.get(hit.key))
        for rank, hit in enumerate([*best, *rest][:k], start=1)
    ]
    return replace(hits, hits=tuple(ordered), notes=(*hits.notes, *notes))


def _image(path: str) -> Image.Image | None:
    try:
        return decode_isolated(
            file_at(path).read().data, suffix=PurePath(path).suffix.lower()
        ).image
    except (UnreadableImage, UsageError, OSError):
        return None
