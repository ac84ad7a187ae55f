"""What every encoder is: pictures and conditions in, unit vectors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.vectors import Vectors
from ingest.conditions import Condition


@dataclass(frozen=True)
class EncoderSpec:
    """What a gallery remembers of the encoder that filled it: all that changes a vector.

    Attributes:
        method: such as ``dior``.
        model: a built-in name, a hub id, or a folder.
        revision: the hub's commit or a digest of the folder's files.
        settings: prompt, layer, dtype and the like, as JSON values.
    """

    method: str
    model: str
    revision: str
    settings: Mapping[str, Any]

    def made_by(self, condition: Condition) -> dict[str, Any]:
        """Everything that made the vectors of one condition, as JSON values."""
        return {
            "method": self.method,
            "model": self.model,
            "revision": self.revision,
            "settings": dict(self.settings),
            "phrase": condition.phrase,
        }

    @property
    def max_side(self) -> int | None:
        """Longest side in pixels that the encoder sees of a picture; ``None`` if it sees all."""
        side = self.settings.get("max_side")
        return None if side is None else int(side)

    @classmethod
    def from_made_by(cls, made_by: Mapping[str, Any]) -> EncoderSpec:
        """The inverse of :meth:`made_by`, without the condition."""
        return cls(
            made_by["method"], made_by["model"], made_by["revision"], dict(made_by["settings"])
        )


@dataclass(frozen=True)
class Reading:
    """What an encoder makes of some pictures under some conditions.

    Attributes:
        vectors: float32 [images, conditions, dim], unit rows.
        words: the one word said of each, [images][conditions]; empty where a method has none.
        word_probabilities: float32 [images, conditions], product of its tokens' probabilities.
    """

    vectors: NDArray[np.float32]
    words: list[list[str]]
    word_probabilities: NDArray[np.float32]


class Encoder(ABC):
    """Turns pictures into vectors, one for each condition.

    An implementer gives :meth:`read`; all conditions are asked at once, because only the encoder
    can share the work on a picture between them.
    """

    @property
    @abstractmethod
    def spec(self) -> EncoderSpec:
        """All that changes a vector."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    @abstractmethod
    def description(self) -> str:
        """One line for people: what this is."""

    @abstractmethod
    def read(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Reading:
        """Embed pictures and say a word about each.

        Args:
            images: RGB pictures of any size.
            conditions: at least one.
            words: whether the words are wanted, which cost a little more.

        Raises:
            ModelError: if the model cannot serve a condition or runs out of memory.
        """

    def encode(self, images: Sequence[Image.Image], conditions: Sequence[Condition]) -> Vectors:
        """Embed pictures: float32 [images, conditions, dim], unit rows."""
        return self.read(images, conditions, words=False).vectors

    @abstractmethod
    def check(self, conditions: Sequence[Condition]) -> None:
        """Refuse conditions this encoder cannot serve.

        Raises:
            ModelError: naming the condition and the way out.
        """
