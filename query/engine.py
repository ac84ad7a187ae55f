"""Finds the neighbours of a picture under a condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.geometry import GEOMETRIES
from indexes.search.open_table import OpenTable
from indexes.search.table_loader import TableLoader
from indexes.store.gallery import Gallery
from indexes.store.paths import Paths
from indexes.store.records import VectorColumn, VectorTable
from ingest.encoders.base import BaseEncoder, EncoderSpec, check_text
from ingest.fill.pipeline import Progress
from query.build_hits import Answer, Asked, query_of
from query.composers.context import Parts
from query.composers.search import ComposedSearch
from query.encoders import Encoders
from query.examples import Example, Examples
from query.filters.filters import Filters
from query.hits import Hits
from query.question import Conditions, Options, Picture, Question, examples_of
from query.ranking.combination import ScoreCombination, Term, common_rows
from query.ranking.fusion import FusedRanking
from query.ranking.ranking import CombinedRanking, ConditionRanking, Ranking
from query.ranking.reranker import Reranker, reranker, reranker_for
from query.ranking.reranking import RerankedRanking
from query.resolver import ConditionResolver, Opened, ResolvedCondition


class Engine:
    """A gallery that can be asked. Tables are read when first needed and kept.

    Attributes:
        gallery: what is searched.
        method: by which conditions are answered unless a question names others, or ``None``.
        encoders: those that were needed so far.
        progress: told how far the embedding of hits is that are ranked again.
        second: makes what embeds them; measurements put something else in its place.
    """

    def __init__(
        self,
        gallery: Gallery,
        load: Callable[[EncoderSpec], BaseEncoder],
        index: str = "auto",
        geometry: str | None = None,
        gone: bool = False,
        method: str | None = None,
    ):
        """Open nothing yet.

        Args:
            gallery: what is searched.
            load: gives the encoder of a spec; called when a new picture must be embedded.
            index: one of :data:`indexes.search.factory.KINDS`, or a FAISS factory string.
            geometry: one of :data:`indexes.search.geometry.GEOMETRIES`; the gallery's own by default.
            gone: whether pictures are found of which no file was left at the last scan.
            method: ``METHOD`` or ``METHOD:MODEL`` by which conditions are answered unless a
                question names others; see :mod:`query.resolver` for what is usual.

        Raises:
            UsageError: if there is no such geometry.
        """
        if geometry is not None and geometry not in GEOMETRIES:
            raise UsageError(
                f"There is no geometry '{geometry}'; choose one of {', '.join(GEOMETRIES)}."
            )
        self.gallery = gallery
        self.method = method
        self.progress: Callable[[Progress], None] = lambda state: None
        self.second: Callable[..., Reranker] = Reranker
        self.encoders = Encoders(load)
        self._gone = gone
        self._index = index
        self._geometry = geometry or gallery.geometry
        self._servings = ConditionResolver(
            gallery, self.encoders.of, index, geometry or gallery.geometry, gone, method
        )
        self._lined_up: tuple[list[OpenTable], NDArray[np.int64]] | None = None
        self._mixture: tuple[list[Term], ScoreCombination] | None = None

    @cached_property
    def _paths(self) -> Paths:
        return self.gallery.paths(self._gone)

    def resolved(self, condition: str, method: str | None = None) -> ResolvedCondition:
        """Which table answers a condition, by which method.

        Args:
            condition: one the gallery was embedded under, or any other if it has base vectors
                and there is a list of words; color finds colour.
            method: ``METHOD`` or ``METHOD:MODEL``, in place of the engine's own or the usual one.

        Raises:
            UnknownCondition: naming those there are.
            UsageError: if there is no such method, or no list of words for a view.
            ModelError: if those words must be embedded and the model cannot be had.
        """
        return self._servings.resolved(condition, method)

    def names(self, method: str | None = None) -> list[str]:
        """The conditions that the gallery is embedded under, by a method or the main one.

        Raises:
            UsageError: if there is no such method.
        """
        return self._servings.names(method)

    def table(self, condition: str, method: str | None = None) -> VectorTable:
        """The table of a condition; see :meth:`resolved`."""
        return self.resolved(condition, method).table

    def opened(self, condition: str, method: str | None = None) -> OpenTable:
        """A condition's table, open for search: its vectors as they are compared, its words.

        See :meth:`resolved` for the arguments and errors.
        """
        return self._servings.opened(self.resolved(condition, method))

    def table_loader(self, condition: str, method: str | None = None) -> TableLoader:
        """What opens a condition's table, and keeps its indexes.

        See :meth:`resolved` for the arguments and errors.
        """
        return self._servings.table_loader(self.resolved(condition, method))

    def stored(self, condition: str, method: str | None = None) -> VectorColumn:
        """The vectors of a condition as they were stored, of the pictures that have a file; of a
        view those that it makes of them.

        See :meth:`resolved` for the arguments and errors.
        """
        resolved = self.resolved(condition, method)
        if resolved.view is not None:
            return self._servings.opened(resolved).column
        column = self.gallery.column(resolved.stored)
        rows = [row for row, key in enumerate(column.keys) if key in self._paths]
        if len(rows) == len(column.keys):
            return column
        return VectorColumn(
            [column.keys[row] for row in rows],
            column.vectors[rows],
            [column.words[row] for row in rows],
            column.word_probabilities[rows],
        )

    def vectors(self, condition: str, method: str | None = None) -> VectorColumn:
        """All vectors and words of a condition, as they are compared.

        See :meth:`resolved` for the arguments and errors.
        """
        return self.opened(condition, method).column

    def path(self, key: str) -> str:
        """Where a picture lies on this machine; the first in path order if there are copies."""
        paths = self._paths.get(key)
        return self.gallery.location(paths[0]) if paths else ""

    def search(
        self,
        image: Picture | Sequence[Picture],
        condition: Conditions = (),
        k: int = 10,
        **more: Unpack[Options],
    ) -> Hits:
        """The pictures most like one, in one respect or several, or after a change.

        A picture of the gallery is recognised by its path, its key or its bytes; then its stored
        vector is used, no model is loaded, and the picture itself is not among the hits.

        Args:
            image: a file, a picture's path in the gallery, a key, a file's bytes, a PIL image or
                a uint8 array; or several of these.
            condition: one the gallery was embedded under, or where it has base vectors any other;
                several, ``["color", "shape"]``; or several with weights, ``{"color": 2, "shape":
                1}`` or ``["color=2", "shape"]``. One of weight 0 costs nothing. See
                :mod:`query.ranking.combination` for the formula. With ``modify`` it is what of the picture
                shall be kept, and may be left out.
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
        if question.modification is not None:
            return ComposedSearch(self._parts, question, question.modification).hits()
        asked = self._asked(question)
        opened = [Opened(one.resolved, one.term.table) for own in asked for one in own]
        notes = _of_tables([one.resolved for one in opened])
        second = None
        if question.rerank or question.fill:
            here = self.gallery, self._servings, self.encoders, self._paths
            second, why = reranker_for(*here, question, asked, self.second)
            notes += [why] if why else []
        if second is not None and question.rerank:
            others = self._servings.beside(opened[0].resolved)
            opened += [Opened(other, self._servings.opened(other)) for other in others]
        reader = Examples(self.gallery, self._paths, self._servings, self.encoders.of)
        examples = self._examples(reader, question, opened)
        vectors = [np.stack(own) for own in zip(*(e.vectors for e in examples), strict=True)]
        rankings: list[Ranking] = []
        for own in asked:
            rankings.append(self._ranking([one.term for one in own], vectors, question, notes))
            del vectors[: len(own)]
        ranking = rankings[0]
        if len(rankings) > 1:
            ranking = fused = FusedRanking(rankings)
            if fused.left_out:
                notes.append(
                    f"{fused.left_out} pictures are not embedded by all of these methods and "
                    "cannot be found."
                )
        reranked = None
        if second is not None and question.rerank:
            # A picture of the gallery that is asked with is embedded along with its likes.
            keys = [e.key for e in examples if e.in_gallery]

            def asked_with(table: Opened) -> NDArray[np.float32]:
                others = self._examples(reader, question, [table])
                return np.stack([other.vectors[0] for other in others])

            again = second.rankings(keys, asked_with, question.combine, self.progress)
            pairs = zip(opened[1:], vectors, strict=True)
            more = [ConditionRanking(other.table, own, question.combine) for other, own in pairs]
            candidates = FusedRanking([ranking, *more])
            ranking = reranked = RerankedRanking(ranking, candidates, question.rerank, again)
        allowed = None
        if question.where is not None or question.exclude_same is not None:
            known = {e.key: e.shown for e in examples if e.key}
            words = opened[0].table
            allowed = self._filters.allowed(words, question.where, question.exclude_same, known)
        query = query_of(question, asked, examples)
        with closing(second) if second is not None else nullcontext():
            hits = Answer(self, question, ranking, allowed).hits(query, tuple(notes))
        if second is None:
            return hits
        if question.fill:
            second.fill()
        if reranked is not None and reranked.reranked:
            by = f"{second.resolved.method}:{second.resolved.model}"
            query = replace(query, reranked=reranked.reranked, reranked_by=by)
        return replace(hits, query=query, notes=(*hits.notes, *second.notes))

    @cached_property
    def _parts(self) -> Parts:
        """What composed questions need."""
        base = self._servings
        if self._geometry != "raw":
            # Texts lie apart from pictures; moved by the pictures' mean they would lie nowhere.
            of = self.encoders.of
            base = ConditionResolver(self.gallery, of, self._index, "raw", self._gone, None)
        return Parts(
            self, self.gallery, self._servings, base, self.encoders, self._paths, self._filters
        )

    @cached_property
    def _filters(self) -> Filters:
        return Filters(self.gallery)

    @staticmethod
    def _examples(reader: Examples, question: Question, opened: Sequence[Opened]) -> list[Example]:
        if question.text:
            return [reader.text(question.text, opened)]
        return [reader.picture(one, question.region, opened) for one in question.pictures]

    def _asked(self, question: Question) -> list[list[Asked]]:
        """Of each method that is asked, the conditions, those that shall be alike first.

        Raises:
            UnknownCondition: naming those there are.
            UsageError: if one shall be alike and differ.
        """
        methods: Sequence[str | None] = question.methods or (None,)
        if question.fuse:
            found = self._servings.all_of(
                next(name for name, w in question.conditions.items() if w)
            )
            methods = [f"{resolved.method}:{resolved.model}" for resolved in found]
        return [self._terms(question, method) for method in methods]

    def _terms(self, question: Question, method: str | None) -> list[Asked]:
        weights: dict[str, float] = {}
        resolver: dict[str, ResolvedCondition] = {}
        for asked, sign in ((question.conditions, 1), (question.unlike, -1)):
            for name, weight in asked.items():
                if not weight:
                    continue
                resolved = self.resolved(name, method)
                at = resolved.table.table
                if weights.get(at, 0.0) * sign < 0:
                    raise UsageError(
                        f"'{resolved.name}' is asked to be alike and to differ; choose one of "
                        "--condition and --not for it."
                    )
                weights[at] = weights.get(at, 0.0) + sign * weight
                resolver.setdefault(at, resolved)
        return [
            Asked(resolved, Term(self._servings.opened(resolved), weights[at]))
            for at, resolved in resolver.items()
        ]

    def _ranking(
        self,
        terms: list[Term],
        vectors: list[NDArray[np.float32]],
        question: Question,
        notes: list[str],
    ) -> Ranking:
        """The ranking of one method, by the first of the vectors."""
        if len(terms) == 1:
            return ConditionRanking(terms[0].table, vectors[0], question.combine)
        mixture = self._mixed(terms)
        if mixture.left_out:
            notes.append(
                f"{mixture.left_out} pictures are not embedded under all of these conditions "
                "and cannot be found; `cies ingest` makes up for it."
            )
        return CombinedRanking(mixture, vectors[: len(terms)], question.combine)

    def _mixed(self, terms: Sequence[Term]) -> ScoreCombination:
        """The conditions as one likeness, kept as long as the same are asked for."""
        kept = self._mixture
        if kept is None or kept[0] != terms:
            tables = [term.table for term in terms]
            lined_up = self._lined_up
            if lined_up is None or lined_up[0] != tables:
                lined_up = tables, common_rows(tables)
                self._lined_up = lined_up
            kept = list(terms), ScoreCombination(terms, lined_up[1])
            self._mixture = kept
        return kept[1]

    def reranker(self, model: str = "") -> tuple[EncoderSpec, int] | None:
        """The large model that ranks the best of a view again; see :func:`query.ranking.reranker.reranker`.

        Raises:
            ModelError: if the one that is named cannot be had.
        """
        return reranker(self._servings, self.encoders, model)

    def encoder(self, table: VectorTable) -> BaseEncoder:
        """The encoder that made a stored table, loaded once."""
        return self.encoders.of(EncoderSpec.from_made_by(table.made_by))


def _of_tables(resolver: Sequence[ResolvedCondition]) -> list[str]:
    """What people should know of the tables that answer."""
    notes = []
    for resolved in resolver:
        words = resolved.vocabulary
        if resolved.view is None or words is None:
            continue
        notes.append(
            f"'{resolved.name}' was worked out by {resolved.method} from the {resolved.model} vectors "
            f"and {len(words.words)} words ({words.source})."
        )
    return notes
