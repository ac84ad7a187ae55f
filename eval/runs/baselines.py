"""Baselines that every method must beat: color histograms and random vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from eval.runs.vectors import PICTURES, GeneratedWords, RunVectors
from indexes.vectors import Vectors, unit
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec

#: Bins of hue, saturation and value.
BINS = (16, 3, 3)

#: Side in pixels that a picture is reduced to before its colors are counted.
_SIDE = 256

#: Dimension of a random vector.
_RANDOM = 32


class ColorHistogram(BaseEncoder):
    """A histogram of a picture's colors: 16 x 3 x 3 bins of HSV.

    Two histograms are compared by the cosine of their square roots, the Bhattacharyya coefficient
    (Bhattacharyya 1943), which is 1 for equal ones. Pixels without saturation have no hue; Pillow
    counts them as red.
    """

    @property
    def spec(self) -> EncoderSpec:
        """The bins and the size that pictures are reduced to."""
        return EncoderSpec("histogram", "hsv", "1", {"bins": list(BINS), "side": _SIDE})

    @property
    def conditional(self) -> bool:
        """False: the vectors are the same under every condition."""
        return False

    @property
    def dimension(self) -> int:
        """The number of bins."""
        return int(np.prod(BINS))

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        return "a color histogram of 16 x 3 x 3 bins"

    def check(self, conditions: Sequence[Condition]) -> None:
        """Accept any condition."""

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """Count colors; there are no words."""
        found = np.stack([self._histogram(image) for image in images])
        vectors = np.repeat(unit(np.sqrt(found))[:, None], len(conditions), axis=1)
        return Embeddings(vectors, [], np.zeros((len(images), len(conditions)), dtype=np.float32))

    def _histogram(self, image: Image.Image) -> Vectors:
        small = image.copy()
        small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
        pixels = np.asarray(small.convert("HSV"), dtype=np.int64).reshape(-1, 3)
        bins = pixels * np.array(BINS) // 256
        number = (bins[:, 0] * BINS[1] + bins[:, 1]) * BINS[2] + bins[:, 2]
        counts: Vectors = np.bincount(number, minlength=self.dimension).astype(np.float32)
        return counts


class RandomVectors:
    """Random vectors in place of stored ones, with the methods of :class:`RunVectors`."""

    conditional = False
    parts = 1

    def __init__(self, seed: int):
        self._seed = seed

    def vectors(self, condition: str, ids: Sequence[str], kind: str = PICTURES) -> Vectors:
        """Return a direction drawn from the seed, the kind and the id: float32 [ids, 32].

        Rows have unit length and are the same under every condition.
        """
        drawn = [
            np.random.default_rng(
                int.from_bytes(
                    hashlib.sha256(f"{self._seed} {kind} {key}".encode()).digest()[:8], "big"
                )
            ).normal(size=_RANDOM)
            for key in ids
        ]
        return unit(np.array(drawn, dtype=np.float64).reshape(len(ids), _RANDOM))

    def generated_words(self, condition: str, ids: Sequence[str]) -> GeneratedWords | None:
        """Return ``None``: there are no words."""
        return None


#: The vectors that a system ranks by.
SystemVectors = RunVectors | RandomVectors
