"""The interface of encoders: images and conditions to unit vectors."""

from __future__ import annotations

import time
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from indexes.vectors import Vectors, unit
from ingest.conditions import Condition
from ingest.encoders.options import ASKING_METHODS, BUFFERS, ROUNDED_DTYPES
from ingest.read.pixels import PIXELS

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
    """What a gallery stores about the encoder that filled it: everything that changes a vector.

    Attributes:
        method: such as ``dior``.
        model: a built-in name, a hub id, or a folder.
        revision: the hub's commit or a digest of the folder's files.
        settings: prompt, layer, dtype and the like, as JSON values.
        pixels: the version of the reading of pictures, see :data:`ingest.read.pixels.PIXELS`. It
            is not compared, because one encoder embeds pictures of every version.
    """

    method: str
    model: str
    revision: str
    settings: Mapping[str, Any]
    pixels: int = field(default=PIXELS, compare=False)

    def made_by(self, condition: Condition) -> dict[str, Any]:
        """Everything that determines the vectors of one condition, as JSON values."""
        made_by: dict[str, Any] = {
            "method": self.method,
            "model": self.model,
            "revision": self.revision,
            "settings": dict(self.settings),
            "phrase": condition.phrase,
        }
        # Tables of before there were versions have no number.
        return made_by if self.pixels == 1 else made_by | {"pixels": self.pixels}

    @property
    def rounds_everything(self) -> bool:
        """Whether an earlier version made the vectors, which rounded to the dtype what is no
        weight too: the frequencies of rotary positions, above all.
        """
        rounded = self.settings.get("dtype") in ROUNDED_DTYPES and BUFFERS not in self.settings
        # A dual encoder of this version says so only where something stays in another format.
        return rounded and self.method in ASKING_METHODS

    @property
    def outdated(self) -> str:
        """Why it is worth while to ingest again, as one sentence; empty if it is not."""
        if not self.rounds_everything:
            return ""
        return (
            f"The vectors of {self.model} in {self.settings['dtype']} were made by an earlier "
            "version, which rounded the positions of tokens too; they are kept and compared as "
            "they are, but ingest the pictures into a new gallery for exact ones."
        )

    @property
    def outdated_pixels(self) -> str:
        """What is gained if pictures that an earlier version read are ingested again, as one
        sentence; empty if this version reads all pictures in the same way.
        """
        if self.pixels == PIXELS:
            return ""
        return (
            "Pictures of this gallery are read as by an earlier version, which ignored color "
            "profiles and scaled samples of more than 8 bits otherwise; ingest them into a new "
            "gallery for the right colors of pictures with a profile other than sRGB."
        )

    @property
    def max_side(self) -> int | None:
        """Longest side in pixels that images are reduced to; ``None`` if they are not reduced."""
        side = self.settings.get("max_side")
        return None if side is None else int(side)

    @classmethod
    def from_made_by(cls, made_by: Mapping[str, Any]) -> EncoderSpec:
        """The inverse of :meth:`made_by`, without the condition."""
        return cls(
            made_by["method"],
            made_by["model"],
            made_by["revision"],
            dict(made_by["settings"]),
            int(made_by.get("pixels", 1)),
        )


@dataclass(frozen=True)
class Embeddings:
    """Vectors and words of some images under some conditions.

    Attributes:
        vectors: float32 [images, conditions, dim], unit rows.
        words: one generated word for each, [images][conditions]; empty where a method has none.
        word_probabilities: float32 [images, conditions], product of its tokens' probabilities.
        norms: float32 [images, conditions], the lengths that the vectors had before they were
            scaled to unit length; NaN where it is not known, the default.
    """

    vectors: NDArray[np.float32]
    words: list[list[str]]
    word_probabilities: NDArray[np.float32]
    norms: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))

    def __post_init__(self) -> None:
        if self.norms.shape != self.vectors.shape[:2]:
            unknown = np.full(self.vectors.shape[:2], np.nan, dtype=np.float32)
            object.__setattr__(self, "norms", unknown)

    @classmethod
    def without_words(cls, vectors: Vectors) -> Embeddings:
        """Embeddings with empty words.

        Args:
            vectors: float32 [images, conditions, dim], unit rows.
        """
        count, conditions = vectors.shape[:2]
        words = [[""] * conditions for _ in range(count)]
        return cls(vectors, words, np.zeros((count, conditions), dtype=np.float32))

    @classmethod
    def of_features(cls, features: NDArray[np.float32]) -> Embeddings:
        """Embeddings with empty words, of vectors of any length but 0, whose lengths are kept.

        Args:
            features: float32 [images, conditions, dim].
        """
        flat = np.ascontiguousarray(features).reshape(-1, features.shape[-1])
        found = cls.without_words(unit(flat).reshape(features.shape))
        return replace(found, norms=np.linalg.norm(features, axis=-1).astype(np.float32))


