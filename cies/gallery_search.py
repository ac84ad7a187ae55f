"""What :func:`cies.open` gives: the engine, as Python and a notebook like to meet it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cies.measured.rerank_default import usual
from indexes.store.records import VectorColumn
from query.engine import Engine
from query.hits import Hits
from query.question import Question


@dataclass(frozen=True)
class Column(VectorColumn):
    """All vectors of a condition with all that goes with them, in key order.

    Attributes:
        keys: SHA-256 of each picture's bytes, [n].
        vectors: float32 [n, dim], unit rows, in the gallery's geometry: the cosine of two rows is
            the score that a search gives.
        words: the model's word for each picture, or empty strings, [n].
        word_probabilities: how sure the model was, float32 [n].
        paths: where the pictures lie on this machine, the first in path order of copies, [n].
    """

    paths: list[str]

    def __len__(self) -> int:
        return len(self.keys)


class Searchable(Engine):
    """A gallery that can be asked: ``search``, ``vectors``, ``conditions``.

    Tables are read when first needed and kept; a picture of the gallery is found without its
    model, a new one loads it once.
    """

    @property
    def conditions(self) -> list[str]:
        """The names of the gallery's conditions, in the order they were added; with several
        methods or models, of the main one's, or of the one that the gallery was opened for.
        """
        return self.names()

    def vectors(self, condition: str, method: str | None = None) -> Column:
        """All vectors, words and paths of a condition.

        Raises:
            UnknownCondition: naming those there are.
            UsageError: if there is no such method, or no list of words for a view.
        """
        column = super().vectors(condition, method)
        return Column(**vars(column), paths=[self.path(key) for key in column.keys])

    def ask(self, question: Question) -> Hits:
        """Answer a question; where nothing was said of re-ranking, :mod:`cies.measured.rerank_default` decides.

        Raises:
            CiesError: see :meth:`query.engine.Engine.ask`.
        """
        if question.rerank is not None or question.modification is not None:
            return super().ask(question)
        count, note = usual(self, question)
        hits = super().ask(replace(question, rerank=count))
        return replace(hits, notes=(*hits.notes, note)) if note else hits

    def __len__(self) -> int:
        """The pictures of which a file is there."""
        return len(self._paths)

    def __repr__(self) -> str:
        names = ", ".join(self.conditions) or "none yet"
        return f"<gallery {self.gallery.path}: {len(self)} pictures; conditions: {names}>"
