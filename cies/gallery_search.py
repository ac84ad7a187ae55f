"""The open gallery that :func:`cies.open` returns: the search engine with Python conveniences."""

from __future__ import annotations

from dataclasses import dataclass, replace

from indexes.store.records import VectorColumn
from ingest.conditions import Condition
from query.engine import Engine
from query.hits import Hits
from query.question import Question

#: By default the large model re-ranks ``DEFAULT_RERANK`` hits, if that takes at most
#: ``MAX_SECONDS``.
DEFAULT_RERANK, MAX_SECONDS = 200, 10.0


@dataclass(frozen=True)
class GalleryVectors(VectorColumn):
    """All vectors of a condition with keys, words and paths, in key order.

    Attributes:
        keys: SHA-256 of each picture's bytes, [n].
        vectors: float32 [n, dim], unit rows, in the gallery's geometry: the cosine of two rows is
            the score that a search returns.
        words: the model's word for each picture, or empty strings, [n].
        word_probabilities: the model's probability of that word, float32 [n].
        paths: where the pictures are on this machine; of several copies the first in path
            order, [n].
    """

    paths: list[str]

    def __len__(self) -> int:
        return len(self.keys)


class SearchableGallery(Engine):
    """A gallery opened for search: ``search``, ``vectors``, ``conditions``.

    Tables are read at first use and kept in memory. A search for a picture of the gallery needs
    no model; the first search for a new picture loads it.
    """

    @property
    def conditions(self) -> list[str]:
        """The names of the gallery's conditions, in the order they were added.

        A gallery with several methods or models lists those of the main one, or of the method
        that it was opened with.
        """
        self._at_newest()
        return self.names()

    def vectors(self, condition: str, method: str | None = None) -> GalleryVectors:
        """All vectors, words and paths of a condition.

        Raises:
            UnknownCondition: if the gallery has no such condition; the message lists those it has.
            UsageError: if there is no such method, or no word list for a projection.
        """
        self._at_newest()
        column = super().vectors(condition, method)
        return GalleryVectors(**vars(column), paths=[self.path(key) for key in column.keys])

    def ask(self, question: Question) -> Hits:
        """Answer a question. If it leaves ``rerank`` open, :func:`default_rerank` decides.

        Raises:
            CiesError: see :meth:`query.engine.Engine.ask`.
        """
        self._at_newest()
        if question.rerank is not None or question.modification is not None:
            return super().ask(question)
        count, note = default_rerank(self, question)
        hits = super().ask(replace(question, rerank=count))
        return replace(hits, notes=(*hits.notes, note)) if note else hits

    def __len__(self) -> int:
        """The number of pictures with at least one existing file."""
        return len(self._at_newest().paths)

    def __repr__(self) -> str:
        names = ", ".join(self.conditions) or "none yet"
        return f"<gallery {self.gallery.path}: {len(self)} pictures; conditions: {names}>"


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
