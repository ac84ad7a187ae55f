"""The composers that work in conditions, over a run's vectors under those conditions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from PIL import Image

from eval.runs.run import RandomVectors
from eval.runs.vectors import RunVectors
from indexes.search.parts import joined
from indexes.search.vectors import Vectors
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings
from query.composers.base import ComposedQuery, Interpretation
from query.composers.dior import conditions_in_change, read_changed_picture, vectors_from_words


class ConditionComposer:
    """``dior`` and ``dior-split``, by the functions that ``cies search --modify`` has them from.

    Under several conditions the mean cosine counts, as there.
    """

    def __init__(
        self,
        name: str,
        encoder: BaseEncoder,
        table: RunVectors | RandomVectors,
        conditions: Sequence[str],
        ids: Sequence[str],
    ):
        """Read nothing yet.

        Args:
            name: ``dior`` or ``dior-split``.
            encoder: that made the table.
            table: vectors of the pictures.
            conditions: that are looked under.
            ids: of the pictures that are ranked, whose words are familiar.
        """
        self._name = name
        self._encoder = encoder
        self._table = table
        self._names = tuple(conditions)
        self._conditions = [Condition.parse(one) for one in conditions]
        self._ids = ids

    def seen(self, keys: Sequence[str]) -> Vectors:
        """Pictures' vectors under each condition: float32 [pictures, conditions, dim]."""
        return np.stack([self._table.vectors(name, keys) for name in self._names], axis=1)

    @cached_property
    def _familiar(self) -> list[set[str]]:
        """Words that pictures go by, under each condition."""
        said = [self._table.said(name, self._ids) for name in self._names]
        return [set(one.words) if one else set() for one in said]

    def compose(self, image: Image.Image, change: str, seen: Vectors) -> ComposedQuery:
        """What to look for: vectors of all conditions, joined.

        Args:
            image: that is to be changed.
            change: in words.
            seen: float32 [conditions, dim], its stored vectors.

        Raises:
            UsageError: as :func:`query.composers.dior.read_changed_picture`.
            ModelError: as :func:`query.composers.dior.read_changed_picture`.
        """
        told: list[Embeddings] = []

        def imagine() -> Sequence[str]:
            told.append(read_changed_picture(self._encoder, image, change, self._conditions))
            return told[-1].words[0]

        vectors, said = seen.copy(), {}
        spoken: dict[int, str] = {}
        if self._name == "dior-split":
            words = self._encoder.embed_text([change], self._conditions)
            spoken = conditions_in_change(
                change,
                self._names,
                words.words[0],
                imagine,
                lambda number: words.words[0][number] in self._familiar[number],
            )
            given = vectors_from_words(self._encoder, change, spoken, words, self._conditions)
            for n, (vector, word) in given.items():
                vectors[n], said[self._names[n]] = vector, word
        if not spoken:
            if not told:
                imagine()
            vectors = told[-1].vectors[0]
            said = dict(zip(self._names, told[-1].words[0], strict=True))
        return ComposedQuery(joined(vectors), Interpretation(self._name, change, conditions=said))
