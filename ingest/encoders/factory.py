"""The registry of encoders: methods by name, built in or from other packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal, Protocol

from indexes.errors import GalleryMismatch, UsageError
from ingest.encoders.base import BaseEncoder, EncoderSpec, PlainEncoder
from ingest.encoders.custom import CustomEncoder, find_plugin, load_plugin, plugin_names
from ingest.encoders.models.find import (
    DEFAULT_CLIP,
    DEFAULT_EMBEDDER,
    DEFAULT_MODEL,
    DEFAULT_PHOTO,
    DEFAULT_VISION,
    OPEN_CLIP,
    find_model,
)
from ingest.encoders.options import (
    DEFAULT_OPTIONS,
    DEFAULT_PROMPT,
    SERVED,
    EncoderChoice,
    EncoderOptions,
)


@dataclass(frozen=True)
class MethodInfo:
    """A way to embed images under conditions.

    Attributes:
        about: one line for people.
        kind: ``stored`` if a gallery stores its vectors; ``view`` if they are computed from
            those of ``clip`` when they are needed.
        model: the default one.
        encoder: ``MODULE:CLASS``, imported when it is needed. The class has a class method
            ``load`` that takes an :class:`EncoderChoice`.
    """

    about: str
    kind: Literal["stored", "view"]
    model: str
    encoder: str


class _EncoderClass(Protocol):
    def load(self, choice: EncoderChoice) -> BaseEncoder: ...


_PROJECTION = "ingest.encoders.projections.encoder:ProjectionEncoder"

#: The built-in methods. Other packages add theirs by the entry point group ``cies.encoders``.
METHODS: Mapping[str, MethodInfo] = MappingProxyType(
    {
        "dior": MethodInfo(
            "hidden state of a large vision-language model asked for one word",
            "stored",
            DEFAULT_MODEL,
            "ingest.encoders.methods.dior:DiorEncoder",
        ),
        "photo": MethodInfo(
            "descriptors of photographs by a small convolutional network: kind, color, style ...",
            "stored",
            DEFAULT_PHOTO,
            "ingest.encoders.methods.photo:PhotoEncoder",
        ),
        "generative": MethodInfo(
            "that model's answer, through a sentence encoder",
            "stored",
            DEFAULT_MODEL,
            "ingest.encoders.methods.generative:GenerativeEncoder",
        ),
        "regional": MethodInfo(
            "dior of the whole picture and of its four corners, of which the best counts",
            "stored",
            DEFAULT_MODEL,
            "ingest.encoders.methods.regional:RegionalEncoder",
        ),
        "embedder": MethodInfo(
            "a large model trained to embed pictures, words and both; the condition instructs it",
            "stored",
            DEFAULT_EMBEDDER,
            "ingest.encoders.methods.embedder:EmbedderEncoder",
        ),
        "captions": MethodInfo(
            "a caption by that model, through a CLIP's text side; for `cies search --modify`",
            "stored",
            DEFAULT_MODEL,
            "ingest.encoders.methods.captions:CaptionsEncoder",
        ),
        "learned": MethodInfo(
            "weights over the gallery's other conditions, learned from examples",
            "stored",
            "examples",
            "ingest.encoders.methods.learned:LearnedEncoder",
        ),
        "imported": MethodInfo(
            "vectors that another program made, from `cies import`",
            "stored",
            "vectors",
            "ingest.encoders.methods.imported:ImportedEncoder",
        ),
        "clip": MethodInfo(
            "a CLIP's or SigLIP's vector, the same under every condition",
            "stored",
            DEFAULT_CLIP,
            "ingest.encoders.methods.clip:ClipEncoder",
        ),
        "vision": MethodInfo(
            "the vector of a model of pictures alone, such as DINOv3: likeness without words",
            "stored",
            DEFAULT_VISION,
            "ingest.encoders.methods.vision:VisionEncoder",
        ),
        "indirect": MethodInfo(
            "CLIP's vector through a map learned from the condition's words",
            "view",
            DEFAULT_CLIP,
            _PROJECTION,
        ),
        "crl": MethodInfo(
            "likeness of CLIP's vector to each of the condition's words",
            "view",
            DEFAULT_CLIP,
            _PROJECTION,
        ),
        "clay": MethodInfo(
            "CLIP's vector along the directions that the condition's words vary in",
            "view",
            DEFAULT_CLIP,
            _PROJECTION,
        ),
    }
)

#: Methods that load no files of a model.
WITHOUT_MODEL = ("learned", "imported")


def method_info(method: str) -> MethodInfo:
    """The entry of a built-in method, or of one that another package adds.

    Raises:
        UsageError: if there is no such method.
        ModelError: if two packages add a method of this name.
    """
    if method in METHODS:
        return METHODS[method]
    plugin = find_plugin(method)
    if plugin is None:
        names = [*METHODS, *plugin_names()]
        raise UsageError(f"There is no method '{method}'; choose one of {', '.join(names)}.")
    return MethodInfo(f"added by the package {plugin.package}", "stored", method, plugin.encoder)


def make_encoder(
    method: str = "dior",
    model: str | None = None,
    prompt: str = DEFAULT_PROMPT,
    dtype: str = "auto",
    device: str = "auto",
    force: bool = False,
    options: EncoderOptions = DEFAULT_OPTIONS,
    device_map: str | None = None,
    stored: Mapping[str, Any] | None = None,
) -> BaseEncoder:
    """Load an encoder.

    Args:
        method: as in :class:`EncoderChoice`, also all arguments below.
        model: the method's default model by default.
        prompt: how the model is asked.
        dtype: it computes in.
        device: it runs on.
        force: accept conditions that the model was not trained on.
        options: further choices about the vectors.
        device_map: how the model is spread over devices.
        stored: the settings of the gallery whose vectors are to be continued.

    Raises:
        UsageError: if there is no such method, prompt, layer or device, or an option does not
            apply to the method.
        ModelError: if the model cannot be loaded, or is of another type than the method needs.
    """
    info = method_info(method)
    choice = EncoderChoice(
        method, model or info.model, prompt, dtype, device, force, options, device_map, stored
    )
    if method not in METHODS:
        return load_plugin(choice, default_model=info.model)
    if choice.model.startswith(SERVED):
        from ingest.encoders.served.encoder import load_served

        return load_served(choice)
    module, _, name = info.encoder.partition(":")
    encoder_class: _EncoderClass = getattr(import_module(module), name)
    return encoder_class.load(choice)


def as_encoder(source: BaseEncoder | PlainEncoder, method: str | None = None) -> BaseEncoder:
    """Turn an object with ``encode`` into an encoder.

    Args:
        source: see :class:`ingest.encoders.base.PlainEncoder`. A :class:`BaseEncoder` is
            returned as it is.
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


