"""The search engine: finds the pictures of a gallery that are like a query under a condition."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexes.errors import GalleryExpired, UsageError
from indexes.geometry import GEOMETRIES
from indexes.search.open_table import OpenTable
from indexes.search.table_loader import TableLoader
from indexes.store.gallery import Gallery
from indexes.store.records import VectorColumn, VectorTable
from indexes.vectors import Vectors
from ingest.encoders.base import BaseEncoder, EncoderSpec
from query.build_hits import build_hits, describe_query
from query.examples import Example, ExampleEmbedder
from query.hits import Hits
from query.open_gallery import EncoderCache, OpenGallery
from query.open_tables import OpenCondition
from query.question import Picture, Question, as_pictures
from query.ranking.combination import ScoreCombination
from query.ranking.ranking import CombinedRanking, ConditionRanking, Ranking
from query.resolver import ResolvedCondition
from query.search_methods import SearchMethods

if TYPE_CHECKING:
    from ingest.fill.pipeline import Progress
    from query.ranking.reranker import Reranker, RerankingModel

#: Seconds between two looks for a newer state of the gallery.
LOOK_SECONDS = 1.0

#: Groups of conditions whose combination is kept.
_COMBINATIONS = 8


@dataclass
class _ResolvedQuestion:
    """A question whose conditions are resolved and open.

    Attributes:
        opened: the gallery.
        question: the question.
        methods: for each method, its conditions; those of weight above 0 first.
        embedder: gives the examples their vectors.
        reranker: embeds the candidates with a large model, if they are reranked or filled in.
        candidates: conditions whose rankings suggest candidates for reranking; else empty.
        notes: notes for the user, a sentence each.
    """

    opened: OpenGallery
    question: Question
    methods: list[list[OpenCondition]]
    embedder: ExampleEmbedder
    reranker: Reranker | None = None
    candidates: list[OpenCondition] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Engine(SearchMethods):
    """A gallery that can be searched. Tables are read when they are first needed, and kept.

    All answers are from one moment of the gallery: that in which it was opened, or which
    :meth:`refresh` found. Any number of threads may search.

    Attributes:
        gallery: the gallery on the disk.
        method: the method that answers conditions if a question names none, or ``None``.
        progress: called with the progress of embedding pictures for reranking.
        make_reranker: makes the reranker of a question in place of
            :class:`query.ranking.reranker.Reranker`; for benchmarks.
    """

    def __init__(
        self,
        gallery: Gallery,
        load: Callable[[EncoderSpec], BaseEncoder],
        index: str = "auto",
        geometry: str | None = None,
        gone: bool = False,
        method: str | None = None,
        follow: bool = False,
    ):
        """Store the arguments; nothing is read yet.

        Args:
            gallery: the gallery.
            load: loads the encoder of a spec; called when a new picture must be embedded.
            index: one of :data:`indexes.search.factory.KINDS`, or a FAISS factory string.
            geometry: one of :data:`indexes.geometry.GEOMETRIES`; the gallery's own by
                default.
            gone: also find pictures that had no file left at the last scan.
            method: ``METHOD`` or ``METHOD:MODEL`` that answers conditions if a question names
                none; see :mod:`query.resolver` for the default.
            follow: look for a newer state of the gallery before each search, at most every second.

        Raises:
            UsageError: if there is no such geometry.
            GalleryMissing: if the gallery is gone.
        """
        if geometry is not None and geometry not in GEOMETRIES:
            raise UsageError(
                f"There is no geometry '{geometry}'; choose one of {', '.join(GEOMETRIES)}."
            )
        self.gallery = gallery
        self.method = method
        self.progress: Callable[[Progress], None] = lambda state: None
        self.make_reranker: Callable[..., Reranker] | None = None
        self._opened = OpenGallery(gallery, load, index, geometry, gone, method)
        self._follow = follow
        self._looked_at = time.monotonic()
        self._refreshing = threading.Lock()
        #: The last combination of each group of tables.
        self._combinations: dict[tuple[OpenTable, ...], ScoreCombination] = {}

    # -- the moment that is searched --------------------------------------------------------

    def refresh(self) -> bool:
        """Answer from the newest state of the gallery from now on.

        All tables are taken as they were at one moment. What has not changed is not read again.

        Returns:
            Whether there was a newer state.

        Raises:
            GalleryMissing: if the gallery is gone.
        """
        with self._refreshing:
            self._looked_at = time.monotonic()
            if self.gallery.newest_moment() == self._opened.moment:
                return False
            # Searches that are running keep the earlier state.
            self._opened = self._opened.renewed()
            self._combinations = {}
            return True

    def follow_writer(self) -> None:
        """Refresh if the engine follows the writer and looked more than a second ago."""
        self._at_newest()

    def _at_newest(self) -> OpenGallery:
        """The gallery at the moment to answer from."""
        if self._follow and time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self.refresh()
        return self._opened

    @property
    def moment(self) -> str:
        """Identifies the state of the gallery that is searched; changes with every write."""
        return str(self._opened.moment)

    @property
    def snapshot(self) -> Gallery:
        """The gallery at the moment that is searched."""
        return self._opened.gallery

    def has(self, key: str) -> bool:
        """Whether a picture of this key can be found."""
        return key in self._opened.paths

    @property
    def at_moment(self) -> Gallery:
        """The gallery as it was at the moment that searches are answered from."""
        return self._opened.gallery

    # -- tables and vectors -----------------------------------------------------------------

    @property
    def encoders(self) -> EncoderCache:
        """The encoders that were needed so far."""
        return self._opened.encoders

    def resolve(self, condition: str, method: str | None = None) -> ResolvedCondition:
        """The table and the method that answer a condition.

        Args:
            condition: one that the gallery was embedded under, or any other if the gallery has
                base vectors and there is a list of words; color finds colour.
            method: ``METHOD`` or ``METHOD:MODEL``, in place of the engine's own or the default.

        Raises:
            UnknownCondition: if there is none of that name; the message lists all.
            UsageError: if there is no such method, or no list of words for a projection.
            ModelError: if these words must be embedded and the model cannot be loaded.
        """
        return self._opened.resolver.resolve(condition, method)

    def names(self, method: str | None = None) -> list[str]:
        """The conditions that the gallery is embedded under, by a method or the default one.

        Raises:
            UsageError: if there is no such method.
        """
        return self._opened.resolver.names(method)

    def table(self, condition: str, method: str | None = None) -> VectorTable:
        """The entry of a condition's table; see :meth:`resolve`."""
        return self.resolve(condition, method).table

    def opened(self, condition: str, method: str | None = None) -> OpenTable:
        """A condition's table, open for search: its vectors as they are compared, its words.

        See :meth:`resolve` for the arguments and errors.
        """
        return self._opened.tables.open_table(self.resolve(condition, method))

    def table_loader(self, condition: str, method: str | None = None) -> TableLoader:
        """Opens a condition's table and manages its indexes.

        See :meth:`resolve` for the arguments and errors.
        """
        return self._opened.tables.table_loader(self.resolve(condition, method))

    def stored(self, condition: str, method: str | None = None) -> VectorColumn:
        """The stored vectors of a condition, of the pictures that have a file; for a projection,
        the projected vectors.

        See :meth:`resolve` for the arguments and errors.
        """
        resolved = self.resolve(condition, method)
        if resolved.projection is not None:
            return self._opened.tables.open_table(resolved).column
        column = self._opened.gallery.column(resolved.stored)
        rows = [row for row, key in enumerate(column.keys) if key in self._opened.paths]
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

        See :meth:`resolve` for the arguments and errors.
        """
        return self.opened(condition, method).column

    def path(self, key: str) -> str:
        """A picture's path on this machine; the first in path order if there are copies."""
        return self._opened.path(key)

    def reranking_model(self, model: str = "") -> RerankingModel | None:
        """The large model that reranks a projection's hits; see
        :func:`query.ranking.reranker.reranking_model`.

        Raises:
            ModelError: if the named model cannot be loaded.
        """
        from query.ranking.reranker import reranking_model

        return reranking_model(self._opened, model)

    def encoder(self, table: VectorTable) -> BaseEncoder:
        """The encoder that made a stored table, loaded once."""
        return self.encoders.of(EncoderSpec.from_made_by(table.made_by))

    def embed(
        self, pictures: Picture | Sequence[Picture], conditions: Sequence[str]
    ) -> list[Example]:
        """Pictures with their vectors and words under conditions, as they are compared.

        Args:
            pictures: as ``image`` of :meth:`search`.
            conditions: names of conditions.

        Raises:
            UnknownCondition: if there is none of that name; the message lists all.
            UsageError: if a picture cannot be read.
            ModelError: if a new picture is given and the model cannot be loaded.
        """
        opened = self._at_newest()
        resolved = [opened.tables.open(opened.resolver.resolve(name)) for name in conditions]
        question = Question.of(as_pictures(pictures), conditions)
        return ExampleEmbedder(opened).examples(question, resolved)

    def pictures(self, where: str | None = None, condition: str | None = None) -> dict[str, str]:
        """The pictures that pass a filter: key to path on this machine, in path order.

        Args:
            where: a filter; all pictures by default.
            condition: whose words the filter can refer to; the first one by default.

        Raises:
            UnknownCondition: if there is no such condition.
            UsageError: if the filter cannot be parsed, or the gallery has no conditions.
        """
        opened = self._at_newest()
        words = opened.tables.open_table(opened.resolver.resolve(condition or self.names()[0]))
        allowed = opened.filters.allowed(words, where, None, {})
        return {key: opened.gallery.location(path) for key, path in allowed.paths.items()}

    # -- search -----------------------------------------------------------------------------

    def ask(self, question: Question) -> Hits:
        """Answer a question.

        Raises:
            UnknownCondition: if there is none of that name; the message lists all.
            UsageError: if an example cannot be read or a filter is wrong.
            ModelError: if an example must be embedded and the model cannot be loaded.
        """
        opened = self._at_newest()
        try:
            return self._ask(opened, question)
        except GalleryExpired:
            if not self._follow or not self.refresh():
                raise
            return self._ask(self._opened, question)

    def _ask(self, opened: OpenGallery, question: Question) -> Hits:
        """Answer a question at one moment."""
        if question.by:
            keys = [
                key
                for column, value in question.by
                for key in opened.filters.keys_with(column, value)
            ]
            question = replace(question, pictures=(*question.pictures, *keys))
        given = (*question.pictures, *question.like, *question.dislike)
        if any(isinstance(one, str) and one.startswith("@") for one in given):
            from query.collections import with_collections

            question = with_collections(opened, question)
        if not question.pictures and not question.text and question.like:
            # Without an example, the liked pictures are the examples.
            question = replace(question, pictures=question.like, like=())
        if not question.pictures and not question.text:
            raise UsageError("There is no picture to search with; give one or more.")
        if question.modification is not None:
            from query.composers.search import ComposedSearch

            return ComposedSearch(opened, question, question.modification).hits()
        if question.verify:
            from query.composers.verification import verify_answer

            return verify_answer(opened, question, self._answered(opened), self.progress)
        return self._answered(opened)(question)

    def _answered(self, opened: OpenGallery) -> Callable[[Question], Hits]:
        """A function that answers a question about pictures or texts, without a change."""

        def answer(question: Question) -> Hits:
            resolved = self._resolve(opened, question)
            examples = self._embed(resolved)
            ranking = self._rank(resolved, examples)
            return self._answer(resolved, examples, ranking)

        return answer

    def _resolve(self, opened: OpenGallery, question: Question) -> _ResolvedQuestion:
        """Resolve and open the conditions of a question, for each method.

        Raises:
            UnknownCondition: if there is none of that name; the message lists all.
            UsageError: if hits must be alike and differ under the same condition.
        """
        methods: Sequence[str | None] = question.methods or (None,)
        if question.fuse:
            condition = next(name for name, weight in question.conditions.items() if weight)
            found = opened.resolver.resolve_all(condition)
            methods = [f"{resolved.layered_method}:{resolved.model}" for resolved in found]
        conditions = [opened.tables.open_conditions(question, method) for method in methods]
        resolved = _ResolvedQuestion(opened, question, conditions, ExampleEmbedder(opened))
        resolved.notes += [note for own in conditions for one in own for note in _notes(one)]
        if question.rerank or question.fill:
            from query.ranking.reranker import Reranker, reranker_for

            make = self.make_reranker or Reranker
            resolved.reranker, reason = reranker_for(opened, question, conditions, make)
            resolved.notes += [reason] if reason else []
        if resolved.reranker is not None and question.rerank:
            others = opened.resolver.resolve_candidates(conditions[0][0].resolved)
            resolved.candidates = [opened.tables.open(other) for other in others]
        return resolved

    def _embed(self, resolved: _ResolvedQuestion) -> list[Example]:
        """The examples of a question, with vectors under all conditions and candidates."""
        conditions = [condition for own in resolved.methods for condition in own]
        return resolved.embedder.examples(resolved.question, [*conditions, *resolved.candidates])

    def _rank(self, resolved: _ResolvedQuestion, examples: Sequence[Example]) -> Ranking:
        """The ranking by all methods, fused if there are several, reranked if that is asked."""
        question, notes = resolved.question, resolved.notes
        vectors = [np.stack(own) for own in zip(*(e.vectors for e in examples), strict=True)]
        rankings: list[Ranking] = []
        start = 0
        for conditions in resolved.methods:
            own = vectors[start : start + len(conditions)]
            rankings.append(self._rank_method(conditions, own, question.combine, notes))
            start += len(conditions)
        ranking = rankings[0]
        if len(rankings) > 1:
            from query.ranking.fusion import FusedRanking

            ranking = fused = FusedRanking(rankings)
            if fused.left_out:
                notes.append(
                    f"{fused.left_out} pictures are not embedded by all of these methods and "
                    "cannot be found."
                )
        reranker = resolved.reranker
        if reranker is None or not question.rerank:
            return ranking
        from query.ranking.fusion import FusedRanking
        from query.ranking.reranking import RerankedRanking

        def example_vectors(condition: OpenCondition) -> NDArray[np.float32]:
            embedded = resolved.embedder.examples(question, [condition])
            return np.stack([example.vectors[0] for example in embedded])

        keys = [example.key for example in examples if example.in_gallery]
        rerank = reranker.rankings(keys, example_vectors, question.combine, self.progress)
        others = [
            ConditionRanking(candidate.table, own, question.combine)
            for candidate, own in zip(resolved.candidates, vectors[start:], strict=True)
        ]
        candidates = FusedRanking([ranking, *others])
        return RerankedRanking(ranking, candidates, question.rerank, rerank)

    def _rank_method(
        self,
        conditions: Sequence[OpenCondition],
        vectors: Sequence[Vectors],
        combine: str,
        notes: list[str],
    ) -> Ranking:
        """The ranking by one method under its conditions."""
        if len(conditions) == 1:
            return ConditionRanking(conditions[0].table, vectors[0], combine)
        combination = self._combine(conditions)
        if combination.left_out:
            notes.append(
                f"{combination.left_out} pictures are not embedded under all of these conditions "
                "and cannot be found; run `cies ingest` to embed them."
            )
        return CombinedRanking(combination, vectors, combine)

    def _combine(self, conditions: Sequence[OpenCondition]) -> ScoreCombination:
        """The conditions' combination; the last one is kept, and its rows and pairs for other
        weights.
        """
        tables = tuple(condition.table for condition in conditions)
        weights = tuple(condition.weight for condition in conditions)
        kept = self._combinations  # a refresh in another thread replaces it
        last = kept.get(tables)
        if last is not None and last.weights == weights:
            return last
        if last is not None:
            made = ScoreCombination(tables, weights, last.rows, pairs=last.pairs)
        else:
            made = ScoreCombination(tables, weights)
            if len(kept) >= _COMBINATIONS:
                kept.clear()
        kept[tables] = made
        return made

    def _answer(
        self, resolved: _ResolvedQuestion, examples: Sequence[Example], ranking: Ranking
    ) -> Hits:
        """The hits of a ranking. Reranking embeds its candidates here, when the best are taken."""
        question, reranker = resolved.question, resolved.reranker
        query = describe_query(question, resolved.methods, examples, resolved.embedder)
        with closing(reranker) if reranker is not None else nullcontext():
            hits = build_hits(resolved.opened, question, ranking, query, tuple(resolved.notes))
        if reranker is None:
            return hits
        if question.fill:
            reranker.fill()
        # The next search finds what this one has stored.
        self._looked_at = -LOOK_SECONDS
        from query.ranking.reranking import RerankedRanking

        if isinstance(ranking, RerankedRanking) and ranking.reranked:
            by = f"{reranker.resolved.layered_method}:{reranker.resolved.model}"
            query = replace(query, reranked=ranking.reranked, reranked_by=by)
        return replace(hits, query=query, notes=(*hits.notes, *reranker.notes))


def _notes(condition: OpenCondition) -> list[str]:
    """What the user should know about the table that answers a condition."""
    resolved, vocabulary = condition.resolved, condition.resolved.vocabulary
    if resolved.projection is None or vocabulary is None:
        outdated = resolved.spec.outdated
        return [outdated] if outdated else []
    return [
        f"'{resolved.name}' was worked out by {resolved.method} from the {resolved.model} vectors "
        f"and {len(vocabulary.words)} words ({vocabulary.source})."
    ]
