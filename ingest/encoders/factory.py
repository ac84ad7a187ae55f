"""Makes encoders by name. Apart from the interface, so that it can import what it makes late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from indexes.errors import GalleryMismatch, UsageError
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, EncoderSpec, PlainEncoder
from ingest.encoders.custom import CustomEncoder
from ingest.encoders.models.find import DEFAULT_CLIP, DEFAULT_MODEL, OPEN_CLIP, find, layers_of
from ingest.encoders.options import DiorOptions

if TYPE_CHECKING:
    from ingest.vocabularies import Vocabulary

#: A condition to its words, for the methods that are told by them what a condition is about.
Words = Callable[[Condition], "Vocabulary"]


@dataclass(frozen=True)
class MethodInfo:
    """A way to embed pictures under conditions.

    Attributes:
        about: one line for people.
        kind: ``stored`` if a gallery keeps its vectors; ``view`` if they are worked out from
            those of ``clip`` when they are wanted.
        model: the default one.
    """

    about: str
    kind: Literal["stored", "view"]
    model: str


#: Method to what it is.
METHODS: Mapping[str, MethodInfo] = MappingProxyType(
    {
        "dior": MethodInfo(
            "hidden state of a large vision-language model asked for one word",
            "stored",
            DEFAULT_MODEL,
        ),
        "generative": MethodInfo(
            "that model's answer, through a sentence encoder", "stored", DEFAULT_MODEL
        ),
        "regional": MethodInfo(
            "dior of the whole picture and of its four corners, of which the best counts",
            "stored",
            DEFAULT_MODEL,
        ),
        "captions": MethodInfo(
            "a caption by that model, through a CLIP's text side; for `cies search --modify`",
            "stored",
            DEFAULT_MODEL,
        ),
        "clip": MethodInfo(
            "a CLIP's or SigLIP's vector, the same under every condition", "stored", DEFAULT_CLIP
        ),
        "indirect": MethodInfo(
            "CLIP's vector through a map learned from the condition's words", "view", DEFAULT_CLIP
        ),
        "crl": MethodInfo(
            "likeness of CLIP's vector to each of the condition's words", "view", DEFAULT_CLIP
        ),
        "clay": MethodInfo(
            "CLIP's vector along the directions that the condition's words vary in",
            "view",
            DEFAULT_CLIP,
        ),
    }
)

_DEFAULT = DiorOptions()


def make_encoder(
    method: str = "dior",
    model: str | None = None,
    prompt: str = "describe",
    dtype: str = "auto",
    device: str = "auto",
    force: bool = False,
    options: DiorOptions = _DEFAULT,
    device_map: str | None = None,
    words: Words | None = None,
) -> BaseEncoder:
    """Load an encoder.

    Args:
        method: one of :data:`METHODS`.
        model: a built-in name, ``ORG/NAME[@REVISION]``, or a folder; for methods that stand on a
            dual encoder also ``open_clip:ARCH/WEIGHTS``. ``None`` for the method's default.
        prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``, for the
            methods that ask an LVLM.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; several of one kind, such as
            ``cuda:0,cuda:1``, get a copy of the model each.
        force: serve conditions the model was not schooled on.
        options: what may be chosen beside.
        device_map: how accelerate spreads the model, such as ``auto``, in place of ``device``.
        words: gives the words of a condition, for views; by default those in configs.

    Raises:
        UsageError: if there is no such method, prompt, layer or device, or an option does not
            apply to the method.
        ModelError: if the model cannot be had, or is of another kind than the method asks for.
    """
    if method not in METHODS:
        raise UsageError(f"There is no method '{method}'; choose one of {', '.join(METHODS)}.")
    name = model or METHODS[method].model
    if METHODS[method].model == DEFAULT_CLIP:
        from ingest.encoders.methods.clip import ClipEncoder

        _check_asks_nothing(method, prompt)
        base = ClipEncoder.load(name, dtype, device, options, device_map)
        if METHODS[method].kind == "stored":
            return base
        from ingest.encoders.projections.encoder import ProjectionEncoder

        return ProjectionEncoder(base, method, words)
    from ingest.encoders.methods.captions import CaptionsEncoder
    from ingest.encoders.methods.dior import DiorEncoder
    from ingest.encoders.methods.generative import GenerativeEncoder
    from ingest.encoders.methods.regional import RegionalEncoder

    kinds: tuple[type[DiorEncoder], ...] = (
        DiorEncoder,
        GenerativeEncoder,
        RegionalEncoder,
        CaptionsEncoder,
    )
    kind = next(kind for kind in kinds if method == kind.METHOD)
    return kind.load(name, prompt, dtype, device, force, options, device_map)


def as_encoder(source: BaseEncoder | PlainEncoder, method: str | None = None) -> BaseEncoder:
    """Turn an object with ``encode`` into an encoder.

    Args:
        source: see :class:`ingest.encoders.base.PlainEncoder`. An :class:`BaseEncoder` is returned
            as it is.
        method: the method's name; by default the object's ``name``, or its class's.

    Raises:
        UsageError: if the object does not follow the protocol, or has the name of a built-in
            method.
    """
    if isinstance(source, BaseEncoder):
        return source
    encoder = CustomEncoder(source, method)
    if encoder.spec.method in METHODS:
        raise UsageError(
            f"An encoder of your own cannot be named '{encoder.spec.method}', which is a built-in "
            "method; give it another name."
        )
    return encoder


def _check_asks_nothing(method: str, prompt: str) -> None:
    if prompt != "describe":
        raise UsageError(
            f"--prompt does not apply to the method {method}, which asks no question; leave it out."
        )


def _pinned(spec: EncoderSpec) -> str:
    """The model's name, with its revision if it is of the hub."""
    return _at(spec.model, spec.revision)


def _at(model: str, revision: str) -> str:
    hub = "/" in model and not model.startswith(("/", OPEN_CLIP))
    return f"{model}@{revision}" if hub else model


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
) -> BaseEncoder:
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
    options = DiorOptions.from_settings(settings)
    if "sentences_revision" in settings:
        pinned = _at(options.sentences, settings["sentences_revision"])
        options = replace(options, sentences=pinned)
    encoder = make_encoder(
        spec.method,
        _pinned(spec),
        settings.get("prompt", "describe"),
        settings["dtype"],
        device,
        force,
        options,
        device_map,
    )
    if encoder.spec != spec:
        raise GalleryMismatch(
            f"The gallery was embedded by another version of {spec.model} or of its prompt; "
            "ingest the pictures into a new gallery, or put that version back."
        )
    return encoder
