"""Dual encoders that open_clip loads: ``open_clip:ARCH/WEIGHTS``, or ``open_clip:FOLDER``.

open_clip is an extra and brings torchvision. Only its documented interface is used:
``create_model_from_pretrained``, ``get_tokenizer``, ``encode_image`` and ``encode_text``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from indexes.errors import ModelError
from ingest.encoders.devices import choose_dtype
from ingest.encoders.dual.towers import LoadedTowers, Tensors
from ingest.encoders.models.find import OPEN_CLIP, ModelSource
from ingest.encoders.models.loading import local_revision
from ingest.encoders.models.pretrained import load_open_clip_files

_FORMS = (
    f"{OPEN_CLIP}ViT-B-32/laion2b_s34b_b79k, or {OPEN_CLIP}FOLDER with an open_clip_config.json"
)

#: How many numbers of each weight tensor are hashed, for weights without files of their own.
_HASHED_NUMBERS = 4096


class _OpenClipTowers:
    """A dual encoder of open_clip with its transform and tokenizer.

    See :class:`ingest.encoders.dual.towers.Towers` for the methods.
    """

    reads_texts = True

    def __init__(self, model: Any, transform: Any, tokenizer: Any):
        """Use what open_clip returned.

        Args:
            model: with ``encode_image`` and ``encode_text``.
            transform: one RGB image to a tensor.
            tokenizer: a list of texts to int64 [texts, length].
        """
        self.model = model
        self._transform = transform
        self._tokenizer = tokenizer

    def prepare_images(self, images: Sequence[Image.Image]) -> Tensors:
        return {"image": torch.stack([self._transform(image) for image in images])}

    def tokenize(self, texts: Sequence[str]) -> Tensors:
        return {"text": self._tokenizer(list(texts))}

    def image_features(self, inputs: Tensors) -> torch.Tensor:
        vectors: torch.Tensor = self.model.encode_image(inputs["image"])
        return vectors

    def text_features(self, inputs: Tensors) -> torch.Tensor:
        vectors: torch.Tensor = self.model.encode_text(inputs["text"])
        return vectors


def load_open_clip(model: str, dtype: str, device: str, rounded: bool) -> LoadedTowers:
    """Load a dual encoder of open_clip.

    Args:
        model: a name that starts with :data:`OPEN_CLIP`.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: one device by name.
        rounded: has no effect: open_clip converts its models as a whole.

    Raises:
        ModelError: if open_clip is not installed, or has no such model.
    """
    try:
        import open_clip  # noqa: F401
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
    loaded, transform, tokenizer = load_open_clip_files(source, architecture, weights or None)
    loaded.eval()
    revision = local_revision(folder) if local else _weights_digest(loaded)
    computed_dtype = choose_dtype(dtype, loaded, device)
    loaded.to(device=device, dtype=getattr(torch, computed_dtype))
    towers = _OpenClipTowers(loaded, transform, tokenizer)
    return LoadedTowers(source, towers, revision, computed_dtype)


def _check_weights(folder: Path, model: str) -> None:
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{model} has no safetensors weights, and other formats can run code when loaded; "
            "convert them to safetensors, or name another model."
        )


def _weights_digest(model: Any) -> str:
    """A digest of a model's weights, because open_clip's tags do not identify a version."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)}\n".encode())
        numbers = tensor.detach().flatten()[:_HASHED_NUMBERS].float().contiguous()
        total.update(numbers.cpu().numpy().tobytes())
    return total.hexdigest()[:16]
