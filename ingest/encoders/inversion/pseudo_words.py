"""Texts in which one word is a given vector: the basis of textual inversion.

A text tower looks up each token in an embedding table. Here the embedding of one token is replaced,
so that an image can take the place of a word in a sentence. Everything else (positions, masks,
pooling) is the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import get_ident
from typing import Any, Protocol, runtime_checkable

import torch
from torch.nn import functional

from indexes.errors import ModelError, UsageError
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.dual.towers import Tensors

#: The placeholder of the pseudo-word in a text.
PLACE = "$"


@runtime_checkable
class _SlotTowers(Protocol):
    """The part of :class:`ingest.encoders.dual.towers.Towers` and its extension used here."""

    @property
    def model(self) -> Any:
        """The torch module."""
        ...

    def text_features(self, inputs: Tensors) -> torch.Tensor:
        """Vectors of tokenized texts: [n, dim], not normalised."""
        ...

    @property
    def finds_slots(self) -> bool:
        """Whether :meth:`tokenize_with_slot` works."""
        ...

    def tokenize_with_slot(self, texts: Sequence[tuple[str, str]]) -> tuple[Tensors, torch.Tensor]:
        """Tokens of texts with one extra word between their halves, and its positions int64 [n]."""
        ...


@dataclass(frozen=True)
class Sentences:
    """Tokenized texts with a slot for a pseudo-word.

    Attributes:
        inputs: the inputs of the text tower.
        slots: int64 [texts], position of the pseudo-word's token.
    """

    inputs: Tensors
    slots: torch.Tensor

    def __len__(self) -> int:
        return len(self.slots)

    def repeated(self, count: int) -> Sentences:
        """A single text, repeated ``count`` times."""
        inputs = {name: value.expand(count, -1) for name, value in self.inputs.items()}
        return Sentences(inputs, self.slots.expand(count))


class PseudoWords:
    """Encodes texts with pseudo-words in them, by a dual encoder of transformers."""

    def __init__(self, dual: DualEncoder):
        """Use a model.

        Raises:
            ModelError: if pseudo-words cannot be put into its text tower.
        """
        towers = dual.towers
        table = _embedding_table(towers)
        if table is None or not isinstance(towers, _SlotTowers) or not towers.finds_slots:
            raise ModelError(
                f"The text encoder of {dual.source.name} takes no pseudo-words: this needs a CLIP "
                "that transformers loads, with a fast tokenizer; choose another --composer, such "
                "as sum."
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
    def logit_scale(self) -> float:
        """The model's factor of cosines before a softmax; 100 if it has none."""
        scale = getattr(self._towers.model, "logit_scale", None)
        return 100.0 if scale is None else float(scale.detach().float().exp().reshape(-1)[0])

    def sentences(self, texts: Sequence[str]) -> Sentences:
        """Tokenize texts that have a :data:`PLACE` each; of several, the first counts.

        Raises:
            UsageError: if a text has none, or it is truncated.
        """
        halves = []
        for text in texts:
            before, place, after = text.partition(PLACE)
            if not place:
                raise UsageError(
                    f"The text '{text}' has no {PLACE}, in whose place the picture goes."
                )
            halves.append((before, after))
        inputs, slots = self._towers.tokenize_with_slot(halves)
        truncated = (slots < 0).nonzero().flatten().tolist()
        if truncated:
            raise UsageError(
                f"In '{texts[truncated[0]]}' the {PLACE} comes after all that {self.name} reads; "
                "use fewer words."
            )
        return Sentences(inputs, slots)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, without those that begin and end it."""
        _, slots = self._towers.tokenize_with_slot(
            [("", ""), *((f"{text} ", "") for text in texts)]
        )
        first, *ends = slots.tolist()
        return [
            end - first if end >= 0 else len(text) for text, end in zip(texts, ends, strict=True)
        ]

    def word_embeddings(self, words: Sequence[str]) -> torch.Tensor:
        """Embeddings of words, averaged over the tokens of a word: float32 [words, width]."""
        inputs, slots = self._towers.tokenize_with_slot(
            [("", ""), *((f"{word} ", "") for word in words)]
        )
        first, *ends = slots.tolist()
        ids = inputs["input_ids"][1:].to(self.device)
        return torch.stack(
            [
                self._table(row[first:end]).float().mean(0)
                for row, end in zip(ids, ends, strict=True)
            ]
        )

    def encode(self, sentences: Sentences, tokens: torch.Tensor) -> torch.Tensor:
        """Base vectors of texts with pseudo-words in them.

        Args:
            sentences: as many as there are tokens, or one for all.
            tokens: float32 [n, width]; gradients flow to them if gradients are enabled.

        Returns:
            float32 [n, dim], unit rows.
        """
        if len(sentences) != len(tokens):
            sentences = sentences.repeated(len(tokens))
        thread, rows = get_ident(), torch.arange(len(tokens), device=self.device)
        slots = sentences.slots.to(self.device)

        def insert(module: Any, arguments: Any, embedded: torch.Tensor) -> torch.Tensor:
            if get_ident() != thread:  # another thread encodes plain texts at the same time
                return embedded
            changed: torch.Tensor = embedded.clone()
            changed[rows, slots] = tokens.to(embedded.device, embedded.dtype)
            return changed

        inputs = {name: value.to(self.device) for name, value in sentences.inputs.items()}
        hook = self._table.register_forward_hook(insert)
        try:
            vectors = self._towers.text_features(inputs)
        finally:
            hook.remove()
        return functional.normalize(vectors.float(), dim=-1)


def _embedding_table(towers: Any) -> torch.nn.Embedding | None:
    """The word embedding table of a text tower, if it can be found."""
    model = getattr(towers, "model", None)
    text = getattr(model, "text_model", None)
    try:
        table = None if text is None else text.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return table if isinstance(table, torch.nn.Embedding) else None
