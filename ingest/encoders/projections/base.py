"""Projections: an image's vectors under a condition, computed from its base vector.

One CLIP vector for each image serves every condition: InDiReCT, CRL and CLAY each turn the stored
vectors into those under a condition by a linear map, fitted to the condition's words, and a scaling
to unit length. Only numpy is needed.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.vectors import Vectors
from ingest.encoders.projections import clay, indirect

#: Factor of the cosines of an image with the words before the softmax: the value that CLIP's own
#: scale reaches in training.
_SCALE = 100.0

#: Rows projected at once, so that a large gallery is not copied as a whole.
_BLOCK = 16384


@dataclass(frozen=True)
class Projection:
    """A condition's projection of the base vectors of one dual encoder.

    Attributes:
        method: one of :data:`PROJECTIONS`.
        words: the condition's values, at least two.
        arrays: float32: ``images`` and ``texts`` [dim', dim], the maps of images' and texts'
            base vectors; ``offset`` [dim'], added to mapped texts; ``words`` [words, dim], the
            base vectors of the words' texts, unit rows.
    """

    method: str
    words: tuple[str, ...]
    arrays: Mapping[str, NDArray[np.float32]]

    @property
    def dimension(self) -> int:
        """Length of a vector under the condition."""
        return int(self.arrays["images"].shape[0])

    @property
    def base_dimension(self) -> int:
        """Length of a base vector."""
        return int(self.arrays["images"].shape[1])

    def images(self, vectors: Vectors) -> Vectors:
        """Images under the condition: float32 [n, dim'], unit rows.

        Args:
            vectors: [n, dim], base vectors of images.
        """
        return self._project(vectors, self.arrays["images"], None)

    def texts(self, vectors: Vectors) -> Vectors:
        """Texts under the condition, comparable to images: float32 [n, dim'], unit rows.

        Args:
            vectors: [n, dim], base vectors of texts.
        """
        return self._project(vectors, self.arrays["texts"], self.arrays["offset"])

    def nearest_words(self, vectors: Vectors) -> tuple[list[str], NDArray[np.float32]]:
        """The nearest word to each image, and its probability.

        Nearest by the base vectors, which name the value more often than the projected ones.

        Args:
            vectors: [n, dim], base vectors of images.

        Returns:
            Words [n] and float32 [n], the softmax over the words of 100 times the cosine.
        """
        words: list[str] = []
        probabilities = np.empty(len(vectors), dtype=np.float32)
        for start in range(0, len(vectors), _BLOCK):
            block = np.asarray(vectors[start : start + _BLOCK], dtype=np.float32)
            scores = _SCALE * (block @ self.arrays["words"].T)
            words += [self.words[number] for number in scores.argmax(1)]
            scores -= scores.max(1, keepdims=True)
            probabilities[start : start + len(block)] = 1 / np.exp(scores).sum(1)
        return words, probabilities

    def _project(
        self, vectors: Vectors, mapping: Vectors, offset: NDArray[np.float32] | None
    ) -> Vectors:
        if vectors.ndim != 2 or vectors.shape[1] != mapping.shape[1]:
            raise ValueError(f"{vectors.shape} are not rows of {mapping.shape[1]} numbers")
        result = np.empty((len(vectors), len(mapping)), dtype=np.float32)
        for start in range(0, len(vectors), _BLOCK):
            block = np.asarray(vectors[start : start + _BLOCK], dtype=np.float32)
            projected = result[start : start + len(block)]
            np.matmul(block, mapping.T, out=projected)
            if offset is not None:
                projected += offset
            lengths = np.linalg.norm(projected, axis=1, keepdims=True)
            # A vector with no component along the map has no direction; it gets the one equally
            # near to all axes, so that the image stays in the results without matching others.
            projected[lengths[:, 0] == 0] = 1
            lengths[lengths == 0] = np.sqrt(len(mapping))
            projected /= lengths
        return result

    def to_npz(self, path: str | Path | None = None) -> bytes:
        """The bytes of a numpy archive, written to a file if one is named."""
        archive = io.BytesIO()
        entries: dict[str, Any] = {"_method": self.method, "_words": list(self.words)}
        np.savez(archive, **(entries | dict(self.arrays)))
        if path is not None:
            Path(path).write_bytes(archive.getvalue())
        return archive.getvalue()

    @classmethod
    def from_npz(cls, source: bytes | str | Path) -> Projection:
        """The inverse of :meth:`to_npz`.

        Args:
            source: the bytes, or a file.

        Raises:
            ValueError: if they are not a projection.
            OSError: if there is no such file.
        """
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            method, words = str(arrays.pop("_method")), tuple(map(str, arrays.pop("_words")))
            projection = cls(method, words, {name: arrays[name] for name in _ARRAYS})
        except (KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"this is not a projection: {error}") from error
        if method not in PROJECTIONS or len(words) != len(projection.arrays["words"]):
            raise ValueError(f"this is not a projection: {len(words)} words by '{method}'")
        return projection


_ARRAYS = ("images", "texts", "offset", "words")


def _fit_crl(texts: Vectors, image_mean: Vectors | None) -> tuple[Vectors, Vectors, Vectors]:
    """CRL: an image under a condition is its likeness to each of the condition's words.

    Conditional Representation Learning, NeurIPS 2025 (arXiv 2510.04564): R = N(v T^T), the profile
    of an image's vector v over the vectors T of the words. No training. Where there are more words
    than dimensions, the profile is rotated into fewer: with T = Q R and orthonormal columns of Q,
    v T^T and v R^T have the same products and lengths.

    The published method has no text queries. Texts are separated from images and nearer to the
    words, so their profiles are flatter; to be compared with images, a text's vector is first
    moved by the difference of the two means, here as an offset after the map.

    Args:
        texts: float32 [texts, dim], unit rows, one for each value of the condition.
        image_mean: float32 [dim], mean of the images' vectors; ``None`` for no offset.

    Returns:
        As :data:`PROJECTIONS`; dim' is the smaller of texts and dim.
    """
    mapping = texts
    if texts.shape[0] > texts.shape[1]:
        mapping = np.linalg.qr(texts.astype(np.float64))[1].astype(np.float32)
    offset = np.zeros(len(mapping), dtype=np.float32)
    if image_mean is not None:
        offset = mapping @ (np.asarray(image_mean, dtype=np.float32) - texts.mean(0))
    return mapping, mapping, offset


#: Method to the function that fits it. Its arguments are a condition's texts, float32 [words, dim]
#: with unit rows, and the mean of the images' base vectors, float32 [dim], or ``None``. It returns
#: the map of images and that of texts, float32 [dim', dim], and the texts' offset, float32 [dim'].
PROJECTIONS: Mapping[str, Callable[[Vectors, Vectors | None], tuple[Vectors, Vectors, Vectors]]] = (
    MappingProxyType({"indirect": indirect.fit_maps, "crl": _fit_crl, "clay": clay.fit_maps})
)


def fit_projection(
    method: str, words: Sequence[str], texts: Vectors, image_mean: Vectors | None = None
) -> Projection:
    """Fit a condition's projection to its words.

    Args:
        method: one of :data:`PROJECTIONS`.
        words: the condition's values, at least two different ones.
        texts: float32 [words, dim], base vectors of the words in their prompts, unit rows.
        image_mean: float32 [dim], mean of the gallery's base vectors of images; ``None`` if
            there are none. CLAY moves images to texts with it, CRL texts to images; InDiReCT
            does not use it.

    Raises:
        UsageError: if there is no such projection, or fewer than two different words.
    """
    if method not in PROJECTIONS:
        raise UsageError(f"There is no view '{method}'; choose one of {', '.join(PROJECTIONS)}.")
    texts = np.asarray(texts, dtype=np.float32)
    if len(words) != len(texts):
        raise ValueError(f"{len(words)} words and {len(texts)} vectors of their texts")
    if len(set(words)) < 2 or bool((texts == texts[:1]).all()):
        raise UsageError(
            "A condition is fitted to the differences between its values, so its list must hold "
            "at least two different words; add some with `cies conditions edit`."
        )
    image_map, text_map, offset = PROJECTIONS[method](texts, image_mean)
    arrays = {"images": image_map, "texts": text_map, "offset": offset, "words": texts}
    return Projection(
        method, tuple(words), {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    )
