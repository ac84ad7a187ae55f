"""Makes encoders by name. Apart from the interface, so that it can import what it makes late."""

from __future__ import annotations

from indexes.errors import GalleryMismatch, UsageError
from ingest.encoders.base import Encoder, EncoderSpec
from ingest.encoders.models import DEFAULT_MODEL

#: Method to one line about it.
METHODS = {"dior": "hidden state of a large vision-language model asked for one word"}


def make_encoder(
    method: str = "dior",
    model: str = DEFAULT_MODEL,
    prompt: str = "describe",
    dtype: str = "auto",
    device: str = "auto",
    force: bool = False,
) -> Encoder:
    """Load an encoder.

    Args:
        method: one of :data:`METHODS`.
        model: a built-in name, ``ORG/NAME[@REVISION]``, or a folder.
        prompt: a template of ``configs/prompts.toml``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        force: serve conditions the model was not schooled on.

    Raises:
        UsageError: if there is no such method or prompt.
        ModelError: if the model cannot be had.
    """
    if method not in METHODS:
        raise UsageError(f"There is no method '{method}'; choose one of {', '.join(METHODS)}.")
    from ingest.encoders.dior import DiorEncoder

    return DiorEncoder.load(model, prompt, dtype, device, force)


def remake_encoder(spec: EncoderSpec, device: str = "auto", force: bool = False) -> Encoder:
    """Load the encoder a gallery was filled with.

    Raises:
        GalleryMismatch: if what loads today would give other vectors.
        ModelError: if the model cannot be had.
    """
    settings = spec.settings
    model = spec.model
    if "/" in model and not model.startswith("/"):
        model = f"{model}@{spec.revision}"
    encoder = make_encoder(spec.method, model, settings["prompt"], settings["dtype"], device, force)
    if encoder.spec != spec:
        raise GalleryMismatch(
            f"The gallery was embedded by another version of {spec.model} or of its prompt; "
            "ingest the pictures into a new gallery, or put that version back."
        )
    return encoder
