"""A view as an encoder: a dual encoder's vectors, seen under each condition.

For those who embed pictures by themselves, without a gallery. A gallery stores the base vectors
and works its views out when they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from indexes.search.vectors import Vectors
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec, Timing, check_text
from ingest.encoders.methods.clip import ClipEncoder
from ingest.encoders.projections.base import Projection, fit_view
from ingest.encoders.projections.indirect import COMPONENTS

if TYPE_CHECKING:
    from ingest.vocabularies import Vocabulary


def shipped_words(condition: Condition) -> Vocabulary:
    """The words of a condition that come with CIES.

    Raises:
        UsageError: if there are none.
    """
    from ingest.vocabularies import vocabulary_of

    return vocabulary_of(condition.name)


class ProjectionEncoder(BaseEncoder):
    """InDiReCT, CRL or CLAY over a dual encoder.

    Views differ in length from condition to condition; here all are filled up with zeros to one
    length, which changes no cosine. The nearest word is said of a picture.
    """

    def __init__(
        self,
        base: ClipEncoder,
        method: str,
        words: Callable[[Condition], Vocabulary] | None = None,
        image_mean: Vectors | None = None,
    ):
        """See pictures through a view.

        Args:
            base: embeds pictures and texts.
            method: one of :data:`ingest.encoders.projections.base.PROJECTIONS`.
            words: gives the words of a condition; those that come with CIES by default.
            image_mean: float32 [dim], mean of the base vectors of pictures like those to come;
                ``None`` if it is not known.
        """
        self.base = base
        self._method = method
        self._words = words or shipped_words
        self._image_mean = image_mean
        self._views: dict[Condition, Projection | None] = {}

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`."""
        base = self.base.spec
        return EncoderSpec(self._method, base.model, base.revision, base.settings)

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`: no view is longer."""
        return max(self.base.dimension, COMPONENTS if self._method == "indirect" else 0)

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        return f"{self.base.description}; conditions by {self._method} from their words"

    @property
    def device(self) -> str:
        """See :class:`BaseEncoder`."""
        return self.base.device

    @property
    def threads(self) -> int:
        """See :class:`BaseEncoder`."""
        return self.base.threads

    @property
    def timings(self) -> Mapping[int, Timing]:
        """See :class:`BaseEncoder`."""
        return self.base.timings

    def view(self, condition: Condition) -> Projection | None:
        """A condition's view, worked out once; ``None`` for the base vectors as they are.

        Raises:
            UsageError: if the condition has no words.
        """
        if condition not in self._views:
            self._views[condition] = self._fitted(condition) if condition.phrase else None
        return self._views[condition]

    def _fitted(self, condition: Condition) -> Projection:
        vocabulary = self._words(condition)
        texts = self.base.base_texts(vocabulary.texts)
        return fit_view(self._method, vocabulary.words, texts, self._image_mean)

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`.

        Raises:
            UsageError: if a condition has no words.
        """
        for condition in conditions:
            self.view(condition)

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`.

        Raises:
            UsageError: if a condition has no words.
            ModelError: if memory does not suffice.
        """
        self.check(conditions)
        seen = self.base.embed(images, conditions).vectors
        base = seen[:, 0] if len(conditions) else seen.reshape(len(images), -1)
        return self.see(base, conditions, words)

    def see(self, base: Vectors, conditions: Sequence[Condition], words: bool = True) -> Embeddings:
        """As :meth:`embed`, of pictures whose base vectors are known.

        Args:
            base: float32 [images, dim], unit rows.
            conditions: under which they are seen.
            words: whether the nearest words are wanted.

        Raises:
            UsageError: if a condition has no words.
        """
        reading = self._blank(len(base), len(conditions))
        for k, condition in enumerate(conditions):
            view = self.view(condition)
            self._put(reading.vectors, k, base if view is None else view.images(base))
            if words and view is not None:
                said, reading.word_probabilities[:, k] = view.said(base)
                for row, word in zip(reading.words, said, strict=True):
                    row[k] = word
        return reading

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; words come out empty.

        Raises:
            UsageError: if a text cannot be a query, or a condition has no words.
            ModelError: if memory does not suffice.
        """
        for text in texts:
            check_text(text)
        self.check(conditions)
        base = self.base.base_texts(texts)
        reading = self._blank(len(texts), len(conditions))
        for k, condition in enumerate(conditions):
            view = self.view(condition)
            self._put(reading.vectors, k, base if view is None else view.texts(base))
        return reading

    def _blank(self, count: int, conditions: int) -> Embeddings:
        return Embeddings(
            np.zeros((count, conditions, self.dimension), dtype=np.float32),
            [[""] * conditions for _ in range(count)],
            np.zeros((count, conditions), dtype=np.float32),
        )

    @staticmethod
    def _put(vectors: Vectors, column: int, found: Vectors) -> None:
        vectors[:, column, : found.shape[1]] = found
