"""Texts in which one word is a vector of our own: what textual inversion stands on.

A text tower looks each of its tokens up in a table of embeddings. Here the row of one of them is
taken from elsewhere, so that a picture can stand in a sentence as if it were a word. All else
(places, masks, pooling) is the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import get_ident
from typing import Any, Protocol, runtime_checkable

import torch
from torch.nn import functional

from indexes.errors import ModelError, UsageError
from ingest.encoders.dual.encoder import DualEncoder, Given

#: What stands in a text where the pseudo-word goes.
PLACE = "$"


@runtime_checkable
class _Marking(Protocol):
    """The part of a tower of transformers that is used here."""

    @property
    def model(self) -> Any:
        """The torch module."""
        ...

    def read(self, given: Given) -> torch.Tensor:
        """Vectors of texts' tokens."""
        ...

    @property
    def marks(self) -> bool:
        """Whether :meth:`marked` can tell where a word went."""
        ...

    def marked(self, texts: Sequence[tuple[str, str]]) -> tuple[Given, torch.Tensor]:
        """Tokens of texts with one word more between their halves, and where that is."""
        ...


@dataclass(frozen=True)
class Sentences:
    """Texts with a place for a pseudo-word, as tokens.

    Attributes:
        given: what the text tower takes.
        places: int64 [texts], which token is the pseudo-word.
    """

    given: Given
    places: torch.Tensor

    def __len__(self) -> int:
        return len(self.places)

    def repeated(self, count: int) -> Sentences:
        """One text, so many times."""
        given = {name: value.expand(count, -1) for name, value in self.given.items()}
        return Sentences(given, self.places.expand(count))

    def chosen(self, numbers: Sequence[int] | torch.Tensor) -> Sentences:
        """Some of the texts, by their numbers."""
        at = torch.as_tensor(numbers, dtype=torch.int64)
        return Sentences({name: value[at] for name, value in self.given.items()}, self.places[at])


class PseudoWords:
    """Reads texts with pseudo-words in them, by a dual encoder of transformers."""

    def __init__(self, dual: DualEncoder):
        """Use a loaded model, whose weights take no gradients from now on.

        Raises:
            ModelError: if words cannot be put into its text half.
        """
        towers = dual.towers
        table = _table(towers)
        if table is None or not isinstance(towers, _Marking) or not towers.marks:
            raise ModelError(
                f"Into the text half of {dual.source.name} no pseudo-words can be put, which needs "
                "a CLIP that transformers loads, with a fast tokenizer; choose another --composer, "
                "such as sum."
            )
        self.name = dual.source.name
        self.revision = dual.revision
        self.dual = dual
        self._towers = towers
        self._table: torch.nn.Embedding = table
        towers.model.requires_grad_(False)

    @property
    def width(self) -> int:
        """Length of a word's embedding."""
        return int(self._table.weight.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._table.weight.device

    @property
    def scale(self) -> float:
        """By which the model multiplies cosines before a softmax; 100 where it keeps none."""
        own = getattr(self._towers.model, "logit_scale", None)
        return 100.0 if own is None else float(own.detach().float().exp().reshape(-1)[0])

    def sentences(self, texts: Sequence[str]) -> Sentences:
        """Texts with one :data:`PLACE` each; of several, the first counts.

        Raises:
            UsageError: if a text has none, or so late that the model does not read it.
        """
        halves = []
        for text in texts:
            before, place, after = text.partition(PLACE)
            if not place:
                raise UsageError(
                    f"The text '{text}' has no {PLACE}, in whose place the picture goes."
                )
            halves.append((before, after))
        given, places = self._towers.marked(halves)
        late = (places < 0).nonzero().flatten().tolist()
        if late:
            raise UsageError(
                f"In '{texts[late[0]]}' the {PLACE} comes after all that {self.name} reads; say "
                "it in fewer words."
            )
        return Sentences(given, places)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, without those that begin and end it."""
        _, places = self._towers.marked([("", ""), *((f"{text} ", "") for text in texts)])
        first, *ends = places.tolist()
        return [
            end - first if end >= 0 else len(text) for text, end in zip(texts, ends, strict=True)
        ]

    def embeddings(self, words: Sequence[str]) -> torch.Tensor:
        """Words' own embeddings, in the mean if one has several tokens: float32 [words, width]."""
        given, places = self._towers.marked([("", ""), *((f"{word} ", "") for word in words)])
        first, *ends = places.tolist()
        ids = given["input_ids"][1:].to(self.device)
        found = [
            self._table(row[first:end]).float().mean(0) for row, end in zip(ids, ends, strict=True)
        ]
        return torch.stack(found)

    def read(self, sentences: Sentences, tokens: torch.Tensor) -> torch.Tensor:
        """Texts with pseudo-words in them, as base vectors.

        Args:
            sentences: as many as there are tokens, or one for all.
            tokens: float32 [n, width]; gradients flow to them if gradients are enabled.

        Returns:
            float32 [n, dim], unit rows.
        """
        if len(sentences) != len(tokens):
            sentences = sentences.repeated(len(tokens))
        owner, rows = get_ident(), torch.arange(len(tokens), device=self.device)
        places = sentences.places.to(self.device)

        def put_in(module: Any, arguments: Any, found: torch.Tensor) -> torch.Tensor:
            if get_ident() != owner:  # another thread reads plain texts meanwhile
                return found
            changed: torch.Tensor = found.clone()
            changed[rows, places] = tokens.to(found.device, found.dtype)
            return changed

        given = {name: value.to(self.device) for name, value in sentences.given.items()}
        hook = self._table.register_forward_hook(put_in)
        try:
            vectors = self._towers.read(given)
        finally:
            hook.remove()
        return functional.normalize(vectors.float(), dim=-1)


def _table(towers: Any) -> torch.nn.Embedding | None:
    """The table of a text half's word embeddings, if it can be found."""
    model = getattr(towers, "model", None)
    text = getattr(model, "text_model", None)
    try:
        found = None if text is None else text.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(found, torch.nn.Embedding) else None
