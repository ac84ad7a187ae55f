"""The documents of the HTTP interface, as pydantic models.

The answers are those of the command line: a search returns the document of ``cies search --json``.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from cies.collections import MOST_PICTURES
from query.question import FEEDBACK

#: The most hits of one answer, and the deepest hit that can be reached by paging.
MAX_HITS, MAX_DEPTH = 500, 10_000

#: The most examples, and the most conditions, of one question.
MAX_EXAMPLES, MAX_CONDITIONS = 16, 16

#: The most pictures that a question rates one by one; a collection counts as one.
MAX_RATED = 200

#: A picture by its key, or the pictures of a collection as ``@NAME``.
_PictureName = Annotated[str, Field(pattern="^([0-9a-f]{64}|@[^@].{0,100})$")]

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Weights = Annotated[dict[_Name, float], Field(max_length=MAX_CONDITIONS)]


class SearchRequest(BaseModel):
    """A question to the gallery; the fields are the options of ``cies search``.

    Attributes:
        pictures: keys of pictures in the gallery, or of uploads, or ``@NAME`` for those of a
            collection; empty if there is a text.
        like: the same, of pictures that move the query towards them.
        dislike: the same, of pictures that move it away.
        feedback: how they move it.
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
        rerank: of a projection's best hits, how many a large model puts in its order; it stores
            their vectors only in a server that may change the gallery.
        fill: let the next ingest embed the whole gallery under the condition.
        method: ``METHOD`` or ``METHOD:MODEL`` that answers; several are fused.
        modify: a change of the picture in words.
        caption: what the wanted picture shows, in place of what the composer writes.
        composer: the composer that makes the change.
        must: objects that hits must show, in place of those read from ``modify``.
        must_not: objects that hits must not show.
    """

    model_config = ConfigDict(extra="forbid")

    pictures: list[_PictureName] = Field(default=[], max_length=MAX_EXAMPLES)
    like: list[_PictureName] = Field(default=[], max_length=MAX_RATED)
    dislike: list[_PictureName] = Field(default=[], max_length=MAX_RATED)
    feedback: str = Field(default=next(iter(FEEDBACK)), max_length=20)
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
    rerank: int = Field(default=0, ge=0, le=MAX_HITS)
    fill: bool = False
    method: list[_Name] = Field(default=[], max_length=8)
    modify: str | None = Field(default=None, max_length=2000)
    caption: str = Field(default="", max_length=2000)
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
        collections: name to the number of pictures.
        editable: whether clients may change collections and remove pictures.
        version: changes whenever the gallery was written to.
    """

    name: str
    pictures: int
    conditions: list[str]
    methods: list[str]
    columns: dict[str, str]
    composers: list[str]
    collections: dict[str, int]
    editable: bool
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


class CollectionsDocument(BaseModel):
    """The gallery's collections.

    Attributes:
        collections: name to the number of pictures.
        editable: whether clients may change them.
    """

    collections: dict[str, int]
    editable: bool


class CollectionEdit(BaseModel):
    """Pictures that go into a collection, and pictures that are taken out of it.

    Attributes:
        add: keys of pictures in the gallery, or ``@NAME`` for those of another collection.
        take_out: the same.
    """

    model_config = ConfigDict(extra="forbid")

    add: list[_PictureName] = Field(default=[], max_length=MOST_PICTURES)
    take_out: list[_PictureName] = Field(default=[], max_length=MOST_PICTURES)


class CollectionAnswer(BaseModel):
    """A collection after a change.

    Attributes:
        name: its name.
        changed: how many pictures were added or taken out.
        pictures: how many it has now.
    """

    name: str
    changed: int
    pictures: int


class RemovalRequest(BaseModel):
    """Pictures to remove from the gallery; their files are not touched.

    Attributes:
        keys: keys of pictures in the gallery.
        confirm: without it nothing is removed, and the answer says what would be.
    """

    model_config = ConfigDict(extra="forbid")

    keys: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field(
        min_length=1, max_length=MAX_DEPTH
    )
    confirm: bool = False


class RemovalAnswer(BaseModel):
    """What was removed, or would be.

    Attributes:
        removed: whether it was.
        pictures: how many pictures.
        files: how many files of them the gallery knew.
        returning: how many of the files are still in a source, so that the next ingest adds them
            again.
    """

    removed: bool
    pictures: int
    files: int
    returning: int


class IngestDocument(BaseModel):
    """An ingest of another process.

    Attributes:
        running: whether there is one now.
        done: files processed.
        total: files to process; 0 if that is not known.
    """

    running: bool
    done: int
    total: int


class StatusDocument(BaseModel):
    """What happens to the gallery.

    Attributes:
        pictures: how many have a file.
        ingest: the ingest of another process.
        failed: how many files could not be read.
        failures: some of them, each with ``path``, ``status`` and ``reason``.
    """

    pictures: int
    ingest: IngestDocument
    failed: int
    failures: list[dict[str, str]]


class PictureDocument(BaseModel):
    """What is known about a picture of the gallery.

    Attributes:
        key: SHA-256 of its bytes.
        path: its path, or its name.
        words: condition to the model's word.
    """

    key: str
    path: str
    words: dict[str, str]


class MapDocument(BaseModel):
    """The state of a map: all pictures laid out under one condition.

    Attributes:
        condition: its name in the gallery.
        state: ``working`` until the map is ready, then ``ready``.
        final: whether it stays; else a better or newer one is being worked out.
        kind: how the pictures are laid out: ``pca`` or ``umap``.
        pictures: how many.
        version: changes when the map does.
    """

    condition: str
    state: str
    final: bool
    kind: str
    pictures: int
    version: str


class MapColors(BaseModel):
    """What the points of a map are coloured by.

    Attributes:
        values: the most frequent values, each with ``value`` and ``pictures``; a point's code is
            its position.
        codes: base64 of one byte for each point, in the order of the points; 255 for another value
            or none.
    """

    values: list[dict[str, Any]]
    codes: str