def _pinned(model: str, revision: str) -> str:
    """A model's name, with the revision if the model is from the hub."""
    from_hub = "/" in model and not model.startswith(("/", OPEN_CLIP, SERVED))
    return f"{model}@{revision}" if from_hub else model


def _check_unchanged(spec: EncoderSpec) -> None:
    """Refuse models whose folders changed since the gallery was filled, before they are loaded.

    Raises:
        GalleryMismatch: naming the model.
        ModelError: if a folder is gone.
    """
    if spec.method not in METHODS or spec.method in WITHOUT_MODEL:
        return
    from ingest.encoders.models.loading import check_unchanged

    if not spec.model.startswith(SERVED):  # its encoder compares the vectors of a test picture
        check_unchanged(spec.model, spec.revision)
    if "sentences_revision" in spec.settings:
        check_unchanged(str(spec.settings["sentences"]), str(spec.settings["sentences_revision"]))


def normalized_options(options: EncoderOptions, spec: EncoderSpec) -> EncoderOptions:
    """The options as a gallery of this encoder stores them: the last layer is -1.

    Raises:
        UsageError: if the model has no such layer.
        ModelError: if the model's configuration cannot be read.
    """
    if options.answer_tokens is None:
        # The gallery's own, which is stored whatever it is.
        options = replace(options, answer_tokens=spec.settings.get("answer_tokens"))
    if options.layer in (-1, spec.settings.get("layer", -1)):
        return options
    return options.for_layers(layers_of_model(spec))


def numbered_layers(spec: EncoderSpec, layers: Sequence[int]) -> list[int]:
    """Layers as galleries store them: -1 for the last one, others from 0; each once.

    Args:
        spec: the encoder whose model has them.
        layers: as the user numbers them.

    Raises:
        UsageError: if the model has no such layer.
        ModelError: if the model's configuration cannot be read.
    """
    count = layers_of_model(spec)
    numbers = [replace(DEFAULT_OPTIONS, layer=layer).for_layers(count).layer for layer in layers]
    return list(dict.fromkeys(numbers))


def layers_of_model(spec: EncoderSpec) -> int:
    """How many layers the model of a gallery has; it is not loaded.

    Raises:
        GalleryMismatch: if the model's folder has changed since the gallery was filled.
        ModelError: if the model's configuration cannot be read.
    """
    from ingest.encoders.models.loading import read_layer_count

    if spec.model.startswith(SERVED):
        raise UsageError("--layer does not apply to a served model; leave it out.")
    _check_unchanged(spec)
    return read_layer_count(find_model(_pinned(spec.model, spec.revision)))


def remake_encoder(
    spec: EncoderSpec, device: str = "auto", force: bool = False, device_map: str | None = None
) -> BaseEncoder:
    """Load the encoder that filled a gallery.

    Args:
        spec: as the gallery stores it.
        device: as for :func:`make_encoder`.
        force: as for :func:`make_encoder`.
        device_map: as for :func:`make_encoder`.

    Raises:
        GalleryMismatch: if the installed version of the model would compute other vectors.
        ModelError: if the model cannot be loaded.
        UsageError: if the method is not installed.
    """
    if spec.method not in METHODS and find_plugin(spec.method) is None:
        raise UsageError(
            f"The gallery has vectors of '{spec.method}', but there is no such method; if it is an "
            "encoder of your own, pass it again, as in cies.open(path, model=MyEncoder()), else "
            "install the package that adds it."
        )
    settings = spec.settings
    options = DEFAULT_OPTIONS
    if spec.method in METHODS:
        options = EncoderOptions.from_settings(settings)
    _check_unchanged(spec)
    if "sentences_revision" in settings:
        sentences = _pinned(options.sentences, settings["sentences_revision"])
        options = replace(options, sentences=sentences)
    from ingest.encoders.models.loading import keeping_revisions

    with keeping_revisions(spec.revision, str(settings.get("sentences_revision", ""))):
        encoder = make_encoder(
            spec.method,
            _pinned(spec.model, spec.revision) if spec.method in METHODS else spec.model,
            settings.get("prompt", DEFAULT_PROMPT) if spec.method in METHODS else DEFAULT_PROMPT,
            settings.get("dtype", "auto"),
            device,
            force,
            options,
            device_map,
            settings if spec.method in METHODS else None,
        )
    if encoder.spec != spec:
        raise GalleryMismatch(
            f"The gallery was embedded by another version of {spec.model} or of its prompt; "
            "ingest the pictures into a new gallery, or install that version again."
        )
    return encoder
