"""The Python face: open, create, ingest, search."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterable, Sequence

from cies.gallery_search import SearchableGallery
from indexes.store.gallery import Gallery
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.encoders.factory import make_encoder, normalized_options, remake_encoder
from ingest.encoders.models.find import DEFAULT_MODEL
from ingest.encoders.options import EncoderOptions
from ingest.fill.encoder_choice import check_same_choices, choose, conditions_for, notes_on_target
from ingest.fill.pipeline import IngestReport, Progress
from ingest.fill.pipeline import ingest as fill
from ingest.sources.base import SourceOptions
from ingest.sources.factory import SourceGroup


def open(
    path: str | Path,
    device: str = "auto",
    index: str = "auto",
    geometry: str | None = None,
    gone: bool = False,
    method: str | None = None,
) -> SearchableGallery:
    """Open a gallery for searching.

    Args:
        path: the gallery's folder.
        device: where the model runs if a new picture is asked for.
        index: one of :data:`indexes.search.factory.KINDS`, or a FAISS factory string.
        geometry: ``raw``, ``centred``, ``standardised`` or ``residual``; the gallery's own by
            default.
        gone: whether pictures are found of which no file was left at the last scan.
        method: ``METHOD`` or ``METHOD:MODEL`` by which conditions are answered: one that the
            gallery has vectors of, or ``clay``, ``crl`` or ``indirect``; the main one by default.

    Returns:
        The gallery, to be asked: ``g.search(image, condition, k)``, ``g.vectors(condition)``,
        ``g.conditions``. Nothing is read yet.

    Raises:
        GalleryMissing: if there is no gallery.
    """

    def load(spec: EncoderSpec) -> BaseEncoder:
        # What the gallery accepted once need not be forced again.
        return remake_encoder(spec, device, force=True)

    return SearchableGallery(Gallery.open(path), load, index, geometry, gone, method)


def create(path: str | Path, geometry: str | None = None) -> Gallery:
    """Open a gallery for filling, made empty first if there is none.

    Args:
        path: its folder.
        geometry: how a new gallery compares vectors: ``raw``, ``centred``, ``standardised`` or
            ``residual``, which embeds under ``unconditional`` as well.

    Raises:
        GalleryError: if the folder holds something else.
        GalleryMismatch: if there is a gallery and it compares otherwise.
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
    """Load an encoder as pipelines take it: ``ingest.fill.embedding.embed(encoder, ...)``.

    To embed pictures by hand, :meth:`cies.Encoder.load` is more convenient. See
    :func:`ingest.encoders.factory.make_encoder` for the arguments and errors.
    """
    return make_encoder(
        method, model, prompt, dtype, device, force, options or EncoderOptions(), device_map
    )


def ingest(
    gallery: Gallery,
    sources: Sequence[str | Path | SourceGroup] = (),
    conditions: Iterable[str | Condition] = (),
    model: str | None = None,
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
) -> IngestReport:
    """Embed the pictures of some sources into a gallery; what is there is not done again.

    A gallery may have vectors of several methods and models: with a ``method`` or ``model`` that
    it has not yet, these are added, and every run keeps up all of them.

    Args:
        gallery: from :func:`create`.
        sources: folders (searched through), files, patterns, tables (CSV, JSONL, Parquet), tar
            shards, folders of ``datasets``, and addresses such as ``s3://bucket/photos``; none
            for all those ingested before.
        conditions: to embed under; those the gallery has are kept up in any case. Of a method
            that is added and needs some, by default those of the others.
        model: a built-in name, ``ORG/NAME[@REVISION]`` or a folder; the gallery's own, or the
            built-in one of the method, by default.
        method: one of :data:`ingest.encoders.factory.METHODS`; the gallery's main one, or what
            ``model`` is made for, by default. ``clip`` stores one vector a picture, whatever the
            condition; for the views that are worked out of them, such as ``indirect``, the same
            is stored.
        prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``; the
            gallery's own, or ``describe``, by default.
        dtype: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is the gallery's own, or what
            suits the model.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; several of one kind, such as
            ``cuda:0,cuda:1``, get a copy of the model each.
        force: accept conditions the model was not schooled on.
        progress: told after every batch.
        announce: told of each encoder once it is loaded.
        options: what else may be chosen about the vectors; the gallery's own by default.
        device_map: how accelerate spreads the model, such as ``auto``, in place of ``device``.
        source_options: how sources are read: patterns, the image column, the columns to keep.
        retry_failed: whether to try again what could not be read and has not changed.
        finished: told of each encoder when it has done its part.

    Raises:
        CiesError: with one sentence that names the way out.
    """
    wanted = [c if isinstance(c, Condition) else Condition.parse(c) for c in conditions]
    choice = choose(gallery, method, model)
    notes = notes_on_target(choice, bool(wanted))
    if choice.vector_source is not None:
        options = options and normalized_options(options, choice.vector_source.spec)
        check_same_choices(gallery, choice.vector_source, prompt, dtype, options)
    wanted = conditions_for(choice, gallery, wanted, gallery.geometry)

    def load(spec: EncoderSpec | None) -> BaseEncoder:
        if spec is None:
            encoder = load_encoder(
                choice.model,
                choice.method,
                prompt or "describe",
                dtype,
                device,
                force,
                options,
                device_map,
            )
        else:
            encoder = remake_encoder(spec, device, force, device_map)
        announce(encoder)
        return encoder

    report = fill(
        gallery,
        sources,
        wanted,
        load,
        progress,
        source_options,
        retry_failed,
        choice.vector_source.spec if choice.vector_source else None,
        choice.vector_source is None,
        finished,
    )
    report.notes[:0] = notes
    return report
