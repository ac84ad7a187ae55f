"""The functions of ``import cies``: open, create, ingest, load_encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterable, Sequence

from cies.gallery_search import SearchableGallery
from indexes.store.gallery import Gallery
from ingest.conditions import Condition
from ingest.encoders.models.find import DEFAULT_MODEL

if TYPE_CHECKING:
    from ingest.encoders.base import BaseEncoder, EncoderSpec, PlainEncoder
    from ingest.encoders.options import EncoderOptions
    from ingest.fill.pipeline import IngestReport, Progress
    from ingest.sources.base import SourceOptions
    from ingest.sources.factory import SourceGroup

# A search of stored pictures needs no encoder and no ingest, so these are imported when used.


def open(
    path: str | Path,
    device: str = "auto",
    index: str = "auto",
    geometry: str | None = None,
    gone: bool = False,
    method: str | None = None,
    model: PlainEncoder | BaseEncoder | None = None,
    follow: bool = True,
) -> SearchableGallery:
    """Open a gallery for searching.

    All answers are from one moment of the gallery. Before a search, at most every second, it looks
    whether another process has written to it, and then takes the newest state as a whole.

    Args:
        path: the gallery's folder.
        device: the device that the model runs on if a query is a new picture.
        index: one of :data:`indexes.search.factory.KINDS`, or a FAISS factory string.
        geometry: ``raw``, ``centred``, ``standardised`` or ``residual``; the gallery's own by
            default.
        gone: whether pictures are found that had no file at the last scan.
        method: ``METHOD`` or ``METHOD:MODEL`` that answers conditions: one that the gallery has
            vectors of, or ``clay``, ``crl`` or ``indirect``; the main one by default.
        model: an encoder of your own, the object that was passed to :func:`ingest`; needed only
            for queries that are not in the gallery.
        follow: whether to look for a newer state; without it, only ``g.refresh()`` does.

    Returns:
        The gallery with its methods, such as ``g.search(image, condition, k)``,
        ``g.vectors(condition)`` and ``g.conditions``. Nothing is read yet.

    Raises:
        GalleryMissing: if there is no gallery.
        UsageError: if ``model`` is not an encoder.
    """
    encoder: BaseEncoder | None = None
    if model is not None:
        from ingest.encoders.factory import as_encoder

        encoder = as_encoder(model)

    def load(spec: EncoderSpec) -> BaseEncoder:
        if encoder is not None and encoder.spec == spec:
            return encoder
        from ingest.encoders.factory import remake_encoder

        # Conditions that the gallery has were accepted before.
        return remake_encoder(spec, device, force=True)

    return SearchableGallery(Gallery.open(path), load, index, geometry, gone, method, follow)


def create(path: str | Path, geometry: str | None = None) -> Gallery:
    """Open a gallery for filling; an empty one is made first if there is none.

    Args:
        path: the gallery's folder.
        geometry: how a new gallery compares vectors: ``raw``, ``centred``, ``standardised`` or
            ``residual``, which also embeds under ``unconditional``.

    Raises:
        GalleryError: if the folder contains something else.
        GalleryMismatch: if there is a gallery with another geometry.
    """
    return Gallery.create(path, geometry)


def load_encoder(
    model: str = DEFAULT_MODEL,
    method: str = "dior",
    prompt: str = "describe",
    dtype: str = "auto",
    device: str = "auto",
    force: bool = False,
    options: EncoderOptions | None = None,
    device_map: str | None = None,
) -> BaseEncoder:
    """Load an encoder for a pipeline of your own: ``ingest.fill.embedding.embed(encoder, ...)``.

    To embed single pictures, :meth:`cies.Encoder.load` is more convenient. See
    :func:`ingest.encoders.factory.make_encoder` for the arguments and errors.
    """
    from ingest.encoders.factory import make_encoder
    from ingest.encoders.options import DEFAULT_OPTIONS

    return make_encoder(
        method, model, prompt, dtype, device, force, options or DEFAULT_OPTIONS, device_map
    )


def ingest(
    gallery: Gallery | SearchableGallery | str | Path,
    sources: Sequence[str | Path | SourceGroup] = (),
    conditions: Iterable[str | Condition] = (),
    model: str | PlainEncoder | BaseEncoder | None = None,
    method: str | None = None,
    prompt: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    force: bool = False,
    progress: Callable[[Progress], None] = lambda state: None,
    announce: Callable[[BaseEncoder], None] = lambda encoder: None,
    options: EncoderOptions | None = None,
    device_map: str | None = None,
    source_options: SourceOptions | None = None,
    retry_failed: bool = False,
    finished: Callable[[BaseEncoder], None] = lambda encoder: None,
    layers: Sequence[int] = (),
) -> IngestReport:
    """Embed the pictures of some sources into a gallery; existing vectors are not computed again.

    A gallery may have vectors of several methods and models. A ``method`` or ``model`` that the
    gallery does not have yet is added, and every run embeds under all of them.

    Args:
        gallery: the gallery's folder, created if there is none, or the gallery itself, from
            :func:`create` or :func:`open`.
        sources: folders (searched with their subfolders), files, patterns, tables (CSV, JSONL,
            Parquet), tar shards, folders of ``datasets``, and addresses such as
            ``s3://bucket/photos``; none for all that were ingested before.
        conditions: to embed under; those of the gallery are always included. A new conditional
            method embeds under the conditions of the others by default.
        model: a built-in name, ``ORG/NAME[@REVISION]``, a folder, or an object of your own with
            ``encode`` (:class:`ingest.encoders.base.PlainEncoder`); the gallery's own, or the
            method's default, by default.
        method: one of :data:`ingest.encoders.factory.METHODS`; the gallery's main one, or the one
            that fits ``model``, by default. ``clip`` stores one vector for each picture, whatever
            the condition; a method that computes its vectors from those, such as ``indirect``,
            stores the same.
        prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``; the
            gallery's own, or ``describe``, by default.
        dtype: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is the gallery's own, or what
            suits the model.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; several of one kind, such as
            ``cuda:0,cuda:1``, get a copy of the model each.
        force: accept conditions that the model was not trained on.
        progress: called after every batch.
        announce: called with each encoder after it was loaded.
        options: further choices about the vectors; the gallery's own by default.
        device_map: how accelerate spreads the model, such as ``auto``, in place of ``device``.
        source_options: how sources are read: patterns, the image column, the columns to store.
        retry_failed: whether to read files again that could not be read before and have not
            changed.
        finished: called with each encoder after it has embedded its last picture.
        layers: several layers of the model to embed by in one pass, in place of the one of
            ``options``; negative numbers count from the last one, -1. Each is a vector source of
            its own, which searches name as ``METHOD@LAYER``; the last layer is ``METHOD``.

    Raises:
        CiesError: with one sentence that says what to do.
    """
    from ingest.encoders.factory import normalized_options
    from ingest.encoders.options import EncoderOptions
    from ingest.fill.encoder_choice import (
        EncoderRequest,
        check_settings,
        choose_target,
        conditions_for,
        encoder_loader,
        notes_on_target,
    )
    from ingest.fill.pipeline import IngestEvents
    from ingest.fill.pipeline import ingest as fill
    from ingest.fill.vector_sources import layer_of, source_at_layer

    opened = gallery if isinstance(gallery, SearchableGallery) else None
    if isinstance(gallery, (str, Path)):
        gallery = create(gallery)
    elif isinstance(gallery, SearchableGallery):
        gallery = gallery.gallery
    if layers:
        options = replace(options or EncoderOptions(), layer=layers[0])
    request = EncoderRequest(model, method, prompt, dtype, device, force, options, device_map)
    wanted = [c if isinstance(c, Condition) else Condition.parse(c) for c in conditions]
    target = choose_target(gallery, method, model)
    load = encoder_loader(request, target)
    notes = notes_on_target(target, bool(wanted))
    source = target.vector_source
    if source is not None:
        if options is not None:
            options = normalized_options(options, source.spec)
            source = source_at_layer(gallery, source, options.layer)
            if layers:  # each is a source of its own, so that no layer is wrong
                options = replace(options, layer=layer_of(source.spec))
        check_settings(gallery, source, replace(request, options=options))
    report = fill(
        gallery,
        sources,
        conditions_for(target, gallery, wanted, gallery.geometry),
        load,
        target=source.spec if source is not None else None,
        is_new=source is None,
        source_options=source_options,
        retry_failed=retry_failed,
        events=IngestEvents(progress, announce, finished),
        layers=layers,
    )
    report.notes[:0] = notes
    if opened is not None:
        opened.refresh()
    return report
