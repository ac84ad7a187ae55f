"""A gallery opened for search: what the steps of a search share, each part made when first used."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from indexes.store.gallery import Gallery
from indexes.store.paths import Paths
from ingest.encoders.base import BaseEncoder, EncoderSpec
from query.filters.filters import Filters
from query.open_tables import OpenTables
from query.projections import Projections
from query.resolver import ConditionResolver


class EncoderCache:
    """Encoders, each loaded once, when it is first needed.

    Attributes:
        loaded: those loaded so far.
    """

    def __init__(self, load: Callable[[EncoderSpec], BaseEncoder]):
        """Store the arguments; nothing is loaded yet.

        Args:
            load: loads the encoder of a spec.
        """
        self.loaded: list[BaseEncoder] = []
        self._load = load

    def of(self, spec: EncoderSpec) -> BaseEncoder:
        """The encoder of a spec.

        Raises:
            GalleryMismatch: if the model that loads today would make other vectors.
            ModelError: if the model cannot be loaded.
        """
        for encoder in self.loaded:
            if encoder.spec == spec:
                return encoder
        self.loaded.append(self._load(spec))
        return self.loaded[-1]

    def lvlm(self, model: str) -> BaseEncoder:
        """A large vision-language model by name, with default options.

        Raises:
            ModelError: if it cannot be loaded.
        """
        from ingest.encoders.factory import make_encoder

        self.loaded.append(make_encoder("dior", model))
        return self.loaded[-1]


class OpenGallery:
    """A gallery opened for search.

    Attributes:
        gallery: the gallery.
        encoders: loads encoders.
        resolver: finds the table that answers a condition.
        tables: opens tables in the geometry of the search.
        filters: the ``--where`` and ``--exclude-same`` filters.
    """

    def __init__(
        self,
        gallery: Gallery,
        load: Callable[[EncoderSpec], BaseEncoder],
        index: str = "auto",
        geometry: str | None = None,
        gone: bool = False,
        method: str | None = None,
    ):
        """Store the arguments, as of :class:`query.engine.Engine`; nothing is read yet."""
        self.gallery = gallery
        self.encoders = EncoderCache(load)
        projections = Projections(gallery, self.encoders.of)
        self.resolver = ConditionResolver(gallery, projections, method)
        self._index = index
        self._gone = gone
        self.tables = self._open_tables(geometry or gallery.geometry)
        self.filters = Filters(gallery)

    @cached_property
    def base_tables(self) -> OpenTables:
        """Opens tables in the raw geometry, for base vectors that are compared with texts: the
        mean of the pictures' vectors, which other geometries subtract, means nothing for texts.
        """
        return self.tables if self.tables.geometry == "raw" else self._open_tables("raw")

    @cached_property
    def paths(self) -> Paths:
        """Content key to stored paths."""
        return self.gallery.paths(self._gone)

    def path(self, key: str) -> str:
        """A picture's path on this machine; the first in path order if there are copies."""
        paths = self.paths.get(key)
        return self.gallery.location(paths[0]) if paths else ""

    def _open_tables(self, geometry: str) -> OpenTables:
        return OpenTables(self.gallery, self.resolver, self._index, geometry, self._gone)
