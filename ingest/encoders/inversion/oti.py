"""Optimisation-based textual inversion: an image's pseudo-word, found by gradient descent.

SEARLE-OTI (Baldrati et al., ICCV 2023): a token is moved until a sentence with it is near the
image, and a phrase with it is near the same phrase with the name of what the image shows. Only the
token takes gradients. All random draws are the same for every image, so an image gets the same
token in a batch and alone, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from indexes.vectors import Vectors
from ingest.encoders.inversion.phrases import CONCEPT, Phrases
from ingest.encoders.inversion.pseudo_words import PLACE, PseudoWords, Sentences

#: Phrases drawn for each use; each costs texts that are encoded once.
_FORMS = 16


@dataclass(frozen=True)
class OtiPlan:
    """The parameters of the optimisation; the defaults are the paper's.

    Caches store a digest of this object's text, so its fields keep their names and order.

    Attributes:
        steps: the number of steps of gradient descent.
        rate: learning rate of AdamW.
        decay: weight decay of AdamW.
        spread: standard deviation of the normal that the initial token is drawn from.
        phrase_weight: the weight of the phrase loss; the image loss has weight 1.
        concepts: how many of the nearest names describe an image.
        average: decay of the exponential moving average that is the result.
        seed: the seed of all random draws.
    """

    steps: int = 350
    rate: float = 2e-2
    decay: float = 0.01
    spread: float = 0.02
    phrase_weight: float = 0.5
    concepts: int = 15
    average: float = 0.99
    seed: int = 0


@dataclass(frozen=True)
class OptimizedTokens:
    """The result of an optimisation.

    Attributes:
        tokens: float32 [images, width].
        losses: float64 [steps], the mean loss at each step.
    """

    tokens: NDArray[np.float32]
    losses: NDArray[np.float64]


class PhraseTargets:
    """Phrases with names in them, and the names nearest to an image."""

    def __init__(self, words: PseudoWords, phrases: Phrases, random: np.random.Generator):
        """Draw phrases and encode the names.

        Args:
            words: the words of the model.
            phrases: the phrases of the model.
            random: draws the phrases.

        Raises:
            ModelError: if the model has no words for the names.
        """
        phrases.check(words.name)
        self._words = words
        self.forms = [phrases.draw(random) for _ in range(_FORMS)]
        self._names = phrases.concepts
        self._name_vectors = words.dual.encode_texts([phrases.alone(n) for n in self._names])
        self._sentences = [words.sentences([f.replace(CONCEPT, PLACE, 1)]) for f in self.forms]
        self._encoded: dict[tuple[int, int], NDArray[np.float32]] = {}

    def nearest(self, vectors: Vectors, count: int) -> NDArray[np.int64]:
        """The names nearest to images: int64 [images, count], nearest first."""
        order = np.argsort(-(vectors @ self._name_vectors.T), axis=1, kind="stable")
        return order[:, : min(count, len(self._names))]

    def sentence(self, form: int) -> Sentences:
        """A phrase with a pseudo-word's slot in place of a name."""
        return self._sentences[form]

    def encode(self, form: int, names: NDArray[np.int64]) -> torch.Tensor:
        """The base vectors of a phrase with names in it: float32 [names, dim]."""
        missing = [n for n in np.unique(names).tolist() if (form, n) not in self._encoded]
        texts = [self.forms[form].replace(CONCEPT, self._names[n], 1) for n in missing]
        for name, vector in zip(missing, self._words.dual.encode_texts(texts), strict=True):
            self._encoded[form, name] = vector
        return torch.from_numpy(np.stack([self._encoded[form, n] for n in names.tolist()]))


def invert(
    words: PseudoWords,
    phrases: Phrases,
    vectors: Vectors,
    plan: OtiPlan | None = None,
    progress: Callable[[int], None] = lambda step: None,
) -> OptimizedTokens:
    """Find a pseudo-word for each image.

    Args:
        words: the words of the model.
        phrases: the phrases of the model.
        vectors: float32 [images, dim], unit rows: base vectors.
        plan: the parameters; as published by default.
        progress: called with the number of finished steps.
    """
    plan = plan or OtiPlan()
    random = np.random.default_rng([plan.seed, 7])
    targets = PhraseTargets(words, phrases, random)
    nearest = targets.nearest(vectors, plan.concepts)
    images = torch.from_numpy(vectors).to(words.device)
    templates = [words.sentences([text]) for text in phrases.templates]
    initial = torch.from_numpy(random.normal(0, plan.spread, words.width).astype(np.float32))
    tokens = initial.to(words.device).repeat(len(vectors), 1).requires_grad_(True)
    average = tokens.detach().clone()
    optimizer = torch.optim.AdamW([tokens], lr=plan.rate, weight_decay=plan.decay)
    losses = np.zeros(plan.steps)
    for step in range(plan.steps):
        template = templates[int(random.integers(len(templates)))]
        form = int(random.integers(_FORMS))
        names = nearest[:, int(random.integers(nearest.shape[1]))]
        alone = words.encode(template, tokens)
        phrase = words.encode(targets.sentence(form), tokens)
        target = targets.encode(form, names).to(words.device)
        image_loss = 1 - functional.cosine_similarity(alone, images)
        phrase_loss = 1 - functional.cosine_similarity(phrase, target)
        loss = (image_loss + plan.phrase_weight * phrase_loss) / (1 + plan.phrase_weight)
        optimizer.zero_grad()
        torch.autograd.backward(loss.sum())
        optimizer.step()
        average.mul_(plan.average).add_(tokens.detach(), alpha=1 - plan.average)
        losses[step] = loss.detach().mean().item()
        progress(step + 1)
    return OptimizedTokens(average.cpu().numpy(), losses)
