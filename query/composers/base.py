"""The interface of composers: a picture and a change go in, a vector to search with comes out."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import ModelError, UsageError
from indexes.vectors import Vectors
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder
from ingest.encoders.dual.architecture import clip_architecture
from query.composers.modification import Modification

if TYPE_CHECKING:
    from ingest.encoders.inversion.encoder import Inversion


@dataclass(frozen=True)
class Interpretation:
    """What a composer made of a question. The user can set each part in the next question.

    Attributes:
        composer: the composer's name.
        modification: the change as given.
        caption: what the picture shows, if the composer asked an LVLM; else empty.
        target: what the wanted pictures show: the text that was searched with, or empty.
        must: objects that raised the score.
        must_not: objects that lowered the score.
        conditions: for composers that work in the gallery's own conditions: what is looked for
            under each, and whether it comes from the words or the picture.
        weights: all weights that were used, by name.
        notes: notes for the user, a sentence each: fallbacks, texts that were cut.
    """

    composer: str
    modification: str
    caption: str = ""
    target: str = ""
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without the notes."""
        return {
            "composer": self.composer,
            "modification": self.modification,
            "caption": self.caption,
            "target": self.target,
            "must": list(self.must),
            "must_not": list(self.must_not),
            "conditions": dict(self.conditions),
            "weights": dict(self.weights),
        }

    def lines(self) -> list[str]:
        """As lines of text."""
        found = [f"Understood by {self.composer}: {self.modification}"]
        for name, text in (("before", self.caption), ("looked for", self.target)):
            found += [f"  {name}: {text}"] if text and text != self.modification else []
        found += [f"  {name}: {value}" for name, value in self.conditions.items()]
        for name, objects in (("must", self.must), ("must not", self.must_not)):
            found += [f"  {name}: {', '.join(objects)}"] if objects else []
        numbers = ", ".join(f"{name} {value:g}" for name, value in self.weights.items())
        return [*found, f"  weights: {numbers}"] if numbers else found


@dataclass(frozen=True)
class ComposerInput:
    """One composed query.

    Attributes:
        modification: the change, and values that the user sets in place of the composer.
        vector: float32 [dim], the picture's base vector, unit length.
        image: opens the picture, for composers whose model looks at it.
        norm: reads the length of the base vector before it was scaled; ``None`` if it is not
            stored.
    """

    modification: Modification
    vector: NDArray[np.float32]
    image: Callable[[], Image.Image]
    norm: Callable[[], float | None] = lambda: None

    @property
    def text(self) -> str:
        """The user's caption of the wanted picture, or else the words of the change."""
        return self.modification.caption or self.modification.text

    def weights(
        self,
        composer: str,
        defaults: Mapping[str, float] | None = None,
        least: float = -4.0,
        most: float = 4.0,
    ) -> dict[str, float]:
        """A composer's weights, with the user's in place of its own.

        Args:
            composer: its name.
            defaults: all its weights; none by default.
            least: the least allowed value.
            most: the greatest allowed value.

        Raises:
            UsageError: if it has no such weight, or one is out of range.
        """
        defaults = defaults or {}
        for name, number in self.modification.weights.items():
            if name not in defaults:
                known = ", ".join(defaults) or "none"
                raise UsageError(
                    f"The composer {composer} has no weight '{name}' (it has: {known}); leave it "
                    "out."
                )
            if not least <= number <= most:
                raise UsageError(f"--weight {name} is {number:g}; give {least:g} to {most:g}.")
        return {**defaults, **self.modification.weights}

    def interpret(self, composer: str, **parts: Any) -> Interpretation:
        """The interpretation by a composer; see :class:`Interpretation` for the parts."""
        return Interpretation(composer, self.modification.text, **parts)


@dataclass(frozen=True)
class ComposedQuery:
    """The vector to search with.

    Attributes:
        vector: float32 [dim], unit length, compared with the pictures' base vectors.
        interpretation: how it was made.
        captions: between 0 and 1, the weight of the cosine with the gallery's captions; that of
            the cosine with its pictures is the rest.
    """

    vector: NDArray[np.float32]
    interpretation: Interpretation
    captions: float = 0.0


@dataclass(frozen=True)
class WrittenCaption:
    """A caption written by a language model.

    Attributes:
        text: the caption.
        must: objects that the model says must be there.
        must_not: objects that it says must not be there.
        note: what went wrong, a sentence; empty if nothing did.
    """

    text: str
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    note: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """The note, if there is one."""
        return (self.note,) if self.note else ()


class CaptionWriter(Protocol):
    """Describes pictures and changes of pictures in words."""

    @property
    def name(self) -> str:
        """The models that write."""
        ...

    def caption(self, image: Image.Image) -> str:
        """A picture in one sentence."""
        ...

    def changed(self, image: Image.Image, change: str) -> WrittenCaption:
        """The picture after a change, in one sentence; the change itself if nothing is written."""
        ...

    def reasoned(self, image: Image.Image, change: str) -> WrittenCaption:
        """As :meth:`changed`, with the objects that must and must not be there."""
        ...


