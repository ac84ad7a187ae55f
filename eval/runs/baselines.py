"""Encoders that know nothing, which every method must beat."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from indexes.search.vectors import Vectors, unit
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec

#: Bins of hue, saturation and value.
BINS = (16, 3, 3)

#: Side in pixels that a picture is reduced to before its colors are counted.
_SIDE = 256

#: Length of a random vector.
_RANDOM = 32


class ColorHistogram(BaseEncoder):
    """How much of a picture has which color: 16 x 3 x 3 bins of HSV.

    Two histograms are compared by the cosine of their square roots, the Bhattacharyya coefficient
    (Bhattacharyya 1943), which is 1 for equal ones. Pixels without saturation have no hue, so
    that Pillow counts them as red.
    """

    @property
    def spec(self) -> EncoderSpec:
        """Bins and the size of the picture."""
        return EncoderSpec("histogram", "hsv", "1", {"bins": list(BINS), "side": _SIDE})

    @property
    def conditional(self) -> bool:
        """No condition makes a difference."""
        return False

    @property
    def dimension(self) -> int:
        """Number of bins."""
        return int(np.prod(BINS))

    @property
    def description(self) -> str:
        """For people."""
        return "a color histogram of 16 x 3 x 3 bins"

    def check(self, conditions: Sequence[Condition]) -> None:
        """Any condition will do, since none makes a difference."""

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """Count colors; says no words."""
        found = np.stack([self._histogram(image) for image in images])
        vectors = np.repeat(unit(np.sqrt(found))[:, None], len(conditions), axis=1)
        return Embeddings(vectors, [], np.zeros((len(images), len(conditions)), dtype=np.float32))

    def _histogram(self, image: Image.Image) -> Vectors:
        small = image.copy()
        small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
        pixels = np.asarray(small.convert("HSV"), dtype=np.int64).reshape(-1, 3)
        place = pixels * np.array(BINS) // 256
        number = (place[:, 0] * BINS[1] + place[:, 1]) * BINS[2] + place[:, 2]
        counts: Vectors = np.bincount(number, minlength=self.dimension).astype(np.float32)
        return counts


def random_vectors(ids: Sequence[str], seed: int) -> Vectors:
    """A direction for each id, drawn from the seed and the id: float32 [ids, 32], unit rows."""
    drawn = [
        np.random.default_rng(
            int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:8], "big")
        ).normal(size=_RANDOM)
        for key in ids
    ]
    return unit(np.array(drawn, dtype=np.float64).reshape(len(ids), _RANDOM))
