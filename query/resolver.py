"""Which table answers a condition by which method, and how it is opened.

A gallery may hold tables by several methods and models. Where none is named, a condition is
answered by the table of the main maker (:func:`ingest.fill.vector_sources.main_maker`), else by any other that
holds it whole, else from base vectors by a view, else by what is there of a partial table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from indexes.errors import GalleryError, ModelError, UnknownCondition, UsageError
from indexes.search.geometry import RESIDUAL, Statistics, residual
from indexes.search.open_table import OpenTable
from indexes.search.parted import parts_of
from indexes.search.table_loader import Opener
from indexes.search.transform import Move
from indexes.search.vectors import Vectors
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.conditions import UNCONDITIONAL, Condition, same_name
from ingest.encoders.base import Encoder, EncoderSpec
from ingest.encoders.projections.base import VIEWS, View
from ingest.encoders.vlm.listing import listing_of
from ingest.fill.vector_sources import BASE, CONDITIONAL, Maker, chosen_maker, main_maker, makers
from ingest.vocabularies import Lister, Vocabulary
from query.projections import DEFAULT_VIEW, QUICK_VIEWS, Views
from query.question import shortened

#: What a table compared by a view, or by the best of its parts, has in place of a geometry.
_VIEW, _PARTS = "view", "parts"


@dataclass(frozen=True)
class Serving:
    """A condition as one method answers it.

    Attributes:
        table: what answers tell of: for a view, an entry that no gallery stores.
        stored: whose vectors are read; ``table`` itself unless it is a view.
        view: what turns stored vectors into those that are compared, if it is a view.
        vocabulary: the words that a view was worked out from.
    """

    table: VectorTable
    stored: VectorTable
    view: View | None = None
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

    serving: Serving
    table: OpenTable


class Servings:
    """Finds and opens what answers conditions. Tables are read when first needed and kept.

    Attributes:
        geometry: how stored vectors are compared, one of :data:`indexes.search.geometry.GEOMETRIES`.
    """

    def __init__(
        self,
        gallery: Gallery,
        encoder: Callable[[EncoderSpec], Encoder],
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
        self._views = Views(gallery, encoder, self._lister)
        self._known: dict[tuple[str, str | None], Serving] = {}
        self._open: dict[tuple[str, str], OpenTable] = {}
        self._statistics: dict[str, Statistics] = {}

    # -- which ------------------------------------------------------------------------------

    def serving(self, condition: str, method: str | None = None) -> Serving:
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

    def all_of(self, condition: str) -> list[Serving]:
        """Everything the gallery can answer a condition by: whole tables, and the usual view.

        Raises:
            UnknownCondition: if there is nothing.
        """
        there = _in_order(makers(self._gallery))
        tables = [table for maker in there if (table := maker.table(condition))]
        found = [Serving(table, table) for table in tables if not table.partial]
        if _base(there) is not None and not same_name(condition, UNCONDITIONAL):
            try:
                found.append(self.serving(condition, DEFAULT_VIEW))
            except (UsageError, ModelError):
                if not found:
                    raise
        return found or [self.serving(condition)]

    def beside(self, serving: Serving) -> list[Serving]:
        """What else says which pictures a view may have missed: another view of the same words,
        and the base vectors themselves.
        """
        model = serving.model
        other = next(name for name in QUICK_VIEWS if name != serving.method)
        return [self.serving(serving.name, f"{name}:{model}") for name in (other, BASE)]

    def names(self, method: str | None = None) -> list[str]:
        """The conditions that a method answers without being told more, in order of declaration.

        Those of the main maker's whole tables; of another stored method its own; of a view all
        conditions of the gallery. Where a maker has nothing but partial tables, these.

        Raises:
            UsageError: if there is no such method.
        """
        method = method or self._method
        there = makers(self._gallery)
        if method is not None and _view_of(method):
            own = [t for maker in there if maker.conditional for t in maker.tables]
            tables = [t for t in own if not same_name(t.name, UNCONDITIONAL)]
        else:
            maker = chosen_maker(self._gallery, method) if method else main_maker(there)
            tables = list(maker.tables) if maker else []
            tables = [table for table in tables if not table.partial] or tables
        names: list[str] = []
        for table in tables:
            if not any(same_name(table.name, name) for name in names):
                names.append(table.name)
        return names

    def lvlms(self) -> list[Maker]:
        """The makers whose vectors know their condition, the main one first."""
        there = _in_order(makers(self._gallery))
        return [maker for maker in there if maker.spec.method in CONDITIONAL and maker.tables]

    def _lister(self) -> Lister | None:
        """What lists the words of a condition that has none: the gallery's own LVLM."""
        there = self.lvlms()
        return listing_of(there[0].spec, self._encoder) if there else None

    def _by_default(self, condition: str) -> Serving:
        there = _in_order(makers(self._gallery))
        found = [table for maker in there if (table := maker.table(condition))]
        whole = [table for table in found if not table.partial]
        if whole:
            return Serving(whole[0], whole[0])
        base = _base(there)
        if base is not None and not same_name(condition, UNCONDITIONAL):
            try:
                return self._view(base, DEFAULT_VIEW, condition)
            except UsageError as error:
                if not found:
                    raise self._unknown(condition, there, str(error)) from error
        if found:
            return Serving(found[0], found[0])
        raise self._unknown(condition, there)

    def _by_method(self, condition: str, method: str) -> Serving:
        view = _view_of(method)
        if view:
            model = method.partition(":")[2]
            base = chosen_maker(self._gallery, f"{BASE}:{model}" if model else BASE)
            return self._view(base, view, condition)
        maker = chosen_maker(self._gallery, method)
        if not maker.conditional and maker.tables:
            # One vector serves every condition, and goes by the name that was asked for.
            name = Condition.parse(condition).name
            return Serving(replace(maker.tables[0], name=name), maker.tables[0])
        table = maker.table(condition)
        if table is None:
            raise self._unknown(condition, [maker])
        return Serving(table, table)

    def _view(self, base: Maker, method: str, condition: str) -> Serving:
        if not base.tables:
            raise UsageError(
                f"The gallery at {self._gallery.path} has no base vectors yet; run `cies ingest` "
                "to the end."
            )
        table, view, vocabulary = self._views.of(base.tables[0], method, condition)
        return Serving(table, base.tables[0], view, vocabulary)

    def _unknown(self, condition: str, there: Sequence[Maker], why: str = "") -> UnknownCondition:
        tables = [table for maker in there for table in maker.tables]
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
        by = f" by {there[0].name}" if len(there) == 1 and len(makers(self._gallery)) > 1 else ""
        return UnknownCondition(
            f"The gallery at {self._gallery.path} has no condition {shortened(condition)}{by} (it "
            f"has: {names}); {way}.{f' Nor can it be worked out: {why}' if why else ''}"
        )

    # -- open -------------------------------------------------------------------------------

    def opened(self, serving: Serving) -> OpenTable:
        """A table open for search, in the way its vectors are compared, with its words."""
        at = serving.table.table, serving.name
        if at not in self._open:
            self._open[at] = self.opener(serving).open(self._index)
        return self._open[at]

    def opener(self, serving: Serving) -> Opener:
        """What opens a table and keeps its indexes."""
        stored = serving.stored if serving.view is not None else None
        way, basis = self._way(serving)
        say = serving.view.said if serving.view is not None else None
        move = self.mover(serving)
        args = serving.table, way, basis, move, self._gone, stored, say
        return Opener(self._gallery, *args)

    def _way(self, serving: Serving) -> tuple[str, str]:
        """How vectors are compared, and what names all that moves them there."""
        if serving.view is not None:
            return _VIEW, self._views.basis(serving.view)
        if parts_of(serving.table) > 1:
            # The parts of a row have lengths that any other geometry would change.
            return _PARTS, ""
        basis = self._statistics_of(serving.stored).basis(self.geometry)
        if self.takes_away(serving):
            basis += self.opened(self._beside_table(serving)).state
        return self.geometry, basis

    def mover(self, serving: Serving) -> Move:
        """Moves stored vectors of pictures of the gallery to where they are compared."""

        def move(keys: Sequence[str], vectors: Vectors) -> Vectors:
            beside = self._beside(serving, keys) if self.takes_away(serving) else vectors[:0]
            return self.moved(serving, vectors, beside, text=False)

        return move

    def moved(self, serving: Serving, vectors: Vectors, beside: Vectors, text: bool) -> Vectors:
        """New vectors as they are compared: float32 [n, moved], unit rows.

        Args:
            serving: of an open table.
            vectors: float32 [n, dim], unit rows, from its encoder.
            beside: float32 [n, dim], those of the same without a condition, where
                :meth:`takes_away`.
            text: whether they are of texts.
        """
        if serving.view is not None:
            return serving.view.texts(vectors) if text else serving.view.images(vectors)
        if parts_of(serving.table) > 1:
            return vectors
        moved = self._statistics_of(serving.stored).apply(vectors, self.geometry)
        return residual(moved, beside) if self.takes_away(serving) else moved

    def takes_away(self, serving: Serving) -> bool:
        """Whether a table's vectors are compared less their unconditional part."""
        return (
            self.geometry == RESIDUAL
            and serving.view is None
            and parts_of(serving.table) == 1
            and bool(serving.table.made_by["phrase"])
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

    def _beside_table(self, serving: Serving) -> Serving:
        """The table without a condition, by the maker of another.

        Raises:
            UnknownCondition: if there is none.
        """
        own = next((m for m in makers(self._gallery) if m.spec == serving.spec), None)
        table = own.table(UNCONDITIONAL) if own else None
        if table is None:
            raise self._unknown(UNCONDITIONAL, [own] if own else [])
        return Serving(table, table)

    def _beside(self, serving: Serving, keys: Sequence[str]) -> Vectors:
        """The unconditional vectors of some pictures: float32 [n, dim], unit rows.

        Raises:
            UnknownCondition: if the gallery has none.
            GalleryError: if it has not those of all these pictures.
        """
        import numpy as np

        known = self.opened(self._beside_table(serving))
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
    return name if name in VIEWS else ""


def _in_order(there: Iterable[Maker]) -> list[Maker]:
    """Makers, the main one first, then by method, then as they were declared."""
    methods = [*CONDITIONAL, BASE]

    def place(maker: Maker) -> int:
        method = maker.spec.method
        return methods.index(method) if method in methods else len(methods)

    return sorted(there, key=place)


def _base(there: Sequence[Maker]) -> Maker | None:
    """The maker of base vectors, if it has any."""
    return next((m for m in there if m.spec.method == BASE and m.tables), None)
