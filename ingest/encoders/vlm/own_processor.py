"""A family's own processor, built from the parts that pictures and texts need.

Many processors have parts for videos or sounds as well. Those need libraries that CIES does without
(torchvision, torchaudio), and so does the image processor of some families. Here the processor of
transformers is built without the former, and with an image processor of CIES in place of the
latter (:mod:`ingest.encoders.vlm.picture_processors`). What it writes into the prompt for a picture
is the family's own code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from indexes.errors import ModelError
from ingest.encoders.models.find import ModelSource, read_json
from ingest.encoders.models.pretrained import (
    hub_arguments,
    library_call,
    load_pretrained,
    model_file,
)
from ingest.encoders.vlm.picture_processors import PICTURE_PROCESSORS

#: Parts of processors that neither pictures nor texts need.
_UNUSED_PARTS = frozenset({"video_processor", "feature_extractor", "audio_processor"})

#: Files that may name the class of the processor, in the order that transformers reads them.
_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")

#: The processor of model types that transformers lists without one.
_ALIASES = {
    "fast_vlm": "LlavaProcessor",
    "glm_ocr": "Glm46VProcessor",
    "glmga": "Glm46VProcessor",
    "qwen2_5_omni_thinker": "Qwen2_5OmniProcessor",
    "qwen3_omni_moe_thinker": "Qwen3OmniMoeProcessor",
}


class _AbsentPart:
    """In place of a part for videos or sounds: no setting of it has a value."""

    model_input_names: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def needs_parts(source: ModelSource, config: Any) -> bool:
    """Whether a model's processor has parts that cannot be, or need not be, built here.

    Args:
        source: the model.
        config: its configuration.

    Raises:
        ModelError: if a file of the model is broken.
    """
    found = _processor_class(source, config)
    if found is None:
        return False
    unused = not _UNUSED_PARTS.isdisjoint(found.get_attributes())
    return unused or config.model_type in PICTURE_PROCESSORS


def build_own_processor(source: ModelSource, config: Any) -> Any:
    """The family's processor without the parts for videos and sounds.

    Args:
        source: the model.
        config: its configuration, for which :func:`needs_parts` is true.

    Raises:
        ModelError: if it cannot be built from the model's files, or needs torchvision.
    """
    kind = _processor_class(source, config)
    assert kind is not None
    # The family's own check refuses parts of other classes, and its text holds all of them.
    changes = {
        "check_argument_for_proper_class": lambda self, name, part: None,
        "__repr__": lambda self: kind.__name__,
    }
    unchecked: Any = type(kind.__name__, (kind,), changes)
    parts = [_part(name, source, config) for name in kind.get_attributes()]
    with library_call(source):
        settings, _ = kind.get_processor_dict(source.location, **hub_arguments(source))
        return unchecked.from_args_and_dict(parts, settings)


def _part(name: str, source: ModelSource, config: Any) -> Any:
    from transformers import AutoTokenizer

    if name in _UNUSED_PARTS:
        return _AbsentPart()
    if name != "image_processor":
        subfolder = {} if name == "tokenizer" else {"subfolder": name}
        return load_pretrained(AutoTokenizer, source, **subfolder)
    ours = PICTURE_PROCESSORS.get(config.model_type)
    return load_image_processor(source, config) if ours is None else ours(_picture_settings(source))


def load_auto_processor(source: ModelSource, config: Any) -> Any:
    """The processor that transformers builds of a model's files, with the image processor of
    :func:`load_image_processor`.

    Args:
        source: the model.
        config: its configuration.

    Raises:
        ModelError: if it cannot be built, or needs torchvision.
    """
    from transformers import AutoProcessor
    from transformers.utils import is_torchvision_available

    with _naming_torchvision(source, config):
        processor = load_pretrained(AutoProcessor, source)
    if is_torchvision_available() and getattr(processor, "image_processor", None) is not None:
        # Torchvision resizes otherwise than Pillow, and vectors must not depend on what is
        # installed.
        processor.image_processor = load_image_processor(source, config)
    return processor


def load_image_processor(source: ModelSource, config: Any) -> Any:
    """A model's image processor: the one without torchvision, if transformers has both.

    Args:
        source: the model.
        config: its configuration.

    Raises:
        ModelError: if it cannot be built, or needs torchvision.
    """
    from transformers import AutoImageProcessor
    from transformers.utils import is_torchvision_available

    if is_torchvision_available() and _needs_torchvision(config):
        return load_pretrained(AutoImageProcessor, source)
    with _naming_torchvision(source, config):
        return load_pretrained(AutoImageProcessor, source, backend="pil")


@contextmanager
def _naming_torchvision(source: ModelSource, config: Any) -> Iterator[None]:
    """Raise an error that names torchvision, if that is what a model lacks."""
    from transformers.utils import is_torchvision_available

    try:
        yield
    except ModelError as error:
        named = "torchvision" in str(error).lower() or _needs_torchvision(config)
        if is_torchvision_available() or not named:
            raise
        raise ModelError(
            f"The image processor of {source.name} needs torchvision; install it with "
            "`pip install 'cies[vision]'`, or name another model."
        ) from error


def _needs_torchvision(config: Any) -> bool:
    """Whether transformers has the image processor of a type with torchvision only."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    kinds = IMAGE_PROCESSOR_MAPPING_NAMES.get(config.model_type) or {}
    return bool(kinds) and "pil" not in kinds


def _picture_settings(source: ModelSource) -> dict[str, Any]:
    """The settings of a model's image processor."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = model_file(source, name)
        if path is not None:
            content = read_json(path)
            inner = content.get("image_processor", content)
            return dict(inner) if isinstance(inner, dict) else {}
    raise ModelError(
        f"{source.name} has no preprocessor_config.json; copy that file there too, or name "
        "another model."
    )


def _processor_class(source: ModelSource, config: Any) -> Any:
    """The class of transformers that the model's files name, or that its type has; or ``None``."""
    from transformers.models.auto.processing_auto import (
        PROCESSOR_MAPPING_NAMES,
        processor_class_from_name,
    )
    from transformers.processing_utils import ProcessorMixin

    named = [_ALIASES.get(config.model_type), PROCESSOR_MAPPING_NAMES.get(config.model_type)]
    for file in reversed(_FILES):
        path = model_file(source, file)
        if path is not None:
            named.append(read_json(path).get("processor_class"))
    for name in reversed(named):
        found = processor_class_from_name(name) if isinstance(name, str) else None
        # Where a class cannot be imported, transformers has one that only raises an error.
        if isinstance(found, type) and issubclass(found, ProcessorMixin):
            return found
    return None
