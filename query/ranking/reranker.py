"""The large model that reranks a projection's best hits: embeds them and stores their vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from indexes.errors import GalleryError, GalleryLocked, ModelError
from indexes.search.open_table import OpenTable
from indexes.store.records import VectorColumn, VectorTable
from indexes.vectors import Vectors
from ingest.conditions import Condition, same_name
from ingest.encoders.base import EncoderSpec
from ingest.encoders.models.find import find_model, stored_name
from ingest.fill.pipeline import Progress
from ingest.fill.subset import (
    SubsetEmbedder,
    embed_in_memory,
    embed_subset,
    mark_for_filling,
)
from ingest.fill.vector_sources import vector_sources
from query.open_gallery import OpenGallery
from query.open_tables import OpenCondition
from query.question import Question
from query.ranking.ranking import ConditionRanking, Ranking
from query.resolver import ResolvedCondition


@dataclass(frozen=True)
class RerankingModel:
    """A large model that can rerank a projection's hits.

    Attributes:
        spec: its encoder.
        dimension: the length of its vectors.
    """

    spec: EncoderSpec
    dimension: int


def refusal(spec: EncoderSpec, condition: Condition) -> str:
    """Why a model cannot embed under a condition, as far as is known before it is loaded.

    Returns:
        A sentence, or an empty text if it may be able to.
    """
    try:
        declared = find_model(spec.model).declared_conditions()
    except ModelError as error:
        return str(error)
    names = [name for names in (declared or {}).values() for name in names]
    if declared is None or any(same_name(condition.phrase, name) for name in names):
        return ""
    return f"{spec.model} was not trained on '{condition.name}' (it knows {', '.join(declared)})."


def reranking_model(opened: OpenGallery, model: str = "") -> RerankingModel | None:
    """The large model that reranks a projection's hits.

    Args:
        opened: the gallery.
        model: the model's name; the gallery's own by default.

    Returns:
        ``None`` if none is named and the gallery has none.

    Raises:
        ModelError: if the named model cannot be loaded.
    """
    sources = opened.resolver.conditional_sources()
    if model:
        names = {model, stored_name(model)}
        sources = [source for source in sources if source.spec.model in names]
        if not sources:
            encoder = opened.encoders.lvlm(model)
            return RerankingModel(encoder.spec, encoder.dimension)
    return RerankingModel(sources[0].spec, sources[0].tables[0].dimension) if sources else None


def reranker_for(
    opened: OpenGallery,
    question: Question,
    methods: Sequence[Sequence[OpenCondition]],
    make: Callable[..., Reranker],
) -> tuple[Reranker | None, str]:
    """The reranker of a question, or the reason why there is none.

    Args:
        opened: the gallery.
        question: the question.
        methods: for each method, its conditions.
        make: :class:`Reranker`, or a subclass with the same arguments.
    """
    resolved = methods[0][0].resolved
    if len(methods) > 1 or len(methods[0]) > 1 or resolved.projection is None:
        reason = "reranking needs a single condition, answered by a projection."
        return None, f"Nothing was re-ranked: {reason}"
    condition = Condition.parse(resolved.name)
    try:
        model = reranking_model(opened, question.rerank_model)
    except ModelError as error:
        return None, f"Nothing was re-ranked: {error}"
    if model is None:
        return None, (
            "Nothing was re-ranked: the gallery has no vectors by a large model; name one, such "
            "as --rerank-model tiny-lvlm."
        )
    reason = refusal(model.spec, condition)
    if reason:
        return None, f"Nothing was re-ranked: {reason}"
    return make(opened, model, condition), ""


class Reranker:
    """Embeds pictures under one condition with one model when they are needed, and stores them.

    Attributes:
        resolved: the condition, answered by this model.
    """

    def __init__(self, opened: OpenGallery, model: RerankingModel, condition: Condition):
        """Store the arguments; nothing is embedded yet.

        Args:
            opened: the gallery.
            model: embeds; it is loaded only if a picture is missing.
            condition: what the pictures are embedded under.
        """
        spec = model.spec
        source = next((s for s in vector_sources(opened.live) if s.spec == spec), None)
        table = source.table(condition.name) if source else None
        if table is None:
            made_by = spec.made_by(condition)
            table = VectorTable(condition.name, model.dimension, made_by, partial=True)
        self.resolved = ResolvedCondition.of_table(table)
        self._opened = opened
        self._spec = spec
        self._condition = condition
        self._notes: list[str] = []
        self._tried: set[str] = set()
        self._embedder: SubsetEmbedder | None = None
        self._closing = ExitStack()
        self._before: VectorColumn | None = None
        #: What could not be stored, and why.
        self._unstored: VectorColumn | None = None
        self._unstored_reason = ""

    @property
    def notes(self) -> list[str]:
        """Notes for the user, a sentence each."""
        if self._unstored is None:
            return self._notes
        count = len(self._unstored.keys)
        return [
            f"{count} pictures were embedded for this answer and not kept: {self._unstored_reason}",
            *self._notes,
        ]

    def rankings(
        self,
        example_keys: Sequence[str],
        example_vectors: Callable[[OpenCondition], Vectors],
        combine: str,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> Callable[[Sequence[str], int], Ranking | None]:
        """A function that ranks given pictures, as :class:`query.ranking.reranking.RerankedRanking`
        takes it.

        Args:
            example_keys: keys of the examples that are pictures of the gallery; they are embedded
                as well.
            example_vectors: gives the vectors of all examples under an open condition: float32
                [examples, dim], unit rows.
            combine: one of :data:`query.question.COMBINE`.
            progress: called with the progress of the embedding.

        Returns:
            A function of the candidates' keys so far and of the number of candidates there will
            be. It returns a ranking of as many of them as can be embedded and of all that were
            embedded before, or ``None`` if there is none; :attr:`notes` then has the reason.
        """

        def rank(keys: Sequence[str], total: int) -> Ranking | None:
            def report(state: Progress) -> None:
                done = max(0, len(keys) - state.total + state.done)
                progress(replace(state, done=done, total=total))

            table = self.table(list(dict.fromkeys([*example_keys, *keys])), report)
            if table is None:
                return None
            if len(keys) >= total:
                table = self._stored(table)
            if any(table.row(key) is None for key in example_keys):
                self._notes.append(
                    f"Nothing was re-ranked: {self.resolved.model} could not embed the query "
                    "(its file may be gone)."
                )
                return None
            vectors = example_vectors(OpenCondition(self.resolved, table))
            return ConditionRanking(table, vectors, combine)

        return rank

    def table(
        self, keys: Sequence[str], progress: Callable[[Progress], None] = lambda state: None
    ) -> OpenTable | None:
        """A table with as many of some pictures as can be embedded, and all embedded before.

        Args:
            keys: the keys of the pictures.
            progress: called with the progress of the embedding.

        Returns:
            ``None`` if the model cannot embed; :attr:`notes` then has the reason.
        """
        # A picture that could not be embedded is not tried again for the same answer.
        new = [key for key in keys if key not in self._tried]
        self._tried.update(new)
        try:
            if self._unstored is None:
                try:
                    return self._embed(new, progress)
                except GalleryError as error:
                    if self._embedder is not None:
                        self._unstored = self._embedder.column()
                    locked = isinstance(error, GalleryLocked)
                    reason = "another process is writing to it." if locked else str(error)
                    self._unstored_reason = reason
            return self._embed_in_memory(new, progress)
        except ModelError as error:
            self._notes.append(f"Nothing was re-ranked: {error}")
            return None

    def _embed(self, keys: Sequence[str], progress: Callable[[Progress], None]) -> OpenTable:
        """Embed with the gallery's lock held; vectors are stored at the end or in between.

        Raises:
            GalleryError: if the gallery cannot be written to.
        """
        if self._embedder is None:
            embedder = SubsetEmbedder(
                self._opened.live, self._spec, self._condition, self._opened.encoders.of
            )
            self._embedder = self._closing.enter_context(embedder)
            self._before = self._stored_column()
        self._embedder.embed(keys, progress)
        if self._opened.tables.geometry != "raw":
            # Other geometries depend on all vectors of the table.
            self._embedder.store()
            return self._open_stored()
        table = self.resolved.table
        column = _merged(self._before, self._embedder.column(), table.dimension)
        return OpenTable(table, column, "exact")

    def _embed_in_memory(
        self, keys: Sequence[str], progress: Callable[[Progress], None]
    ) -> OpenTable:
        """Embed without storing, for a gallery that cannot be written to now."""
        opened, table = self._opened, self.resolved.table
        stored = self._stored_column()
        stored_keys = set(stored.keys) if stored is not None else set()
        missing = [key for key in keys if key not in stored_keys]
        if missing:
            encoder = opened.encoders.of(self._spec)
            new = embed_in_memory(opened.gallery, encoder, table, missing, opened.paths, progress)
            self._unstored = _merged(self._unstored, new, table.dimension)
        column = self._unstored
        if column is not None:
            rows = [row for row, key in enumerate(column.keys) if key not in stored_keys]
            kept = [column.keys[row] for row in rows]
            column = VectorColumn(
                kept,
                opened.tables.transform(self.resolved)(kept, column.vectors[rows]),
                [column.words[row] for row in rows],
                column.word_probabilities[rows],
            )
        return OpenTable(table, _merged(stored, column, table.dimension))

    def _open_stored(self) -> OpenTable:
        return self._opened.tables_as_written().table_loader(self.resolved).open("exact")

    def _stored_column(self) -> VectorColumn | None:
        """The stored vectors as they are compared; ``None`` if there is no such table."""
        tables = self._opened.live.conditions()
        if all(table.table != self.resolved.table.table for table in tables):
            return None
        return self._open_stored().column

    def _stored(self, table: OpenTable) -> OpenTable:
        """The last table of an answer once all vectors are stored, as later searches find it."""
        return self._open_stored() if self._embedder is not None and self.close() else table

    def close(self) -> bool:
        """Store what was embedded and release the gallery's lock.

        Returns:
            Whether it could be stored.
        """
        embedder, self._embedder = self._embedder, None
        try:
            self._closing.close()
        except GalleryError as error:
            self._unstored = embedder.column() if embedder is not None else None
            self._unstored_reason = str(error)
            return False
        return True

    def fill(self) -> None:
        """Mark the condition, so that the next ingest embeds the whole gallery under it."""
        gallery, name = self._opened.live, self._condition.name
        try:
            embed_subset(gallery, self._spec, self._condition, [], self._opened.encoders.of)
            mark_for_filling(gallery, self.resolved.table)
            self._notes.append(
                f"The next `cies ingest` embeds the whole gallery under '{name}' by "
                f"{self.resolved.model}."
            )
        except (GalleryError, ModelError) as error:
            self._notes.append(f"'{name}' is not marked for filling: {error}")


def _merged(
    first: VectorColumn | None, second: VectorColumn | None, dimension: int
) -> VectorColumn:
    """Two columns as one, in key order."""
    columns = [column for column in (first, second) if column is not None and column.keys]
    keys = [key for column in columns for key in column.keys]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    words = [word for column in columns for word in column.words]
    vectors = np.zeros((0, dimension), dtype=np.float32)
    probabilities = np.zeros(0, dtype=np.float32)
    if columns:
        vectors = np.concatenate([column.vectors for column in columns])[order]
        probabilities = np.concatenate([column.word_probabilities for column in columns])[order]
    return VectorColumn([keys[i] for i in order], vectors, [words[i] for i in order], probabilities)
