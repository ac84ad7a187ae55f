"""The results of a search: hits, the query as it was understood, and notes."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypedDict, overload

from indexes.errors import UsageError

if TYPE_CHECKING:
    import pandas
    import pyarrow

#: Version of the JSON documents below; it is raised when a field changes its meaning.
SCHEMA_VERSION = 1

#: Hits that a notebook shows; the rest are counted. A thumbnail adds about 6 kB to its file.
SHOWN = 50

_GRID = "display:flex;flex-wrap:wrap;gap:8px"
_CARD = "width:120px;margin:0;font-size:12px;line-height:1.3;overflow-wrap:anywhere"
_IMAGE = "width:120px;height:120px;object-fit:contain;background:#8881;border-radius:4px"


class ConditionScore(TypedDict):
    """A hit's score under one of several conditions, or by one of several methods.

    Attributes:
        condition: its name in the gallery.
        weight: above 0 if hits must be alike under it, below 0 if they must differ.
        score: cosine with the query under it; with several examples, the mean, greatest or least
            as the question says.
        percentile: share of the gallery's pairs that are less alike under it, in percent.
        word: the model's word for the hit under it.
        method: the method that gave the score.
    """

    condition: str
    weight: float
    score: float
    percentile: float
    word: str
    method: str


@dataclass(frozen=True)
class Hit:
    """A picture that was found.

    Attributes:
        rank: 1 for the best score, in whichever order hits are listed.
        key: SHA-256 of its bytes.
        path: its path on this machine.
        score: under one condition, the cosine with the query, -1 to 1; under several, the total
            of :mod:`query.ranking.combination` in standard deviations. Higher is better.
        percentile: share of the gallery's pairs, in percent, whose score is below this one.
        word: the model's word for it under the first condition, or empty.
        word_probability: the word's probability, 0 to 1.
        parts: under several conditions, the score under each; else empty.
        duplicates: paths of near-duplicates folded into this hit.
        verified: the probability with which an LVLM says that it shows what a change asks for, 0
            to 1; ``None`` if no LVLM was asked.
        columns: the user's columns, or those that were asked for, of the first of ``rows``.
        rows: the same for each row of the user's tables that names this picture.
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
    columns: dict[str, Any] = field(default_factory=dict, hash=False)
    rows: tuple[dict[str, Any], ...] = field(default=(), hash=False)

    def column_text(self, name: str) -> str:
        """The values in a column, those of several rows separated by commas; empty for none."""
        values = (row.get(name) for row in self.rows)
        return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))

    def to_json(self) -> dict[str, Any]:
        """The hit as ``--json`` prints it: dates and times as texts in ISO 8601."""
        columns = _json_row(self.columns)
        return {**vars(self), "columns": columns, "rows": [_json_row(row) for row in self.rows]}


