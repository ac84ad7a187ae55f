"""Loads models of transformers: built in, from the hub, or from a folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from indexes.errors import GalleryMismatch, ModelError, UsageError
from ingest.encoders.devices import (
    check_dtype,
    choose_device,
    choose_dtype,
    first_mapped_device,
    parameter_count,
)
from ingest.encoders.models.find import OPEN_CLIP, ModelSource, find_model
from ingest.encoders.models.pretrained import (
    build_empty,
    library_call,
    load_config,
    load_pretrained,
)
from ingest.encoders.models.trust import pinned
from ingest.encoders.options import SERVED

#: Names of weights that a model cannot do without.
_NEEDED = re.compile(r"\blayers\.\d+\.|\bblocks\.\d+\.|embed_tokens|lm_head|projector|merger")

#: Bytes that a number takes at least, in the smallest quantisation that is in use.
_LEAST_BYTES = 0.25


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run.

    Attributes:
        model: a transformers image-text-to-text model in evaluation mode.
        processor: turns images and text into the model's inputs.
        revision: the hub's commit, or a digest of the folder's files.
        dtype: such as ``float32``.
        rounded: whether everything was rounded to the dtype, as :func:`load_model` explains.
    """

    model: Any
    processor: Any
    revision: str
    dtype: str
    rounded: bool = False


def load_model(
    source: ModelSource,
    dtype: str = "auto",
    device: str = "auto",
    attention: str = "sdpa",
    device_map: str | None = None,
    rounded: bool = False,
    answers: bool = True,
) -> LoadedModel:
    """Load an image-text-to-text model and its processor.

    Args:
        source: the source from :func:`ingest.encoders.models.find.find_model`.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        attention: how the model computes attention, ``sdpa`` or ``eager``; a model that has
            eager attention only is loaded with that.
        device_map: how accelerate spreads the model over devices, such as ``auto``, in place of
            ``device``.
        rounded: round everything to the dtype, rotary frequencies included, as earlier versions
            did; only for galleries that they filled.
        answers: whether it must answer questions, so that it needs a chat template and an output
            head. Embedders are published without.

    Raises:
        ModelError: if the model does not exist, cannot be downloaded, is damaged or of another
            type, has no safetensors weights, or does not fit into memory.
        UsageError: if there is no such dtype, device or map, or both a device and a map are given.
    """
    check_dtype(dtype)
    if source.name.startswith(SERVED):
        raise UsageError(
            f"{source.name} runs in a server, and here the model itself is needed; name another "
            "with --model or --lvlm."
        )
    import torch
    from transformers import AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    from ingest.encoders.vlm.processors import load_processor

    target = (
        choose_device(device) if device_map is None else first_mapped_device(device_map, device)
    )
    source = pinned(source)
    config = load_config(source)
    own_classes = getattr(config, "auto_map", None) or {}
    if (
        config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        and "AutoModelForImageTextToText" not in own_classes
    ):
        raise ModelError(
            f"{source.name} is of type '{config.model_type}', which does not answer "
            "questions about pictures; name an image-text-to-text model such as "
            "Qwen/Qwen3-VL-2B-Instruct (Apache-2.0), or give --method clip if it is a CLIP."
        )
    # The dtype depends on the model's size, and is chosen before the weights are read.
    empty = build_empty(AutoModelForImageTextToText, source, config)
    check_size(empty, source)
    computed_dtype = choose_dtype(dtype, empty, target)
    spread = {} if device_map is None else {"device_map": device_map}
    load = partial(
        load_pretrained,
        AutoModelForImageTextToText,
        source,
        # A model is never converted as a whole: that would round its rotary frequencies too.
        dtype="auto" if rounded and not spread else getattr(torch, computed_dtype),
        use_safetensors=True,
        output_loading_info=True,
        **spread,
    )
    try:
        model, notes = load(attn_implementation=attention)
    except ModelError as error:
        # Some text models, such as Gemma 2 and gpt-oss, have eager attention only.
        if attention != "sdpa" or "scaled_dot_product_attention" not in str(error.__cause__):
            raise
        model, notes = load(attn_implementation="eager")
    model.eval()
    missing = notes["missing_keys"]
    _check_complete(missing if answers else [n for n in missing if "lm_head" not in n], source)
    _check_stops(model, source)
    processor = load_processor(source, config, answers)
    if not spread:
        if rounded:
            model = model.to(dtype=getattr(torch, computed_dtype))
        with library_call(source):  # memory may run out
            model = model.to(device=target)
    return LoadedModel(model, processor, loaded_revision(source), computed_dtype, rounded)


