"""Makes encoders by name. Apart from the interface, so that it can import what it makes late."""

from __future__ import annotations

from indexes.errors import GalleryMismatch, UsageError
from ingest.encoders.base import Encoder, EncoderSpec
from ingest.encoders.models import DEFAULT_MODEL, find, layers_of
from ingest.encoders.options import DiorOptions

#: Method to one line about it.
METHODS = {"dior": "hidden state of a large vision-language model asked for one word"}

_DEFAULT = DiorOptions()


def make_encoder(
    method: str = "dior",
    model: str = DEFAULT_MODEL,
    prompt: str = "describe",
    dtype: str = "auto",
    device: str = "auto",
    force: bool = False,
    options: DiorOptions = _DEFAULT,
    device_map: str | None = None,
) -> Encoder:
    """Load an encoder.

    Args:
        method: one of :data:`METHODS`.
        model: a built-in name, ``ORG/NAME[@REVISION]``, or a folder.
        prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; several of one kind, such as
            ``cuda:0,cuda:1``, get a copy of the model each.
        force: serve conditions the model was not schooled on.
        options: what may be chosen beside.
        device_map: how accelerate spreads the model, such as ``auto``, in place of ``device``.

    Raises:
        UsageError: if there is no such method, prompt, layer or device.
        ModelError: if the model cannot be had.
    """
    if method not in METHODS:
        raise UsageError(f"There is no method '{method}'; choose one of {', '.join(METHODS)}.")
    from ingest.encoders.dior import DiorEncoder

    return DiorEncoder.load(model, prompt, dtype, device, force, options, device_map)


def _pinned(spec: EncoderSpec) -> str:
    """The model's name, with its revision if it is of the hub."""
    hub = "/" in spec.model and not spec.model.startswith("/")
    return f"{spec.model}@{spec.revision}" if hub else spec.model


def as_kept(options: DiorOptions, spec: EncoderSpec) -> DiorOptions:
    """The same choices as a gallery of this encoder keeps them: the last layer is -1.

    Raises:
        UsageError: if the model has no such layer.
        ModelError: if the model's configuration cannot be had.
    """
    if options.layer in (-1, spec.settings.get("layer", -1)):
        return options
    return options.for_layers(layers_of(find(_pinned(spec))))


def remake_encoder(
    spec: EncoderSpec, device: str = "auto", force: bool = False, device_map: str | None = None
) -> Encoder:
    """Load the encoder a gallery was filled with.

    Args:
        spec: what the gallery remembers of it.
        device: as for :func:`make_encoder`.
        force: as for :func:`make_encoder`.
        device_map: as for :func:`make_encoder`.

    Raises:
        GalleryMismatch: if what loads today would give other vectors.
        ModelError: if the model cannot be had.
    """
    settings = spec.settings
    encoder = make_encoder(
        spec.method,
        _pinned(spec),
        settings["prompt"],
        settings["dtype"],
        device,
        force,
        DiorOptions.from_settings(settings),
        device_map,
    )
    if encoder.spec != spec:
        raise GalleryMismatch(
            f"The gallery was embedded by another version of {spec.model} or of its prompt; "
            "ingest the pictures into a new gallery, or put that version back."
        )
    return encoder
