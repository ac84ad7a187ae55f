"""Tasks of benchmarks: pictures, queries and right answers.

There are two kinds. In a :class:`LabelTask` every picture is a query and all others are ranked;
pictures with the same label are right (LanZ-DML, UnED, Clevr4, any labelled folder). In a
:class:`QueryTask` each query is listed, with a change or a condition in words and possibly a small
gallery of its own (GeneCIS, CIRCO, CIRR, FashionIQ, INQUIRE, SORCE).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class BenchmarkSource:
    """The origin of a benchmark.

    Attributes:
        title: the title of the publication or the data set.
        link: where to get the data.
        licence: as its owners state it, or ``not stated``.
        note: what a user must know, such as a form to fill in.
    """

    title: str
    link: str
    licence: str
    note: str = ""


@dataclass(frozen=True)
class LabelTask:
    """Every picture is a query and all others are ranked; those that share its label are right.

    Attributes:
        name: the name of the protocol, such as ``cub200`` or ``cub200-indirect``.
        source: origin of the data.
        images: picture's id to its file. Ids are paths below the data's folder, never bare stems.
        labels: condition (as a user would type it) to picture's id to its labels, one or several.
            A picture without an entry is neither query nor candidate.
        queries: ids that are queries; ``None`` for all.
        gallery: ids that are ranked; ``None`` for all. A picture is never ranked for itself.
        headline: main metric of the protocol, such as ``MAP@R``.
        metrics: other published metrics, such as ``P@1``.
        views: picture's id to the object it shows, if several pictures show one object; other
            views of the query's object are not ranked. Empty if the protocol leaves out none.
        notes: sentences for readers of results.
        files: annotation files that were read, below the data's folder, to their SHA-256.
        crossed: whether every condition is judged by every label. If not, each is judged by its
            own only, as for conditions that are wordings of one another.
    """

    name: str
    source: BenchmarkSource
    images: Mapping[str, Path]
    labels: Mapping[str, Mapping[str, tuple[str, ...]]]
    queries: tuple[str, ...] | None = None
    gallery: tuple[str, ...] | None = None
    headline: str = "MAP@R"
    metrics: tuple[str, ...] = ("P@1",)
    views: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    crossed: bool = True

    def known_queries(self, condition: str) -> list[str]:
        """Return the queries with a label under a condition."""
        return [key for key in self.queries or self.images if self.labels[condition].get(key)]

    def known_gallery(self, condition: str) -> list[str]:
        """Return the candidates with a label under a condition."""
        return [key for key in self.gallery or self.images if self.labels[condition].get(key)]

    def is_ranked(self, query: str, key: str) -> bool:
        """Return whether a candidate is neither the query nor another view of its object."""
        view = self.views.get(query)
        return key != query and (view is None or self.views.get(key) != view)

    def right_answers(self, condition: str) -> Iterator[tuple[str, list[str]]]:
        """Yield every query with right answers under a condition, and these."""
        labels = self.labels[condition]
        labelled: dict[str, list[str]] = {}
        for key in self.known_gallery(condition):
            for label in labels[key]:
                labelled.setdefault(label, []).append(key)
        for query in self.known_queries(condition):
            same = dict.fromkeys(key for name in labels[query] for key in labelled.get(name, ()))
            if right := [key for key in same if self.is_ranked(query, key)]:
                yield query, right


@dataclass(frozen=True)
class TaskQuery:
    """One query of a :class:`QueryTask`.

    Attributes:
        id: as the data set numbers it, unique within its part.
        image: id of the reference picture; empty for a text query.
        text: the change, the condition, or a description.
        relevant: id to gain, above 0, of right answers; empty if the answers are held back (a
            test split).
        gallery: ids of this query's own gallery, in the data's order; ``None`` for its part's.
        exclude: ids that are not ranked, such as the reference in some protocols.
        group: ids of a subset of the gallery with metrics of its own, such as CIRR's six pictures.
        rewordings: other wordings of the text; the vectors of all wordings are averaged.
    """

    id: str
    image: str
    text: str
    relevant: Mapping[str, float] = field(default_factory=dict)
    gallery: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    rewordings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskPart:
    """Queries with figures of their own, such as FashionIQ's dresses.

    Attributes:
        name: the name of the part; empty if a task has only one.
        queries: in the data's order.
        gallery: ids that are ranked for queries without a gallery of their own.
    """

    name: str
    queries: tuple[TaskQuery, ...]
    gallery: tuple[str, ...]


@dataclass(frozen=True)
class Crop:
    """The part of a file that is a benchmark's picture.

    Attributes:
        box: left, upper, right, lower in pixels of the whole picture.
        square: whether the part is padded with black to a square.
    """

    box: tuple[int, int, int, int]
    square: bool = False


@dataclass(frozen=True)
class QueryTask:
    """Listed queries, each with its right answers.

    Attributes:
        name: the name of the protocol with its split, such as ``circo-val``.
        source: origin of the data.
        images: picture's id to its file; several ids may be parts of one file.
        crops: id to the part of the file that is the picture, if not the whole file.
        parts: each gives a figure; the headline is their plain mean.
        metrics: names of the metrics, the headline first, such as ``mAP@5``.
        ties: how equal scores count: ``expected`` (in expectation) or ``position``.
        submission: the server's file format for a held-back split, or empty.
        notes: sentences for readers of results.
        files: annotation files that were read, below the data's folder, to their SHA-256.
        conditions: whether the texts are conditions, under which right answers are similar to the
            reference, and not changes or descriptions.
    """

    name: str
    source: BenchmarkSource
    images: Mapping[str, Path]
    parts: tuple[TaskPart, ...]
    metrics: tuple[str, ...]
    crops: Mapping[str, Crop] = field(default_factory=dict)
    ties: str = "expected"
    submission: str = ""
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    conditions: bool = False


Task = LabelTask | QueryTask
