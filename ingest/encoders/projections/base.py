"""Views: what a condition makes of vectors that know none, worked out from its words alone.

One pass of a CLIP over the pictures serves every condition: InDiReCT, CRL and CLAY each turn the
stored vectors into those under a condition by a linear map and a scaling to unit length. Nothing
here needs more than numpy.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.vectors import Vectors
from ingest.encoders.projections import clay, crl, indirect

#: The methods that are views.
PROJECTIONS = ("indirect", "crl", "clay")

#: What cosines of a picture with the words are multiplied by before the softmax: where CLIP's
#: own scale ends when it is trained.
_SHARPNESS = 100.0

#: Rows moved at once, so that a large gallery needs no second copy of itself.
_BLOCK = 16384


@dataclass(frozen=True)
class Projection:
    """A condition's way of seeing the base vectors of one dual encoder.

    Attributes:
        method: one of :data:`PROJECTIONS`.
        words: the condition's values, at least two.
        arrays: float32: ``images`` and ``texts`` [dim', dim], the maps of pictures' and texts'
            base vectors; ``offset`` [dim'], added to texts after theirs; ``words`` [words, dim],
            the base vectors of the words' texts, unit rows.
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
        """Pictures under the condition: float32 [n, dim'], unit rows.

        Args:
            vectors: [n, dim], base vectors of pictures.
        """
        return self._moved(vectors, self.arrays["images"], None)

    def texts(self, vectors: Vectors) -> Vectors:
        """Texts under the condition, comparable to pictures: float32 [n, dim'], unit rows.

        Args:
            vectors: [n, dim], base vectors of texts.
        """
        return self._moved(vectors, self.arrays["texts"], self.arrays["offset"])

    def said(self, vectors: Vectors) -> tuple[list[str], NDArray[np.float32]]:
        """The nearest word to each picture, and how sure it is.

        Nearest by the base vectors themselves, which name the value more often than what the
        view makes of them.

        Args:
            vectors: [n, dim], base vectors of pictures.

        Returns:
            Words [n] and float32 [n], the softmax over the words of 100 times the cosine.
        """
        found: list[str] = []
        chances = np.empty(len(vectors), dtype=np.float32)
        for start in range(0, len(vectors), _BLOCK):
            part = np.asarray(vectors[start : start + _BLOCK], dtype=np.float32)
            scores = _SHARPNESS * (part @ self.arrays["words"].T)
            best = scores.argmax(1)
            found += [self.words[place] for place in best]
            scores -= scores.max(1, keepdims=True)
            chances[start : start + len(part)] = 1 / np.exp(scores).sum(1)
        return found, chances

    def _moved(
        self, vectors: Vectors, mapping: Vectors, offset: NDArray[np.float32] | None
    ) -> Vectors:
        if vectors.ndim != 2 or vectors.shape[1] != mapping.shape[1]:
            raise ValueError(f"{vectors.shape} are no rows of {mapping.shape[1]} numbers")
        result = np.empty((len(vectors), len(mapping)), dtype=np.float32)
        for start in range(0, len(vectors), _BLOCK):
            part = np.asarray(vectors[start : start + _BLOCK], dtype=np.float32)
            moved = result[start : start + len(part)]
            np.matmul(part, mapping.T, out=moved)
            if offset is not None:
                moved += offset
            lengths = np.linalg.norm(moved, axis=1, keepdims=True)
            # What has nothing of what the words vary in has no direction, and gets the one that
            # is as near to one axis as to another: it is like no other picture, and is not lost.
            moved[lengths[:, 0] == 0] = 1
            lengths[lengths == 0] = np.sqrt(len(mapping))
            moved /= lengths
        return result

    def to_npz(self, path: str | Path | None = None) -> bytes:
        """As the bytes of a numpy archive, written to a file if one is named."""
        archive = io.BytesIO()
        told: dict[str, Any] = {"_method": self.method, "_words": list(self.words), **self.arrays}
        np.savez(archive, **told)
        if path is not None:
            Path(path).write_bytes(archive.getvalue())
        return archive.getvalue()

    @classmethod
    def from_npz(cls, source: bytes | str | Path) -> Projection:
        """The inverse of :meth:`to_npz`.

        Args:
            source: the bytes, or a file of them.

        Raises:
            ValueError: if they are no view.
            OSError: if there is no such file.
        """
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            method, words = str(arrays.pop("_method")), tuple(map(str, arrays.pop("_words")))
            view = cls(method, words, {name: arrays[name] for name in _ARRAYS})
        except (KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"this is no view: {error}") from error
        if method not in PROJECTIONS or len(words) != len(view.arrays["words"]):
            raise ValueError(f"this is no view: {len(words)} words by '{method}'")
        return view


_ARRAYS = ("images", "texts", "offset", "words")


def fit_view(
    method: str, words: Sequence[str], texts: Vectors, image_mean: Vectors | None = None
) -> Projection:
    """Work a condition's view out from its words.

    Args:
        method: one of :data:`PROJECTIONS`.
        words: the condition's values, at least two different ones.
        texts: float32 [words, dim], base vectors of the words in their prompts, unit rows.
        image_mean: float32 [dim], mean of the gallery's base vectors of pictures; ``None`` if
            there are none. CLAY brings pictures over to texts by it, CRL texts to pictures;
            InDiReCT has no use for it.

    Raises:
        UsageError: if there is no such view, or fewer than two different words.
    """
    if method not in PROJECTIONS:
        raise UsageError(f"There is no view '{method}'; choose one of {', '.join(PROJECTIONS)}.")
    texts = np.asarray(texts, dtype=np.float32)
    if len(words) != len(texts):
        raise ValueError(f"{len(words)} words and {len(texts)} vectors of their texts")
    if len(set(words)) < 2 or bool((texts == texts[:1]).all()):
        raise UsageError(
            "A condition is told by what its values differ in, so that its list must hold at "
            "least two different words; add some with `cies conditions edit`."
        )
    if method == "clay":
        seen, read = clay.fit(texts, image_mean)
    elif method == "indirect":
        seen = read = indirect.fit(texts)
    else:
        seen = read = crl.fit(texts)
    offset = np.zeros(len(seen), dtype=np.float32)
    if method == "crl" and image_mean is not None:
        offset = seen @ (np.asarray(image_mean, dtype=np.float32) - texts.mean(0))
    arrays = {"images": seen, "texts": read, "offset": offset, "words": texts}
    return Projection(
        method, tuple(words), {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    )
