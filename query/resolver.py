"""Which table answers a condition by which method, and how it is opened.

A gallery may hold tables by several methods and models. Where none is named, a condition is
answered by the table of the main maker (:func:`ingest.fill.vector_sources.main_vector_source`), else by any other that
holds it whole, else from base vectors by a view, else by what is there of a partial table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from indexes.errors import GalleryError, ModelError, UnknownCondition, UsageError
from indexes.search.geometry import RESIDUAL, Statistics, residual
from indexes.search.open_table import OpenTable
from indexes.search.parted import parts_of
from indexes.search.table_loader import TableLoader
from indexes.search.transform import Move
from indexes.search.vectors import Vectors
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.conditions import UNCONDITIONAL, Condition, same_name
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.encoders.projections.base import PROJECTIONS, Projection
from ingest.encoders.vlm.listing import listing_of
from ingest.fill.vector_sources import (
    BASE,
    CONDITIONAL,
    VectorSource,
    chosen_vector_source,
    main_vector_source,
    vector_sources,
)
from ingest.vocabularies import Lister, Vocabulary
from query.projections import DEFAULT_PROJECTION, QUICK_PROJECTIONS, Projections
from query.question import shortened

#: What a table compared by a view, or by the best of its parts, has in place of a geometry.
_VIEW, _PARTS = "view", "parts"


@dataclass(frozen=True)
class ResolvedCondition:
    """A condition as one method answers it.

    Attributes:
        table: what answers tell of: for a view, an entry that no gallery stores.
        stored: whose vectors are read; ``table`` itself unless it is a view.
        view: what turns stored vectors into those that are compared, if it is a view.
        vocabulary: the words that a view was worked out from.
    """

    table: VectorTable
    stored: VectorTable
    view: Projection | None = None
    vocabulary: Vocabulary | None = None

    @property
    def name(self) -> str:
        """The condition's name."""
        return self.table.name

    @property
    def method(self) -> str:
        """Such as ``dior`` or ``clay``."""
        return str(self.table.made_by.get("method", ""))

    @property
    def model(self) -> str:
        """As a gallery names it."""
        return str(self.table.made_by.get("model", ""))

    @property
    def spec(self) -> EncoderSpec:
        """What embeds something new for it."""
        return EncoderSpec.from_made_by(self.stored.made_by)

    @property
    def asked(self) -> Condition:
        """What that encoder is asked."""
        if self.view is not None or self.method == BASE:
            return Condition.parse(UNCONDITIONAL)
        return Condition(self.stored.name, str(self.stored.made_by["phrase"]))


@dataclass(frozen=True)
class Opened:
    """A condition as one method answers it, and its table open for search."""

    resolved: ResolvedCondition
    table: OpenTable


