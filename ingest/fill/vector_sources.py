"""Vector sources: the methods and models that made the tables of a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.conditions import same_name
from ingest.encoders.base import EncoderSpec
from ingest.encoders.models.find import stored_name

#: Built-in methods whose vectors depend on the condition, in the order of preference if the user
#: names none.
CONDITIONAL = ("dior", "generative", "regional")

#: The method that makes base vectors, from which projections compute vectors of any condition.
BASE = "clip"

#: The method that describes photographs without a large model.
PHOTO = "photo"

#: The method whose only table contains captions, embedded as texts (`cies search --modify`).
CAPTIONS = "captions"

#: The method of conditions that were learned from examples.
LEARNED = "learned"


@dataclass(frozen=True)
class VectorSource:
    """An encoder with all its settings, and the tables it filled.

    Attributes:
        spec: the encoder.
        tables: one for each condition, in the order in which they were declared.
    """

    spec: EncoderSpec
    tables: tuple[VectorTable, ...]

    @property
    def name(self) -> str:
        """``METHOD:MODEL``, as :func:`chosen_vector_source` accepts it."""
        return f"{self.spec.method}:{self.spec.model}"

    @property
    def conditional(self) -> bool:
        """Whether its vectors depend on the condition."""
        return is_conditional(self.spec.method)

    def table(self, condition: str) -> VectorTable | None:
        """Its table of a condition, or ``None``; a name matches in other spellings (colour)."""
        exact = [table for table in self.tables if table.name == condition]
        similar = [table for table in self.tables if same_name(table.name, condition)]
        return next(iter([*exact, *similar]), None)


def is_conditional(method: str) -> bool:
    """Whether a stored method's vectors depend on the condition."""
    return method not in (BASE, CAPTIONS)


def vector_sources(gallery: Gallery) -> list[VectorSource]:
    """All vector sources of a gallery, in the order in which their first table was declared."""
    return vector_sources_of(gallery.conditions())


def vector_sources_of(tables: Sequence[VectorTable]) -> list[VectorSource]:
    """The vector sources of tables, in the order of each one's first table."""
    # A specification has a mapping in it, so it cannot be a key of a dictionary.
    found: list[tuple[EncoderSpec, list[VectorTable]]] = []
    for table in tables:
        spec = EncoderSpec.from_made_by(table.made_by)
        same = next((tables for other, tables in found if other == spec), None)
        if same is None:
            found.append((spec, [table]))
        else:
            same.append(table)
    return [VectorSource(spec, tuple(tables)) for spec, tables in found]


def source_of_spec(sources: Sequence[VectorSource], spec: EncoderSpec) -> VectorSource:
    """The vector source of an encoder; one without tables if it is not among the sources."""
    return next((s for s in sources if s.spec == spec), VectorSource(spec, ()))


def by_preference(sources: Sequence[VectorSource]) -> list[VectorSource]:
    """Sources in the order in which they answer a condition when no method is named.

    Conditional methods come first, in the order of :data:`CONDITIONAL` and then those of other
    packages and of one's own; then base vectors, captions and learned conditions. Sources of the
    same method keep their order.
    """
    methods = [*CONDITIONAL, "", BASE, CAPTIONS, LEARNED]

    def rank(source: VectorSource) -> int:
        method = source.spec.method
        return methods.index(method if method in methods else "")

    return sorted(sources, key=rank)


def main_vector_source(sources: Sequence[VectorSource]) -> VectorSource | None:
    """The first source of :func:`by_preference`: searches and ingests use it when no method is
    named. ``None`` if there are no sources.
    """
    return next(iter(by_preference(sources)), None)


def base_vector_source(gallery: Gallery) -> VectorSource | None:
    """The source of the gallery's base vectors, or ``None``."""
    return next((s for s in vector_sources(gallery) if s.spec.method == BASE), None)


def chosen_vector_source(gallery: Gallery, text: str) -> VectorSource:
    """The vector source that the user names.

    Args:
        gallery: the gallery.
        text: ``METHOD``, if the gallery has it by only one model, or ``METHOD:MODEL``.

    Raises:
        UsageError: listing the sources of the gallery.
    """
    sources = vector_sources(gallery)
    method, _, model = text.partition(":")
    matching = [source for source in sources if source.spec.method == method]
    if model:
        names = {model, stored_name(model)}
        matching = [source for source in matching if source.spec.model in names]
    if len({source.name for source in matching}) == 1:
        return matching[0]
    if matching:
        raise UsageError(
            f"The gallery at {gallery.path} has vectors of {method} by several models; name one: "
            f"{' or '.join(source.name for source in matching)}."
        )
    existing = ", ".join(source.name for source in sources) or "nothing yet"
    way = ""
    if method in (*CONDITIONAL, BASE, CAPTIONS):
        way = f", or add them with `cies ingest --method {method}"
        way += f"{f' --model {model}' if model else ''}`"
    raise UsageError(
        f"The gallery at {gallery.path} has no vectors made by {text} (it has: {existing}); "
        f"name one of those{way}."
    )
