"""Textual inversion: images as words of a sentence, by any of the composers that do so."""

from __future__ import annotations

import hashlib
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from indexes.vectors import Vectors
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.inversion.networks import InversionNetwork, load_network
from ingest.encoders.inversion.oti import OtiPlan, invert
from ingest.encoders.inversion.palavra import refine, with_coarse
from ingest.encoders.inversion.phrases import Phrases, query_text
from ingest.encoders.inversion.pseudo_words import PseudoWords, Sentences

#: The composer that needs no network, and the one that refines its network's word per query.
OPTIMISED, REFINED = "searle-oti", "palavra"

_INVERSIONS: WeakKeyDictionary[DualEncoder, Inversion] = WeakKeyDictionary()


class Inversion:
    """Pseudo-words of images for one model, and sentences with them."""

    def __init__(self, words: PseudoWords):
        """Use a model; :meth:`of` shares one object for each model."""
        self.words = words
        self._networks: dict[str, InversionNetwork] = {}
        self._optimised: dict[bytes, NDArray[np.float32]] = {}

    @classmethod
    def of(cls, dual: DualEncoder) -> Inversion:
        """The inversion for a loaded model, the same object at each call.

        Raises:
            ModelError: if pseudo-words cannot be put into its text tower.
        """
        if dual not in _INVERSIONS:
            _INVERSIONS[dual] = cls(PseudoWords(dual))
        return _INVERSIONS[dual]

    @cached_property
    def phrases(self) -> Phrases:
        """The texts used to find a word."""
        return Phrases.of(self.words)

    def cache_identity(self, composer: str) -> dict[str, str]:
        """What determines an optimised word besides the image's vector, as a cache stores it."""
        digest = hashlib.sha256(f"{OtiPlan()} {self.phrases}".encode()).hexdigest()
        return {
            "composer": composer,
            "model": self.words.name,
            "revision": self.words.revision,
            "plan": digest,
        }

    def takes_raw(self, composer: str) -> bool:
        """Whether a composer's network takes vectors before they are scaled to unit length.

        Raises:
            ModelError: if there is no network for this model.
        """
        return composer != OPTIMISED and self._network(composer).card.raw

    def _network(self, composer: str) -> InversionNetwork:
        if composer not in self._networks:
            self._networks[composer] = load_network(composer, self.words)
        return self._networks[composer]

    def tokens(
        self, composer: str, vectors: Vectors, norms: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The words of images.

        Args:
            composer: whose network is used, or :data:`OPTIMISED`.
            vectors: float32 [images, dim], unit rows: base vectors.
            norms: float32 [images], their lengths before, for :meth:`takes_raw`.

        Returns:
            float32 [images, width].

        Raises:
            ModelError: if there is no network for this model.
        """
        if composer == OPTIMISED:
            if any(vector.tobytes() not in self._optimised for vector in vectors):
                return invert(self.words, self.phrases, vectors).tokens
            return np.stack([self._optimised[vector.tobytes()] for vector in vectors])
        tokens = self._network(composer).tokens(vectors, norms)
        return refine(self.words, self.phrases, vectors, tokens) if composer == REFINED else tokens

    def optimise(self, vectors: Vectors) -> None:
        """Find the words of many images at once, before :meth:`tokens` is called for each.

        Args:
            vectors: float32 [images, dim], unit rows: base vectors.
        """
        tokens = invert(self.words, self.phrases, vectors).tokens
        self._optimised |= {v.tobytes(): t for v, t in zip(vectors, tokens, strict=True)}

    def query_text(self, composer: str, change: str) -> str:
        """The text of a query, with ``$`` for the image."""
        text = query_text(self.words.name, composer, change)
        return with_coarse(text, self.phrases.coarse) if composer == REFINED else text

    def image_text(self, composer: str) -> str:
        """A text about the image alone, with ``$`` for it."""
        text = self.phrases.single
        return with_coarse(text, self.phrases.coarse) if composer == REFINED else text

    def encode(self, text: str, tokens: NDArray[np.float32]) -> Vectors:
        """A text about each image, with its word: float32 [images, dim], unit rows.

        Raises:
            UsageError: if the text has no place for the word, or it is truncated.
        """
        sentence: Sentences = self.words.sentences([text])
        with torch.inference_mode():
            vectors: Vectors = self.words.encode(sentence, torch.from_numpy(tokens)).cpu().numpy()
        return vectors
