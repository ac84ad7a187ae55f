"""Chooses the vector source of an ingest from the user's method, model and other values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from indexes.errors import GalleryMismatch, UsageError
from indexes.geometry import RESIDUAL
from indexes.store.gallery import Gallery
from indexes.store.records import IMPORTED
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder, EncoderSpec, PlainEncoder
from ingest.encoders.embedders.presets import preset_of
from ingest.encoders.factory import METHODS, as_encoder, make_encoder, method_info, remake_encoder
from ingest.encoders.models.find import (
    DEFAULT_MODEL,
    DEFAULT_PHOTO,
    OPEN_CLIP,
    find_model,
    is_dual,
    is_vision,
    stored_name,
)
from ingest.encoders.options import DEFAULT_OPTIONS, DEFAULT_PROMPT, SERVED, EncoderOptions
from ingest.fill.vector_sources import (
    BASE,
    EMBEDDER,
    PHOTO,
    VISION,
    VectorSource,
    is_conditional,
    main_vector_source,
    vector_sources,
)

#: The conditions of the method photo if the user names none.
PHOTO_CONDITIONS = ("kind", "color", "pattern", "style", "layout")


@dataclass(frozen=True)
class EncoderRequest:
    """An encoder as the user asks for it; for values see :class:`EncoderChoice`.

    Attributes:
        model: a name, or an object with ``encode``; ``None`` for the gallery's own, or the
            method's default.
        method: ``None`` for the gallery's main one, or the one that fits the model.
        prompt: ``None`` for the gallery's own, or the default.
        dtype: ``auto`` for the gallery's own, or what suits the model.
        device: where the encoder runs.
        force: accept conditions that the model was not trained on.
        options: ``None`` for the gallery's own, or the defaults.
        device_map: how accelerate spreads the model, in place of ``device``.
    """

    model: str | PlainEncoder | BaseEncoder | None = None
    method: str | None = None
    prompt: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    force: bool = False
    options: EncoderOptions | None = None
    device_map: str | None = None


@dataclass(frozen=True)
class IngestTarget:
    """The vector source that an ingest adds conditions to; all others are updated as well.

    Attributes:
        method: the stored method.
        model: as the user named it, or the default.
        vector_source: the stored vector source; ``None`` if it is new.
        view: the requested method, if its vectors are computed from those of ``method``; else
            empty.
        encoder: the user's own object, if one was passed.
    """

    method: str
    model: str
    vector_source: VectorSource | None
    view: str = ""
    encoder: BaseEncoder | None = None

    @property
    def conditional(self) -> bool:
        """Whether its vectors depend on the condition."""
        return is_conditional(self.method)


def choose_target(
    gallery: Gallery | None,
    method: str | None = None,
    model: str | PlainEncoder | BaseEncoder | None = None,
) -> IngestTarget:
    """Choose the vector source that the user means.

    Args:
        gallery: ``None`` if it does not exist yet.
        method: as typed; by default the gallery's main one, or the one that fits ``model``.
        model: as typed, or an encoder object; by default the gallery's, or the method's default.

    Raises:
        UsageError: if there is no such method, the object is not an encoder, or the gallery has
            several models of the method and none is named.
        ModelError: if there is no such model.
    """
    sources = vector_sources(gallery) if gallery is not None else []
    # No encoder adds to vectors that were imported: without others, the gallery is as a new one.
    sources = [source for source in sources if source.spec.method != IMPORTED]
    if model is not None and not isinstance(model, str):
        encoder = as_encoder(model, method)
        spec = encoder.spec
        existing = next((source for source in sources if source.spec == spec), None)
        return IngestTarget(spec.method, spec.model, existing, encoder=encoder)
    view = ""
    if method is not None and method_info(method).kind == "view":
        view, method = method, BASE
    if model is not None:
        if method in (None, *METHODS) and not model.startswith(OPEN_CLIP):
            find_model(model)  # Fails now if there is no such model.
        name = stored_name(model)
        of_model = [source for source in sources if source.spec.model == name]
        if method is None:
            main = main_vector_source(of_model)
            method = main.spec.method if main else _usual_method(model)
        existing = main_vector_source([s for s in of_model if s.spec.method == method])
        return IngestTarget(method, model, existing, view)
    if method is None:
        main = main_vector_source(sources)
        matching = [main] if main else []
    else:
        matching = [source for source in sources if source.spec.method == method]
    models = dict.fromkeys(source.spec.model for source in matching)
    if len(models) > 1:
        raise UsageError(
            f"The gallery at {gallery.path if gallery else ''} has vectors of {method} by several "
            f"models; name one with --model: {', '.join(models)}."
        )
    found = main_vector_source(matching)
    if found is not None:
        return IngestTarget(found.spec.method, found.spec.model, found, view)
    method = method or "dior"
    return IngestTarget(method, method_info(method).model, None, view)


def photo_answers(conditions: Sequence[Condition]) -> bool:
    """Whether the method photo is installed and answers all of some conditions. Loads no model."""
    from ingest.encoders.models.find import find_photo_weights
    from ingest.encoders.photo.conditions import answered_by

    names = [condition.name for condition in conditions]
    return find_photo_weights() is not None and all(answered_by(name) for name in names)


def _usual_method(model: str) -> str:
    """The method that fits a model."""
    if model == DEFAULT_PHOTO:
        return PHOTO
    if not model.startswith(SERVED) and preset_of(model) is not None:
        return EMBEDDER
    if is_vision(model):
        return VISION
    return BASE if is_dual(model) else "dior"


def encoder_loader(
    request: EncoderRequest, target: IngestTarget
) -> Callable[[EncoderSpec | None], BaseEncoder]:
    """A function that loads the encoder of a gallery's source or, for ``None``, of a new target.

    Raises:
        UsageError: if a value was requested that does not apply to the user's own object.
    """
    given = (request.prompt, request.options, request.device_map)
    if target.encoder is not None and (any(given) or request.dtype != "auto"):
        raise UsageError(
            "prompt, dtype, options and device_map do not apply to an encoder of your own; set "
            "them in the object and leave them out."
        )

    def load(spec: EncoderSpec | None) -> BaseEncoder:
        if target.encoder is not None and spec in (None, target.encoder.spec):
            return target.encoder
        if spec is not None:
            return remake_encoder(spec, request.device, request.force, request.device_map)
        return make_encoder(
            target.method,
            target.model,
            request.prompt or DEFAULT_PROMPT,
            request.dtype,
            request.device,
            request.force,
            request.options or DEFAULT_OPTIONS,
            request.device_map,
        )

    return load


def default_conditions(target: IngestTarget, gallery: Gallery | None = None) -> list[Condition]:
    """The conditions of a new vector source if the user names none.

    The conditions of the other vector sources of the gallery; in an empty gallery, all conditions
    that the built-in model knows, which take one pass together, or :data:`PHOTO_CONDITIONS`; for
    an embedder, the picture as a whole. Other models have no default.
    """
    if target.method == PHOTO:
        return [Condition.parse(name) for name in PHOTO_CONDITIONS]
    tables = gallery.conditions() if gallery is not None else []
    known = [
        Condition(table.name, str(table.made_by["phrase"]))
        for table in tables
        if table.kept_up and is_conditional(EncoderSpec.from_made_by(table.made_by).method)
    ]
    if known:
        return list({condition.name: condition for condition in known}.values())
    if target.method == EMBEDDER:  # it embeds whole pictures too
        return [Condition.parse(UNCONDITIONAL)]
    if target.model != DEFAULT_MODEL:
        return []
    return [Condition.parse(name) for name in find_model(DEFAULT_MODEL).declared_conditions() or {}]


def conditions_for(
    target: IngestTarget, gallery: Gallery | None, wanted: Sequence[Condition], geometry: str
) -> list[Condition]:
    """The conditions to embed under: those the user wants, or the defaults of a new source.

    Args:
        target: the vector source.
        gallery: ``None`` if it does not exist yet.
        wanted: conditions that the user named.
        geometry: the geometry of the gallery.

    Raises:
        UsageError: if a new source needs conditions, none is named and it has no defaults.
    """
    conditions = list(wanted)
    if target.vector_source is None and target.conditional and not conditions:
        conditions = default_conditions(target, gallery)
        if not conditions:
            raise UsageError("No condition was named; add one, such as `--condition color`.")
    if geometry == RESIDUAL:
        # These vectors are subtracted, so every picture needs one; they take no extra pass.
        conditions.append(Condition.parse(UNCONDITIONAL))
    return conditions


def notes_on_target(target: IngestTarget, has_conditions: bool) -> list[str]:
    """Notes for the user about a target: its vectors do not depend on the condition, or ingesting
    again would improve them.

    Args:
        target: the vector source.
        has_conditions: whether the user named conditions.
    """
    notes = []
    if target.view:
        notes.append(
            f"{target.view} is computed from the vectors of {target.method}, which are stored once "
            "for every condition"
        )
    if target.vector_source is not None and target.vector_source.spec.outdated:
        notes.append(target.vector_source.spec.outdated.rstrip("."))
    if has_conditions and not target.conditional:
        searchable = ""
        if target.method == BASE:
            searchable = ": those named with -c, and any other, can be searched at once"
        notes.append(
            f"{target.method} stores one vector for each picture whatever the condition, so that "
            f"none was added{searchable}"
        )
    return notes


def check_settings(gallery: Gallery, source: VectorSource, request: EncoderRequest) -> None:
    """Refuse a request whose settings differ from those a vector source was made with.

    Args:
        gallery: the gallery that is filled.
        source: the source of this gallery.
        request: the requested values; ``options`` as the gallery stores them
            (:func:`ingest.encoders.factory.normalized_options`).

    Raises:
        GalleryMismatch: naming the setting that differs.
        UsageError: if there is a prompt and the method does not ask a model.
    """
    if request.prompt is not None and not source.conditional:
        raise UsageError(
            f"--prompt does not apply to the method {source.spec.method}, which asks no question; "
            "leave it out."
        )
    wanted: dict[str, Any] = asdict(request.options) if request.options is not None else {}
    if request.prompt is not None:
        wanted["prompt"] = request.prompt
    if request.dtype != "auto":
        wanted["dtype"] = request.dtype
    stored = source.spec.settings
    settings = {**asdict(EncoderOptions.from_settings(stored)), **stored}
    for name, value in wanted.items():
        if settings.get(name) != value:
            raise GalleryMismatch(
                f"The gallery at {gallery.path} was built with {name} {settings.get(name)}, not "
                f"{value}; leave --prompt, --dtype and the other choices of the encoder out, "
                "or make another gallery with --gallery."
            )
