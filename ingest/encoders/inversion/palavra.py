"""PALAVRA (Cohen et al., ECCV 2022): a network over sets of vectors, refined for each question.

The network turns a set of pictures of one thing into a word. It is taught on sets of pictures and
on sets of texts, which a linear map brings to where the pictures are: the sentence with the word
shall be near its set and far from others, and the word near that of the thing's name. For a
question the word is then moved a little, until its sentence is nearer the picture than the one with
a coarse word.

Where the description leaves it open, we chose: pictures have no names here, so that each goes by
the name that suits it best (:class:`ingest.encoders.inversion.oti.PhraseTargets`); the map is fitted by least
squares, from names to the mean of the pictures that go by them; the distance of words is the mean
over coordinates.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from indexes.vectors import Vectors
from ingest.encoders.inversion.losses import Lesson, contrast
from ingest.encoders.inversion.phrases import Phrases
from ingest.encoders.inversion.pseudo_words import PLACE, PseudoWords

#: Pictures or texts of a set, and what the cosines of a contrast are divided by.
_SET, _TEMPERATURE = 5, 0.25

#: How much the distance to the name's own word counts, beside the contrast.
_NAMED = 512.0

#: Steps and rate of the refinement.
_STEPS, _RATE = 30, 0.01


class Palavra(Lesson):
    """What the network is taught."""

    def __init__(self, words: PseudoWords, phrases: Phrases, vectors: Vectors):
        """Take the pictures, and find out what each goes by.

        Raises:
            ModelError: if the model has no words for them.
        """
        phrases.check(words.name)
        self.count = len(vectors)
        self._words = words
        self._vectors = torch.from_numpy(vectors)
        self._single = words.sentences([phrases.single])
        alone = words.dual.encode_texts([phrases.alone(name) for name in phrases.concepts])
        self._names: NDArray[np.int64] = (vectors @ alone.T).argmax(1)
        self._alike = [np.flatnonzero(self._names == n) for n in range(len(phrases.concepts))]
        self._own = words.embeddings(phrases.concepts).cpu()
        texts = [t.replace(PLACE, name) for name in phrases.concepts for t in phrases.templates]
        read = words.dual.encode_texts(texts).reshape(len(phrases.concepts), -1, alone.shape[1])
        self._read = torch.from_numpy(self._brought(alone, vectors, read))

    def _brought(self, alone: Vectors, vectors: Vectors, read: Vectors) -> Vectors:
        """Texts where pictures are: by the least squares from names to their pictures' means."""
        known = [n for n, rows in enumerate(self._alike) if len(rows)]
        means = np.stack([vectors[self._alike[n]].mean(0) for n in known])
        given = alone[known].astype(np.float64)
        # Fewer names than coordinates: a little of the identity keeps the map from swinging.
        ridge = 0.01 * np.eye(given.shape[1])
        way = np.linalg.solve(given.T @ given + ridge, given.T @ means + ridge)
        found = read @ way
        unit: Vectors = (found / np.linalg.norm(found, axis=-1, keepdims=True)).astype(np.float32)
        return unit

    def loss(
        self, network: nn.Module, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> torch.Tensor:
        """See :class:`Lesson`."""
        names = self._names[chosen]
        if random.random() < 0.5:
            others = [random.choice(self._alike[n], _SET - 1) for n in names.tolist()]
            sets = self._vectors[np.concatenate([chosen[:, None], np.stack(others)], axis=1)]
        else:
            drawn = random.integers(self._read.shape[1], size=(len(chosen), _SET))
            sets = self._read[names[:, None], drawn]
        found = network(sets)
        said = self._words.read(self._single, found)
        middle = functional.normalize(sets.mean(1), dim=-1).to(said.device)
        distance = functional.mse_loss(found, self._own[names])
        return contrast(said, middle, 1 / _TEMPERATURE) + _NAMED * distance


def refine(
    words: PseudoWords, phrases: Phrases, vectors: Vectors, tokens: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Move words until their sentences are nearer to their pictures than a coarse word's.

    Args:
        words: reads.
        phrases: of the model; their coarse word stands before the picture's.
        vectors: float32 [pictures, dim], unit rows.
        tokens: float32 [pictures, width], as the network gives them.

    Returns:
        float32 [pictures, width].
    """
    seen = torch.from_numpy(vectors).to(words.device)
    coarse = torch.from_numpy(words.dual.encode_texts([phrases.alone(phrases.coarse)]))
    rival = (seen @ coarse.to(words.device).T)[:, 0]
    sentence = words.sentences([with_coarse(phrases.single, phrases.coarse)])
    moved = torch.from_numpy(tokens).to(words.device).clone().requires_grad_(True)
    descent = torch.optim.Adam([moved], lr=_RATE)
    for _ in range(_STEPS):
        own = (words.read(sentence, moved) * seen).sum(1)
        loss = functional.softplus((rival - own) / _TEMPERATURE).sum()
        descent.zero_grad()
        torch.autograd.backward(loss)
        descent.step()
    return moved.detach().cpu().numpy()


def with_coarse(text: str, coarse: str) -> str:
    """A text with a coarse word before the picture's."""
    return text.replace(PLACE, f"{coarse} {PLACE}", 1)
