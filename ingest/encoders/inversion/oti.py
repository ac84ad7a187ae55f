"""Optimisation-based textual inversion: a pseudo-word for a picture, found by gradient descent.

SEARLE-OTI (Baldrati et al., ICCV 2023): a token is moved until a sentence with it is near the
picture, and until a phrase with it is near the same phrase with the name of what the picture shows.
Only the token takes gradients. All draws are the same for every picture, so that a picture gets the
same token in a batch and alone, but for rounding.
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

#: Phrases that are drawn anew for each use; more cost more texts that are read once.
_FORMS = 16


@dataclass(frozen=True)
class OtiPlan:
    """How a token is found; the defaults are the paper's.

    Attributes:
        steps: of gradient descent.
        rate: of AdamW.
        decay: of AdamW.
        spread: standard deviation of the normal that the first token is drawn from.
        phrase_weight: of the phrase loss, where that of the picture is 1.
        concepts: how many names count as what a picture shows.
        average: of the exponential moving average that is the result.
        seed: of all draws.
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
class Inverted:
    """Tokens that were found.

    Attributes:
        tokens: float32 [pictures, width].
        losses: float64 [steps], the mean loss at each step.
    """

    tokens: NDArray[np.float32]
    losses: NDArray[np.float64]


class PhraseTargets:
    """Phrases with names in them, and which names suit which picture."""

    def __init__(self, words: PseudoWords, phrases: Phrases, random: np.random.Generator):
        """Draw phrases and read the names.

        Args:
            words: reads.
            phrases: of the model.
            random: draws.

        Raises:
            ModelError: if the model has no words for them.
        """
        phrases.check(words.name)
        self._words = words
        self.forms = [phrases.drawn(random) for _ in range(_FORMS)]
        self._names = phrases.concepts
        self._concepts = words.dual.encode_texts([phrases.alone(name) for name in phrases.concepts])
        self._sentences = [words.sentences([f.replace(CONCEPT, PLACE, 1)]) for f in self.forms]
        self._read: dict[tuple[int, int], NDArray[np.float32]] = {}

    def best(self, vectors: Vectors, count: int) -> NDArray[np.int64]:
        """The names that suit pictures best: int64 [pictures, count], best first."""
        order = np.argsort(-(vectors @ self._concepts.T), axis=1, kind="stable")
        return order[:, : min(count, len(self._names))]

    def sentence(self, form: int) -> Sentences:
        """A phrase with the place of a pseudo-word."""
        return self._sentences[form]

    def read(self, form: int, names: NDArray[np.int64]) -> torch.Tensor:
        """The phrase with names in it, as base vectors: float32 [names, dim]."""
        missing = [n for n in np.unique(names).tolist() if (form, n) not in self._read]
        texts = [self.forms[form].replace(CONCEPT, self._names[n], 1) for n in missing]
        for name, vector in zip(missing, self._words.dual.encode_texts(texts), strict=True):
            self._read[form, name] = vector
        return torch.from_numpy(np.stack([self._read[form, n] for n in names.tolist()]))


def invert(
    words: PseudoWords,
    phrases: Phrases,
    vectors: Vectors,
    plan: OtiPlan | None = None,
    told: Callable[[int], None] = lambda step: None,
) -> Inverted:
    """Find a pseudo-word for each picture.

    Args:
        words: reads texts with pseudo-words.
        phrases: of its model.
        vectors: float32 [pictures, dim], unit rows: base vectors.
        plan: how; as published by default.
        told: called with each step that is done.
    """
    plan = plan or OtiPlan()
    random = np.random.default_rng([plan.seed, 7])
    targets = PhraseTargets(words, phrases, random)
    best = targets.best(vectors, plan.concepts)
    seen = torch.from_numpy(vectors).to(words.device)
    templates = [words.sentences([text]) for text in phrases.templates]
    first = torch.from_numpy(random.normal(0, plan.spread, words.width).astype(np.float32))
    tokens = first.to(words.device).repeat(len(vectors), 1).requires_grad_(True)
    average = tokens.detach().clone()
    descent = torch.optim.AdamW([tokens], lr=plan.rate, weight_decay=plan.decay)
    losses = np.zeros(plan.steps)
    for step in range(plan.steps):
        template = templates[int(random.integers(len(templates)))]
        form = int(random.integers(_FORMS))
        names = best[:, int(random.integers(best.shape[1]))]
        alone = words.read(template, tokens)
        said = words.read(targets.sentence(form), tokens)
        named = targets.read(form, names).to(words.device)
        far = 1 - functional.cosine_similarity(alone, seen)
        off = 1 - functional.cosine_similarity(said, named)
        loss = (far + plan.phrase_weight * off) / (1 + plan.phrase_weight)
        descent.zero_grad()
        torch.autograd.backward(loss.sum())
        descent.step()
        average.mul_(plan.average).add_(tokens.detach(), alpha=1 - plan.average)
        losses[step] = loss.detach().mean().item()
        told(step + 1)
    return Inverted(average.cpu().numpy(), losses)
