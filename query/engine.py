"""Finds the neighbours of a picture under a condition."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Callable, Unpack

import numpy as np
from numpy.typing import NDArray

from indexes.errors import GalleryError, UnknownCondition, UsageError
from indexes.gallery import Gallery
from indexes.geometry import GEOMETRIES, RESIDUAL, Statistics, residual
from indexes.open_table import OpenTable
from indexes.opening import Opener
from indexes.paths import Paths
from indexes.records import VectorColumn, VectorTable
from indexes.vectors import Vectors
from ingest.conditions import UNCONDITIONAL, same_name
from ingest.encoders.base import Encoder, EncoderSpec, check_text
from query.answer import Answer, query_of
from query.arithmetic import Mixture, Term, common_rows
from query.examples import Examples
from query.filters import Filters
from query.hits import Hits
from query.question import Conditions, Options, Picture, Question, examples_of, shortened
from query.ranking import Ranking, Several, Single


class Engine:
    """A gallery that can be asked. Tables are read when first needed and kept."""

    def __init__(
        self,
        gallery: Gallery,
        load: Callable[[EncoderSpec], Encoder],
        index: str = "auto",
        geometry: str | None = None,
        gone: bool = False,
    ):
        """Open nothing yet.

        Args:
            gallery: what is searched.
            load: gives the encoder of a spec; called when a new picture must be embedded.
            index: one of :data:`indexes.factory.KINDS`, or a FAISS factory string.
            geometry: one of :data:`indexes.geometry.GEOMETRIES`; the gallery's own by default.
            gone: whether pictures are found of which no file was left at the last scan.

        Raises:
            UsageError: if there is no such geometry.
        """
        if geometry is not None and geometry not in GEOMETRIES:
            raise UsageError(
                f"There is no geometry '{geometry}'; choose one of {', '.join(GEOMETRIES)}."
            )
        self._geometry = geometry or gallery.geometry
        self.gallery = gallery
        self._load = load
        self._index = index
        self._gone = gone
        self._conditions: dict[str, OpenTable] = {}
        self._statistics: dict[str, Statistics] = {}
        self._encoder: Encoder | None = None
        self._named: dict[str, VectorTable] = {}
        self._lined_up: tuple[list[OpenTable], NDArray[np.int64]] | None = None
        self._mixture: tuple[list[Term], Mixture] | None = None

    @cached_property
    def _paths(self) -> Paths:
        return self.gallery.paths(self._gone)

    def table(self, condition: str) -> VectorTable:
        """The table of a condition; color finds colour.

        Raises:
            UnknownCondition: naming those there are.
        """
        # An entry never changes, and reading the manifest takes longer than a search.
        if condition in self._named:
            return self._named[condition]
        tables = self.gallery.conditions()
        for table in sorted(tables, key=lambda table: table.name != condition):
            if same_name(table.name, condition):
                self._named[condition] = table
                return table
        names = ", ".join(table.name for table in tables) or "none"
        parts = [part for part in condition.split(",") if part.strip()][:9]
        if len(parts) > 1 and all(any(same_name(t.name, p) for t in tables) for p in parts):
            way = "give each a --condition of its own"
        elif "=" in condition and any(same_name(t.name, condition.split("=")[0]) for t in tables):
            way = "a weight is a number, such as `--condition color=2`"
        elif condition.isprintable() and len(condition) <= 80:
            way = f'add it with `cies ingest FOLDER --condition "{condition}"`'
        else:
            way = "name one of those"
        raise UnknownCondition(
            f"The gallery at {self.gallery.path} has no condition {shortened(condition)} (it has: "
            f"{names}); {way}."
        )

    def opened(self, condition: str) -> OpenTable:
        """A condition's table, open for search: its vectors in the gallery's geometry, its words.

        Raises:
            UnknownCondition: naming those there are.
        """
        return self._condition(condition)

    def _condition(self, condition: str) -> OpenTable:
        table = self.table(condition)
        if table.table not in self._conditions:
            self._conditions[table.table] = self.opener(condition).open(self._index)
        return self._conditions[table.table]

    def opener(self, condition: str) -> Opener:
        """What opens a condition's table in the gallery's geometry, and keeps its indexes.

        Raises:
            UnknownCondition: naming those there are.
        """
        table = self.table(condition)
        statistics = self.gallery.statistics(table)
        if statistics is None:
            moved_by_them = self._geometry not in ("raw", RESIDUAL)
            parts = self.gallery.vector_parts(table) if moved_by_them else iter(())
            statistics = Statistics.of_parts(parts, table.dimension)
        self._statistics[table.table] = statistics
        basis = statistics.basis(self._geometry)
        away = self._takes_away(table)
        if away:
            basis += self._condition(UNCONDITIONAL).state

        def move(keys: Sequence[str], vectors: Vectors) -> Vectors:
            moved = statistics.apply(vectors, self._geometry)
            return residual(moved, self._beside(keys)) if away else moved

        return Opener(self.gallery, table, self._geometry, basis, move, self._gone)

    def _takes_away(self, table: VectorTable) -> bool:
        """Whether a table's vectors are compared less their unconditional part."""
        return self._geometry == RESIDUAL and bool(table.made_by["phrase"])

    def _beside(self, keys: Sequence[str]) -> Vectors:
        """The unconditional vectors of some pictures: float32 [n, dim], unit rows.

        Raises:
            UnknownCondition: if the gallery has none.
            GalleryError: if it has not those of all these pictures.
        """
        known = self._condition(UNCONDITIONAL)
        rows = [row for key in keys if (row := known.row(key)) is not None]
        missing = len(keys) - len(rows)
        if missing:
            raise GalleryError(
                f"{missing} pictures of the gallery at {self.gallery.path} are not embedded under "
                f"'{UNCONDITIONAL}', which comparing them {RESIDUAL} needs; run `cies ingest` on "
                "them again."
            )
        return known.vectors(np.array(rows, dtype=np.int64))

    def stored(self, condition: str) -> VectorColumn:
        """The vectors of a condition as they were stored, of the pictures that have a file.

        Raises:
            UnknownCondition: naming those there are.
        """
        column = self.gallery.column(self.table(condition))
        rows = [row for row, key in enumerate(column.keys) if key in self._paths]
        if len(rows) == len(column.keys):
            return column
        return VectorColumn(
            [column.keys[row] for row in rows],
            column.vectors[rows],
            [column.words[row] for row in rows],
            column.word_probabilities[rows],
        )

    def vectors(self, condition: str) -> VectorColumn:
        """All vectors and words of a condition, in the gallery's geometry.

        Raises:
            UnknownCondition: naming those there are.
        """
        return self._condition(condition).column

    def path(self, key: str) -> str:
        """Where a picture lies on this machine; the first in path order if there are copies."""
        paths = self._paths.get(key)
        return self.gallery.location(paths[0]) if paths else ""

    def search(
        self,
        image: Picture | Sequence[Picture],
        condition: Conditions,
        k: int = 10,
        **more: Unpack[Options],
    ) -> Hits:
        """The pictures most like one, in one respect or several.

        A picture of the gallery is recognised by its path, its key or its bytes; then its stored
        vector is used, no model is loaded, and the picture itself is not among the hits.

        Args:
            image: a file, a picture's path in the gallery, a key, a file's bytes, a PIL image or
                a uint8 array; or several of these.
            condition: one the gallery was embedded under; several, ``["color", "shape"]``; or
                several with weights, ``{"color": 2, "shape": 1}`` or ``["color=2", "shape"]``.
                One of weight 0 costs nothing. See :mod:`query.arithmetic` for the formula.
            k: how many hits, at least 1.
            more: see :class:`query.question.Options`.

        Raises:
            UnknownCondition: naming the conditions there are.
            UsageError: if the picture cannot be read, or ``k`` is below 1.
            ModelError: if a new picture is given and the model cannot be had.
        """
        return self.ask(Question.of(examples_of(image), condition, k, **more))

    def search_text(
        self, text: str, condition: Conditions, k: int = 10, **more: Unpack[Options]
    ) -> Hits:
        """The pictures that suit a text, in one respect: "red heart" under "color".

        The model that embedded the gallery reads the text in a picture's place. Texts and
        pictures lie apart in the space of its states, so that scores and percentiles are lower
        than between pictures; their order is what counts.

        Args:
            text: what is looked for.
            condition: as for :meth:`search`.
            k: how many hits, at least 1.
            more: see :class:`query.question.Options`.

        Raises:
            UnknownCondition: naming the conditions there are.
            UsageError: if the text cannot be read, or ``k`` is below 1.
            ModelError: if the model cannot be had or was not schooled on texts.
        """
        check_text(text)
        return self.ask(Question.of((), condition, k, text=text, **more))

    def ask(self, question: Question) -> Hits:
        """Answer a question.

        Raises:
            UnknownCondition: naming the conditions there are.
            UsageError: if an example cannot be read or a filter is wrong.
            ModelError: if an example must be embedded and the model cannot be had.
        """
        terms = self._terms(question)
        tables = [term.table for term in terms]
        reader = Examples(
            self.gallery,
            self._paths,
            lambda table: self.encoder(table.table),
            self._moved,
            self._geometry == RESIDUAL,
        )
        if question.text:
            examples = [reader.text(question.text, tables)]
        else:
            given = question.pictures
            examples = [reader.picture(one, question.region, tables) for one in given]
        vectors = [np.stack(own) for own in zip(*(e.vectors for e in examples), strict=True)]
        ranking: Ranking
        notes: tuple[str, ...] = ()
        if len(terms) == 1:
            ranking = Single(tables[0], vectors[0], question.combine)
        else:
            mixture = self._mixed(terms)
            ranking = Several(mixture, vectors, question.combine)
            if mixture.left_out:
                notes = (
                    f"{mixture.left_out} pictures are not embedded under all of these conditions "
                    "and cannot be found; `cies ingest` makes up for it.",
                )
        allowed = None
        if question.where is not None or question.exclude_same is not None:
            known = {e.key: e.shown for e in examples if e.key}
            allowed = self._filters.allowed(tables[0], question.where, question.exclude_same, known)
        answer = Answer(self, question, tables[0], ranking, allowed)
        return answer.hits(query_of(question, terms, examples), notes)

    @cached_property
    def _filters(self) -> Filters:
        return Filters(self.gallery)

    def _terms(self, question: Question) -> list[Term]:
        """The conditions that weigh anything, those that shall be alike first.

        Raises:
            UnknownCondition: naming those there are.
            UsageError: if one shall be alike and differ.
        """
        weights: dict[str, float] = {}
        for asked, sign in ((question.conditions, 1), (question.unlike, -1)):
            for name, weight in asked.items():
                table = self.table(name)
                if weight and weights.get(table.name, 0.0) * sign < 0:
                    raise UsageError(
                        f"'{table.name}' is asked to be alike and to differ; choose one of "
                        "--condition and --not for it."
                    )
                weights[table.name] = weights.get(table.name, 0.0) + sign * weight
        return [Term(self._condition(name), weight) for name, weight in weights.items() if weight]

    def _mixed(self, terms: Sequence[Term]) -> Mixture:
        """The conditions as one likeness, kept as long as the same are asked for."""
        kept = self._mixture
        if kept is None or kept[0] != terms:
            tables = [term.table for term in terms]
            lined_up = self._lined_up
            if lined_up is None or lined_up[0] != tables:
                lined_up = tables, common_rows(tables)
                self._lined_up = lined_up
            kept = list(terms), Mixture(terms, lined_up[1])
            self._mixture = kept
        return kept[1]

    def _moved(self, loaded: OpenTable, vectors: Vectors, beside: Vectors) -> Vectors:
        """New vectors [1, dim] in the geometry they are compared in."""
        moved = self._statistics[loaded.table.table].apply(vectors, self._geometry)
        return residual(moved, beside) if self._takes_away(loaded.table) else moved

    def encoder(self, table: VectorTable) -> Encoder:
        """The encoder that made a table, loaded once."""
        spec = EncoderSpec.from_made_by(table.made_by)
        if self._encoder is None or self._encoder.spec != spec:
            self._encoder = self._load(spec)
        return self._encoder
