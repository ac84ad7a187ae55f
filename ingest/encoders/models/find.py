"""Finding and loading a large vision-language model: built in, from the hub, or from a folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

from indexes.errors import ModelError
from ingest.encoders.devices import check_dtype, device_of, dtype_of, mapped

#: The models whose weights are in the package, by name, and what they are, in one line.
BUILTIN = {
    "tiny-lvlm": (
        "the built-in model: small, schooled on rendered pictures only; "
        "use --model with a large LVLM for photographs"
    ),
    "tiny-clip": (
        "the built-in CLIP: small, schooled on rendered pictures only; for --method clip and the "
        "views, since it answers no questions"
    ),
}
DEFAULT_MODEL = "tiny-lvlm"
DEFAULT_CLIP = "tiny-clip"

#: What names of models begin with that open_clip loads.
OPEN_CLIP = "open_clip:"

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        name: as the user typed it, without revision.
        location: what ``from_pretrained`` is given: a hub id or a folder.
        revision: a hub revision asked for, or ``None``.
        local: whether ``location`` is a folder.
    """

    name: str
    location: str
    revision: str | None
    local: bool

    @property
    def builtin(self) -> bool:
        """Whether the weights are in the package."""
        return self.name in BUILTIN

    def trained_on(self) -> dict[str, list[str]] | None:
        """Condition to its wordings, if the model declares what it was schooled on."""
        path = Path(self.location) / "cies.json"
        if not (self.local and path.is_file()):
            return None
        conditions = json.loads(path.read_text(encoding="utf-8"))["conditions"]
        return {str(name): list(wordings) for name, wordings in conditions.items()}

    def schooled_on_pictures_alone(self) -> bool:
        """Whether the model says that it was schooled, and not that it was on texts."""
        path = Path(self.location) / "cies.json"
        if not (self.local and path.is_file()):
            return False
        return not json.loads(path.read_text(encoding="utf-8")).get("texts", False)


def find(model: str) -> ModelSource:
    """Resolve a model's name: built in, ``ORG/NAME[@REVISION]`` on the hub, or a folder.

    Raises:
        ModelError: if the name can be none of these, or the folder is not there.
    """
    if model in BUILTIN:
        folder = resources.files("ingest.encoders").joinpath("builtin", model)
        return ModelSource(model, str(folder), None, local=True)
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"The folder {model} holds no model: config.json is missing; "
                "name a folder written by save_pretrained."
            )
        return ModelSource(str(path.absolute()), str(path.absolute()), None, local=True)
    name, _, revision = model.partition("@")
    if model.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(name):
        raise ModelError(
            f"There is no model '{model}': no such folder; give a folder, a hub id such as "
            f"Qwen/Qwen2.5-VL-3B-Instruct, or a built-in model ({', '.join(BUILTIN)})."
        )
    return ModelSource(name, name, revision or None, local=False)


