"""Who made the tables of a gallery: several methods and models may stand side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.conditions import same_name
from ingest.encoders.base import EncoderSpec
from ingest.encoders.models.find import name_of

#: Methods whose vectors know their condition, as they are preferred where none is named.
CONDITIONAL = ("dior", "generative", "regional")

#: The method whose one table of base vectors is the ground that views stand on.
BASE = "clip"

#: The method whose one table holds captions, as vectors of their texts (`cies search --modify`).
CAPTIONS = "captions"


@dataclass(frozen=True)
class VectorSource:
    """A method and a model, with all that was chosen about them, and what they made.

    Attributes:
        spec: the encoder.
        tables: one a condition, in the order they were declared.
    """

    spec: EncoderSpec
    tables: tuple[VectorTable, ...]

    @property
    def name(self) -> str:
        """``METHOD:MODEL``, as :func:`chosen_maker` takes it."""
        return f"{self.spec.method}:{self.spec.model}"

    @property
    def conditional(self) -> bool:
        """Whether its vectors differ from condition to condition."""
        return conditional(self.spec.method)

    def table(self, condition: str) -> VectorTable | None:
        """Its table of a condition, if it has one; color finds colour."""
        exact = [table for table in self.tables if table.name == condition]
        alike = [table for table in self.tables if same_name(table.name, condition)]
        return next(iter([*exact, *alike]), None)


def conditional(method: str) -> bool:
    """Whether a stored method's vectors differ from condition to condition."""
    return method not in (BASE, CAPTIONS)


def vector_sources(gallery: Gallery) -> list[VectorSource]:
    """All makers of a gallery's tables, in the order in which their first was declared."""
    return grouped(gallery.conditions())


def grouped(tables: Sequence[VectorTable]) -> list[VectorSource]:
    """Tables by maker, in the order of each one's first."""
    found: list[tuple[EncoderSpec, list[VectorTable]]] = []
    for table in tables:
        spec = EncoderSpec.from_made_by(table.made_by)
        own = next((own for other, own in found if other == spec), None)
        if own is None:
            found.append((spec, [table]))
        else:
            own.append(table)
    return [VectorSource(spec, tuple(own)) for spec, own in found]


def main_vector_source(there: Sequence[VectorSource]) -> VectorSource | None:
    """Who answers and is added to where no method is named.

    The first of those whose vectors know their condition, by method as in :data:`CONDITIONAL`;
    else the one of base vectors; ``None`` if there is none at all.
    """
    for method in (*CONDITIONAL, BASE):
        for vector_source in there:
            if vector_source.spec.method == method:
                return vector_source
    return next(iter(there), None)


def base_vector_source(gallery: Gallery) -> VectorSource | None:
    """The maker of the gallery's base vectors, from which every condition can be worked out."""
    return next(
        (
            vector_source
            for vector_source in vector_sources(gallery)
            if vector_source.spec.method == BASE
        ),
        None,
    )


def chosen_vector_source(gallery: Gallery, text: str) -> VectorSource:
    """The maker that the user names.

    Args:
        gallery: whose.
        text: ``METHOD``, if one model alone was used with it, or ``METHOD:MODEL``.

    Raises:
        UsageError: naming those there are.
    """
    there = vector_sources(gallery)
    method, _, model = text.partition(":")
    fitting = [vector_source for vector_source in there if vector_source.spec.method == method]
    if model:
        names = {model, name_of(model)}
        fitting = [vector_source for vector_source in fitting if vector_source.spec.model in names]
    if len({vector_source.name for vector_source in fitting}) == 1:
        return fitting[0]
    if fitting:
        several = " or ".join(vector_source.name for vector_source in fitting)
        raise UsageError(
            f"The gallery at {gallery.path} has vectors of {method} by several models; name one: "
            f"{several}."
        )
    all_of_them = ", ".join(vector_source.name for vector_source in there) or "nothing yet"
    way = f", or add them with `cies ingest --method {method}"
    way += f"{f' --model {model}' if model else ''}`"
    raise UsageError(
        f"The gallery at {gallery.path} has no vectors made by {text} (it has: {all_of_them}); "
        f"name one of those{way if method in (*CONDITIONAL, BASE, CAPTIONS) else ''}."
    )
