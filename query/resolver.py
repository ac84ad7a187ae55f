"""Decides which stored table, or which projection of base vectors, answers a condition.

A gallery may hold tables by several methods and models. When no method is named, a condition is
answered by the first of these that exists: a complete table, of the preferred vector source first
(:func:`ingest.fill.vector_sources.by_preference`); a projection of the base vectors; a partial
table.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from indexes.errors import ModelError, UnknownCondition, UsageError
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.conditions import UNCONDITIONAL, Condition, same_name
from ingest.encoders.base import EncoderSpec
from ingest.encoders.models.find import BUILTIN, find_model
from ingest.fill.vector_sources import (
    BASE,
    CONDITIONAL,
    VISION,
    VectorSource,
    by_preference,
    chosen_vector_source,
    layered_method,
    vector_sources,
)
from ingest.vocabularies import Vocabulary
from query.projections import DEFAULT_PROJECTION, QUICK_PROJECTIONS, Projections
from query.question import shortened, similar_names

if TYPE_CHECKING:
    from ingest.encoders.projections.base import Projection


@dataclass(frozen=True)
class ResolvedCondition:
    """A condition with the table and the method that answer it.

    Attributes:
        table: the entry that results report. For a projection, no gallery stores this entry.
        stored: the table whose vectors are read; the same as ``table`` without a projection.
        projection: turns stored base vectors into vectors under the condition, if there is one.
        vocabulary: the words that the projection was fitted to.
    """

    table: VectorTable
    stored: VectorTable
    projection: Projection | None = None
    vocabulary: Vocabulary | None = None

    @classmethod
    def of_table(cls, table: VectorTable) -> ResolvedCondition:
        """The condition of a stored table, answered by that table."""
        return cls(table, table)

    @property
    def name(self) -> str:
        """The condition's name."""
        return self.table.name

    @property
    def method(self) -> str:
        """Such as ``dior`` or ``clay``."""
        return str(self.table.made_by.get("method", ""))

    @property
    def layered_method(self) -> str:
        """The method, with ``@LAYER`` for another layer than the last one, as users name it."""
        return layered_method(EncoderSpec.from_made_by(self.table.made_by))

    @property
    def model(self) -> str:
        """The model's name as the gallery stores it."""
        return str(self.table.made_by.get("model", ""))

    @property
    def spec(self) -> EncoderSpec:
        """The encoder that embeds new pictures for this condition."""
        return EncoderSpec.from_made_by(self.stored.made_by)

    @property
    def encoder_condition(self) -> Condition:
        """The condition that this encoder is called with."""
        if self.projection is not None or self.method in (BASE, VISION):
            return Condition.parse(UNCONDITIONAL)
        return Condition(self.stored.name, str(self.stored.made_by["phrase"]))


