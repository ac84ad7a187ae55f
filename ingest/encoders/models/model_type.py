"""What kind of model a name stands for, told by its configuration without loading anything."""

from __future__ import annotations

import json
from pathlib import Path

from ingest.encoders.models.catalogue import hub_models
from ingest.encoders.models.find import OPEN_CLIP, ModelSource, find

#: Types of models, as their configuration names them, that embed pictures and texts in one space
#: and answer no questions.
DUAL_TYPES = frozenset(
    "align altclip chinese_clip clip groupvit metaclip_2 siglip siglip2 "
    "vision-text-dual-encoder".split()
)


def is_dual(model: str) -> bool:
    """Whether a model embeds pictures and texts alike and answers no questions.

    One whose configuration cannot be had is not taken for one: loading it says what is wrong.

    Args:
        model: a built-in name, ``ORG/NAME[@REVISION]``, a folder, or a name of open_clip's.

    Raises:
        ModelError: if it can be none of these.
    """
    if model.startswith(OPEN_CLIP):
        return True
    source = find(model)
    if any(known.name == source.name for known in hub_models()):
        return False
    path = _configuration(source)
    return path is not None and _read(path).get("model_type") in DUAL_TYPES


def dual_dimension(model: str) -> int | None:
    """Length of a dual encoder's vectors, if its configuration is here and says it."""
    if model.startswith(OPEN_CLIP):
        return None
    source = find(model)
    if not source.local:
        return None
    config = _read(Path(source.location) / "config.json")
    length = config.get("projection_dim")
    return length if isinstance(length, int) else None


def _read(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _configuration(source: ModelSource) -> Path | None:
    if source.local:
        return Path(source.location) / "config.json"
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(source.location, "config.json", revision=source.revision))
    except (OSError, ValueError, HfHubHTTPError):
        return None
