"""What composers work with, of one gallery: its base vectors' model, its captions, an LVLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from indexes.errors import ModelError, UsageError
from indexes.search.vectors import Vectors
from indexes.store.gallery import Gallery
from indexes.store.paths import Paths
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder
from ingest.fill.vector_sources import CAPTIONS, VectorSource, vector_sources
from query.build_hits import Places
from query.composers.base import CaptionWriter, Modification
from query.composers.caption_writer import LvlmCaptionWriter
from query.composers.endpoint import Endpoint
from query.encoders import Encoders
from query.filters.filters import Filters
from query.resolver import ConditionResolver

if TYPE_CHECKING:
    from ingest.encoders.inversion.encoder import Inversion
    from ingest.encoders.vlm.speaker import Speaker

#: The LVLM of a gallery that has none, where one is needed and none is named.
_BUILTIN = "tiny-lvlm"


@dataclass(frozen=True)
class Parts:
    """What an engine is made of, as composing needs it.

    Attributes:
        places: knows where pictures lie.
        gallery: what is searched.
        resolver: opens tables in the gallery's geometry.
        base: opens base vectors as they were stored.
        encoders: loads models.
        paths: content key to files.
        filters: of rows.
    """

    places: Places
    gallery: Gallery
    resolver: ConditionResolver
    base: ConditionResolver
    encoders: Encoders
    paths: Paths
    filters: Filters


class GalleryTools:
    """What composers work with, of one gallery."""

    def __init__(self, parts: Parts, base: VectorSource, change: Modification):
        self._parts = parts
        self._base = base
        self._change = change

    @property
    def base_model(self) -> str:
        """See :class:`query.composers.base.Tools`."""
        return self._base.spec.model

    @cached_property
    def writer(self) -> CaptionWriter:
        """See :class:`query.composers.base.Tools`."""
        return writer_of(self._parts, self._change)

    @property
    def has_captions(self) -> bool:
        """See :class:`query.composers.base.Tools`."""
        return captions_of(self._parts.gallery, self._base) is not None

    @cached_property
    def _encoder(self) -> BaseEncoder:
        return self._parts.encoders.of(self._base.spec)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """See :class:`query.composers.base.Tools`."""
        return self._encoder.encode_text(list(texts), [Condition.parse(UNCONDITIONAL)])[:, 0]

    def cut(self, text: str) -> str:
        """See :class:`query.composers.base.Tools`."""
        from ingest.encoders.methods.clip import ClipEncoder

        return self._encoder.dual.cut(text) if isinstance(self._encoder, ClipEncoder) else text

    def inversion(self) -> Inversion:
        """See :class:`query.composers.inversion.InversionTools`."""
        from ingest.encoders.inversion.encoder import Inversion
        from ingest.encoders.methods.clip import ClipEncoder

        if not isinstance(self._encoder, ClipEncoder):
            raise ModelError(f"{self._base.spec.model} reads no texts; choose another --composer.")
        return Inversion.of(self._encoder.dual)


def captions_of(gallery: Gallery, base: VectorSource) -> VectorSource | None:
    """Who wrote the captions of a gallery that were embedded by the model of its base vectors."""
    for vector_source in vector_sources(gallery):
        settings = vector_source.spec.settings
        read_by = settings.get("sentences"), settings.get("sentences_revision")
        same = read_by == (base.spec.model, base.spec.revision)
        if vector_source.spec.method == CAPTIONS and vector_source.tables and same:
            return vector_source
    return None


def speaker_of(parts: Parts, change: Modification) -> Speaker:
    """The LVLM that writes and verifies: the one named, the gallery's own, or the built-in one.

    Raises:
        ModelError: if it cannot be had.
    """
    from ingest.encoders.methods.dior import DiorEncoder
    from ingest.encoders.vlm.speaker import Speaker

    own = [
        vector_source
        for vector_source in parts.resolver.lvlms()
        if vector_source.spec.method == "dior"
    ]
    if change.lvlm:
        own = [vector_source for vector_source in own if vector_source.spec.model == change.lvlm]
    if own:
        encoder = parts.encoders.of(own[0].spec)
    else:
        encoder = parts.encoders.named(change.lvlm or _BUILTIN)
    if not isinstance(encoder, DiorEncoder):
        raise ModelError(
            f"{encoder.spec.model} cannot be asked questions; name another model by --lvlm."
        )
    return Speaker(encoder)


def writer_of(parts: Parts, change: Modification) -> CaptionWriter:
    """What puts pictures and changes into words.

    Raises:
        UsageError: if the rewriter's address is none.
        ModelError: if the LVLM cannot be had.
    """
    endpoint = None
    if change.rewriter:
        endpoint = Endpoint(change.rewriter, change.rewriter_model, change.rewriter_timeout)
    elif change.rewriter_model:
        raise UsageError("--rewriter-model needs --rewriter, the address of the API.")
    return LvlmCaptionWriter(speaker_of(parts, change), endpoint)
