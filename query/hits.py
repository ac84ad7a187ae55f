"""What a search gives back: plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, overload

from indexes.errors import UsageError

if TYPE_CHECKING:
    import pandas
    import pyarrow

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

    def to_arrow(self) -> pyarrow.Table:
        """The hits as an Arrow table, a column for each field of :class:`Hit`.

        Bytes of a path that are not UTF-8, which Arrow's texts cannot hold, become escapes.
        """
        import pyarrow as pa

        kinds = {"int": pa.int64(), "float": pa.float64(), "str": pa.string(), "bool": pa.bool_()}
        columns = {
            field.name: pa.array(
                [_plain(getattr(hit, field.name)) for hit in self.hits],
                type=kinds.get(str(field.type), pa.string()),
            )
            for field in fields(Hit)
        }
        return pa.table(columns)

    def to_pandas(self) -> pandas.DataFrame:
        """The hits as a data frame, a column for each field of :class:`Hit`.

        Raises:
            UsageError: if pandas is not installed.
        """
        return data_frame(self.to_arrow())

    def _repr_html_(self) -> str:
        """What a notebook shows: the pictures, their words and scores; nothing is fetched."""
        from query.notebook import hits_html

        return hits_html(self)


def data_frame(table: pyarrow.Table) -> pandas.DataFrame:
    """An Arrow table as a data frame.

    Raises:
        UsageError: if pandas is not installed.
    """
    try:
        import pandas  # noqa: F401
    except ImportError:
        raise UsageError(
            "to_pandas needs pandas, which CIES does not bring: `pip install pandas`, or use "
            "to_arrow."
        ) from None
    return table.to_pandas()


def _plain(value: Any) -> Any:
    """A text as valid Unicode, bytes of a name that are not UTF-8 as escapes; else as it is."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value