class ConditionResolver:
    """Finds and opens what answers conditions. Tables are read when first needed and kept.

    Attributes:
        geometry: how stored vectors are compared, one of :data:`indexes.search.geometry.GEOMETRIES`.
    """

    def __init__(
        self,
        gallery: Gallery,
        encoder: Callable[[EncoderSpec], BaseEncoder],
        index: str,
        geometry: str,
        gone: bool,
        method: str | None,
    ):
        """Look at nothing yet.

        Args:
            gallery: whose tables they are.
            encoder: gives the encoder of a spec, for the texts of a view that is not kept.
            index: one of :data:`indexes.search.factory.KINDS`, or a FAISS factory string.
            geometry: one of :data:`indexes.search.geometry.GEOMETRIES`.
            gone: whether pictures are found of which no file was left at the last scan.
            method: by which conditions are answered unless another one is named.
        """
        self._gallery = gallery
        self._index = index
        self.geometry = geometry
        self._gone = gone
        self._method = method
        self._encoder = encoder
        self._views = Projections(gallery, encoder, self._lister)
        self._known: dict[tuple[str, str | None], ResolvedCondition] = {}
        self._open: dict[tuple[str, str], OpenTable] = {}
        self._statistics: dict[str, Statistics] = {}

    # -- which ------------------------------------------------------------------------------

    def resolved(self, condition: str, method: str | None = None) -> ResolvedCondition:
        """What answers a condition; color finds colour.

        Args:
            condition: as the user typed it.
            method: ``METHOD`` or ``METHOD:MODEL``; a stored one or a view.

        Raises:
            UnknownCondition: naming those there are.
            UsageError: if there is no such method or no list of words for a view.
            ModelError: if the texts of a view must be embedded and the model cannot be had, or
                the gallery's large model was asked for the condition's words and lists none.
        """
        method = method or self._method
        # An entry never changes, and reading the manifest takes longer than a search.
        known = self._known.get((condition, method))
        if known is None:
            found = self._by_method(condition, method) if method else self._by_default(condition)
            known = self._known[condition, method] = found
        return known

    def all_of(self, condition: str) -> list[ResolvedCondition]:
        """Everything the gallery can answer a condition by: whole tables, and the usual view.

        Raises:
            UnknownCondition: if there is nothing.
        """
        there = _in_order(vector_sources(self._gallery))
        tables = [table for vector_source in there if (table := vector_source.table(condition))]
        found = [ResolvedCondition(table, table) for table in tables if not table.partial]
        if _base(there) is not None and not same_name(condition, UNCONDITIONAL):
            try:
                found.append(self.resolved(condition, DEFAULT_PROJECTION))
            except (UsageError, ModelError):
                if not found:
                    raise
        return found or [self.resolved(condition)]

    def beside(self, resolved: ResolvedCondition) -> list[ResolvedCondition]:
        """What else says which pictures a view may have missed: another view of the same words,
        and the base vectors themselves.
        """
        model = resolved.model
        other = next(name for name in QUICK_PROJECTIONS if name != resolved.method)
        return [self.resolved(resolved.name, f"{name}:{model}") for name in (other, BASE)]

    def names(self, method: str | None = None) -> list[str]:
        """The conditions that a method answers without being told more, in order of declaration.

        Those of the main maker's whole tables; of another stored method its own; of a view all
        conditions of the gallery. Where a maker has nothing but partial tables, these.

        Raises:
            UsageError: if there is no such method.
        """
        method = method or self._method
        there = vector_sources(self._gallery)
        if method is not None and _view_of(method):
            own = [
                t
                for vector_source in there
                if vector_source.conditional
                for t in vector_source.tables
            ]
            tables = [t for t in own if not same_name(t.name, UNCONDITIONAL)]
        else:
            vector_source = (
                chosen_vector_source(self._gallery, method) if method else main_vector_source(there)
            )
            tables = list(vector_source.tables) if vector_source else []
            tables = [table for table in tables if not table.partial] or tables
        names: list[str] = []
        for table in tables:
            if not any(same_name(table.name, name) for name in names):
                names.append(table.name)
        return names

    def lvlms(self) -> list[VectorSource]:
        """The makers whose vectors know their condition, the main one first."""
        there = _in_order(vector_sources(self._gallery))
        return [
            vector_source
            for vector_source in there
            if vector_source.spec.method in CONDITIONAL and vector_source.tables
        ]

    def _lister(self) -> Lister | None:
        """What lists the words of a condition that has none: the gallery's own LVLM."""
        there = self.lvlms()
        return listing_of(there[0].spec, self._encoder) if there else None

    def _by_default(self, condition: str) -> ResolvedCondition:
        there = _in_order(vector_sources(self._gallery))
        found = [table for vector_source in there if (table := vector_source.table(condition))]
        whole = [table for table in found if not table.partial]
        if whole:
            return ResolvedCondition(whole[0], whole[0])
        base = _base(there)
        if base is not None and not same_name(condition, UNCONDITIONAL):
            try:
                return self._view(base, DEFAULT_PROJECTION, condition)
            except UsageError as error:
                if not found:
                    raise self._unknown(condition, there, str(error)) from error
        if found:
            return ResolvedCondition(found[0], found[0])
        raise self._unknown(condition, there)

    def _by_method(self, condition: str, method: str) -> ResolvedCondition:
        view = _view_of(method)
        if view:
            model = method.partition(":")[2]
            base = chosen_vector_source(self._gallery, f"{BASE}:{model}" if model else BASE)
            return self._view(base, view, condition)
        vector_source = chosen_vector_source(self._gallery, method)
        if not vector_source.conditional and vector_source.tables:
            # One vector serves every condition, and goes by the name that was asked for.
            name = Condition.parse(condition).name
            return ResolvedCondition(
                replace(vector_source.tables[0], name=name), vector_source.tables[0]
            )
        table = vector_source.table(condition)
        if table is None:
            raise self._unknown(condition, [vector_source])
        return ResolvedCondition(table, table)

    def _view(self, base: VectorSource, method: str, condition: str) -> ResolvedCondition:
        if not base.tables:
            raise UsageError(
                f"The gallery at {self._gallery.path} has no base vectors yet; run `cies ingest` "
                "to the end."
            )
        table, view, vocabulary = self._views.of(base.tables[0], method, condition)
        return ResolvedCondition(table, base.tables[0], view, vocabulary)

    def _unknown(
        self, condition: str, there: Sequence[VectorSource], why: str = ""
    ) -> UnknownCondition:
        tables = [table for vector_source in there for table in vector_source.tables]
        names = ", ".join(dict.fromkeys(table.name for table in tables)) or "none"
        parts = [part for part in condition.split(",") if part.strip()][:9]
        if len(parts) > 1 and all(any(same_name(t.name, p) for t in tables) for p in parts):
            way = "give each a --condition of its own"
        elif "=" in condition and any(same_name(t.name, condition.split("=")[0]) for t in tables):
            way = "a weight is a number, such as `--condition color=2`"
        elif condition.isprintable() and len(condition) <= 80:
            way = (
                f'add it with `cies ingest FOLDER --condition "{condition}"`, or have any answered '
                "at once after `cies ingest FOLDER --method clip`"
            )
        else:
            way = "name one of those"
        by = (
            f" by {there[0].name}"
            if len(there) == 1 and len(vector_sources(self._gallery)) > 1
            else ""
        )
        return UnknownCondition(
            f"The gallery at {self._gallery.path} has no condition {shortened(condition)}{by} (it "
            f"has: {names}); {way}.{f' Nor can it be worked out: {why}' if why else ''}"
        )

    # -- open -------------------------------------------------------------------------------

    def opened(self, resolved: ResolvedCondition) -> OpenTable:
        """A table open for search, in the way its vectors are compared, with its words."""
        at = resolved.table.table, resolved.name
        if at not in self._open:
            self._open[at] = self.table_loader(resolved).open(self._index)
        return self._open[at]

    def table_loader(self, resolved: ResolvedCondition) -> TableLoader:
        """What opens a table and keeps its indexes."""
        stored = resolved.stored if resolved.view is not None else None
        way, basis = self._way(resolved)
        say = resolved.view.said if resolved.view is not None else None
        move = self.mover(resolved)
        args = resolved.table, way, basis, move, self._gone, stored, say
        return TableLoader(self._gallery, *args)

    def _way(self, resolved: ResolvedCondition) -> tuple[str, str]:
        """How vectors are compared, and what names all that moves them there."""
        if resolved.view is not None:
            return _VIEW, self._views.basis(resolved.view)
        if parts_of(resolved.table) > 1:
            # The parts of a row have lengths that any other geometry would change.
            return _PARTS, ""
        basis = self._statistics_of(resolved.stored).basis(self.geometry)
        if self.takes_away(resolved):
            basis += self.opened(self._beside_table(resolved)).state
        return self.geometry, basis

    def mover(self, resolved: ResolvedCondition) -> Move:
        """Moves stored vectors of pictures of the gallery to where they are compared."""

        def move(keys: Sequence[str], vectors: Vectors) -> Vectors:
            beside = self._beside(resolved, keys) if self.takes_away(resolved) else vectors[:0]
            return self.moved(resolved, vectors, beside, text=False)

        return move

    def moved(
        self, resolved: ResolvedCondition, vectors: Vectors, beside: Vectors, text: bool
    ) -> Vectors:
        """New vectors as they are compared: float32 [n, moved], unit rows.

        Args:
            resolved: of an open table.
            vectors: float32 [n, dim], unit rows, from its encoder.
            beside: float32 [n, dim], those of the same without a condition, where
                :meth:`takes_away`.
            text: whether they are of texts.
        """
        if resolved.view is not None:
            return resolved.view.texts(vectors) if text else resolved.view.images(vectors)
        if parts_of(resolved.table) > 1:
            return vectors
        moved = self._statistics_of(resolved.stored).apply(vectors, self.geometry)
        return residual(moved, beside) if self.takes_away(resolved) else moved

    def takes_away(self, resolved: ResolvedCondition) -> bool:
        """Whether a table's vectors are compared less their unconditional part."""
        return (
            self.geometry == RESIDUAL
            and resolved.view is None
            and parts_of(resolved.table) == 1
            and bool(resolved.table.made_by["phrase"])
        )

    def _statistics_of(self, table: VectorTable) -> Statistics:
        known = self._statistics.get(table.table)
        # A partial table grows while it is searched.
        if known is None or table.partial:
            known = self._gallery.statistics(table)
            if known is None:
                needed = self.geometry not in ("raw", RESIDUAL)
                parts = self._gallery.vector_parts(table) if needed else iter(())
                known = Statistics.of_parts(parts, table.dimension)
            self._statistics[table.table] = known
        return known

    def _beside_table(self, resolved: ResolvedCondition) -> ResolvedCondition:
        """The table without a condition, by the maker of another.

        Raises:
            UnknownCondition: if there is none.
        """
        own = next((m for m in vector_sources(self._gallery) if m.spec == resolved.spec), None)
        table = own.table(UNCONDITIONAL) if own else None
        if table is None:
            raise self._unknown(UNCONDITIONAL, [own] if own else [])
        return ResolvedCondition(table, table)

    def _beside(self, resolved: ResolvedCondition, keys: Sequence[str]) -> Vectors:
        """The unconditional vectors of some pictures: float32 [n, dim], unit rows.

        Raises:
            UnknownCondition: if the gallery has none.
            GalleryError: if it has not those of all these pictures.
        """
        import numpy as np

        known = self.opened(self._beside_table(resolved))
        rows = [row for key in keys if (row := known.row(key)) is not None]
        missing = len(keys) - len(rows)
        if missing:
            raise GalleryError(
                f"{missing} pictures of the gallery at {self._gallery.path} are not embedded under "
                f"'{UNCONDITIONAL}', which comparing them {RESIDUAL} needs; run `cies ingest` on "
                "them again."
            )
        return known.vectors(np.array(rows, dtype=np.int64))


def _view_of(method: str) -> str:
    """The view that a method as typed names, or nothing."""
    name = method.partition(":")[0]
    return name if name in PROJECTIONS else ""


def _in_order(there: Iterable[VectorSource]) -> list[VectorSource]:
    """Makers, the main one first, then by method, then as they were declared."""
    methods = [*CONDITIONAL, BASE]

    def place(vector_source: VectorSource) -> int:
        method = vector_source.spec.method
        return methods.index(method) if method in methods else len(methods)

    return sorted(there, key=place)


def _base(there: Sequence[VectorSource]) -> VectorSource | None:
    """The maker of base vectors, if it has any."""
    return next((m for m in there if m.spec.method == BASE and m.tables), None)
