"""What every encoder is: pictures and conditions in, unit vectors out."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Mapping, Protocol, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from indexes.search.vectors import Vectors
from ingest.conditions import Condition

#: Longest text that can be a query.
MAX_TEXT_CHARACTERS = 2000


def check_text(text: str) -> None:
    """Refuse a text that cannot be a query.

    Raises:
        UsageError: if it is empty, too long, or holds control characters.
    """
    if not text.strip():
        raise UsageError("The text is empty; describe what to look for, such as 'red heart'.")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise UsageError(
            f"The text has {len(text)} characters, {MAX_TEXT_CHARACTERS} are allowed; shorten it."
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text):
        raise UsageError(f"The text {text!r} holds control characters; write it in plain words.")


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
class Embeddings:
    """What an encoder makes of some pictures under some conditions.

    Attributes:
        vectors: float32 [images, conditions, dim], unit rows.
        words: the one word said of each, [images][conditions]; empty where a method has none.
        word_probabilities: float32 [images, conditions], product of its tokens' probabilities.
    """

    vectors: NDArray[np.float32]
    words: list[list[str]]
    word_probabilities: NDArray[np.float32]

    @classmethod
    def without_words(cls, vectors: Vectors) -> Embeddings:
        """A reading of a method that has no words.

        Args:
            vectors: float32 [images, conditions, dim], unit rows.
        """
        count, conditions = vectors.shape[:2]
        words = [[""] * conditions for _ in range(count)]
        return cls(vectors, words, np.zeros((count, conditions), dtype=np.float32))


@dataclass(frozen=True)
class Timing:
    """How long an encoder took.

    Attributes:
        pictures: embedded.
        seconds: spent on it, preparation included.
    """

    pictures: int
    seconds: float


class PlainEncoder(Protocol):
    """The least that an encoder of one's own must have: a method ``encode``.

    :func:`ingest.encoders.factory.as_encoder` turns such an object into an :class:`BaseEncoder`. It
    also uses these attributes where the object has them:

    * ``name`` (str): the method's name, as galleries store it; the class's name by default.
    * ``dimension`` (int): length of a vector; by default one small image is encoded to find it.
    * ``model`` (str): which weights; the class's import path by default.
    * ``revision`` (str): changes whenever the vectors change; ``"1"`` by default.
    * ``settings`` (mapping of JSON values): whatever else changes a vector; empty by default.
    * ``conditional`` (bool): whether the condition changes a vector; true by default.
    * ``encode_text(texts, conditions)``: as ``encode``, for texts; without it only images can be
      queries.
    * ``check(conditions)``: raises an error for a condition that cannot be used.
    """

    def encode(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition]
    ) -> NDArray[Any]:
        """Embed images under conditions.

        Args:
            images: at least one RGB image of any size.
            conditions: at least one; ``phrase`` is empty for no condition.

        Returns:
            [images, conditions, dim] of any float dtype; rows need not have unit length, but
            none may be zero.
        """
        ...


class BaseEncoder(ABC):
    """Turns pictures into vectors, one for each condition.

    An implementer gives :meth:`embed`; all conditions are asked at once, because only the encoder
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

    @property
    def conditional(self) -> bool:
        """Whether the condition makes a difference to a vector. Where it makes none, the vectors
        without a condition are all there is to store.
        """
        return True

    @property
    def device(self) -> str:
        """Kind of device it runs on, such as ``cpu`` or ``2 cuda``; empty if nobody knows."""
        return ""

    @property
    def threads(self) -> int:
        """Processor threads it computes with; 0 if nobody knows."""
        return 0

    @property
    def timings(self) -> Mapping[int, Timing]:
        """Number of conditions asked at once to what :meth:`embed` did so far, if it is kept."""
        return MappingProxyType({})

    @abstractmethod
    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
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
        return self.embed(images, conditions, words=False).vectors

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """Embed texts in place of pictures and say a word about each.

        Args:
            texts: such as ``red heart``; each may have lines.
            conditions: at least one.
            words: whether the words are wanted.

        Returns:
            As of :meth:`embed`, with texts for images.

        Raises:
            UsageError: if the method has no text side, or a text cannot be read.
            ModelError: if the model cannot serve a condition or runs out of memory.
        """
        raise UsageError(
            f"The method {self.spec.method} embeds pictures only, so that a text cannot be "
            "embedded; ask with a picture."
        )

    def encode_text(self, texts: Sequence[str], conditions: Sequence[Condition]) -> Vectors:
        """Embed texts: float32 [texts, conditions, dim], unit rows, comparable to pictures'.

        Raises:
            UsageError: as :meth:`embed_text`.
            ModelError: as :meth:`embed_text`.
        """
        return self.embed_text(texts, conditions, words=False).vectors

    @abstractmethod
    def check(self, conditions: Sequence[Condition]) -> None:
        """Refuse conditions this encoder cannot serve.

        Raises:
            ModelError: naming the condition and the way out.
            UsageError: if the prompt cannot be asked without a condition, and one has no phrase.
        """
