"""What the networks of textual inversion are trained on: one class a paper."""

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

#: Words that name nothing by themselves.
_SMALL = frozenset(
    "a an the of in on at by to with without and or is are was were be been that which this these "
    "it its as from for into over under up down no not but".split()
)


class Lesson(ABC):
    """Gives the loss of a network at a step."""

    #: How many examples there are to draw from.
    count: int

    @abstractmethod
    def loss(
        self, network: nn.Module, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> torch.Tensor:
        """The loss of some examples.

        Args:
            network: vectors to pseudo-words.
            chosen: numbers of examples.
            random: what else is drawn.
        """
        ...


def contrast(first: torch.Tensor, second: torch.Tensor, scale: float) -> torch.Tensor:
    """CLIP's loss: each row's partner among all rows of the batch, both ways.

    Args:
        first: [n, dim], unit rows.
        second: [n, dim], unit rows; partner by partner.
        scale: of the cosines, the inverse of the temperature.
    """
    cosines = scale * first @ second.T
    own = torch.arange(len(first), device=first.device)
    both = functional.cross_entropy(cosines, own) + functional.cross_entropy(cosines.T, own)
    return both / 2


class Searle(Lesson):
    """SEARLE (Baldrati et al., ICCV 2023): the tokens of OTI, by contrast, and phrases.

    The contrast is between predicted and optimised tokens at temperature 0.25; the phrase loss has
    the weight 0.75 and draws from the 150 names that suit a picture best.
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
        """Take the pictures and the tokens that were optimised for them."""
        self.count = len(vectors)
        self._words = words
        self._vectors = torch.from_numpy(vectors)
        self._tokens = functional.normalize(torch.from_numpy(tokens), dim=-1)
        self._lengths = torch.from_numpy(tokens).norm(dim=-1)
        self._targets = PhraseTargets(words, phrases, np.random.default_rng([seed, 11]))
        # A third of the names at most: that the worst suits a picture, nobody would say.
        most = min(self.NAMES, max(1, len(phrases.concepts) // 3))
        self._best = self._targets.best(vectors, most)

    def loss(
        self, network: nn.Module, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> torch.Tensor:
        """See :class:`Lesson`."""
        found = network(self._vectors[chosen])
        unit = functional.normalize(found, dim=-1)
        distilled = contrast(unit, self._tokens[chosen], 1 / self.TEMPERATURE)
        form = int(random.integers(len(self._targets.forms)))
        names = self._best[chosen, random.integers(self._best.shape[1], size=len(chosen))]
        said = self._words.read(self._targets.sentence(form), found)
        named = self._targets.read(form, names).to(said.device)
        off = (1 - functional.cosine_similarity(said, named)).mean()
        return distilled + self.PHRASES * off


class Pic2Word(Lesson):
    """Pic2Word (Saito et al., CVPR 2023): a sentence with the word, against the picture."""

    def __init__(self, words: PseudoWords, phrases: Phrases, vectors: Vectors):
        """Take the pictures."""
        self.count = len(vectors)
        self._words = words
        self._vectors = torch.from_numpy(vectors)
        self._single = words.sentences([phrases.single])

    def loss(
        self, network: nn.Module, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> torch.Tensor:
        """See :class:`Lesson`."""
        seen = self._vectors[chosen]
        said = self._words.read(self._single, network(seen))
        return contrast(said, seen.to(said.device), self._words.scale)


class Lincir(Lesson):
    """LinCIR (Gu et al., CVPR 2024): texts alone, each told again by a word made of itself.

    The vector of a text, with noise upon it, is made a pseudo-word; put into the text in the place
    of words that name something, it shall give the text's own vector. The noise is a normal's
    draw times one between 0 and 1, for each text, so that vectors of pictures, which lie apart
    from those of texts, are understood too. In place of a tagger of parts of speech, a run of
    words counts as a name if none of them is a small word; one run of a text is replaced at a
    time, or with probability 1/3 all of it.
    """

    def __init__(self, words: PseudoWords, phrases: Phrases, texts: Sequence[str]):
        """Read the texts, of which those are left out that name nothing."""
        kept = [text for text in dict.fromkeys(texts) if runs_of(text)]
        self.count = len(kept)
        self._words = words
        self._texts = kept
        self._single = phrases.single
        self._vectors = torch.from_numpy(words.dual.encode_texts(kept))

    def loss(
        self, network: nn.Module, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> torch.Tensor:
        """See :class:`Lesson`."""
        own = self._vectors[chosen]
        draws = random.normal(size=tuple(own.shape)) * random.random((len(chosen), 1))
        # The vectors have unit length here: the noise is that of one coordinate of such.
        noise = torch.from_numpy(draws.astype(np.float32)) / own.shape[1] ** 0.5
        found = network(functional.normalize(own + noise, dim=-1))
        masked = []
        for number in chosen.tolist():
            runs = runs_of(self._texts[number])
            if random.random() < 1 / 3:
                masked.append(self._single)
            else:
                masked.append(runs[int(random.integers(len(runs)))])
        said = self._words.read(self._words.sentences(masked), found)
        return (1 - functional.cosine_similarity(said, own.to(said.device))).mean()


def runs_of(text: str) -> list[str]:
    """A text with each of its runs of naming words replaced by :data:`PLACE` in turn."""
    plain = text.replace(PLACE, " ")
    spans = list(re.finditer(r"[^\s,.;:!?]+", plain))
    runs: list[list[int]] = []
    following = False
    for span in spans:
        names = span.group().lower() not in _SMALL
        if names and following and not re.search(r"[,.;:!?]", plain[runs[-1][1] : span.start()]):
            runs[-1][1] = span.end()
        elif names:
            runs.append([span.start(), span.end()])
        following = names
    return [f"{plain[:start]}{PLACE}{plain[end:]}" for start, end in runs]
