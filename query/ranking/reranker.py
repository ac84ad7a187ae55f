"""The large model that puts the best of a view in its own order, and what it has embedded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from indexes.errors import GalleryError, GalleryLocked, ModelError
from indexes.search.open_table import OpenTable
from indexes.search.vectors import Vectors
from indexes.store.gallery import Gallery
from indexes.store.paths import Paths
from indexes.store.records import VectorColumn, VectorTable
from ingest.conditions import Condition, same_name
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.encoders.models.find import find, name_of
from ingest.fill.pipeline import Progress
from ingest.fill.subset import SubsetEmbedder, embed_subset, mark_for_filling
from ingest.fill.unkept import embed_unkept
from ingest.fill.vector_sources import vector_sources
from query.build_hits import Asked
from query.encoders import Encoders
from query.question import Question
from query.ranking.ranking import ConditionRanking, Ranking
from query.resolver import ConditionResolver, Opened, ResolvedCondition


def refusal(spec: EncoderSpec, condition: Condition) -> str:
    """Why a model does not serve a condition, as far as can be told without loading it.

    Returns:
        A sentence, or nothing if it may serve.
    """
    try:
        schooled = find(spec.model).trained_on()
    except ModelError as error:
        return str(error)
    known = [name for names in (schooled or {}).values() for name in names]
    if schooled is None or any(same_name(condition.phrase, name) for name in known):
        return ""
    return f"{spec.model} was not schooled on '{condition.name}' (it knows {', '.join(schooled)})."


def reranker(
    resolver: ConditionResolver, encoders: Encoders, model: str = ""
) -> tuple[EncoderSpec, int] | None:
    """The large model that ranks the best of a view again, and the length of its vectors.

    Args:
        resolver: of the gallery.
        encoders: loads the one that is named, if the gallery has no vectors by it.
        model: its name; by default the gallery's own is taken.

    Returns:
        ``None`` if none is named and the gallery has none.

    Raises:
        ModelError: if the one that is named cannot be had.
    """
    own = resolver.lvlms()
    if model:
        own = [
            vector_source
            for vector_source in own
            if vector_source.spec.model in (model, name_of(model))
        ]
        if not own:
            encoder = encoders.named(model)
            return encoder.spec, encoder.dimension
    return (own[0].spec, own[0].tables[0].dimension) if own else None


def reranker_for(
    gallery: Gallery,
    resolver: ConditionResolver,
    encoders: Encoders,
    paths: Paths,
    question: Question,
    asked: Sequence[Sequence[Asked]],
    make: Callable[..., Reranker],
) -> tuple[Reranker | None, str]:
    """What ranks the best of a view again, or why nothing does; ``make`` makes it."""
    served = asked[0][0].resolved
    if len(asked) > 1 or len(asked[0]) > 1 or served.view is None:
        return None, "Nothing was re-ranked: that is for one condition alone, answered by a view."
    condition = Condition.parse(served.name)
    try:
        found = reranker(resolver, encoders, question.rerank_model)
    except ModelError as error:
        return None, f"Nothing was re-ranked: {error}"
    if found is None:
        return None, (
            "Nothing was re-ranked: the gallery has no vectors by a large model; name one, such "
            "as --rerank-model tiny-lvlm."
        )
    refused = refusal(found[0], condition)
    if refused:
        return None, f"Nothing was re-ranked: {refused}"
    return make(gallery, resolver, *found, condition, encoders.of, paths), ""


class Reranker:
    """Embeds pictures under one condition by one model, as they are needed, and keeps them.

    Attributes:
        resolved: the condition, as this model serves it.
    """

    def __init__(
        self,
        gallery: Gallery,
        resolver: ConditionResolver,
        spec: EncoderSpec,
        dimension: int,
        condition: Condition,
        load: Callable[[EncoderSpec], BaseEncoder],
        paths: Paths,
    ):
        """Embed nothing yet.

        Args:
            gallery: whose pictures.
            resolver: opens the table.
            spec: of the model and method.
            dimension: of its vectors.
            condition: the pictures are embedded under it.
            load: gives the encoder of a spec; not called if nothing is missing.
            paths: of the gallery, content key to stored paths.
        """
        own = next(
            (
                vector_source
                for vector_source in vector_sources(gallery)
                if vector_source.spec == spec
            ),
            None,
        )
        table = own.table(condition.name) if own else None
        if table is None:
            made_by = spec.made_by(condition)
            table = VectorTable(condition.name, dimension, made_by, partial=True)
        self.resolved = ResolvedCondition(table, table)
        self._notes: list[str] = []
        self._tried: set[str] = set()
        self._some: SubsetEmbedder | None = None
        self._there: VectorColumn | None = None
        self._closing = ExitStack()
        self._unkept: VectorColumn | None = None
        self._why = ""
        self._gallery = gallery
        self._servings = resolver
        self._spec = spec
        self._condition = condition
        self._load = load
        self._paths = paths

    @property
    def notes(self) -> list[str]:
        """What people should know of how it went, a sentence each."""
        if self._unkept is None:
            return self._notes
        count = len(self._unkept.keys)
        return [
            f"{count} pictures were embedded for this answer and not kept: {self._why}",
            *self._notes,
        ]

    def rankings(
        self,
        asked: Sequence[str],
        vectors: Callable[[Opened], Vectors],
        combine: str,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> Callable[[Sequence[str], int], Ranking | None]:
        """What gives a ranking that has as many of some pictures as can be had.

        Args:
            asked: keys of the pictures of the gallery that are asked with, which it has as well.
            vectors: of what is asked with, in an open table: float32 [examples, dim], unit rows.
            combine: one of :data:`query.question.COMBINE`.
            progress: told how far embedding is.

        Returns:
            Of keys, and of how many there will be when all are chosen, a ranking of these pictures
            and of all that were embedded before, or ``None`` if it cannot be had, of which
            :attr:`notes` tells.
        """

        def ranking(best: Sequence[str], total: int) -> Ranking | None:
            def tell(state: Progress) -> None:
                done = max(0, len(best) - state.total + state.done)
                progress(replace(state, done=done, total=total))

            table = self.table(list(dict.fromkeys([*asked, *best])), tell)
            if table is None:
                return None
            if len(best) >= total:
                table = self.settled(table)
            if any(table.row(key) is None for key in asked):
                self._notes.append(
                    f"Nothing was re-ranked: {self.resolved.model} could not embed what was asked "
                    "with (its file may be gone)."
                )
                return None
            return ConditionRanking(table, vectors(Opened(self.resolved, table)), combine)

        return ranking

    def table(
        self,
        wanted: Sequence[str],
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> OpenTable | None:
        """A table that has as many of some pictures as can be had, and those embedded before.

        Args:
            wanted: keys of pictures.
            progress: told how far embedding is.

        Returns:
            ``None`` if it cannot be had; :attr:`notes` tells why.
        """
        # What could not be embedded once is not tried again for the same answer.
        fresh = [key for key in wanted if key not in self._tried]
        self._tried.update(fresh)
        try:
            if self._unkept is None:
                try:
                    return self._written(fresh, progress)
                except GalleryError as error:
                    if self._some is not None:
                        self._unkept = self._some.column()
                    why = "another process is writing to it."
                    self._why = why if isinstance(error, GalleryLocked) else str(error)
            return self._in_memory(fresh, progress)
        except ModelError as error:
            self._notes.append(f"Nothing was re-ranked: {error}")
            return None

    def _written(self, keys: Sequence[str], progress: Callable[[Progress], None]) -> OpenTable:
        """The gallery's table, and what was embedded since and is stored when all is done."""
        if self._some is None:
            some = SubsetEmbedder(self._gallery, self._spec, self._condition, self._load)
            self._some = self._closing.enter_context(some)
            self._there = self._stored()
        self._some.embed(keys, progress)
        if self._servings.geometry != "raw":
            # How vectors are compared hangs on all there are.
            self._some.settle()
            return self._servings.table_loader(self.resolved).open("exact")
        entry = self.resolved.table
        return OpenTable(entry, _joined(self._there, self._some.column(), entry.dimension), "exact")

    def _stored(self) -> VectorColumn | None:
        """What the gallery has, as it is compared; ``None`` if it has no such table."""
        if all(t.table != self.resolved.table.table for t in self._gallery.conditions()):
            return None
        return self._servings.table_loader(self.resolved).open("exact").column

    def settled(self, table: OpenTable) -> OpenTable:
        """The last of an answer's tables when all is stored, as a later search finds it."""
        if self._some is None or not self.close():
            return table
        return self._servings.table_loader(self.resolved).open("exact")

    def close(self) -> bool:
        """Store what was embedded and let others write; whether it could be stored."""
        some, self._some = self._some, None
        try:
            self._closing.close()
        except GalleryError as error:
            self._unkept = some.column() if some is not None else None
            self._why = str(error)
            return False
        return True

    def _in_memory(self, keys: Sequence[str], progress: Callable[[Progress], None]) -> OpenTable:
        """The same where the gallery cannot be written to now: nothing is kept."""
        entry = self.resolved.table
        there = self._stored()
        known = set(there.keys) if there is not None else set()
        missing = [key for key in keys if key not in known]
        if missing:
            encoder = self._load(self._spec)
            fresh = embed_unkept(self._gallery, encoder, entry, missing, self._paths, progress)
            self._unkept = _joined(self._unkept, fresh, entry.dimension)
        own = self._unkept
        if own is not None:
            rows = [row for row, key in enumerate(own.keys) if key not in known]
            own = VectorColumn(
                [own.keys[row] for row in rows],
                own.vectors[rows],
                [own.words[row] for row in rows],
                own.word_probabilities[rows],
            )
            own = replace(own, vectors=self._servings.mover(self.resolved)(own.keys, own.vectors))
        return OpenTable(entry, _joined(there, own, entry.dimension))

    def fill(self) -> None:
        """Have the next ingest embed the whole gallery under the condition."""
        name = self._condition.name
        try:
            embed_subset(self._gallery, self._spec, self._condition, [], self._load)
            mark_for_filling(self._gallery, self.resolved.table)
            self._notes.append(
                f"The next `cies ingest` embeds the whole gallery under '{name}' by "
                f"{self.resolved.model}."
            )
        except (GalleryError, ModelError) as error:
            self._notes.append(f"'{name}' is not marked for filling: {error}")


def _joined(one: VectorColumn | None, other: VectorColumn | None, dimension: int) -> VectorColumn:
    """Two columns in key order; vectors as they are compared."""
    columns = [column for column in (one, other) if column is not None and column.keys]
    keys = [key for column in columns for key in column.keys]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    words = [word for column in columns for word in column.words]
    vectors = np.zeros((0, dimension), dtype=np.float32)
    sure = np.zeros(0, dtype=np.float32)
    if columns:
        vectors = np.concatenate([column.vectors for column in columns])[order]
        sure = np.concatenate([column.word_probabilities for column in columns])[order]
    return VectorColumn([keys[i] for i in order], vectors, [words[i] for i in order], sure)
