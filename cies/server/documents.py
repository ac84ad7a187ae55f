"""The documents of the HTTP interface, as pydantic models.

The answers are those of the command line: a search returns the document of ``cies search --json``.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

#: The most hits of one answer, and the deepest hit that can be reached by paging.
MAX_HITS, MAX_DEPTH = 500, 10_000

#: The most examples, and the most conditions, of one question.
MAX_EXAMPLES, MAX_CONDITIONS = 16, 16

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Weights = Annotated[dict[_Name, float], Field(max_length=MAX_CONDITIONS)]


class SearchRequest(BaseModel):
    """A question to the gallery; the fields are the options of ``cies search``.

    Attributes:
        pictures: keys of pictures in the gallery, or of uploads; empty if there is a text.
        text: what to look for in words, in place of pictures.
        conditions: condition to weight; a weight of 0 costs nothing.
        unlike: conditions under which hits must differ, to weight.
        k: how many hits.
        offset: how many of the best hits to skip; give it, 0 included, to page through all.
        combine: with several examples, ``mean``, ``any`` or ``all``.
        crop: the region of the examples to compare, ``[x, y, width, height]``, as fractions of
            the picture if all are at most 1, else in pixels.
        where: a filter, as of ``--where``.
        exclude_same: a column; hits with the example's value there are left out.
        sort: ``score``, ``date`` or ``path``.
        min_percentile: hits below are left out.
        group_duplicates: show one hit of near-duplicates.
        method: ``METHOD`` or ``METHOD:MODEL`` that answers; several are fused.
        modify: a change of the picture in words.
        composer: the composer that makes the change.
        must: objects that hits must show, in place of those read from ``modify``.
        must_not: objects that hits must not show.
    """

    model_config = ConfigDict(extra="forbid")

    pictures: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field(
        default=[], max_length=MAX_EXAMPLES
    )
    text: str = Field(default="", max_length=2000)
    conditions: _Weights = {}
    unlike: _Weights = {}
    k: int = Field(default=10, ge=1, le=MAX_HITS)
    offset: int | None = Field(default=None, ge=0, le=MAX_DEPTH)
    combine: str = Field(default="mean", max_length=20)
    crop: list[float] | None = Field(default=None, min_length=4, max_length=4)
    where: str | None = Field(default=None, max_length=20_000)
    exclude_same: str | None = Field(default=None, max_length=200)
    sort: str = Field(default="score", max_length=200)
    min_percentile: float = 0.0
    group_duplicates: bool = False
    method: list[_Name] = Field(default=[], max_length=8)
    modify: str | None = Field(default=None, max_length=2000)
    composer: str | None = Field(default=None, max_length=100)
    must: list[_Name] | None = Field(default=None, max_length=16)
    must_not: list[_Name] | None = Field(default=None, max_length=16)


class HitDocument(BaseModel):
    """A hit; see :class:`query.hits.Hit`."""

    model_config = ConfigDict(extra="allow")

    rank: int
    key: str
    path: str
    score: float
    percentile: float
    word: str
    word_probability: float
    parts: list[dict[str, Any]]
    duplicates: list[str]
    verified: float | None


class SearchAnswer(BaseModel):
    """The document of ``cies search --json``; see :class:`query.hits.Hits`."""

    model_config = ConfigDict(extra="allow")

    schema_version: int
    query: dict[str, Any]
    nothing_alike: bool
    alike_above: float
    notes: list[str]
    hits: list[HitDocument]


class Upload(BaseModel):
    """A picture that was sent to the server and can be used in searches.

    Attributes:
        key: SHA-256 of its bytes; goes into ``pictures`` of a search.
        width: pixels, upright.
        height: pixels, upright.
        in_gallery: whether the gallery has the same file, so that no model is needed.
    """

    key: str
    width: int
    height: int
    in_gallery: bool


class Problem(BaseModel):
    """An error, as in RFC 9457.

    Attributes:
        type: always ``about:blank``.
        title: the HTTP status in words.
        status: the HTTP status.
        detail: one sentence that says what to do.
        error: the class of the error, such as ``UnknownCondition``.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    error: str = ""


class Health(BaseModel):
    """Whether the server works.

    Attributes:
        status: ``ok``.
        version: of CIES.
    """

    status: str
    version: str


class GalleryDocument(BaseModel):
    """What the page needs to know about the gallery.

    Attributes:
        name: the name of the gallery's folder.
        pictures: how many have a file.
        conditions: those the gallery was embedded under, in the order they were added.
        methods: the methods that have tables, the main one first.
        columns: the user's columns, name to type.
        composers: the composers that a change can name.
        version: changes whenever the gallery was written to.
    """

    name: str
    pictures: int
    conditions: list[str]
    methods: list[str]
    columns: dict[str, str]
    composers: list[str]
    version: str


class PicturesDocument(BaseModel):
    """A part of the list of the gallery's pictures.

    Attributes:
        total: how many pass the filter.
        pictures: each with ``key`` and ``path``, in path order.
    """

    total: int
    pictures: list[dict[str, str]]


class FacetsDocument(BaseModel):
    """The document of ``cies facets --json``."""

    model_config = ConfigDict(extra="allow")

    condition: str
    method: str
    pictures: int
    without_word: int
    facets: list[dict[str, Any]]


class ValuesDocument(BaseModel):
    """The most frequent values of a user's column.

    Attributes:
        column: its name.
        values: each with ``value`` (as a filter writes it) and ``pictures``.
        others: how many values are not listed.
    """

    column: str
    values: list[dict[str, Any]]
    others: int


class EmbedRequest(BaseModel):
    """Pictures whose vectors are wanted.

    Attributes:
        pictures: keys of pictures in the gallery, or of uploads.
        conditions: names of conditions.
    """

    model_config = ConfigDict(extra="forbid")

    pictures: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field(
        min_length=1, max_length=MAX_EXAMPLES
    )
    conditions: list[_Name] = Field(min_length=1, max_length=MAX_CONDITIONS)


class EmbedAnswer(BaseModel):
    """Vectors of pictures under conditions, in the gallery's geometry.

    Attributes:
        conditions: names in the gallery.
        vectors: [pictures][conditions][dim], unit length: the dot product of two vectors of a
            condition is the score that a search returns.
        words: the model's words, [pictures][conditions].
    """

    conditions: list[str]
    vectors: list[list[list[float]]]
    words: list[list[str]]