def name_of(model: str) -> str:
    """A model's name as a gallery keeps it, without a look whether there is such a model."""
    if model.startswith(OPEN_CLIP):
        folder = Path(model.removeprefix(OPEN_CLIP)).expanduser()
        return f"{OPEN_CLIP}{folder.absolute()}" if folder.is_dir() else model
    path = Path(model).expanduser()
    if model not in BUILTIN and path.is_dir():
        return str(path.absolute())
    return model.partition("@")[0] if _HUB_ID.fullmatch(model.partition("@")[0]) else model


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run.

    Attributes:
        model: a transformers image-text-to-text model in evaluation mode.
        processor: what turns pictures and text into its inputs.
        revision: the hub's commit, or a digest of the folder's files.
        dtype: such as ``float32``.
    """

    model: Any
    processor: Any
    revision: str
    dtype: str


def load(
    source: ModelSource,
    dtype: str = "auto",
    device: str = "auto",
    attention: str = "sdpa",
    device_map: str | None = None,
) -> LoadedModel:
    """Load a model and its processor.

    Args:
        source: from :func:`find`.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        attention: how the model computes attention, ``sdpa`` or ``eager``.
        device_map: how accelerate spreads the model over devices, such as ``auto``, in place of
            ``device``.

    Raises:
        ModelError: if it is not there, cannot be fetched, is damaged or of another kind, has no
            safetensors weights, or does not fit into memory.
        UsageError: if there is no such dtype, device or map, or both of the last are given.
    """
    check_dtype(dtype)
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    from ingest.encoders.vlm.processors import load_processor

    chosen = device_of(device) if device_map is None else mapped(device_map, device)
    where = where_of(source)
    quiet()
    with explained(source):
        config = AutoConfig.from_pretrained(source.location, **where)
        if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            raise ModelError(
                f"{source.name} is of type '{config.model_type}', which does not answer "
                "questions about pictures; name an image-text-to-text model such as "
                "Qwen/Qwen2.5-VL-3B-Instruct, or give --method clip if it is a CLIP."
            )
        own: Any = torch.float32 if dtype == "float32" else "auto"
        if device_map is not None:
            # A model that is spread cannot be converted afterwards, so it is measured first.
            with torch.device("meta"):
                bare = AutoModelForImageTextToText.from_config(config)
            own = getattr(torch, dtype_of(dtype, bare, chosen))
            where["device_map"] = device_map
        model = AutoModelForImageTextToText.from_pretrained(
            source.location,
            dtype=own,
            use_safetensors=True,
            attn_implementation=attention,
            **where,
        ).eval()
        where.pop("device_map", None)
        processor = load_processor(source.location, config, where)
        kind = dtype_of(dtype, model, chosen)
        if device_map is None:
            model = model.to(device=chosen, dtype=getattr(torch, kind))
    revision = digest(Path(source.location)) if source.local else commit_of(source)
    return LoadedModel(model, processor, revision, kind)


def layers_of(source: ModelSource) -> int:
    """How many layers the text part of a model has, by its configuration alone.

    Raises:
        ModelError: if it is not there or cannot be fetched.
    """
    from transformers import AutoConfig

    quiet()
    with explained(source):
        config = AutoConfig.from_pretrained(source.location, **where_of(source))
        return int(config.get_text_config().num_hidden_layers)


def where_of(source: ModelSource) -> dict[str, Any]:
    """What ``from_pretrained`` is told beside the location."""
    where: dict[str, Any] = {"revision": source.revision} if source.revision else {}
    if _pinned_in_cache(source):
        # A commit never changes, so there is nothing to ask the hub, which may be out of reach.
        where["local_files_only"] = True
    return where


@contextmanager
def explained(source: ModelSource) -> Iterator[None]:
    """Turn what loading raises into one sentence."""
    from ingest.encoders.models.load_errors import expected_errors, explain

    try:
        yield
    except expected_errors() as error:
        why = explain(error, source.name, source.location, source.revision, source.local)
        if why is None:
            raise
        raise ModelError(why) from error


def _pinned_in_cache(source: ModelSource) -> bool:
    """Whether a model is asked for by its commit, and that commit's weights are in the cache."""
    if source.local or not _COMMIT.fullmatch(source.revision or ""):
        return False
    from huggingface_hub import try_to_load_from_cache

    weights = ("model.safetensors", "model.safetensors.index.json")
    return any(
        isinstance(try_to_load_from_cache(source.location, name, revision=source.revision), str)
        for name in weights
    )


def commit_of(source: ModelSource) -> str:
    """The hub's commit of a model that was loaded: the cache keeps each in a folder of its own."""
    from transformers.utils import cached_file

    where: dict[str, Any] = {"revision": source.revision} if source.revision else {}
    where["local_files_only"] = True  # it was just loaded
    return Path(str(cached_file(source.location, "config.json", **where))).parent.name


def quiet() -> None:
    """Keep the libraries' own progress bars and advice off the terminal."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    getLogger("huggingface_hub").setLevel(ERROR)


#: Files up to this size are digested whole, larger ones by size and their two ends.
_DIGEST_WHOLE = 256 * 2**20
_DIGEST_ENDS = 2**20


def digest(folder: Path) -> str:
    """A digest of a model folder's weights and settings: 16 hexadecimal digits."""
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        if path.name == "cies.json":
            continue
        size = path.stat().st_size
        total.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _DIGEST_WHOLE:
                total.update(file.read())
            else:
                total.update(file.read(_DIGEST_ENDS))
                file.seek(-_DIGEST_ENDS, 2)
                total.update(file.read(_DIGEST_ENDS))
    return total.hexdigest()[:16]
