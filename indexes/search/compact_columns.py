"""Sequences of keys and words that store no Python object for each element."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

#: Bytes of a key, which is a SHA-256.
KEY_BYTES = 32

#: Value of each hexadecimal digit by its byte; 255 for every other byte.
_DIGITS = np.full(256, 255, dtype=np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16)


class _Texts(Sequence[str]):
    """Texts that are created on access; equal to any sequence of the same texts."""

    @abstractmethod
    def _one(self, at: int) -> str:
        """One text."""

    @abstractmethod
    def _some(self, at: slice) -> list[str]:
        """Several texts, in order."""

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        return self._some(at) if isinstance(at, slice) else self._one(at)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), 4096):
            yield from self._some(slice(start, start + 4096))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Keys(_Texts):
    """Content keys, stored as raw bytes; an element is a hexadecimal string."""

    def __init__(self, raw: NDArray[np.uint8]):
        """Args: raw: uint8 [n, 32]."""
        self.raw = raw

    def __len__(self) -> int:
        return len(self.raw)

    def _one(self, at: int) -> str:
        key: str = self.raw[at].tobytes().hex()
        return key

    def _some(self, at: slice) -> list[str]:
        return [row.tobytes().hex() for row in self.raw[at]]


class Words(_Texts):
    """One word for each picture, stored as a code and a list of distinct words."""

    def __init__(self, codes: NDArray[np.uint32], dictionary: Sequence[str]):
        """Create the sequence.

        Args:
            codes: uint32 [n], positions in ``dictionary``.
            dictionary: the distinct words.
        """
        self.codes = codes
        self.dictionary = dictionary

    def __len__(self) -> int:
        return len(self.codes)

    def _one(self, at: int) -> str:
        return self.dictionary[int(self.codes[at])]

    def _some(self, at: slice) -> list[str]:
        return [self.dictionary[code] for code in self.codes[at].tolist()]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Words:
        """Convert an Arrow column of strings; null becomes the empty word."""
        coded = column.fill_null("").combine_chunks().dictionary_encode()
        return cls(coded.indices.to_numpy().astype(np.uint32), coded.dictionary.to_pylist())

    def recoded(self, code_of: dict[str, int]) -> NDArray[np.uint32]:
        """The codes of the words in another dictionary, to which new words are added.

        Args:
            code_of: word to code.

        Returns:
            uint32 [n].
        """
        codes = [code_of.setdefault(word, len(code_of)) for word in self.dictionary]
        return np.array(codes, dtype=np.uint32)[self.codes]


def raw_keys(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """The keys in an Arrow column of strings as bytes: uint8 [n, 32].

    Raises:
        ValueError: if a key is not 64 hexadecimal digits in lower case.
    """
    texts = column.combine_chunks().cast(pa.binary())
    if isinstance(texts, pa.ChunkedArray):
        texts = pa.concat_arrays(texts.chunks)
    if texts.null_count or len(texts) == 0:
        if texts.null_count:
            raise ValueError("a key is null")
        return np.empty((0, KEY_BYTES), dtype=np.uint8)
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset :][: len(texts) + 1]
    if not (np.diff(offsets) == 2 * KEY_BYTES).all():
        raise ValueError("a key is not 64 digits long")
    data = np.frombuffer(texts.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
    digits = _DIGITS[data].reshape(len(texts), 2 * KEY_BYTES)
    if digits.max() > 15:
        raise ValueError("a key is not hexadecimal")
    raw: NDArray[np.uint8] = digits[:, 0::2] * np.uint8(16) + digits[:, 1::2]
    return raw


def prefixes(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first 8 bytes of each key as a number, in the order of the keys: uint64 [n]."""
    return np.ascontiguousarray(raw[:, :8]).view(">u8")[:, 0].astype(np.uint64)


def positions(sorted_raw: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The positions of keys among others: int64 [m], -1 for missing keys.

    Args:
        sorted_raw: uint8 [n, 32], ascending, with distinct first 8 bytes.
        wanted: uint8 [m, 32].
    """
    if not len(sorted_raw):
        return np.full(len(wanted), -1, dtype=np.int64)
    places = np.searchsorted(prefixes(sorted_raw), prefixes(wanted))
    places = np.minimum(places, len(sorted_raw) - 1).astype(np.int64)
    same = (sorted_raw[places] == wanted).all(axis=1)
    return np.where(same, places, -1)
