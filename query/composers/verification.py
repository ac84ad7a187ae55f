"""An LVLM looks through the best hits of a composed query, whether each shows what is wanted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import ModelError, UsageError
from ingest.read.images import UnreadableImage, decode
from ingest.sources.factory import located
from query.composers.base import settings
from query.hits import Hits

#: Below this share of probability on yes and no together, a model answered something else.
_LEAST_MASS = 0.05

#: Pictures verified at once; more are held in memory no longer.
_AT_ONCE = 16


class Votes(Protocol):
    """See :class:`ingest.encoders.vlm.speaker.Votes`."""

    @property
    def yes(self) -> NDArray[np.float64]:
        """P(yes) / (P(yes) + P(no))."""
        ...

    @property
    def mass(self) -> NDArray[np.float64]:
        """P(yes) + P(no)."""
        ...


class Voter(Protocol):
    """The part of :class:`ingest.encoders.vlm.speaker.Speaker` that is used here."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    def vote(self, images: Sequence[Image.Image], question: str) -> Votes:
        """How likely the model says yes rather than no, of each picture."""
        ...


def verified(hits: Hits, voter: Voter, target: str, count: int, k: int) -> Hits:
    """The best in the order in which an LVLM says that they show what is looked for.

    Args:
        hits: best first.
        voter: looks at them.
        target: what they should show.
        count: how many of the first are looked at.
        k: how many are wanted.

    Returns:
        The first ``k``, with a note of what it cost. What cannot be read any more stands behind
        all that was looked at.

    Raises:
        ModelError: if the model answers neither yes nor no.
    """
    started = time.perf_counter()
    question = settings()["prompts"]["general"]["verify"].format(target=target)
    best, rest = list(hits[:count]), list(hits[count:])
    votes: dict[str, float] = {}
    masses: list[float] = []
    for start in range(0, len(best), _AT_ONCE):
        opened = [(hit, _opened(hit.path)) for hit in best[start : start + _AT_ONCE]]
        shown = [(hit, image) for hit, image in opened if image is not None]
        said = voter.vote([image for _, image in shown], question)
        votes |= {hit.key: float(yes) for (hit, _), yes in zip(shown, said.yes, strict=True)}
        masses += said.mass.tolist()
    mass = float(np.mean(masses)) if masses else 1.0
    if mass < _LEAST_MASS:
        raise ModelError(
            f"{voter.name} answers neither yes nor no (of all it might say, these have a "
            f"probability of {mass:.3f}); leave --verify out, or name another --lvlm."
        )
    best.sort(key=lambda hit: -votes.get(hit.key, -1.0))
    seconds = time.perf_counter() - started
    notes = [
        f"{len(votes)} hits were verified by {voter.name} in {seconds:.1f} s "
        f"({seconds / max(1, len(votes)):.2f} s each): '{target}'?"
    ]
    if len(best) > len(votes):
        notes.append(f"{len(best) - len(votes)} of the best cannot be read now.")
    ordered = [
        replace(hit, rank=rank, verified=votes.get(hit.key))
        for rank, hit in enumerate([*best, *rest][:k], start=1)
    ]
    return replace(hits, hits=tuple(ordered), notes=(*hits.notes, *notes))


def _opened(path: str) -> Image.Image | None:
    try:
        return decode(located(path).read().data, None).image
    except (UnreadableImage, UsageError, OSError):
        return None
