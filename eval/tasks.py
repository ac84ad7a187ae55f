"""What a benchmark asks: pictures, questions, and which answers are right.

Two kinds. In a :class:`LabelTask` every picture is asked with and all others are to be ranked;
what has the same label is right (LanZ-DML, UnED, Clevr4, any labelled folder). In a
:class:`QueryTask` each question is spelled out, with a change or a condition in words, perhaps
with a small gallery of its own (GeneCIS, CIRCO, CIRR, FashionIQ, INQUIRE, SORCE).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class BenchmarkSource:
    """Where a benchmark comes from.

    Attributes:
        title: of the publication or the data set.
        link: where to get it.
        licence: as its owners state it, or ``not stated``.
        note: what a user must know, such as a form to fill in.
    """

    title: str
    link: str
    licence: str
    note: str = ""


@dataclass(frozen=True)
class LabelTask:
    """Rank all others for every picture; right is what shares its label.

    Attributes:
        name: of the protocol, such as ``cub200`` or ``cub200-indirect``.
        source: where it comes from.
        images: picture's id to its file. Ids are paths below the data's folder, never bare stems.
        labels: condition (as a user would type it) to picture's id to its labels; one, or several
            where a picture has several, and a picture without an entry is not judged.
        queries: ids that are asked with; ``None`` for all.
        gallery: ids that are ranked; ``None`` for all. A picture is never ranked for itself.
        headline: the metric the protocol is known by, such as ``MAP@R``.
        metrics: what else the protocol publishes, such as ``P@1``.
        views: picture's id to the thing it shows, where several pictures show one thing; other
            views of the query's thing are not ranked. Empty where the protocol leaves out none.
        notes: what a reader of results must know, a sentence each.
        files: annotation files that were read, below the data's folder, to their SHA-256.
        crossed: whether every condition is judged by every label, and not by its own alone, as
            where conditions are other words for one another.
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


@dataclass(frozen=True)
class TaskQuery:
    """One question of a :class:`QueryTask`.

    Attributes:
        id: as the data set numbers it, unique within its part.
        image: id of the reference picture; empty for a question in words alone.
        text: the change, the condition, or what is looked for.
        relevant: id to gain, above 0, of right answers; empty where the answers are held back
            (a test split).
        gallery: ids of this question's own gallery, in the data's order; ``None`` for its part's.
        exclude: ids that are not ranked, such as the reference itself where a protocol says so.
        group: what the question belongs to for a second figure, such as CIRR's six pictures: ids.
        rewordings: the same in other words; what is made of each wording is averaged.
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
    """Questions that make one figure, such as FashionIQ's dresses.

    Attributes:
        name: of the part; empty where a task has only one.
        queries: in the data's order.
        gallery: ids that are ranked for questions without a gallery of their own.
    """

    name: str
    queries: tuple[TaskQuery, ...]
    gallery: tuple[str, ...]


@dataclass(frozen=True)
class Crop:
    """The part of a picture that a benchmark means, padded to a square if it says so.

    Attributes:
        box: left, upper, right, lower in pixels of the whole picture.
        square: whether black is added to make a square.
    """

    box: tuple[int, int, int, int]
    square: bool = False


@dataclass(frozen=True)
class QueryTask:
    """Questions one by one, each with its right answers.

    Attributes:
        name: of the protocol with its split, such as ``circo-val``.
        source: where it comes from.
        images: picture's id to its file; several ids may be parts of one file.
        crops: id to the part of the file that is meant, where it is not all of it.
        parts: each gives a figure; the headline is their plain mean.
        metrics: names of what is measured, the headline first, such as ``mAP@5``.
        ties: how equal scores count; ``expected`` unless a protocol says otherwise.
        submission: name of the form that a held-back split is handed in by, or empty.
        notes: what a reader of results must know, a sentence each.
        files: annotation files that were read, below the data's folder, to their SHA-256.
        conditions: whether the texts are conditions, under which reference and candidates are to
            be alike, and not changes or descriptions.
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
