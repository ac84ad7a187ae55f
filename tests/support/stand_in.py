"""A stand-in encoder: fast, deterministic for the pixels, and counts its calls."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from indexes.vectors import unit
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec


class StandIn(BaseEncoder):
    """Vectors drawn from a hash of the pixels and the condition."""

    def __init__(self, fail_after: int | None = None):
        self.calls: list[tuple[int, tuple[str, ...]]] = []
        self.fail_after = fail_after

    @property
    def spec(self) -> EncoderSpec:
        return EncoderSpec("dior", "stand-in", "1", {"prompt": "describe", "dtype": "float32"})

    @property
    def dimension(self) -> int:
        return 16

    @property
    def description(self) -> str:
        return "a stand-in"

    def check(self, conditions: Sequence[Condition]) -> None:
        pass

    @property
    def pictures(self) -> int:
        return sum(count for count, _ in self.calls)

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        if self.fail_after is not None and len(self.calls) >= self.fail_after:
            raise RuntimeError("the machine went down")
        self.calls.append((len(images), tuple(c.name for c in conditions)))
        vectors = [[self.vector(image, c.phrase) for c in conditions] for image in images]
        names = [[c.name for c in conditions] for _ in images]
        return Embeddings(np.array(vectors), names, np.ones((len(images), len(conditions)), "f4"))

    def vector(self, image: Image.Image, phrase: str) -> np.ndarray:
        digest = hashlib.sha256(image.tobytes() + phrase.encode()).digest()
        seed = int.from_bytes(digest[:8], "big")
        vector: np.ndarray = unit(np.random.default_rng(seed).normal(size=(1, 16)))[0]
        return vector
