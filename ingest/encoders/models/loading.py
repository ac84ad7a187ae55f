"""Loads models of transformers: built in, from the hub, or from a folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

from indexes.errors import ModelError
from ingest.encoders.devices import check_dtype, choose_device, choose_dtype, first_mapped_device
from ingest.encoders.models.find import ModelSource
from ingest.encoders.models.load_errors import expected_errors, explain

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run.

    Attributes:
        model: a transformers image-text-to-text model in evaluation mode.
        processor: turns images and text into the model's inputs.
        revision: the hub's commit, or a digest of the folder's files.
        dtype: such as ``float32``.
    """

    model: Any
    processor: Any
    revision: str
    dtype: str


def load_model(
    source: ModelSource,
    dtype: str = "auto",
    device: str = "auto",
    attention: str = "sdpa",
    device_map: str | None = None,
) -> LoadedModel:
    """Load an image-text-to-text model and its processor.

    Args:
        source: the source from :func:`ingest.encoders.models.find.find_model`.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        attention: how the model computes attention, ``sdpa`` or ``eager``.
        device_map: how accelerate spreads the model over devices, such as ``auto``, in place of
            ``device``.

    Raises:
        ModelError: if the model does not exist, cannot be downloaded, is damaged or of another
            type, has no safetensors weights, or does not fit into memory.
        UsageError: if there is no such dtype, device or map, or both a device and a map are given.
    """
    check_dtype(dtype)
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    from ingest.encoders.vlm.processors import load_processor

    target = (
        choose_device(device) if device_map is None else first_mapped_device(device_map, device)
    )
    arguments = hub_arguments(source)
    silence_libraries()
    with explained_errors(source):
        config = AutoConfig.from_pretrained(source.location, **arguments)
        if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            raise ModelError(
                f"{source.name} is of type '{config.model_type}', which does not answer "
                "questions about pictures; name an image-text-to-text model such as "
                "Qwen/Qwen2.5-VL-3B-Instruct, or give --method clip if it is a CLIP."
            )
        load_dtype: Any = torch.float32 if dtype == "float32" else "auto"
        spread = {} if device_map is None else {"device_map": device_map}
        if spread:
            # A spread model cannot be converted after loading, so its size is taken first.
            with torch.device("meta"):
                empty = AutoModelForImageTextToText.from_config(config)
            load_dtype = getattr(torch, choose_dtype(dtype, empty, target))
        model = AutoModelForImageTextToText.from_pretrained(
            source.location,
            dtype=load_dtype,
            use_safetensors=True,
            attn_implementation=attention,
            **arguments,
            **spread,
        ).eval()
        processor = load_processor(source.location, config, arguments)
        computed_dtype = choose_dtype(dtype, model, target)
        if not spread:
            model = model.to(device=target, dtype=getattr(torch, computed_dtype))
    return LoadedModel(model, processor, loaded_revision(source), computed_dtype)


def layer_count(config: Any) -> int:
    """How many layers the text part of a model has, by its configuration."""
    return int(config.get_text_config().num_hidden_layers)


def read_layer_count(source: ModelSource) -> int:
    """Layers of the text part of a model that is not loaded.

    Raises:
        ModelError: if the model does not exist or cannot be downloaded.
    """
    from transformers import AutoConfig

    silence_libraries()
    with explained_errors(source):
        return layer_count(AutoConfig.from_pretrained(source.location, **hub_arguments(source)))


def hub_arguments(source: ModelSource) -> dict[str, Any]:
    """Keyword arguments of ``from_pretrained`` for a model's revision."""
    arguments: dict[str, Any] = {"revision": source.revision} if source.revision else {}
    if _commit_is_cached(source):
        # A commit never changes, so the hub need not be asked; it may be out of reach.
        arguments["local_files_only"] = True
    return arguments


@contextmanager
def explained_errors(source: ModelSource) -> Iterator[None]:
    """Turn errors of loading into a :class:`ModelError` of one sentence."""
    try:
        yield
    except expected_errors() as error:
        reason = explain(error, source)
        if reason is None:
            raise
        raise ModelError(reason) from error


def _commit_is_cached(source: ModelSource) -> bool:
    """Whether the revision is a commit whose weights are in the hub's cache."""
    if source.local or not _COMMIT.fullmatch(source.revision or ""):
        return False
    from huggingface_hub import try_to_load_from_cache

    weights = ("model.safetensors", "model.safetensors.index.json")
    return any(
        isinstance(try_to_load_from_cache(source.location, name, revision=source.revision), str)
        for name in weights
    )


def loaded_revision(source: ModelSource) -> str:
    """The revision of a model that was just loaded: the hub's commit, or a digest of its files."""
    if source.local:
        return folder_digest(Path(source.location))
    from transformers.utils import cached_file

    arguments: dict[str, Any] = {"revision": source.revision} if source.revision else {}
    arguments["local_files_only"] = True  # it was just loaded
    # The cache has a folder for each commit.
    return Path(str(cached_file(source.location, "config.json", **arguments))).parent.name


def silence_libraries() -> None:
    """Turn off the progress bars and warnings of transformers and the hub's client."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    getLogger("huggingface_hub").setLevel(ERROR)


#: Files up to this size are hashed whole, larger ones by their size and both ends.
_WHOLE_BYTES = 256 * 2**20
_END_BYTES = 2**20


def folder_digest(folder: Path) -> str:
    """A digest of a model folder's weights and settings: 16 hexadecimal digits."""
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        if path.name == "cies.json":
            continue
        size = path.stat().st_size
        total.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _WHOLE_BYTES:
                total.update(file.read())
            else:
                total.update(file.read(_END_BYTES))
                file.seek(-_END_BYTES, 2)
                total.update(file.read(_END_BYTES))
    return total.hexdigest()[:16]
