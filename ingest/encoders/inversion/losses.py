"""Training losses of the networks of textual inversion: one class for each paper."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from indexes.vectors import Vectors
from ingest.encoders.inversion.oti import PhraseTargets
from ingest.encoders.inversion.phrases import Phrases
from ingest.encoders.inversion.pseudo_words import PLACE, PseudoWords

#: Function words, which name nothing by themselves.
_FUNCTION_WORDS = frozenset(
    "a an the of in on at by to with without and or is are was were be been that which this these "
    "it its as from for into over under up down no not but".split()
)


class InversionLoss(ABC):
    """The loss of a network on some examples."""

    #: How many examples there are.
    count: int

    @abstractmethod
    def loss(
        self, network: nn.Module, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> torch.Tensor:
        """The loss of some examples, a scalar tensor.

        Args:
            network: maps vectors to pseudo-words.
            chosen: int64 [n], numbers of examples.
            random: for all other random choices.
        """
        ...


def contrastive_loss(first: torch.Tensor, second: torch.Tensor, scale: float) -> torch.Tensor:
    """CLIP's loss: cross-entropy of each row's partner among all rows, in both directions.

    Args:
        first: [n, dim], unit rows.
        second: [n, dim], unit rows; row i is the partner of row i of ``first``.
        scale: factor of the cosines, the inverse of the temperature.
    """
    cosines = scale * first @ second.T
    target = torch.arange(len(first), device=first.device)
    both = functional.cross_entropy(cosines, target) + functional.cross_entropy(cosines.T, target)
    return both / 2


class SearleLoss(InversionLoss):
    """SEARLE (Baldrati et al., ICCV 2023): distillation of OTI tokens, and a phrase loss.

    Predicted and optimised tokens are contrasted at temperature 0.25; the phrase loss has the
    weight 0.75 and draws from the 150 names that are nearest to an image.
    """

    TEMPERATURE, PHRASES, NAMES = 0.25, 0.75, 150

    def __init__(
        self,
        words: PseudoWords,
        phrases: Phrases,
        vectors: Vectors,
        tokens: NDArray[np.float32],
        seed: int,
    ):
        """Use images and the tokens that were optimised for them.

        Args:
            words: the words of the model.
            phrases: the phrases of the model.
            vectors: float32 [images, dim], unit rows: base vectors.
            tokens: float32 [images, width].
            seed: the seed of the phrases.
        """
        self.count = len(vectors)
        self._words = words
        self._vectors = torch.from_numpy(vectors)
        self._tokens = functional.normalize(torch.from_numpy(tokens), dim=-1)
        self._targets = PhraseTargets(words, phrases, np.random.default_rng([seed, 11]))
        # At most a third of the names, because the others do not describe an image.
        count = min(self.NAMES, max(1, len(phrases.concepts) // 3))
        self._nearest = self._targets.nearest(vectors, count)

    def loss(
        self, network: nn.Module, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> torch.Tensor:
        """See :class:`InversionLoss`."""
        tokens = network(self._vectors[chosen])
        unit = functional.normalize(tokens, dim=-1)
        distillation = contrastive_loss(unit, self._tokens[chosen], 1 / self.TEMPERATURE)
        form = int(random.integers(len(self._targets.forms)))
        names = self._nearest[chosen, random.integers(self._nearest.shape[1], size=len(chosen))]
        sentences = self._words.encode(self._targets.sentence(form), tokens)
        targets = self._targets.encode(form, names).to(sentences.device)
        phrase_loss = (1 - functional.cosine_similarity(sentences, targets)).mean()
        return distillation + self.PHRASES * phrase_loss


class Pic2WordLoss(InversionLoss):
    """Pic2Word (Saito et al., CVPR 2023): a sentence with the word, contrasted with the image."""

    def __init__(self, words: PseudoWords, phrases: Phrases, vectors: Vectors):
        """Use images: float32 [images, dim], unit rows: base vectors."""
        self.count = len(vectors)
        self._words = words
        self._vectors = torch.from_numpy(vectors)
        self._single = words.sentences([phrases.single])

    def loss(
        self, network: nn.Module, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> torch.Tensor:
        """See :class:`InversionLoss`."""
        images = self._vectors[chosen]
        sentences = self._words.encode(self._single, network(images))
        return contrastive_loss(sentences, images.to(sentences.device), self._words.logit_scale)


class LincirLoss(InversionLoss):
    """LinCIR (Gu et al., CVPR 2024): texts only, each reconstructed with a word made from itself.

    The vector of a text, with noise added, is mapped to a pseudo-word; put into the text in place
    of words that name something, it should give the text's own vector. The noise is a normal draw
    times a number between 0 and 1, for each text, so that vectors of images, which are separated
    from those of texts, are mapped well too. In place of a part-of-speech tagger, a run of words
    counts as a name if none of them is a function word; one run of a text is replaced at a time,
    or, with probability 1/3, the whole text.
    """

    def __init__(self, words: PseudoWords, phrases: Phrases, texts: Sequence[str]):
        """Use texts; those that name nothing are left out."""
        kept = [text for text in dict.fromkeys(texts) if masked_runs(text)]
        self.count = len(kept)
        self._words = words
        self._texts = kept
        self._single = phrases.single
        self._vectors = torch.from_numpy(words.dual.encode_texts(kept))

    def loss(
        self, network: nn.Module, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> torch.Tensor:
        """See :class:`InversionLoss`."""
        texts = self._vectors[chosen]
        draws = random.normal(size=tuple(texts.shape)) * random.random((len(chosen), 1))
        # The vectors have unit length here, so the noise is scaled to one coordinate of them.
        noise = torch.from_numpy(draws.astype(np.float32)) / texts.shape[1] ** 0.5
        tokens = network(functional.normalize(texts + noise, dim=-1))
        masked = []
        for number in chosen.tolist():
            runs = masked_runs(self._texts[number])
            if random.random() < 1 / 3:
                masked.append(self._single)
            else:
                masked.append(runs[int(random.integers(len(runs)))])
        sentences = self._words.encode(self._words.sentences(masked), tokens)
        return (1 - functional.cosine_similarity(sentences, texts.to(sentences.device))).mean()


def masked_runs(text: str) -> list[str]:
    """A text with each of its runs of naming words replaced by :data:`PLACE` in turn."""
    plain = text.replace(PLACE, " ")
    spans = list(re.finditer(r"[^\s,.;:!?]+", plain))
    runs: list[list[int]] = []
    following = False
    for span in spans:
        is_name = span.group().lower() not in _FUNCTION_WORDS
        if is_name and following and not re.search(r"[,.;:!?]", plain[runs[-1][1] : span.start()]):
            runs[-1][1] = span.end()
        elif is_name:
            runs.append([span.start(), span.end()])
        following = is_name
    return [f"{plain[:start]}{PLACE}{plain[end:]}" for start, end in runs]
