"""Dual encoders that open_clip loads: ``open_clip:ARCH/WEIGHTS``, or ``open_clip:FOLDER``.

open_clip is an extra, and brings torchvision. What is used of it is its documented face:
``create_model_from_pretrained``, ``get_tokenizer``, ``encode_image`` and ``encode_text``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from indexes.errors import ModelError
from ingest.encoders.devices import dtype_of
from ingest.encoders.models.find import OPEN_CLIP, ModelSource, digest

if TYPE_CHECKING:
    from ingest.encoders.dual.encoder import Given

_FORMS = (
    f"{OPEN_CLIP}ViT-B-32/laion2b_s34b_b79k, or {OPEN_CLIP}FOLDER with an open_clip_config.json"
)

#: Of each tensor of weights without files of their own, what is digested.
_DIGEST_NUMBERS = 4096


class OpenClipTowers:
    """A dual encoder of open_clip, with its transform and tokenizer."""

    def __init__(self, model: Any, transform: Any, tokenizer: Any):
        """Take what open_clip gives.

        Args:
            model: with ``encode_image`` and ``encode_text``.
            transform: one RGB picture to a tensor.
            tokenizer: a list of texts to int64 [texts, length].
        """
        self.model = model
        self._transform = transform
        self._tokenizer = tokenizer

    def prepare(self, images: Sequence[Image.Image]) -> Given:
        """See :class:`ingest.encoders.dual.encoder.Towers`."""
        return {"image": torch.stack([self._transform(image) for image in images])}

    def tokens(self, texts: Sequence[str]) -> Given:
        """See :class:`ingest.encoders.dual.encoder.Towers`."""
        return {"text": self._tokenizer(list(texts))}

    def see(self, given: Given) -> torch.Tensor:
        """See :class:`ingest.encoders.dual.encoder.Towers`."""
        vectors: torch.Tensor = self.model.encode_image(given["image"])
        return vectors

    def read(self, given: Given) -> torch.Tensor:
        """See :class:`ingest.encoders.dual.encoder.Towers`."""
        vectors: torch.Tensor = self.model.encode_text(given["text"])
        return vectors


def load(model: str, dtype: str, device: str) -> tuple[ModelSource, OpenClipTowers, str, str]:
    """Load a model.

    Args:
        model: beginning with :data:`OPEN_CLIP`.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: one device by name.

    Returns:
        Where it came from, the model, its revision, and its dtype.

    Raises:
        ModelError: if open_clip is not installed, or has no such model.
    """
    try:
        import open_clip
    except ImportError as error:
        raise ModelError(
            f"{model} is loaded by open_clip, which is not installed here; install it with "
            "`pip install 'cies[open_clip]'`, or name a model of transformers, such as "
            "openai/clip-vit-base-patch32."
        ) from error
    name = model.removeprefix(OPEN_CLIP)
    folder = Path(name).expanduser()
    local = (folder / "open_clip_config.json").is_file()
    architecture, _, weights = name.partition("/")
    if local:
        folder = folder.absolute()
        _check_weights(folder, model)
        source = ModelSource(f"{OPEN_CLIP}{folder}", str(folder), None, local=True)
        architecture, weights = f"local-dir:{folder}", ""
    elif name.startswith((".", "/", "~")) or not (architecture and weights):
        raise ModelError(f"There is no model '{model}'; write {_FORMS}.")
    else:
        source = ModelSource(model, name, None, local=False)
    try:
        loaded, transform = open_clip.create_model_from_pretrained(
            architecture, pretrained=weights or None, device="cpu", weights_only=True
        )
        tokenizer = open_clip.get_tokenizer(architecture)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200].rstrip(".")
        raise ModelError(
            f"open_clip cannot load {model}: {why}; write {_FORMS}, and see that the hub can be "
            "reached."
        ) from error
    loaded.eval()
    revision = digest(folder) if local else _digest_of(loaded)
    kind = dtype_of(dtype, loaded, device)
    loaded.to(device=device, dtype=getattr(torch, kind))
    return source, OpenClipTowers(loaded, transform, tokenizer), revision, kind


def _check_weights(folder: Path, model: str) -> None:
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{model} has no safetensors weights, and other formats can run code when loaded; "
            "convert them to safetensors, or name another model."
        )


def _digest_of(model: Any) -> str:
    """A digest of a model's weights, because a tag says nothing of what stands behind it."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)}\n".encode())
        some = tensor.detach().flatten()[:_DIGEST_NUMBERS].float().contiguous()
        total.update(some.cpu().numpy().tobytes())
    return total.hexdigest()[:16]
