"""A model that sees the query looks at the best hits and puts them in its order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from indexes.errors import ModelError, UsageError
from ingest.fill.pipeline import Progress
from ingest.read.images import UnreadableImage
from ingest.read.isolated import decode_isolated
from ingest.sources.factory import file_at
from query.composers.base import compose_settings
from query.composers.context import asked_encoder
from query.examples import ExampleEmbedder
from query.hits import Hits
from query.open_gallery import OpenGallery
from query.question import Question

if TYPE_CHECKING:
    from ingest.encoders.embedders.judge import Judge, JudgedQuery

#: The least mean probability of yes and no together; below it, a model answers something else.
_LEAST_MASS = 0.05

#: Pictures in memory at once.
_BATCH = 16

#: Digits of a probability that count for the order, after leading zeros.
_TIES = 6


def verify_hits(
    hits: Hits,
    judge: Judge,
    asked: JudgedQuery,
    count: int,
    k: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Hits:
    """The best hits, sorted by the probability with which a model says that they are right.

    Args:
        hits: best first.
        judge: compares them with the query.
        asked: the query.
        count: how many of the first are checked.
        k: how many are returned.
        progress: called with the number of hits that were checked, and of all that will be.

    Returns:
        The first ``k``, with a note of the time it took. Hits that are equally probable keep their
        order; those that cannot be read any more come after all that were checked.

    Raises:
        ModelError: if the model answers neither yes nor no.
    """
    started = time.perf_counter()
    best, rest = list(hits[:count]), list(hits[count:])
    votes: dict[str, float] = {}
    masses: list[float] = []
    for start in range(0, len(best), _BATCH):
        opened = [(hit, _image(hit.path)) for hit in best[start : start + _BATCH]]
        shown = [(hit, image) for hit, image in opened if image is not None]
        answers = judge.judge(asked, [image for _, image in shown])
        votes |= {hit.key: float(yes) for (hit, _), yes in zip(shown, answers.yes, strict=True)}
        masses += answers.mass.tolist()
        progress(min(start + _BATCH, len(best)), len(best))
    mass = float(np.mean(masses)) if masses else 1.0
    if mass < _LEAST_MASS:
        raise ModelError(
            f"{judge.name} answers neither yes nor no (together they have a probability of "
            f"{mass:.3f}); leave --verify out, or name another --lvlm."
        )
    # Numbers that differ by the rounding of a batch only are ties.
    best.sort(key=lambda hit: -float(f"{votes.get(hit.key, -1.0):.{_TIES}g}"))
    seconds = time.perf_counter() - started
    notes = [
        f"{len(votes)} hits were compared with the query by {judge.name} in {seconds:.1f} s "
        f"({seconds / max(1, len(votes)):.2f} s each)."
    ]
    if len(best) > len(votes):
        notes.append(f"{len(best) - len(votes)} of the best cannot be read now.")
    ordered = [
        replace(hit, rank=rank, verified=votes.get(hit.key))
        for rank, hit in enumerate([*best, *rest][:k], start=1)
    ]
    query = replace(hits.query, reranked=len(votes), reranked_by=judge.name)
    return replace(hits, query=query, hits=tuple(ordered), notes=(*hits.notes, *notes))


def load_judge(opened: OpenGallery, lvlm: str) -> Judge:
    """The model that compares: the one named, the gallery's own, or the built-in one.

    Raises:
        ModelError: if it cannot be loaded, or cannot answer yes or no.
    """
    from ingest.encoders.embedders.judge import Judge

    questions = compose_settings()["prompts"]["general"]["verify"]
    return Judge(asked_encoder(opened, lvlm), questions)


def verify_answer(
    opened: OpenGallery,
    question: Question,
    answer: Callable[[Question], Hits],
    progress: Callable[[Progress], None],
) -> Hits:
    """Answer a question, and let a model that sees the query look at the best hits.

    Args:
        opened: the gallery.
        question: its ``verify`` says how many.
        answer: answers it without that.
        progress: called with the progress.

    Raises:
        UsageError: if there are several pictures, or another order is asked for.
        ModelError: if the model cannot be loaded, or answers neither yes nor no.
    """
    from ingest.encoders.embedders.judge import JudgedQuery

    if question.sort != "score":
        raise UsageError("--verify puts hits in an order of its own; leave --sort out.")
    if len(question.pictures) > 1:
        raise UsageError("--verify compares with one picture; give one.")
    # Loaded first, because a model that cannot answer should not be noticed after a long search.
    judge = load_judge(opened, question.lvlm)
    picture = None
    if not question.text:
        picture = ExampleEmbedder(opened).image(question.pictures[0], question.region)
    wide = replace(question, verify=0, k=max(question.k, question.verify))
    hits = answer(wide)
    asked = JudgedQuery(
        picture,
        question.text or "",
        tuple(name for name, weight in question.conditions.items() if weight > 0),
    )

    def report(done: int, total: int) -> None:
        progress(Progress(done, total, done, 0))

    return verify_hits(hits, judge, asked, question.verify, question.k, report)


def _image(path: str) -> Image.Image | None:
    try:
        return decode_isolated(
            file_at(path).read().data, suffix=PurePath(path).suffix.lower()
        ).image
    except (UnreadableImage, UsageError, OSError):
        return None
