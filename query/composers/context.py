"""Gathers what composers work with from a gallery: its base vectors' model, captions, an LVLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexes.errors import ModelError, UsageError
from indexes.store.gallery import Gallery
from ingest.encoders.models.find import stored_name
from ingest.fill.vector_sources import CAPTIONS, VectorSource, vector_sources
from query.composers.base import CaptionWriter, ComposerContext
from query.composers.caption_writer import LvlmCaptionWriter
from query.composers.endpoint import Endpoint
from query.composers.modification import Modification
from query.open_gallery import OpenGallery

if TYPE_CHECKING:
    from ingest.encoders.methods.dior import DiorEncoder
    from ingest.encoders.vlm.generation import TextGenerator

#: The LVLM that is used when none is named and the gallery has none.
_BUILTIN = "tiny-lvlm"


def gallery_context(
    opened: OpenGallery, base: VectorSource, change: Modification
) -> ComposerContext:
    """What composers work with on a gallery.

    Args:
        opened: the gallery.
        base: the source of its base vectors.
        change: names the LVLM and the rewriter.
    """
    return ComposerContext(
        base.spec.model,
        lambda: opened.encoders.of(base.spec),
        lambda: caption_writer(opened, change),
        lambda: caption_source(opened.gallery, base) is not None,
    )


def caption_source(gallery: Gallery, base: VectorSource) -> VectorSource | None:
    """The source of a gallery's captions, embedded by the model of its base vectors."""
    for source in vector_sources(gallery):
        settings = source.spec.settings
        text_model = settings.get("sentences"), settings.get("sentences_revision")
        same = text_model == (base.spec.model, base.spec.revision)
        if source.spec.method == CAPTIONS and source.tables and same:
            return source
    return None


def lvlm_generator(opened: OpenGallery, change: Modification) -> TextGenerator:
    """The LVLM that writes and verifies: the one named, the gallery's own, or the built-in one.

    Raises:
        ModelError: if it cannot be loaded.
    """
    from ingest.encoders.vlm.generation import TextGenerator

    return TextGenerator(asked_encoder(opened, change.lvlm))


def asked_encoder(opened: OpenGallery, lvlm: str) -> DiorEncoder:
    """The encoder whose model is asked: the one named, the gallery's own, or the built-in one.

    Args:
        opened: the gallery.
        lvlm: the model's name, or empty.

    Raises:
        ModelError: if it cannot be loaded.
    """
    from ingest.encoders.methods.dior import DiorEncoder

    sources = [s for s in opened.resolver.conditional_sources() if s.spec.method == "dior"]
    if lvlm:
        sources = [source for source in sources if source.spec.model == stored_name(lvlm)]
    if sources:
        encoder = opened.encoders.of(sources[0].spec)
    else:
        encoder = opened.encoders.lvlm(lvlm or _BUILTIN)
    if not isinstance(encoder, DiorEncoder):
        raise ModelError(
            f"{encoder.spec.model} cannot be asked questions; name another model by --lvlm."
        )
    return encoder


def rewriter_endpoint(change: Modification) -> Endpoint | None:
    """The language model that rewrites captions, if one is named.

    Raises:
        UsageError: if its address is invalid, or a model is named without an address.
    """
    if change.rewriter:
        return Endpoint(change.rewriter, change.rewriter_model, change.rewriter_timeout)
    if change.rewriter_model:
        raise UsageError("--rewriter-model needs --rewriter, the address of the API.")
    return None


def caption_writer(opened: OpenGallery, change: Modification) -> CaptionWriter:
    """Writes captions with the LVLM of :func:`lvlm_generator`, and the rewriter if one is named.

    Raises:
        UsageError: see :func:`rewriter_endpoint`.
        ModelError: if the LVLM cannot be loaded.
    """
    endpoint = rewriter_endpoint(change)
    return LvlmCaptionWriter(lvlm_generator(opened, change), endpoint)