class ComposerContext:
    """What composers work with: the model of the base vectors, and a caption writer."""

    def __init__(
        self,
        base_model: str,
        encoder: Callable[[], BaseEncoder],
        writer: Callable[[], CaptionWriter],
        has_captions: Callable[[], bool],
    ):
        """Store the arguments; nothing is loaded yet.

        Args:
            base_model: name of the model of the base vectors.
            encoder: loads it.
            writer: makes the caption writer.
            has_captions: whether the gallery stores captions of its pictures.
        """
        self.base_model = base_model
        self._load = encoder
        self._make_writer = writer
        self._has_captions = has_captions

    @cached_property
    def _encoder(self) -> BaseEncoder:
        return self._load()

    @cached_property
    def writer(self) -> CaptionWriter:
        """Writes captions; its model is loaded when first used."""
        return self._make_writer()

    @property
    def has_captions(self) -> bool:
        """Whether the gallery stores captions of its pictures."""
        return self._has_captions()

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Base vectors of texts: float32 [texts, dim], unit rows."""
        return self._encoder.encode_text(list(texts), [Condition.parse(UNCONDITIONAL)])[:, 0]

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Base vectors of texts before they are scaled to unit length: float32 [texts, dim].

        Raises:
            ModelError: if the base model does not tell their lengths.
        """
        found = self._encoder.embed_text(list(texts), [Condition.parse(UNCONDITIONAL)], words=False)
        return found.vectors[:, 0] * self._known(found.norms)

    def norm(self, image: Image.Image) -> float:
        """The length of a picture's base vector before it is scaled to unit length.

        Raises:
            ModelError: if the base model does not tell it.
        """
        return float(self._known(self._norms(image))[0, 0])

    def known_norm(self, image: Image.Image) -> float | None:
        """As :meth:`norm`; ``None`` if the base model does not tell it."""
        length = float(self._norms(image)[0, 0])
        return length if math.isfinite(length) else None

    def _norms(self, image: Image.Image) -> NDArray[np.float32]:
        found = self._encoder.embed([image], [Condition.parse(UNCONDITIONAL)], words=False)
        return found.norms

    def _known(self, norms: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(norms).all():
            raise ModelError(
                f"{self.base_model} gives unit vectors only, and their lengths before are needed; "
                "choose another --composer."
            )
        return norms

    def cut(self, text: str) -> str:
        """The part of a text that the base model reads; longer texts are cut."""
        from ingest.encoders.methods.clip import ClipEncoder

        return self._encoder.dual.truncate(text) if isinstance(self._encoder, ClipEncoder) else text

    def inversion(self) -> Inversion:
        """Replaces words in the sentences of the base model by pseudo-words.

        Raises:
            ModelError: if the base model reads no texts.
        """
        from ingest.encoders.inversion.encoder import Inversion
        from ingest.encoders.methods.clip import ClipEncoder

        if not isinstance(self._encoder, ClipEncoder):
            raise ModelError(f"{self.base_model} reads no texts; choose another --composer.")
        return Inversion.of(self._encoder.dual)


class Composer(Protocol):
    """Makes one vector of a picture and a change.

    Attributes:
        name: what ``--composer`` takes.
        about: one line about it.
    """

    name: str
    about: str

    def compose(self, query: ComposerInput, context: ComposerContext) -> ComposedQuery:
        """The vector to search with.

        Raises:
            UsageError: if a weight is unknown or out of range, or the gallery lacks something.
            ModelError: if a model is needed and cannot be loaded.
        """
        ...


@cache
def compose_settings() -> dict[str, Any]:
    """``configs/compose.toml``: published weights, and prompts."""
    text = resources.files("configs").joinpath("compose.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def published_weights(composer: str, model: str) -> dict[str, float]:
    """The published weights of a composer for a CLIP, or else its default ones.

    Args:
        composer: its name.
        model: the model of the base vectors, whose architecture decides.
    """
    groups: dict[str, dict[str, float]] = compose_settings()[composer]
    architecture = clip_architecture(model) if len(groups) > 1 else ""
    return dict(groups.get(architecture, groups["default"]))


def task_weights(composer: str, part: str) -> dict[str, float]:
    """The weights that a composer was published with for a part of a benchmark; empty if it was
    with its usual ones.

    Args:
        composer: its name.
        part: the part's name, such as ``focus_attribute`` of GeneCIS.
    """
    parts: dict[str, dict[str, dict[str, float]]] = compose_settings()["benchmarks"]
    return dict(parts.get(part, {}).get(composer, {}))


def unit_vector(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    """A vector [dim] scaled to unit length: float32 [dim]. One of that length is not changed.

    Raises:
        UsageError: if its length is 0, as of a text subtracted from itself.
    """
    wide = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(wide))
    if not math.isfinite(length) or length < 1e-6:
        raise UsageError(
            "With these weights nothing is left to look for; change --weight, or leave it out."
        )
    if abs(length - 1) < 1e-6:
        return wide.astype(np.float32)
    return (wide / length).astype(np.float32)
