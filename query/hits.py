"""What a search gives back: plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict, overload

from indexes.errors import UsageError

if TYPE_CHECKING:
    import pandas
    import pyarrow

#: Version of the JSON documents below; it grows when a field changes its meaning.
SCHEMA_VERSION = 1


class ConditionScore(TypedDict):
    """What one of several conditions says of a hit.

    Attributes:
        condition: its name in the gallery.
        weight: above 0 for what shall be alike, below for what shall differ.
        score: cosine with the query under it; with several examples, their mean, greatest or
            least as the question says.
        percentile: share of the gallery's pairs that are less alike under it, in percent.
        word: the model's word for the hit under it.
        method: which says this, where several were asked or one re-ranked another's best.
    """

    condition: str
    weight: float
    score: float
    percentile: float
    word: str
    method: str


@dataclass(frozen=True)
class Hit:
    """One picture found.

    Attributes:
        rank: 1 for the most alike, in whichever order hits are given.
        key: SHA-256 of its bytes.
        path: where it lies on this machine.
        score: under one condition, the cosine with the query, -1 to 1; under several, the total
            of :mod:`query.ranking.combination` in standard deviations. Higher is better.
        percentile: share of the gallery's pairs, in percent, whose score is below this one.
        word: the model's word for it under the first condition, or empty.
        word_probability: how sure the model was of the word, 0 to 1.
        parts: under several conditions, what each says; else empty.
        duplicates: paths of near-duplicates folded into this hit.
        verified: how likely an LVLM says that it shows what a change asks for, 0 to 1; ``None``
            where it was not asked.
    """

    rank: int
    key: str
    path: str
    score: float
    percentile: float
    word: str
    word_probability: float
    parts: tuple[ConditionScore, ...] = ()
    duplicates: tuple[str, ...] = ()
    verified: float | None = None


@dataclass(frozen=True)
class Query:
    """What was asked.

    Attributes:
        image: its path or key as given, or ``image`` for a picture in memory; empty for a text;
            the first of several.
        condition: the gallery's name of the condition; of several, a line such as
            ``shape=2 color not size``.
        key: SHA-256 of the query's bytes if known, else empty.
        in_gallery: whether stored vectors were used alone, so that no model was needed.
        word: the model's word for the query under the first condition.
        word_probability: how sure the model was, 0 to 1.
        text: what was asked for in words, in place of a picture; else empty.
        images: all of the examples, as ``image``.
        keys: of all examples, as ``key``.
        conditions: the gallery's names of what shall be alike, with weights above 0.
        unlike: and of what shall differ.
        combine: how likenesses to several examples became one: mean, any or all.
        crop: the part of the pictures that was meant, ``x,y,w,h``, or empty.
        where: the filter, or empty.
        exclude_same: the column by whose values hits were left out, or empty.
        sort: the order of the hits: score, date or path.
        method: by which the first condition was answered, such as dior or clay; several that
            were fused are joined by `` + ``.
        model: whose vectors these are, as the gallery names it; joined in the same way.
        view: whether they were worked out from base vectors by the words of the condition.
        reranked: how many of the best were put in another model's order; the first hits.
        reranked_by: that method and model, ``METHOD:MODEL``, or empty.
        composed: of a change that was asked for, what was understood: composer, modification,
            caption, target, must, must_not, conditions, weights
            (:class:`query.composers.base.Interpretation`); else empty.
    """

    image: str
    condition: str
    key: str
    in_gallery: bool
    word: str
    word_probability: float
    text: str = ""
    images: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    conditions: dict[str, float] = field(default_factory=dict)
    unlike: dict[str, float] = field(default_factory=dict)
    combine: str = "mean"
    crop: str = ""
    where: str = ""
    exclude_same: str = ""
    sort: str = "score"
    method: str = ""
    model: str = ""
    view: bool = False
    reranked: int = 0
    reranked_by: str = ""
    composed: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """The hits of one search, best first unless asked otherwise; a sequence of :class:`Hit`.

    Attributes:
        query: what was asked.
        hits: what was found.
        nothing_alike: whether the best picture's percentile lies below ``alike_above``, so that
            nothing in the gallery is really alike; never said of a text, whose scores are lower.
        alike_above: a percentile.
        notes: what people should know of this answer, a sentence each.
    """

    query: Query
    hits: tuple[Hit, ...]
    nothing_alike: bool = False
    alike_above: float = 0.0
    notes: tuple[str, ...] = ()

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
            "nothing_alike": self.nothing_alike,
            "alike_above": self.alike_above,
            "notes": list(self.notes),
            "hits": [vars(hit) for hit in self.hits],
        }

    def to_arrow(self) -> pyarrow.Table:
        """The hits as an Arrow table, a column for each field of :class:`Hit`.

        Bytes of a path that are not UTF-8, which Arrow's texts cannot hold, become escapes.
        """
        import pyarrow as pa

        text, number = pa.string(), pa.float64()
        numbers = {"weight", "score", "percentile"}
        part = {
            name: number if name in numbers else text for name in ConditionScore.__annotations__
        }
        kinds = {
            "int": pa.int64(),
            "float": number,
            "float | None": number,
            "str": text,
            "tuple[str, ...]": pa.list_(text),
            "tuple[Part, ...]": pa.list_(pa.struct(part)),
        }
        columns = {}
        for one in fields(Hit):
            values = [_plain(getattr(hit, one.name)) for hit in self.hits]
            columns[one.name] = pa.array(values, type=kinds[str(one.type)])
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
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
