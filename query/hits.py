"""What a search gives back: plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

#: Version of the JSON documents below; it grows when a field changes its meaning.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Hit:
    """One picture found.

    Attributes:
        rank: 1 for the best.
        key: SHA-256 of its bytes.
        path: where it lies on this machine.
        score: cosine with the query under the condition, -1 to 1.
        percentile: share of the gallery's pairs, in percent, that are less alike than this under
            the condition.
        word: the model's word for it under the condition, or empty.
        word_probability: how sure the model was of the word, 0 to 1.
    """

    rank: int
    key: str
    path: str
    score: float
    percentile: float
    word: str
    word_probability: float


@dataclass(frozen=True)
class Query:
    """What was asked.

    Attributes:
        image: its path or key as given, or ``image`` for a picture in memory; empty for a text.
        condition: the gallery's name of the condition.
        key: SHA-256 of the query's bytes if known, else empty.
        in_gallery: whether its stored vector was used, so that no model was needed.
        word: the model's word for the query.
        word_probability: how sure the model was, 0 to 1.
        text: what was asked for in words, in place of a picture; else empty.
    """

    image: str
    condition: str
    key: str
    in_gallery: bool
    word: str
    word_probability: float
    text: str = ""


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """The hits of one search, best first; a sequence of :class:`Hit`."""

    query: Query
    hits: tuple[Hit, ...]

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...

    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def to_json(self) -> dict[str, Any]:
        """The document that ``--json`` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "query": vars(self.query),
            "hits": [vars(hit) for hit in self.hits],
        }
