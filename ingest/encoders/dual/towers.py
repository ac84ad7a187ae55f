"""The two halves of a dual encoder, whichever library loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image

from ingest.encoders.models.find import ModelSource

#: Keyword arguments of a model: names to tensors.
Tensors = Mapping[str, torch.Tensor]


class Towers(Protocol):
    """An image tower and a text tower with their preprocessing.

    Attributes:
        reads_texts: whether there is a text tower.
    """

    reads_texts: bool

    @property
    def model(self) -> Any:
        """The torch module of both towers."""
        ...

    def prepare_images(self, images: Sequence[Image.Image]) -> Tensors:
        """RGB images as inputs of the image tower; called from several threads."""
        ...

    def tokenize(self, texts: Sequence[str]) -> Tensors:
        """Texts as inputs of the text tower, truncated to its longest input."""
        ...

    def image_features(self, inputs: Tensors) -> torch.Tensor:
        """Vectors of prepared images: [n, dim], not normalised."""
        ...

    def text_features(self, inputs: Tensors) -> torch.Tensor:
        """Vectors of tokenized texts: [n, dim], not normalised."""
        ...


@dataclass(frozen=True)
class LoadedTowers:
    """A loaded dual encoder.

    Attributes:
        source: where the model came from.
        towers: the model.
        revision: the hub's commit, or a digest of the files or weights.
        dtype: it computes in, such as ``float32``.
        mixed: whether some of its numbers stay in another format, such as rotary frequencies.
    """

    source: ModelSource
    towers: Towers
    revision: str
    dtype: str
    mixed: bool = False
