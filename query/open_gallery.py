"""A gallery opened for search: what the steps of a search share, each part made when first used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property

from PIL import Image

from indexes.store.gallery import Gallery
from indexes.store.paths import Paths
from indexes.store.places import existing_path
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec
from query.filters.filters import Filters
from query.open_tables import OpenTables
from query.projections import Projections
from query.resolver import ConditionResolver


class EncoderCache:
    """Encoders, each loaded once, when it is first needed; threads may share them.

    Attributes:
        loaded: those loaded so far.
        embed_images: embeds query images with one of them; a server puts a queue here, so that
            the images of several requests are embedded together.
    """

    def __init__(self, load: Callable[[EncoderSpec], BaseEncoder]):
        """Store the arguments; nothing is loaded yet.

        Args:
            load: loads the encoder of a spec.
        """
        self.loaded: list[BaseEncoder] = []
        self.embed_images: Callable[
            [BaseEncoder, Sequence[Image.Image], Sequence[Condition]], Embeddings
        ] = lambda encoder, images, conditions: encoder.embed(images, conditions)
        self._load = load
        self._lock = threading.Lock()

    def of(self, spec: EncoderSpec) -> BaseEncoder:
        """The encoder of a spec.

        Raises:
            GalleryMismatch: if the model that loads today would make other vectors.
            ModelError: if the model cannot be loaded.
        """
        with self._lock:
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
    """A gallery opened for search, at one moment: what is written later does not change it.

    Attributes:
        gallery: the gallery at that moment.
        live: the gallery to write to.
        moment: the moment.
        encoders: loads encoders.
        resolver: finds the table that answers a condition.
        tables: opens tables in the geometry of the search.
        filters: the ``--where`` and ``--exclude-same`` filters, and the columns.
    """

    def __init__(
        self,
        gallery: Gallery,
        load: Callable[[EncoderSpec], BaseEncoder],
        index: str = "auto",
        geometry: str | None = None,
        gone: bool = False,
        method: str | None = None,
        before: OpenGallery | None = None,
    ):
        """Look which state is the newest; nothing is read yet.

        Args:
            gallery: the gallery to write to.
            load: see :class:`query.engine.Engine`, as the other arguments.
            index: see there.
            geometry: see there.
            gone: see there.
            method: see there.
            before: the same gallery at an earlier moment, opened with the same arguments. What has
                not changed since is not read again.

        Raises:
            GalleryMissing: if the gallery is gone.
        """
        self.live = gallery
        self.moment = gallery.newest_moment()
        self._arguments = load, index, geometry, gone, method
        self._gone = gone
        #: Parts of an earlier moment that are read again only where they have changed.
        self._before_paths: Paths | None = None
        self._before_base: OpenTables | None = None
        if before is not None:
            self._before_paths = before.__dict__.get("paths", before._before_paths)
            self._before_base = before.__dict__.get("base_tables", before._before_base)
        earlier = before.gallery if before is not None else None
        self.gallery: Gallery = gallery.at_moment(self.moment, earlier)
        self.encoders: EncoderCache = EncoderCache(load) if before is None else before.encoders
        self.resolver: ConditionResolver
        if before is not None and all(
            before.moment.get(name) == self.moment.get(name) for name in ("manifest", "statistics")
        ):
            self.resolver = before.resolver
        else:
            projections = Projections(self.gallery, self.encoders.of)
            self.resolver = ConditionResolver(self.gallery, projections, method)
        self.tables: OpenTables = self._open_tables(
            geometry or self.gallery.geometry, before.tables if before is not None else None
        )
        self.filters = Filters(self.gallery)

    def renewed(self) -> OpenGallery:
        """The same gallery at the newest moment."""
        return OpenGallery(self.live, *self._arguments, before=self)

    def tables_as_written(self) -> OpenTables:
        """Opens the newest vectors of the pictures of this moment, such as those that the caller
        has just stored.
        """
        gallery = self.gallery.with_newest_vectors()
        projections = Projections(gallery, self.encoders.of)
        resolver = ConditionResolver(gallery, projections, self._arguments[4])
        return OpenTables(gallery, resolver, self._arguments[1], self.tables.geometry, self._gone)

    @cached_property
    def base_tables(self) -> OpenTables:
        """Opens tables in the raw geometry, for base vectors that are compared with texts: the
        mean of the pictures' vectors, which other geometries subtract, means nothing for texts.
        """
        if self.tables.geometry == "raw":
            return self.tables
        return self._open_tables("raw", self._before_base)

    @cached_property
    def paths(self) -> Paths:
        """Content key to stored paths."""
        return self.gallery.paths(self._gone, self._before_paths)

    def path(self, key: str) -> str:
        """A picture's path on this machine: of its files the first that exists, in path order."""
        return self.existing(self.paths.get(key) or [])[0]

    def existing(self, paths: Sequence[str]) -> tuple[str, bool]:
        """The path on this machine of the first of some stored paths that exists, and whether one
        does; if none does, that of the first, which is empty if there are none.
        """
        return existing_path(self.gallery, paths) if paths else ("", False)

    def _open_tables(self, geometry: str, before: OpenTables | None) -> OpenTables:
        index = self._arguments[1]
        return OpenTables(self.gallery, self.resolver, index, geometry, self._gone, before)