@dataclass(frozen=True)
class Query:
    """The question as it was understood.

    Attributes:
        image: the first example's path or key as given, or ``image`` for a picture in memory;
            empty for a text.
        condition: the condition's name in the gallery; of several, a line such as
            ``shape=2 color not size``.
        key: SHA-256 of the first example's bytes if known, else empty.
        in_gallery: whether only stored vectors were used, so that no model was needed.
        word: the model's word for the first example under the first condition.
        word_probability: the word's probability, 0 to 1.
        text: the question's text, if it has one in place of a picture; else empty.
        images: all examples, each as ``image``.
        keys: all examples, each as ``key``.
        conditions: names in the gallery of the conditions under which hits must be alike, to
            weights above 0.
        unlike: of those under which they must differ, likewise.
        combine: how the scores of several examples were combined: mean, any or all.
        crop: the region of the pictures that was compared, ``x,y,w,h``, or empty.
        where: the filter, or empty.
        exclude_same: the column by whose values hits were left out, or empty.
        sort: the order of the hits: score, date, path or a column.
        by: ``COLUMN=VALUE`` of the examples, or empty.
        offset: how many of the best were left out.
        like: keys of the pictures that moved the query towards them; empty for pixels.
        dislike: of those that moved it away.
        feedback: how they moved it, or empty.
        method: the method that answered, such as dior or clay; if several were fused, joined by
            `` + ``.
        model: the model of the vectors, as the gallery names it; joined in the same way.
        view: whether the vectors were projected from base vectors by the words of the condition.
        reranked: how many of the best were put in another model's order; the first hits.
        reranked_by: that method and model, ``METHOD:MODEL``, or empty.
        composed: of a change, its interpretation: composer, modification, caption, target, must,
            must_not, conditions, weights (:class:`query.composers.base.Interpretation`); else
            empty.
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
    by: str = ""
    offset: int = 0
    like: tuple[str, ...] = ()
    dislike: tuple[str, ...] = ()
    feedback: str = ""


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """The hits of a search, best first unless another order was asked; a sequence of :class:`Hit`.

    Attributes:
        query: the question as it was understood.
        hits: the hits.
        nothing_alike: whether the best hit's percentile is below ``alike_above``, so that nothing
            in the gallery is really alike; never for a text, whose scores are lower.
        alike_above: a percentile.
        notes: notes for the user, a sentence each.
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
            "hits": [hit.to_json() for hit in self.hits],
        }

    def to_arrow(self) -> pyarrow.Table:
        """The hits as an Arrow table: a column for each field of :class:`Hit`, and for each of the
        user's columns. A column with the name of a field gets the prefix ``user_``.

        ``rows`` is there if a picture is named by several rows. Bytes of a path that are not
        UTF-8, which Arrow strings cannot contain, are escaped.
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
            "tuple[ConditionScore, ...]": pa.list_(pa.struct(part)),
        }
        columns = {}
        for one in fields(Hit):
            if one.name in ("columns", "rows"):
                continue
            values = [_plain(getattr(hit, one.name)) for hit in self.hits]
            columns[one.name] = pa.array(values, type=kinds[str(one.type)])
        for name in self.column_names:
            shown = f"user_{name}" if name in columns else name
            columns[shown] = pa.array([_plain(hit.columns.get(name)) for hit in self.hits])
        if any(len(hit.rows) > 1 for hit in self.hits):
            rows = [[{n: _plain(v) for n, v in row.items()} for row in h.rows] for h in self.hits]
            columns["rows"] = pa.array(rows)
        return pa.table(columns)

    @property
    def column_names(self) -> list[str]:
        """The names of the columns that the hits carry."""
        return list(dict.fromkeys(name for hit in self.hits for name in hit.columns))

    def to_pandas(self) -> pandas.DataFrame:
        """The hits as a data frame, a column for each field of :class:`Hit`.

        Raises:
            UsageError: if pandas is not installed.
        """
        return data_frame(self.to_arrow())

    def _repr_html_(self) -> str:
        """What a notebook shows: pictures, words and scores, in one fragment without scripts."""
        query = self.query
        word = f" ({html.escape(query.word)})" if query.word else ""
        head = (
            f"<div>{len(self)} alike in <b>{html.escape(query.condition)}</b> to "
            f"{html.escape(query.image or query.text)}{word}</div>"
        )
        cards = "".join(_card(hit) for hit in self[:SHOWN])
        rest = len(self) - SHOWN
        more = f"<div>... and {rest} more</div>" if rest > 0 else ""
        return f'<div>{head}<div style="{_GRID}">{cards}</div>{more}</div>'


def _card(hit: Hit) -> str:
    """A hit's picture with its rank, word and score, as HTML."""
    from query.explore.thumbnails import thumbnail

    name = html.escape(hit.path, quote=True)
    data = thumbnail(hit.path, hit.key)
    if data is None:
        picture = f'<div style="{_IMAGE}" title="{name}">not readable now</div>'
    else:
        address = "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
        short = html.escape(PurePath(hit.path).name, quote=True)
        picture = f'<img style="{_IMAGE}" src="{address}" alt="{short}" title="{name}">'
    word = f"<b>{html.escape(hit.word)}</b> " if hit.word else ""
    return (
        f'<figure style="{_CARD}">{picture}<figcaption>{hit.rank}. {word}'
        f"{hit.score:.3f}<br>{html.escape(PurePath(hit.path).name)}</figcaption></figure>"
    )


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


def _json_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row with values that JSON has; numbers that are not finite become null."""
    return {name: _json_value(value) for name, value in row.items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """A text as valid Unicode, with bytes that are not UTF-8 escaped; other values unchanged."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
