"""PALAVRA (Cohen et al., ECCV 2022): a network over sets of vectors, refined for each query.

The network maps a set of images of one thing to a word. It is trained on sets of images and on
sets of texts, which a linear map moves to the images: the sentence with the word should be near
its set and far from others, and the word near that of the thing's name. For a query, the word is
then moved a little, until its sentence is nearer to the image than the one with a coarse word.

Where the paper leaves details open, we chose: images have no names here, so each has the nearest
name (:class:`ingest.encoders.inversion.oti.PhraseTargets`); the map is fitted by least squares,
from names to the mean of the images that have them; the distance of words is the mean over
coordinates.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from indexes.vectors import Vectors
from ingest.encoders.inversion.losses import InversionLoss, contrastive_loss
from ingest.encoders.inversion.phrases import Phrases
from ingest.encoders.inversion.pseudo_words import PLACE, PseudoWords

#: Images or texts of a set, and the temperature of the contrastive loss.
_SET, _TEMPERATURE = 5, 0.25

#: Weight of the distance to the name's own word.
_NAME_WEIGHT = 512.0

#: Steps and rate of the refinement.
_STEPS, _RATE = 30, 0.01


class PalavraLoss(InversionLoss):
    """The loss of the network on sets of images or texts."""

    def __init__(self, words: PseudoWords, phrases: Phrases, vectors: Vectors):
        """Use images, and find the nearest name of each.

        Args:
            words: the words of the model.
            phrases: the phrases of the model.
            vectors: float32 [images, dim], unit rows: base vectors.

        Raises:
            ModelError: if the model has no words for the names.
        """
        phrases.check(words.name)
        self.count = len(vectors)
        self._words = words
        self._vectors = torch.from_numpy(vectors)
        self._single = words.sentences([phrases.single])
        alone = words.dual.encode_texts([phrases.alone(name) for name in phrases.concepts])
        self._names: NDArray[np.int64] = (vectors @ alone.T).argmax(1)
        self._by_name = [np.flatnonzero(self._names == n) for n in range(len(phrases.concepts))]
        self._name_tokens = words.word_embeddings(phrases.concepts).cpu()
        texts = [t.replace(PLACE, name) for name in phrases.concepts for t in phrases.templates]
        encoded = words.dual.encode_texts(texts)
        encoded = encoded.reshape(len(phrases.concepts), -1, alone.shape[1])
        self._texts = torch.from_numpy(self._moved_to_images(alone, vectors, encoded))

    def _moved_to_images(self, alone: Vectors, vectors: Vectors, texts: Vectors) -> Vectors:
        """Texts moved to the images by least squares from names to the means of their images."""
        used = [n for n, rows in enumerate(self._by_name) if len(rows)]
        means = np.stack([vectors[self._by_name[n]].mean(0) for n in used])
        names = alone[used].astype(np.float64)
        # With fewer names than coordinates, a little of the identity regularises the map.
        ridge = 0.01 * np.eye(names.shape[1])
        mapping = np.linalg.solve(names.T @ names + ridge, names.T @ means + ridge)
        moved = texts @ mapping
        unit: Vectors = (moved / np.linalg.norm(moved, axis=-1, keepdims=True)).astype(np.float32)
        return unit

    def loss(
        self, network: nn.Module, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> torch.Tensor:
        """See :class:`InversionLoss`."""
        names = self._names[chosen]
        if random.random() < 0.5:
            others = [random.choice(self._by_name[n], _SET - 1) for n in names.tolist()]
            sets = self._vectors[np.concatenate([chosen[:, None], np.stack(others)], axis=1)]
        else:
            drawn = random.integers(self._texts.shape[1], size=(len(chosen), _SET))
            sets = self._texts[names[:, None], drawn]
        tokens = network(sets)
        sentences = self._words.encode(self._single, tokens)
        means = functional.normalize(sets.mean(1), dim=-1).to(sentences.device)
        distance = functional.mse_loss(tokens, self._name_tokens[names])
        return contrastive_loss(sentences, means, 1 / _TEMPERATURE) + _NAME_WEIGHT * distance


def refine(
    words: PseudoWords, phrases: Phrases, vectors: Vectors, tokens: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Move words until their sentences are nearer to their images than a coarse word's.

    Args:
        words: the words of the model.
        phrases: the phrases of the model; their coarse word stands before the pseudo-word.
        vectors: float32 [images, dim], unit rows.
        tokens: float32 [images, width], the network's output.

    Returns:
        float32 [images, width].
    """
    images = torch.from_numpy(vectors).to(words.device)
    coarse = torch.from_numpy(words.dual.encode_texts([phrases.alone(phrases.coarse)]))
    coarse_cosines = (images @ coarse.to(words.device).T)[:, 0]
    sentence = words.sentences([with_coarse(phrases.single, phrases.coarse)])
    moved = torch.from_numpy(tokens).to(words.device).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([moved], lr=_RATE)
    for _ in range(_STEPS):
        cosines = (words.encode(sentence, moved) * images).sum(1)
        loss = functional.softplus((coarse_cosines - cosines) / _TEMPERATURE).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return moved.detach().cpu().numpy()


def with_coarse(text: str, coarse: str) -> str:
    """A text with a coarse word before the pseudo-word."""
    return text.replace(PLACE, f"{coarse} {PLACE}", 1)
