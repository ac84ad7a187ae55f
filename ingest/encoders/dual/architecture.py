"""The architecture of a CLIP by its configuration, never by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ingest.encoders.models.find import OPEN_CLIP, find_model, read_json, readable_config

#: Layers and width of a vision transformer to the letter of its size.
_SIZES: Mapping[tuple[int, int], str] = MappingProxyType(
    {(12, 768): "B", (24, 1024): "L", (32, 1280): "H"}
)

#: OpenAI's models, whose configurations cannot be read where the hub is out of reach.
_OPENAI: Mapping[str, str] = MappingProxyType(
    {
        "openai/clip-vit-base-patch32": "ViT-B/32",
        "openai/clip-vit-base-patch16": "ViT-B/16",
        "openai/clip-vit-large-patch14": "ViT-L/14",
        "openai/clip-vit-large-patch14-336": "ViT-L/14",
    }
)

#: open_clip's names of the same towers, with the variants that change only pixels or activations.
_OPEN_CLIP_NAME = re.compile(r"ViT-([BLH])-(\d+)(?:-336|-quickgelu)*")

#: Values of transformers' CLIP that a config.json leaves out: those of OpenAI's B/32.
_USUAL = MappingProxyType({"num_hidden_layers": 12, "hidden_size": 768, "patch_size": 32})


def clip_architecture(model: str) -> str:
    """The image tower of a CLIP, such as ``ViT-L/14``.

    Args:
        model: a built-in name, ``ORG/NAME[@REVISION]``, a folder, or an open_clip name.

    Returns:
        An empty text for models that are no CLIP, such as SigLIP, for other sizes, and if the
        configuration cannot be read.

    Raises:
        ModelError: if the name can be no model.
    """
    if model.startswith(OPEN_CLIP):
        return _of_open_clip(model.removeprefix(OPEN_CLIP))
    source = find_model(model)
    if source.name in _OPENAI:
        return _OPENAI[source.name]
    config = readable_config(source)
    if config.get("model_type") != "clip":
        return ""
    vision = config.get("vision_config")
    own = {**_USUAL, **(vision if isinstance(vision, dict) else {})}
    return _named(own["num_hidden_layers"], own["hidden_size"], own["patch_size"])


def _of_open_clip(name: str) -> str:
    folder = Path(name).expanduser()
    if not (folder / "open_clip_config.json").is_file():
        found = _OPEN_CLIP_NAME.fullmatch(name.partition("/")[0])
        return f"ViT-{found[1]}/{found[2]}" if found else ""
    settings = read_json(folder / "open_clip_config.json").get("model_cfg")
    vision = settings.get("vision_cfg") if isinstance(settings, dict) else None
    if not isinstance(vision, dict) or "timm_model_name" in vision:
        return ""
    return _named(vision.get("layers"), vision.get("width"), vision.get("patch_size"))


def _named(layers: Any, width: Any, patch: Any) -> str:
    if not all(isinstance(value, int) for value in (layers, width, patch)):
        return ""
    size = _SIZES.get((layers, width), "")
    return f"ViT-{size}/{patch}" if size else ""
