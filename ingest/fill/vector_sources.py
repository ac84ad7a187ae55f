"""Vector sources: the methods and models that made the tables of a gallery."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Sequence

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.store.records import IMPORTED, VectorTable
from ingest.conditions import same_name
from ingest.encoders.base import EncoderSpec
from ingest.encoders.models.find import stored_name

#: Built-in methods whose vectors depend on the condition, in the order of preference if the user
#: names none.
CONDITIONAL = ("dior", "generative", "regional", "embedder")

#: Those of them that read a layer of a model.
LAYERED = ("dior", "regional")

#: The method that makes base vectors, from which projections compute vectors of any condition.
BASE = "clip"

#: The method by models of pictures alone.
VISION = "vision"

#: The method that describes photographs without a large model.
PHOTO = "photo"

#: The method by models that were trained to embed.
EMBEDDER = "embedder"

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
        """``METHOD:MODEL``, or ``METHOD@LAYER:MODEL`` for another layer than the last one, as
        :func:`chosen_vector_source` accepts it.
        """
        return f"{layered_method(self.spec)}:{self.spec.model}"

    @property
    def conditional(self) -> bool:
        """Whether its vectors depend on the condition."""
        return is_conditional(self.spec.method)

    def table(self, condition: str) -> VectorTable | None:
        """Its table of a condition, or ``None``; a name matches in other spellings (colour)."""
        exact = [table for table in self.tables if table.name == condition]
        similar = [table for table in self.tables if same_name(table.name, condition)]
        return next(iter([*exact, *similar]), None)


def layer_of(spec: EncoderSpec) -> int:
    """The layer whose states an encoder reads; -1 for the last one, and for other methods."""
    layer = spec.settings.get("layer", -1)
    return layer if spec.method in LAYERED and isinstance(layer, int) else -1


def layered_method(spec: EncoderSpec) -> str:
    """A method's name, followed by ``@`` and the layer if it reads another than the last one."""
    layer = layer_of(spec)
    return spec.method if layer == -1 else f"{spec.method}@{layer}"


def at_layer(spec: EncoderSpec, layer: int) -> EncoderSpec:
    """The same encoder, which reads another layer."""
    settings: dict[str, Any] = {**spec.settings, "layer": layer}
    return replace(spec, settings=settings)


def differ_in_layer(first: EncoderSpec, other: EncoderSpec) -> bool:
    """Whether two encoders are the same but for the layer that they read."""
    both = first.method in LAYERED and first != other
    return both and at_layer(first, -1) == at_layer(other, -1)


def source_at_layer(gallery: Gallery, source: VectorSource, layer: int) -> VectorSource:
    """The source of a gallery that differs in its layer only; the same if there is none."""
    spec = at_layer(source.spec, layer)
    return next((s for s in vector_sources(gallery) if s.spec == spec), source)


def in_one_pass(sources: Sequence[VectorSource]) -> list[VectorSource]:
    """Sources with those that differ only in their layer as one, which embeds for all of them.

    It has the tables of all and the specification of the preferred one; :func:`by_preference`
    prefers the last layer.
    """
    groups: list[list[VectorSource]] = []
    for source in sources:
        same = (g for g in groups if g[0].spec.pixels == source.spec.pixels)
        group = next((g for g in same if differ_in_layer(g[0].spec, source.spec)), None)
        if group is None:
            groups.append([source])
        else:
            group.append(source)
    return [
        VectorSource(by_preference(g)[0].spec, tuple(t for source in g for t in source.tables))
        for g in groups
    ]


def is_conditional(method: str) -> bool:
    """Whether a stored method's vectors depend on the condition."""
    return method not in (BASE, VISION, CAPTIONS)


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
    packages and of one's own; then base vectors, those of pictures alone, captions, learned
    conditions and imported vectors. Of several layers of one model the last comes first; other
    sources of the same method keep their order.
    """
    methods = [*CONDITIONAL, "", BASE, VISION, CAPTIONS, LEARNED, IMPORTED]

    def rank(source: VectorSource) -> tuple[int, bool]:
        method = source.spec.method
        others = any(differ_in_layer(source.spec, other.spec) for other in sources)
        is_inner = others and layer_of(source.spec) != -1
        return methods.index(method if method in methods else ""), is_inner

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
        text: ``METHOD``, if the gallery has it by only one model, or ``METHOD:MODEL``; of several
            layers, ``METHOD@LAYER`` chooses one, else it is the last.

    Raises:
        UsageError: listing the sources of the gallery.
    """
    sources = vector_sources(gallery)
    named, _, model = text.partition(":")
    method, _, layer = named.partition("@")
    matching = [source for source in sources if source.spec.method == method]
    if model:
        names = {model, stored_name(model)}
        matching = [source for source in matching if source.spec.model in names]
    if layer:
        matching = [source for source in matching if _reads(source.spec, layer)]
    if len({source.spec.model for source in matching}) == 1:
        return by_preference(matching)[0]
    if matching:
        raise UsageError(
            f"The gallery at {gallery.path} has vectors of {method} by several models; name one: "
            f"{' or '.join(source.name for source in matching)}."
        )
    existing = ", ".join(source.name for source in sources) or "nothing yet"
    way = ""
    if method in (*CONDITIONAL, BASE, VISION, CAPTIONS):
        way = f", or add them with `cies ingest --method {method}"
        way += f"{f' --model {model}' if model else ''}`"
    raise UsageError(
        f"The gallery at {gallery.path} has no vectors made by {text} (it has: {existing}); "
        f"name one of those{way}."
    )


def _reads(spec: EncoderSpec, layer: str) -> bool:
    """Whether an encoder reads a layer as the user numbers it: negative numbers count from -1.

    Raises:
        ModelError: if it is negative and the model's configuration cannot be read.
    """
    if spec.method not in LAYERED or not layer.removeprefix("-").isdecimal():
        return False
    own, number = layer_of(spec), int(layer)
    if number >= -1 or own == -1:
        return own == number
    from ingest.encoders.factory import layers_of_model

    return layers_of_model(spec) + 1 + number == own
