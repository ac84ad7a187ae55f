"""Opens the tables that answer conditions, and moves vectors into the space they are compared in.

A stored table is compared in the gallery's geometry (:mod:`indexes.geometry`), a projection
in its own space, and a table whose rows hold several parts as it is stored.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from indexes.errors import GalleryError, UsageError
from indexes.geometry import RESIDUAL, Statistics, residual
from indexes.search.file_keys import FileKeys
from indexes.search.open_table import OpenTable
from indexes.search.snapshot import VectorTransform
from indexes.search.table_loader import TableLoader
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from indexes.vectors import Vectors
from ingest.conditions import UNCONDITIONAL
from query.projections import projection_digest
from query.question import Question
from query.resolver import ConditionResolver, ResolvedCondition

#: The names of caches of projections and of tables of parts, in place of a geometry.
_PROJECTION, _PARTS = "view", "parts"


@dataclass(frozen=True)
class OpenCondition:
    """A resolved condition with its open table and its weight in a question.

    Attributes:
        resolved: the condition, and what answers it.
        table: its table, open for search.
        weight: above 0 if hits must be alike under the condition, below 0 if they must differ.
    """

    resolved: ResolvedCondition
    table: OpenTable
    weight: float = 1.0


class OpenTables:
    """The open tables of a gallery in one geometry. A table is opened once.

    Attributes:
        geometry: how stored vectors are compared, one of
            :data:`indexes.geometry.GEOMETRIES`.
    """

    def __init__(
        self,
        gallery: Gallery,
        resolver: ConditionResolver,
        index: str,
        geometry: str,
        gone: bool,
        before: OpenTables | None = None,
    ):
        """Store the arguments; nothing is opened yet.

        Args:
            gallery: the gallery of the tables, at one moment.
            resolver: resolves the conditions of questions, and finds unconditional tables, which
                the residual geometry needs.
            index: one of :data:`indexes.search.factory.KINDS`, or a FAISS factory string.
            geometry: see above.
            gone: also find pictures that had no file left at the last scan.
            before: the tables at an earlier moment; of those that were open, only what has changed
                is read.
        """
        self._gallery = gallery
        self._resolver = resolver
        self._index = index
        self.geometry = geometry
        self._gone = gone
        self._tables: dict[tuple[str, str], OpenTable] = {}
        self._statistics: dict[str, Statistics] = {}
        earlier_files = before._files if before is not None else None
        self._files: FileKeys = FileKeys(gallery.frozen("files"), gone, earlier_files)
        #: Tables that were open at an earlier moment and are not yet at this one.
        self._earlier: dict[tuple[str, str], OpenTable] = {}
        if before is not None:
            self._earlier = {**before._earlier, **before._tables}
        # The residual geometry opens one table for another.
        self._opening = threading.RLock()

    def open(self, resolved: ResolvedCondition, weight: float = 1.0) -> OpenCondition:
        """A condition with its table open for search."""
        return OpenCondition(resolved, self.open_table(resolved), weight)

    def open_conditions(self, question: Question, method: str | None) -> list[OpenCondition]:
        """The conditions of a question as one method answers them, each once, with their weights.

        Raises:
            UnknownCondition: if there is none of that name; the message lists all.
            UsageError: if hits must be alike and differ under the same condition.
        """
        found: dict[str, OpenCondition] = {}
        for conditions, sign in ((question.conditions, 1), (question.unlike, -1)):
            for condition, weight in conditions.items():
                if not weight:
                    continue
                resolved = self._resolver.resolve(condition, method)
                table = resolved.table.table
                if table not in found:
                    found[table] = self.open(resolved, sign * weight)
                    continue
                before = found[table].weight
                if before * sign < 0:
                    raise UsageError(
                        f"'{found[table].resolved.name}' is given by --condition and by --not; "
                        "choose one of them."
                    )
                found[table] = replace(found[table], weight=before + sign * weight)
        return list(found.values())

    def open_table(self, resolved: ResolvedCondition) -> OpenTable:
        """A condition's table: its vectors as they are compared, its words, its index."""
        name = resolved.table.table, resolved.name
        with self._opening:
            if name not in self._tables:
                loader = self.table_loader(resolved)
                self._tables[name] = loader.open(self._index, self._earlier.get(name))
                self._earlier.pop(name, None)
        return self._tables[name]

    def table_loader(self, resolved: ResolvedCondition) -> TableLoader:
        """Opens a condition's table and manages its indexes."""
        projection = resolved.projection
        space, basis = self._space(resolved)
        return TableLoader(
            self._gallery,
            resolved.table,
            space,
            basis,
            self.transform(resolved),
            gone=self._gone,
            files=self._files,
            stored=resolved.stored if projection is not None else None,
            words=projection.nearest_words if projection is not None else None,
        )

    def transform(self, resolved: ResolvedCondition) -> VectorTransform:
        """The function that moves stored vectors of the gallery's pictures into the space they
        are compared in; see :class:`indexes.search.table_loader.TableLoader`.
        """

        def move(keys: Sequence[str], vectors: Vectors) -> Vectors:
            unconditional = vectors[:0]
            if self.subtracts_unconditional(resolved):
                unconditional = self._unconditional_vectors(resolved, keys)
            return self.transform_new(resolved, vectors, unconditional, text=False)

        return move

    def transform_new(
        self, resolved: ResolvedCondition, vectors: Vectors, unconditional: Vectors, text: bool
    ) -> Vectors:
        """Vectors fresh from the encoder, moved into the space they are compared in.

        Args:
            resolved: the condition.
            vectors: float32 [n, dim], unit rows.
            unconditional: float32 [n, dim], the unconditional vectors of the same pictures; only
                used where :meth:`subtracts_unconditional`.
            text: whether they are vectors of texts.

        Returns:
            float32 [n, dim of the space], unit rows.
        """
        projection = resolved.projection
        if projection is not None:
            return projection.texts(vectors) if text else projection.images(vectors)
        if resolved.table.parts_per_row > 1:
            return vectors
        moved = vectors
        if self.geometry != "raw":
            moved = self._statistics_of(resolved.stored).apply(vectors, self.geometry)
        if self.subtracts_unconditional(resolved):
            return residual(moved, unconditional)
        return moved

    def subtracts_unconditional(self, resolved: ResolvedCondition) -> bool:
        """Whether vectors are compared after their unconditional part was subtracted."""
        return (
            self.geometry == RESIDUAL
            and resolved.projection is None
            and resolved.table.parts_per_row == 1
            and bool(resolved.table.made_by["phrase"])
        )

    def _space(self, resolved: ResolvedCondition) -> tuple[str, str]:
        """The space's name, and a digest of all that decides how vectors are moved into it."""
        if resolved.projection is not None:
            return _PROJECTION, projection_digest(resolved.projection)
        if resolved.table.parts_per_row > 1:
            # A geometry would change the lengths of a row's parts.
            return _PARTS, ""
        basis = ""
        if self.geometry not in ("raw", RESIDUAL):
            basis = self._statistics_of(resolved.stored).basis(self.geometry)
        if self.subtracts_unconditional(resolved):
            basis += self.open_table(self._resolver.resolve_unconditional(resolved)).state
        return self.geometry, basis

    def _statistics_of(self, table: VectorTable) -> Statistics:
        statistics = self._statistics.get(table.table)
        if statistics is None:
            statistics = self._gallery.statistics(table)
            if statistics is None:
                needed = self.geometry not in ("raw", RESIDUAL)
                parts = self._gallery.vector_parts(table) if needed else iter(())
                statistics = Statistics.of_parts(parts, table.dimension)
            self._statistics[table.table] = statistics
        return statistics

    def _unconditional_vectors(self, resolved: ResolvedCondition, keys: Sequence[str]) -> Vectors:
        """The unconditional vectors of some pictures: float32 [n, dim], unit rows.

        Raises:
            UnknownCondition: if the gallery has none by the same vector source.
            GalleryError: if some of these pictures have none.
        """
        table = self.open_table(self._resolver.resolve_unconditional(resolved))
        rows = [row for key in keys if (row := table.row(key)) is not None]
        missing = len(keys) - len(rows)
        if missing:
            raise GalleryError(
                f"{missing} pictures of the gallery at {self._gallery.path} are not embedded under "
                f"'{UNCONDITIONAL}', which the geometry {RESIDUAL} needs; run `cies ingest` on "
                "them again."
            )
        return table.vectors(np.array(rows, dtype=np.int64))
