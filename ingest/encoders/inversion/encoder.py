"""A picture as a word of a sentence, by any of the ways there are to find that word."""

from __future__ import annotations

import hashlib
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from indexes.vectors import Vectors
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.inversion.networks import InversionNetwork, load_network
from ingest.encoders.inversion.oti import OtiPlan, invert
from ingest.encoders.inversion.palavra import refine, with_coarse
from ingest.encoders.inversion.phrases import Phrases, query_of
from ingest.encoders.inversion.pseudo_words import PseudoWords, Sentences

#: The way that needs no network, and the one that moves its network's word for each question.
OPTIMISED, REFINED = "searle-oti", "palavra"

_READY: WeakKeyDictionary[DualEncoder, Inversion] = WeakKeyDictionary()


class Inversion:
    """Pseudo-words of one model's pictures, and sentences with them."""

    def __init__(self, words: PseudoWords):
        """Use a model; :meth:`of` keeps what was loaded for one."""
        self.words = words
        self._networks: dict[str, InversionNetwork] = {}
        self._phrases: Phrases | None = None
        self._optimised: dict[bytes, NDArray[np.float32]] = {}

    @classmethod
    def of(cls, dual: DualEncoder) -> Inversion:
        """For a loaded model, the same each time.

        Raises:
            ModelError: if words cannot be put into its text half.
        """
        if dual not in _READY:
            _READY[dual] = cls(PseudoWords(dual))
        return _READY[dual]

    @property
    def phrases(self) -> Phrases:
        """What is said to the model while a word is looked for."""
        if self._phrases is None:
            self._phrases = Phrases.of(self.words)
        return self._phrases

    def decides(self, composer: str) -> dict[str, str]:
        """All that decides a picture's word beside its vector, of a way by optimisation alone."""
        whole = hashlib.sha256(f"{OtiPlan()} {self.phrases}".encode()).hexdigest()
        return {
            "composer": composer,
            "model": self.words.name,
            "revision": self.words.revision,
            "plan": whole,
        }

    def tokens(self, composer: str, vectors: Vectors) -> NDArray[np.float32]:
        """Pictures' words.

        Args:
            composer: whose network is asked, or :data:`OPTIMISED`.
            vectors: float32 [pictures, dim], unit rows: base vectors.

        Returns:
            float32 [pictures, width].

        Raises:
            ModelError: if there is no network for this model.
        """
        if composer == OPTIMISED:
            if any(vector.tobytes() not in self._optimised for vector in vectors):
                return invert(self.words, self.phrases, vectors).tokens
            return np.stack([self._optimised[vector.tobytes()] for vector in vectors])
        if composer not in self._networks:
            self._networks[composer] = load_network(composer, self.words)
        found = self._networks[composer].tokens(vectors)
        return refine(self.words, self.phrases, vectors, found) if composer == REFINED else found

    def optimise(self, vectors: Vectors) -> None:
        """Find the words of many pictures at once, for when they are asked for one by one.

        Args:
            vectors: float32 [pictures, dim], unit rows: base vectors.
        """
        tokens = invert(self.words, self.phrases, vectors).tokens
        self._optimised |= {v.tobytes(): t for v, t in zip(vectors, tokens, strict=True)}

    def text(self, composer: str, change: str) -> str:
        """The text of a question, with ``$`` for the picture."""
        text = query_of(self.words.name, change)
        return with_coarse(text, self.phrases.coarse) if composer == REFINED else text

    def alone(self, composer: str) -> str:
        """A text that tells of nothing but the picture."""
        text = self.phrases.single
        return with_coarse(text, self.phrases.coarse) if composer == REFINED else text

    def read(self, text: str, tokens: NDArray[np.float32]) -> Vectors:
        """A text about each picture, by its word: float32 [pictures, dim], unit rows.

        Raises:
            UsageError: if the text has no place for the word, or too late.
        """
        sentence: Sentences = self.words.sentences([text])
        with torch.inference_mode():
            found: Vectors = self.words.read(sentence, torch.from_numpy(tokens)).cpu().numpy()
        return found