class ConditionResolver:
    """Finds the table that answers a condition. Answers are cached."""

    def __init__(self, gallery: Gallery, projections: Projections, method: str | None = None):
        """Store the arguments; nothing is read yet.

        Args:
            gallery: the gallery whose tables answer.
            projections: fits projections of its base vectors.
            method: the method that answers when a call names none.
        """
        self._gallery = gallery
        self._projections = projections
        self._method = method
        self._cache: dict[tuple[str, str | None], ResolvedCondition] = {}

    def resolve(self, condition: str, method: str | None = None) -> ResolvedCondition:
        """The table or projection that answers a condition.

        Args:
            condition: as the user typed it; color finds colour.
            method: ``METHOD`` or ``METHOD:MODEL``, of a stored table or a projection.

        Raises:
            UnknownCondition: if there is none; the message lists those that exist.
            UsageError: if there is no such method, or no list of words for a projection.
            ModelError: if a projection's words must be embedded and the model cannot be loaded,
                or the gallery's LVLM was asked to list the condition's words and listed none.
        """
        method = method or self._method
        # An entry never changes, and reading the manifest takes longer than a search.
        resolved = self._cache.get((condition, method))
        if resolved is None:
            resolved = self._of_method(condition, method) if method else self._usual(condition)
            self._cache[condition, method] = resolved
        return resolved

    def resolve_all(self, condition: str) -> list[ResolvedCondition]:
        """Every complete table of a condition, and the usual projection.

        Raises:
            UnknownCondition: if nothing answers the condition.
        """
        sources = by_preference(vector_sources(self._gallery))
        tables = [table for source in sources if (table := source.table(condition))]
        found = [ResolvedCondition.of_table(table) for table in tables if not table.partial]
        if _base_source(sources) is not None and not same_name(condition, UNCONDITIONAL):
            try:
                found.append(self.resolve(condition, DEFAULT_PROJECTION))
            except (UsageError, ModelError):
                if not found:
                    raise
        return found or [self.resolve(condition)]

    def resolve_candidates(self, resolved: ResolvedCondition) -> list[ResolvedCondition]:
        """Other cheap rankings that suggest candidates for reranking a projection's hits: another
        projection fitted to the same words, and the base vectors.
        """
        other = next(name for name in QUICK_PROJECTIONS if name != resolved.method)
        methods = [f"{name}:{resolved.model}" for name in (other, BASE)]
        return [self.resolve(resolved.name, method) for method in methods]

    def resolve_unconditional(self, resolved: ResolvedCondition) -> ResolvedCondition:
        """The unconditional table of the vector source that answers a condition.

        Raises:
            UnknownCondition: if that source has none.
        """
        sources = [s for s in vector_sources(self._gallery) if s.spec == resolved.spec]
        table = sources[0].table(UNCONDITIONAL) if sources else None
        if table is None:
            raise self._unknown(UNCONDITIONAL, sources)
        return ResolvedCondition.of_table(table)

    def names(self, method: str | None = None) -> list[str]:
        """The conditions that a method answers, in the order in which they were added.

        For a stored method, the conditions of its complete tables, or of its partial tables if it
        has no others; for a projection, all conditions of the gallery. Without a method, those of
        the preferred vector source.

        Raises:
            UsageError: if there is no such method.
        """
        method = method or self._method
        sources = vector_sources(self._gallery)
        if method is not None and _projection_name(method):
            tables = [
                table
                for source in sources
                if source.conditional
                for table in source.tables
                if not same_name(table.name, UNCONDITIONAL)
            ]
        else:
            if method:
                chosen = [chosen_vector_source(self._gallery, method)]
            else:
                chosen = by_preference(sources)[:1]
            tables = [table for source in chosen for table in source.tables]
            tables = [table for table in tables if not table.partial] or tables
        names: list[str] = []
        for table in tables:
            if not any(same_name(table.name, name) for name in names):
                names.append(table.name)
        return names

    def conditional_sources(self) -> list[VectorSource]:
        """The vector sources whose vectors depend on the condition, the preferred one first."""
        return [
            source
            for source in by_preference(vector_sources(self._gallery))
            if source.spec.method in CONDITIONAL and source.tables
        ]

    def _usual(self, condition: str) -> ResolvedCondition:
        sources = by_preference(vector_sources(self._gallery))
        tables = [table for source in sources if (table := source.table(condition))]
        complete = [table for table in tables if not table.partial]
        if complete:
            return ResolvedCondition.of_table(complete[0])
        base = _base_source(sources)
        if base is not None and not same_name(condition, UNCONDITIONAL):
            try:
                return self._project(base, DEFAULT_PROJECTION, condition)
            except UsageError as error:
                if not tables:
                    raise self._unknown(condition, sources, str(error)) from error
        if tables:
            return ResolvedCondition.of_table(tables[0])
        raise self._unknown(condition, sources)

    def _of_method(self, condition: str, method: str) -> ResolvedCondition:
        projection = _projection_name(method)
        if projection:
            model = method.partition(":")[2]
            base = chosen_vector_source(self._gallery, f"{BASE}:{model}" if model else BASE)
            return self._project(base, projection, condition)
        source = chosen_vector_source(self._gallery, method)
        if not source.conditional and source.tables:
            # One vector answers every condition; results report the name that was asked for.
            name = Condition.parse(condition).name
            return ResolvedCondition(replace(source.tables[0], name=name), source.tables[0])
        table = source.table(condition)
        if table is None:
            raise self._unknown(condition, [source])
        return ResolvedCondition.of_table(table)

    def _project(self, base: VectorSource, method: str, condition: str) -> ResolvedCondition:
        if not base.tables:
            raise UsageError(
                f"The gallery at {self._gallery.path} has no base vectors yet; run `cies ingest` "
                "to the end."
            )
        table, projection, vocabulary = self._projections.fit(base.tables[0], method, condition)
        return ResolvedCondition(table, base.tables[0], projection, vocabulary)

    def _how_to_add(self, condition: str, sources: Sequence[VectorSource]) -> str:
        """The commands that would let the gallery answer a condition, none of which is refused."""
        place = shlex.quote(str(self._gallery.path))
        base = _base_source(vector_sources(self._gallery))
        any_at_once = f"have any answered at once after `cies ingest -g {place} --method clip`"
        if base is not None:
            name = shlex.quote(condition)
            any_at_once = f"give it words with `cies conditions edit -g {place} {name}`"
        spec = sources[0].spec if sources else None
        declared = None
        if spec is not None and spec.method == VISION:  # no condition changes its vectors
            return any_at_once
        if spec is not None and spec.model in BUILTIN:
            declared = find_model(spec.model).declared_conditions()
        if declared is None:
            quoted = shlex.quote(condition)
            return f"add it with `cies ingest -g {place} -c {quoted}`, or {any_at_once}"
        known = [word for words in declared.values() for word in words]
        if any(same_name(condition, word) for word in known):
            return f"add it with `cies ingest -g {place} -c {shlex.quote(condition)}`"
        return (
            f"the built-in model was not trained on it, so {any_at_once}, or name a large model: "
            f"`cies ingest -g {place} -c {shlex.quote(condition)} --model ORG/NAME`, of `cies "
            "models`"
        )

    def _unknown(
        self, condition: str, sources: Sequence[VectorSource], reason: str = ""
    ) -> UnknownCondition:
        """The error for a condition that none of some vector sources has.

        Args:
            condition: as the user typed it.
            sources: where it was looked for.
            reason: why no projection answers it, if one was tried.
        """
        tables = [table for source in sources for table in source.tables]
        names = ", ".join(dict.fromkeys(table.name for table in tables)) or "none"
        parts = [part for part in condition.split(",") if part.strip()][:9]
        if len(parts) > 1 and all(any(same_name(t.name, p) for t in tables) for p in parts):
            way = "give each a --condition of its own"
        elif "=" in condition and any(same_name(t.name, condition.split("=")[0]) for t in tables):
            way = "a weight is a number, such as `--condition color=2`"
        elif condition.isprintable() and len(condition) <= 80:
            way = self._how_to_add(condition, sources)
        else:
            way = "name one of those"
        several = len(vector_sources(self._gallery)) > 1
        no_projection = f" No projection answers it either: {reason}" if reason else ""
        by = f" by {sources[0].name}" if len(sources) == 1 and several else ""
        meant = similar_names(condition, [table.name for table in tables])
        return UnknownCondition(
            f"The gallery at {self._gallery.path} has no condition {shortened(condition)}{by}"
            f"{meant} (it has: {names}); {way}.{no_projection}"
        )


def _projection_name(method: str) -> str:
    """The projection that a method as typed names, or an empty text."""
    from ingest.encoders.projections.base import PROJECTIONS

    name = method.partition(":")[0]
    return name if name in PROJECTIONS else ""


def _base_source(sources: Sequence[VectorSource]) -> VectorSource | None:
    """The source of base vectors, if it has any."""
    return next((s for s in sources if s.spec.method == BASE and s.tables), None)
