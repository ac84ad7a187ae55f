"""A projection as an encoder: a dual encoder's vectors, projected for each condition.

For users who embed images without a gallery. A gallery stores the base vectors and projects them
when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from indexes.vectors import Vectors
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec, Timing, check_text
from ingest.encoders.methods.clip import ClipEncoder
from ingest.encoders.options import EncoderChoice
from ingest.encoders.projections.base import Projection, fit_projection
from ingest.encoders.projections.indirect import COMPONENTS

if TYPE_CHECKING:
    from ingest.vocabularies import Vocabulary


def shipped_vocabulary(condition: Condition) -> Vocabulary:
    """The words of a condition that come with CIES.

    Raises:
        UsageError: if there are none.
    """
    from ingest.vocabularies import vocabulary_of

    return vocabulary_of(condition.name)


class ProjectionEncoder(BaseEncoder):
    """InDiReCT, CRL or CLAY over a dual encoder.

    Projections have different lengths for different conditions; here all are padded with zeros to
    one length, which changes no cosine. The word of an image is the nearest one.
    """

    def __init__(
        self,
        base: ClipEncoder,
        method: str,
        vocabulary: Callable[[Condition], Vocabulary] = shipped_vocabulary,
        image_mean: Vectors | None = None,
    ):
        """Use a dual encoder.

        Args:
            base: embeds images and texts.
            method: one of :data:`ingest.encoders.projections.base.PROJECTIONS`.
            vocabulary: returns the words of a condition.
            image_mean: float32 [dim], mean of the base vectors of similar images; ``None`` if
                it is not known.
        """
        self.base = base
        self._method = method
        self._vocabulary = vocabulary
        self._image_mean = image_mean
        self._projections: dict[Condition, Projection | None] = {}

    @classmethod
    def load(cls, choice: EncoderChoice) -> ProjectionEncoder:
        """Load the dual encoder by name; see :meth:`ClipEncoder.load`."""
        return cls(ClipEncoder.load(choice), choice.method)

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`."""
        base = self.base.spec
        return EncoderSpec(self._method, base.model, base.revision, base.settings)

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`: the greatest length of a projection."""
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

    def projection(self, condition: Condition) -> Projection | None:
        """A condition's projection, fitted once; ``None`` without a phrase, for base vectors.

        Raises:
            UsageError: if the condition has no words.
        """
        if condition not in self._projections:
            self._projections[condition] = self._fit(condition) if condition.phrase else None
        return self._projections[condition]

    def _fit(self, condition: Condition) -> Projection:
        vocabulary = self._vocabulary(condition)
        texts = self.base.base_texts(vocabulary.texts)
        return fit_projection(self._method, vocabulary.words, texts, self._image_mean)

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`.

        Raises:
            UsageError: if a condition has no words.
        """
        for condition in conditions:
            self.projection(condition)

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`.

        Raises:
            UsageError: if a condition has no words.
            ModelError: if there is not enough memory.
        """
        self.check(conditions)
        repeated = self.base.embed(images, conditions).vectors
        base = repeated[:, 0] if len(conditions) else repeated.reshape(len(images), -1)
        return self.project(base, conditions, words)

    def project(
        self, base: Vectors, conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """As :meth:`embed`, for images whose base vectors are known.

        Args:
            base: float32 [images, dim], unit rows.
            conditions: any number.
            words: whether the nearest words are needed.

        Raises:
            UsageError: if a condition has no words.
        """
        embeddings = self._empty(len(base), len(conditions))
        for k, condition in enumerate(conditions):
            projection = self.projection(condition)
            projected = base if projection is None else projection.images(base)
            embeddings.vectors[:, k, : projected.shape[1]] = projected
            if words and projection is not None:
                nearest, probabilities = projection.nearest_words(base)
                embeddings.word_probabilities[:, k] = probabilities
                for row, word in zip(embeddings.words, nearest, strict=True):
                    row[k] = word
        return embeddings

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; words are empty.

        Raises:
            UsageError: if a text cannot be a query, or a condition has no words.
            ModelError: if there is not enough memory.
        """
        for text in texts:
            check_text(text)
        self.check(conditions)
        base = self.base.base_texts(texts)
        embeddings = self._empty(len(texts), len(conditions))
        for k, condition in enumerate(conditions):
            projection = self.projection(condition)
            projected = base if projection is None else projection.texts(base)
            embeddings.vectors[:, k, : projected.shape[1]] = projected
        return embeddings

    def _empty(self, count: int, conditions: int) -> Embeddings:
        shape = (count, conditions, self.dimension)
        return Embeddings.without_words(np.zeros(shape, dtype=np.float32))
