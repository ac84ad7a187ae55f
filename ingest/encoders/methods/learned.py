"""Learned: a condition shown by examples, as weights over the vectors of other conditions.

Let x_p be a picture's vector under condition p, m_p the mean of the gallery's vectors under p, and
w_p the weight of p; the weights sum to 1. The picture's vector is the concatenation of

    sqrt(w_p) (x_p - m_p) / |x_p - m_p|,

so that the cosine of two pictures is the weighted mean of their centred cosines under each p. If
there are many examples, that vector z is continued by its discriminants f = (D z - o) / |D z - o|,
in which the groups differ most: the picture's vector is then sqrt(1 - s) z, sqrt(s) f.

The picture's word is the group of examples whose mean vector is nearest, if one is near enough.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import GalleryMismatch, ModelError, UsageError
from indexes.vectors import Vectors, unit
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec
from ingest.encoders.options import EncoderChoice
from ingest.read.images import reduced

#: The model's name of every learned condition, as galleries store it.
EXAMPLES = "examples"

#: A norm below which a picture has no direction under a condition: it lies at the mean.
_NO_DIRECTION = 1e-6


@dataclass(frozen=True)
class LearnedPart:
    """A condition that a learned condition is computed from.

    Attributes:
        made_by: of its table; see :class:`indexes.store.records.VectorTable`.
        name: the condition.
        weight: above 0; the weights of all parts sum to 1.
        mean: float32 [dim], mean of the gallery's vectors under it.
    """

    made_by: Mapping[str, Any]
    name: str
    weight: float
    mean: NDArray[np.float32]


@dataclass(frozen=True)
class Discriminants:
    """Directions in which the groups of examples differ most, relative to the spread within them.

    Attributes:
        directions: float32 [directions, dim of z], D above.
        offset: float32 [directions], o above.
        share: s above, 0 to 1.
    """

    directions: NDArray[np.float32]
    offset: NDArray[np.float32]
    share: float

    def continued(self, vectors: Vectors) -> Vectors:
        """Vectors with their discriminants: float32 [n, dim + directions], unit rows.

        Args:
            vectors: float32 [n, dim], unit rows.
        """
        found = vectors @ self.directions.T - self.offset
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), _NO_DIRECTION)
        both = [np.sqrt(1 - self.share) * vectors, np.sqrt(self.share) * found]
        continued: Vectors = unit(np.concatenate(both, axis=1))
        return continued


@dataclass(frozen=True)
class LearnedCondition:
    """A condition learned from examples.

    Attributes:
        parts: what it is computed from, at least one.
        words: the names of the groups, [groups]; empty if they have no names.
        prototypes: float32 [groups, dim], the mean vectors of the groups, unit rows.
        nearness: float32 [groups]; a picture whose cosine with the nearest prototype is lower
            belongs to no group.
        sharpness: how fast the probability of a word falls with the distance to its prototype.
        discriminants: ``None`` if there are few examples.
    """

    parts: tuple[LearnedPart, ...]
    words: tuple[str, ...]
    prototypes: NDArray[np.float32]
    nearness: NDArray[np.float32]
    sharpness: float
    discriminants: Discriminants | None = None

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        further = 0 if self.discriminants is None else len(self.discriminants.offset)
        return sum(len(part.mean) for part in self.parts) + further

    def vectors(self, stored: Sequence[Vectors]) -> Vectors:
        """The vectors of some pictures: float32 [n, dim], unit rows.

        Args:
            stored: for each part, float32 [n, dim of the part], unit rows.
        """
        columns = []
        for part, vectors in zip(self.parts, stored, strict=True):
            moved = vectors - part.mean
            norms = np.linalg.norm(moved, axis=1, keepdims=True)
            # A picture at the mean gets any direction; it is then like no other.
            moved = np.where(norms > _NO_DIRECTION, moved, vectors)
            norms = np.linalg.norm(moved, axis=1, keepdims=True)
            columns.append(np.sqrt(part.weight) * moved / norms)
        found: Vectors = np.concatenate(columns, axis=1).astype(np.float32)
        return found if self.discriminants is None else self.discriminants.continued(found)

    def nearest_words(self, vectors: Vectors) -> tuple[list[str], NDArray[np.float32]]:
        """The word of each picture, empty for none of the groups, and its probability.

        Args:
            vectors: of :meth:`vectors`.
        """
        if not self.words:
            return [""] * len(vectors), np.zeros(len(vectors), dtype=np.float32)
        cosines = vectors @ self.prototypes.T
        best = cosines.argmax(axis=1)
        logits = self.sharpness * (cosines - cosines.max(axis=1, keepdims=True))
        probability = 1 / np.exp(logits).sum(axis=1)
        rows = np.arange(len(vectors))
        near = cosines[rows, best] >= self.nearness[best]
        words = [self.words[n] if is_near else "" for n, is_near in zip(best, near, strict=True)]
        return words, np.where(near, probability, 0).astype(np.float32)

    # -- as a gallery stores it -------------------------------------------------------------

    def spec(self, max_side: int | None) -> EncoderSpec:
        """The encoder that computes this condition.

        Args:
            max_side: longest side in pixels that images are reduced to; ``None`` for full size.
        """
        buffer = io.BytesIO()
        arrays = {f"mean{n}": part.mean for n, part in enumerate(self.parts)}
        arrays |= {"prototypes": self.prototypes, "nearness": self.nearness}
        if self.discriminants is not None:
            arrays |= {
                "directions": self.discriminants.directions,
                "offset": self.discriminants.offset,
            }
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        settings: dict[str, Any] = {
            "made_from": [
                {"name": part.name, "made_by": dict(part.made_by), "weight": part.weight}
                for part in self.parts
            ],
            "groups": list(self.words),
            "sharpness": self.sharpness,
            "arrays": base64.b64encode(buffer.getvalue()).decode("ascii"),
        }
        if self.discriminants is not None:
            settings["share"] = self.discriminants.share
        if max_side is not None:
            settings["max_side"] = max_side
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return EncoderSpec("learned", EXAMPLES, digest[:16], settings)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> LearnedCondition:
        """The inverse of :meth:`spec`.

        Raises:
            GalleryMismatch: if the settings are not those of a learned condition.
        """
        try:
            data = base64.b64decode(settings["arrays"], validate=True)
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                parts = tuple(
                    LearnedPart(
                        part["made_by"],
                        str(part["name"]),
                        float(part["weight"]),
                        np.asarray(arrays[f"mean{n}"], dtype=np.float32),
                    )
                    for n, part in enumerate(settings["made_from"])
                )
                found = cls(
                    parts,
                    tuple(map(str, settings["groups"])),
                    np.asarray(arrays["prototypes"], dtype=np.float32),
                    np.asarray(arrays["nearness"], dtype=np.float32),
                    float(settings["sharpness"]),
                    Discriminants(
                        np.asarray(arrays["directions"], dtype=np.float32),
                        np.asarray(arrays["offset"], dtype=np.float32),
                        float(settings["share"]),
                    )
                    if "share" in settings
                    else None,
                )
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise GalleryMismatch(
                "The learned condition of the gallery is damaged; learn it again with "
                "`cies conditions learn`."
            ) from error
        shape = (len(found.words), found.dimension)
        if not parts or found.prototypes.shape != shape or len(found.nearness) != shape[0]:
            raise GalleryMismatch(
                "The learned condition of the gallery is damaged; learn it again with "
                "`cies conditions learn`."
            )
        return found


class LearnedEncoder(BaseEncoder):
    """Embeds new pictures under a learned condition, by the encoders that it is computed from."""

    METHOD = "learned"

    def __init__(self, spec: EncoderSpec, load: Callable[[EncoderSpec], BaseEncoder]):
        """Read the condition; the encoders are loaded when a picture is embedded.

        Args:
            spec: of :meth:`LearnedCondition.spec`.
            load: loads the encoder of a part.

        Raises:
            GalleryMismatch: if the settings are damaged.
        """
        self._learned = LearnedCondition.from_settings(spec.settings)
        self._spec = spec
        self._load = load
        self._encoders: list[BaseEncoder] = []

    @classmethod
    def load(cls, choice: EncoderChoice) -> LearnedEncoder:
        """Load the encoder of a stored learned condition.

        Raises:
            UsageError: if there is none: conditions are learned from examples first.
        """
        if not choice.stored:
            raise UsageError(
                "The method learned has no model of its own; show examples instead: "
                "`cies conditions learn NAME --from labels.csv`."
            )
        from ingest.encoders.factory import remake_encoder

        learned = LearnedCondition.from_settings(choice.stored)
        return cls(
            learned.spec(choice.stored.get("max_side")),
            lambda spec: remake_encoder(spec, choice.device, force=True),
        )

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`."""
        return self._spec

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`."""
        return self._learned.dimension

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        parts = ", ".join(f"{part.weight:.2f} {part.name}" for part in self._learned.parts)
        return f"learned from examples: {parts}"

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`; there is one condition, whatever its name."""
        if len(conditions) != 1:
            raise ModelError(
                "A learned condition embeds under itself only; use the gallery's other methods "
                "for other conditions."
            )

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`."""
        self.check(conditions)
        vectors = self._learned.vectors(self._of_parts(images))
        found, probabilities = self._learned.nearest_words(vectors)
        return Embeddings(vectors[:, None], [[word] for word in found], probabilities[:, None])

    def _of_parts(self, images: Sequence[Image.Image]) -> list[Vectors]:
        """The vectors under each part, [n, dim of the part]; one call for each encoder."""
        found: dict[int, Vectors] = {}
        parts = self._learned.parts
        for number, part in enumerate(parts):
            if number in found:
                continue
            spec = EncoderSpec.from_made_by(part.made_by)
            same = [
                n
                for n, other in enumerate(parts)
                if EncoderSpec.from_made_by(other.made_by) == spec
            ]
            wanted = [Condition(parts[n].name, str(parts[n].made_by["phrase"])) for n in same]
            side = spec.max_side
            small = images if side is None else [reduced(image, side) for image in images]
            made = self._encoder(spec).embed(small, wanted, words=False).vectors
            found |= {n: made[:, at] for at, n in enumerate(same)}
        return [found[n] for n in range(len(parts))]

    def _encoder(self, spec: EncoderSpec) -> BaseEncoder:
        for encoder in self._encoders:
            if encoder.spec == spec:
                return encoder
        self._encoders.append(self._load(spec))
        return self._encoders[-1]