@dataclass(frozen=True)
class Timing:
    """How long an encoder took.

    Attributes:
        pictures: how many were embedded.
        seconds: how long it took, preparation included.
    """

    pictures: int
    seconds: float


class PlainEncoder(Protocol):
    """The minimal interface of a user's own encoder: a method ``encode``.

    :func:`ingest.encoders.factory.as_encoder` turns such an object into a :class:`BaseEncoder`.
    It also uses these attributes where the object has them:

    * ``name`` (str): the method's name, as galleries store it; the class's name by default.
    * ``dimension`` (int): length of a vector; by default one small image is encoded to find it.
    * ``model`` (str): which weights; the class's import path by default.
    * ``revision`` (str): changes whenever the vectors change; ``"1"`` by default.
    * ``settings`` (mapping of JSON values): whatever else changes a vector; empty by default.
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
    """Embeds images, one vector for each condition.

    Subclasses implement :meth:`embed`. It takes all conditions at once, because only the encoder
    can share the work on an image between them.
    """

    @property
    @abstractmethod
    def spec(self) -> EncoderSpec:
        """Everything that changes a vector."""

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
        """Whether the condition changes a vector. If not, only the vectors without a condition
        are worth storing.
        """
        return True

    @property
    def device(self) -> str:
        """Kind of device it runs on, such as ``cpu`` or ``2 cuda``; empty if unknown."""
        return ""

    @property
    def threads(self) -> int:
        """Processor threads it computes with; 0 if unknown."""
        return 0

    @cached_property
    def _timings(self) -> dict[int, Timing]:
        return {}

    @property
    def timings(self) -> Mapping[int, Timing]:
        """Number of conditions in a call to how long :meth:`embed` took so far; empty if the
        encoder does not measure it.
        """
        return self._timings

    def _add_timing(self, conditions: int, pictures: int, started: float) -> None:
        """Add a call of :meth:`embed` that began at ``started`` of :func:`time.monotonic`."""
        before = self._timings.get(conditions, Timing(0, 0.0))
        seconds = before.seconds + time.monotonic() - started
        self._timings[conditions] = Timing(before.pictures + pictures, seconds)

    @abstractmethod
    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """Embed images, and generate a word for each.

        Args:
            images: RGB images of any size.
            conditions: at least one.
            words: whether words are needed; they take a little more time.

        Raises:
            ModelError: if the model does not accept a condition or runs out of memory.
        """

    def embed_layers(
        self,
        images: Sequence[Image.Image],
        conditions: Sequence[Condition],
        layers: Sequence[int],
        words: bool = True,
    ) -> list[Embeddings]:
        """Embed images by several layers of a model, in one pass.

        Args:
            images: as for :meth:`embed`.
            conditions: as for :meth:`embed`.
            layers: numbers of layers, as
                :attr:`ingest.encoders.options.EncoderOptions.layer` has them after
                :meth:`ingest.encoders.options.EncoderOptions.for_layers`.
            words: whether words are needed; only the last layer has them.

        Returns:
            One for each layer, equal to those of an encoder that reads this layer only.

        Raises:
            UsageError: if the method has no layers.
            ModelError: as :meth:`embed`.
        """
        raise UsageError(
            f"The method {self.spec.method} has no layers to choose from; leave --layer out."
        )

    def encode(self, images: Sequence[Image.Image], conditions: Sequence[Condition]) -> Vectors:
        """Embed images: float32 [images, conditions, dim], unit rows."""
        return self.embed(images, conditions, words=False).vectors

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """Embed texts in place of images, and generate a word for each.

        Args:
            texts: such as ``red heart``; each may have several lines.
            conditions: at least one.
            words: whether words are needed.

        Returns:
            As :meth:`embed`, with texts for images.

        Raises:
            UsageError: if the method does not embed texts, or a text cannot be a query.
            ModelError: if the model does not accept a condition or runs out of memory.
        """
        raise UsageError(
            f"The method {self.spec.method} embeds pictures only, so a text cannot be embedded; "
            "ask with a picture."
        )

    def encode_text(self, texts: Sequence[str], conditions: Sequence[Condition]) -> Vectors:
        """Embed texts: float32 [texts, conditions, dim], unit rows, comparable to images'.

        Raises:
            UsageError: as :meth:`embed_text`.
            ModelError: as :meth:`embed_text`.
        """
        return self.embed_text(texts, conditions, words=False).vectors

    @abstractmethod
    def check(self, conditions: Sequence[Condition]) -> None:
        """Refuse conditions that this encoder does not accept.

        Raises:
            ModelError: if one is not supported; the message names it and says what to do instead.
            UsageError: if the prompt needs a condition, and one has no phrase.
        """
