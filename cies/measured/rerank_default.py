"""Whether a view's best are worth ranking again, where nobody said."""

from __future__ import annotations

from cies.measured.speeds import measured_speeds
from ingest.conditions import Condition
from query.engine import Engine
from query.question import Question
from query.ranking.reranker import refusal

#: Pictures ranked again where nothing was said, if that takes no longer than so many seconds.
USUAL, SECONDS = 200, 10.0


def usual(engine: Engine, question: Question) -> tuple[int, str]:
    """How many of a view's best are ranked again, and what there is to say of it.

    Those :data:`USUAL` if the gallery's own large model serves the condition and was measured here
    to embed them in :data:`SECONDS`; none if a method was named, whose answer is then wanted.

    Returns:
        A number, and a sentence or nothing.
    """
    asked = [name for name, weight in question.conditions.items() if weight]
    if question.methods or question.fuse or question.unlike or len(asked) > 1:
        return 0, ""
    if engine.method or engine.resolved(asked[0]).view is None:
        return 0, ""
    found = engine.reranker(question.rerank_model)
    if found is None:
        return 0, ""
    spec, _ = found
    if question.rerank_model:
        return USUAL, ""
    refused = refusal(spec, Condition.parse(asked[0]))
    if refused:
        return 0, f"The best were not ranked again: {refused}"
    seconds = _seconds(spec.model)
    if seconds is None:
        return 0, (
            f"--rerank {USUAL} puts the best {USUAL} in the order of {spec.model}, and keeps what "
            "that takes; how long was not measured on this machine."
        )
    if seconds > SECONDS:
        return 0, (
            f"--rerank {USUAL} puts the best {USUAL} in the order of {spec.model}, in about "
            f"{seconds:.0f} s, and keeps what that takes."
        )
    return USUAL, ""


def _seconds(model: str) -> float | None:
    """How long so many pictures take under one condition, or at most; ``None`` if nobody knows."""
    known = [speed for speed in measured_speeds() if speed.model == model]
    if not known:
        return None
    # With more conditions a picture takes longer, so that this is no less than it takes.
    fewest = min(known, key=lambda speed: speed.conditions)
    return USUAL / fewest.pictures_per_second