def _check_complete(missing: Iterable[str], source: ModelSource) -> None:
    """Refuse weights without whole layers, which transformers fills with random numbers.

    Some published models lack a head that is not used, so only parts that count are looked at.
    """
    found = sorted(name for name in missing if _NEEDED.search(name))
    if found:
        raise ModelError(
            f"The weights of {source.name} lack {len(found)} tensors, such as {found[0]}; copy or "
            "download them again, or name another model."
        )


def check_size(empty: Any, source: ModelSource) -> None:
    """Refuse a configuration of a much larger model than a folder has weights for.

    Args:
        empty: the model without weights.
        source: the model.

    Raises:
        ModelError: if the missing weights would fill the memory.
    """
    if not source.local:
        return
    stored = sum(path.stat().st_size for path in Path(source.location).glob("*.safetensors"))
    if stored and parameter_count(empty) * _LEAST_BYTES > stored + 2**20:
        raise ModelError(
            f"The config.json of {source.name} is that of a model with {parameter_count(empty):,} "
            f"numbers, and its weights have only {stored:,} bytes; restore one of the two, or name "
            "another model."
        )


def _check_stops(model: Any, source: ModelSource) -> None:
    """Refuse a generation_config.json whose ends of an answer are no tokens."""
    stops = model.generation_config.eos_token_id
    listed = stops if isinstance(stops, list) else [stops]
    if not all(stop is None or type(stop) is int for stop in listed):
        raise ModelError(
            f"generation_config.json of {source.name} says eos_token_id {stops!r}, which is no "
            "token; restore it, or name another model."
        )


def layer_count(config: Any) -> int:
    """How many layers the text part of a model has, by its configuration."""
    return int(config.get_text_config().num_hidden_layers)


def read_layer_count(source: ModelSource) -> int:
    """Layers of the text part of a model that is not loaded.

    Raises:
        ModelError: if the model does not exist or cannot be downloaded.
    """
    return layer_count(load_config(pinned(source)))


def loaded_revision(source: ModelSource) -> str:
    """The revision of a model that was just loaded: the hub's commit, or a digest of its files."""
    if source.local:
        return local_revision(Path(source.location), templates=not source.builtin)
    from transformers.utils import cached_file

    arguments: dict[str, Any] = {"revision": source.revision} if source.revision else {}
    arguments["local_files_only"] = True  # it was just loaded
    # The cache has a folder for each commit.
    return Path(str(cached_file(source.location, "config.json", **arguments))).parent.name


def check_unchanged(model: str, revision: str) -> None:
    """Refuse a model whose folder has changed since a gallery was filled; nothing is loaded.

    Args:
        model: as the gallery stores it. Models of the hub are pinned to a commit instead.
        revision: as the gallery stores it.

    Raises:
        GalleryMismatch: if its files are not those that filled the gallery.
        ModelError: if there is no such folder.
    """
    folder = Path(model.removeprefix(OPEN_CLIP))
    templates = True
    if model.startswith(OPEN_CLIP):
        local = folder.is_dir()
    elif (folder / "modules.json").is_file():
        local = True
    else:
        source = find_model(model)
        local, folder, templates = source.local, Path(source.location), not source.builtin
    with keeping_revisions(revision):
        changed = local and local_revision(folder, templates) != revision
    if changed:
        raise GalleryMismatch(
            f"The gallery was embedded by another version of {model}, whose files have changed; "
            "ingest the pictures into a new gallery, or put that version back."
        )


