"""The composers that work under conditions, over a run's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from PIL import Image

from eval.runs.baselines import SystemVectors
from indexes.search.multi_vector import joined
from indexes.vectors import Vectors
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings
from query.composers.base import ComposedQuery, Interpretation
from query.composers.dior import conditions_in_change, read_changed_picture, vectors_from_words


class ConditionComposer:
    """The composers ``dior``, ``dior-split`` and ``embedder`` of ``cies search --modify``.

    Under several conditions the mean cosine counts, as in a search.
    """

    def __init__(
        self,
        name: str,
        encoder: BaseEncoder,
        table: SystemVectors,
        conditions: Sequence[str],
        ids: Sequence[str],
    ):
        """Set what is composed with; nothing is read yet.

        Args:
            name: ``dior``, ``dior-split`` or ``embedder``.
            encoder: the encoder that embedded the table.
            table: vectors of the pictures.
            conditions: the conditions to search under.
            ids: the ids of the ranked pictures, whose generated words are the known ones.
        """
        self._name = name
        self._encoder = encoder
        self._table = table
        self._names = tuple(conditions)
        self._conditions = [Condition.parse(name) for name in conditions]
        self._ids = ids

    def picture_vectors(self, keys: Sequence[str]) -> Vectors:
        """Return pictures' vectors under each condition: float32 [pictures, conditions, dim]."""
        return np.stack([self._table.vectors(name, keys) for name in self._names], axis=1)

    @cached_property
    def _known_words(self) -> list[set[str]]:
        """The pictures' generated words under each condition."""
        found = [self._table.generated_words(name, self._ids) for name in self._names]
        return [set(generated.words) if generated else set() for generated in found]

    def compose(self, image: Image.Image, change: str, vectors: Vectors) -> ComposedQuery:
        """Compose a query: the vectors of all conditions, joined.

        Args:
            image: the image to be changed.
            change: the change in words.
            vectors: float32 [conditions, dim], the picture's stored vectors.

        Raises:
            UsageError: as :func:`query.composers.dior.read_changed_picture`.
            ModelError: as :func:`query.composers.dior.read_changed_picture`.
        """
        imagined: list[Embeddings] = []

        def imagine() -> Sequence[str]:
            imagined.append(read_changed_picture(self._encoder, image, change, self._conditions))
            return imagined[-1].words[0]

        found, words = vectors.copy(), {}
        changed: dict[int, str] = {}
        if self._name == "dior-split":
            text = self._encoder.embed_text([change], self._conditions)
            changed = conditions_in_change(
                change,
                self._names,
                text.words[0],
                imagine,
                lambda number: text.words[0][number] in self._known_words[number],
            )
            given = vectors_from_words(self._encoder, change, changed, text, self._conditions)
            for n, (vector, word) in given.items():
                found[n], words[self._names[n]] = vector, word
        if not changed:
            if not imagined:
                imagine()
            found = imagined[-1].vectors[0]
            words = dict(zip(self._names, imagined[-1].words[0], strict=True))
        return ComposedQuery(joined(found), Interpretation(self._name, change, conditions=words))
