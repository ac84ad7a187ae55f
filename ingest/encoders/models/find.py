"""Resolves the names of models, and reads what their folders say without loading them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from indexes.errors import ModelError

#: Models whose weights are part of the package: name to one line of description.
BUILTIN = {
    "tiny-lvlm": (
        "the built-in model: small, trained on rendered pictures only; "
        "use --model with a large LVLM for photographs"
    ),
    "tiny-clip": (
        "the built-in CLIP: small, trained on rendered pictures only; for --method clip and the "
        "views, since it answers no questions"
    ),
}
DEFAULT_MODEL = "tiny-lvlm"
DEFAULT_CLIP = "tiny-clip"

#: Prefix of the names of models that open_clip loads.
OPEN_CLIP = "open_clip:"

#: Model types (``model_type`` in config.json) that embed images and texts in one space and do not
#: answer questions.
DUAL_TYPES = frozenset(
    "align altclip chinese_clip clip groupvit metaclip_2 siglip siglip2 "
    "vision-text-dual-encoder".split()
)

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


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
        """Condition to its wordings, from the model's cies.json; ``None`` without that file."""
        declared = self._declared()
        if declared is None:
            return None
        return {str(name): list(wordings) for name, wordings in declared["conditions"].items()}

    def trained_on_images_only(self) -> bool:
        """Whether the model has a cies.json that does not say it was trained on texts."""
        declared = self._declared()
        return declared is not None and not declared.get("texts", False)

    def _declared(self) -> dict[str, Any] | None:
        path = Path(self.location) / "cies.json"
        return _read_json(path) if self.local and path.is_file() else None


def find_model(model: str) -> ModelSource:
    """Resolve a model's name: built in, ``ORG/NAME[@REVISION]`` on the hub, or a folder.

    Raises:
        ModelError: if the name can be none of these, or the folder does not exist.
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


def stored_name(model: str) -> str:
    """A model's name as a gallery stores it; does not check that the model exists."""
    if model.startswith(OPEN_CLIP):
        folder = Path(model.removeprefix(OPEN_CLIP)).expanduser()
        return f"{OPEN_CLIP}{folder.absolute()}" if folder.is_dir() else model
    path = Path(model).expanduser()
    if model not in BUILTIN and path.is_dir():
        return str(path.absolute())
    return model.partition("@")[0] if _HUB_ID.fullmatch(model.partition("@")[0]) else model


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
    source = find_model(model)
    from ingest.encoders.models.catalogue import hub_models

    if any(listed.name == source.name for listed in hub_models()):
        return False
    path = _config_path(source)
    return path is not None and _read_json(path).get("model_type") in DUAL_TYPES


def dual_dimension(model: str) -> int | None:
    """Length of a dual encoder's vectors, if a local configuration says it."""
    if model.startswith(OPEN_CLIP):
        return None
    source = find_model(model)
    if not source.local:
        return None
    length = _read_json(Path(source.location) / "config.json").get("projection_dim")
    return length if isinstance(length, int) else None


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _config_path(source: ModelSource) -> Path | None:
    if source.local:
        return Path(source.location) / "config.json"
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(source.location, "config.json", revision=source.revision))
    except (OSError, ValueError, HfHubHTTPError):
        return None