#: Revisions that galleries store, during the load of their encoders.
_STORED: ContextVar[tuple[str, ...]] = ContextVar("stored", default=())


@contextmanager
def keeping_revisions(*revisions: str) -> Iterator[None]:
    """Inside, a folder keeps the revision that an earlier version gave it.

    Earlier versions left chat templates in files of their own out of the digest, and the parts
    that ``modules.json`` lists where a model was not loaded as one of sentence-transformers. What
    such a gallery stores stays valid.

    Args:
        *revisions: as the gallery stores them.
    """
    token = _STORED.set(revisions)
    try:
        yield
    finally:
        _STORED.reset(token)


def local_revision(folder: Path, templates: bool = True) -> str:
    """The revision of a model in a folder: a digest of its files.

    A model of sentence-transformers has parts in subfolders, which its ``modules.json`` lists; the
    digests of these follow.

    Args:
        folder: the model's.
        templates: whether chat templates in files of their own count. Those of the built-in
            models are part of the package.

    Raises:
        ModelError: if a file cannot be read, or ``modules.json`` is broken.
    """
    revision = _digests(folder, templates)
    for stored in _STORED.get():
        if stored == revision:
            return revision
        if stored in (_digests(folder, False), folder_digest(folder, False)):
            return stored
    return revision


def _digests(folder: Path, templates: bool) -> str:
    digests = [folder_digest(folder, templates)]
    if (folder / "modules.json").is_file():
        paths = {str(module.get("path", "")) for module in read_modules(folder / "modules.json")}
        parts = [folder / path for path in sorted(paths) if path]
        digests += [folder_digest(part, templates)[:8] for part in parts if part.is_dir()]
    return "-".join(digests)


def read_modules(path: Path) -> list[dict[str, Any]]:
    """The content of a ``modules.json``: the parts of a model of sentence-transformers.

    Raises:
        ModelError: if it is broken, or names a part outside the model's folder.
    """
    try:
        modules = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        modules = None
    if not isinstance(modules, list) or not all(map(_is_module, modules)):
        raise ModelError(
            f"The file {path} does not list a model's parts; restore it, or name another model."
        )
    return modules


def _is_module(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return False
    path = value.get("path", "")
    return isinstance(path, str) and not Path(path).is_absolute() and ".." not in Path(path).parts


#: Files up to this size are hashed whole, larger ones by their size and both ends.
_WHOLE_BYTES = 256 * 2**20
_END_BYTES = 2**20


def folder_digest(folder: Path, templates: bool = True) -> str:
    """A digest of a model folder's weights, settings and templates: 16 hexadecimal digits.

    Args:
        folder: the model's.
        templates: whether chat templates in files of their own count.

    Raises:
        ModelError: if a file cannot be read.
    """
    total = hashlib.sha256()
    found = [*folder.glob("*.safetensors"), *folder.glob("*.json")]
    if templates:
        found += [*folder.glob("*.jinja"), *folder.glob("additional_chat_templates/*.jinja")]
    for path in sorted(found):
        # A pipe or a device could block; the libraries do not read it either.
        if path.name == "cies.json" or not path.is_file():
            continue
        try:
            _add_file(total, path)
        except OSError as error:
            raise ModelError(
                f"The file {path} cannot be read ({error.strerror}); restore it, or name another "
                "model."
            ) from error
    return total.hexdigest()[:16]


def _add_file(total: hashlib._Hash, path: Path) -> None:
    size = path.stat().st_size
    total.update(f"{path.name} {size}\n".encode())
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            total.update(file.read())
        else:
            total.update(file.read(_END_BYTES))
            file.seek(-_END_BYTES, 2)
            total.update(file.read(_END_BYTES))
