"""How many hits of a projection a large model re-ranks if the question leaves it open."""

from __future__ import annotations

from ingest.conditions import Condition
from query.engine import Engine
from query.question import Question

#: By default the large model re-ranks ``DEFAULT_RERANK`` hits, if that takes at most
#: ``MAX_SECONDS``.
DEFAULT_RERANK, MAX_SECONDS = 200, 10.0


def default_rerank(engine: Engine, question: Question) -> tuple[int, str]:
    """How many hits of a projection the gallery's large model re-ranks by default.

    :data:`DEFAULT_RERANK` if that model supports the condition and was measured on this machine
    to embed as many pictures within :data:`MAX_SECONDS`. Otherwise 0; also 0 if the question
    names a method, because the answer of that method is wanted.

    Returns:
        The number, and a note for the user or an empty string.
    """
    conditions = [name for name, weight in question.conditions.items() if weight]
    if question.methods or question.fuse or question.unlike or len(conditions) > 1:
        return 0, ""
    if engine.method or engine.resolve(conditions[0]).projection is None:
        return 0, ""
    from query.ranking.reranker import refusal

    found = engine.reranking_model(question.rerank_model)
    if found is None:
        return 0, ""
    if question.rerank_model:
        return DEFAULT_RERANK, ""
    reason = refusal(found.spec, Condition.parse(conditions[0]))
    if reason:
        return 0, f"The hits were not re-ranked: {reason}"
    model = found.spec.model
    option = f"--rerank {DEFAULT_RERANK} re-ranks the best {DEFAULT_RERANK} hits by {model}"
    seconds = _seconds(model)
    if seconds is None:
        return 0, f"{option} and stores their vectors; its speed on this machine is unknown."
    if seconds > MAX_SECONDS:
        return 0, f"{option} in about {seconds:.0f} s, and stores their vectors."
    return DEFAULT_RERANK, ""


def _seconds(model: str) -> float | None:
    """An upper bound of the time to embed the hits under one condition; ``None`` if unknown."""
    from cies.measured import measured_speeds

    speeds = [speed for speed in measured_speeds() if speed.model == model]
    if not speeds:
        return None
    # A picture takes longer under more conditions, so this bound is never too low.
    fewest = min(speeds, key=lambda speed: speed.conditions)
    return DEFAULT_RERANK / fewest.pictures_per_second
