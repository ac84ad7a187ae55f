"""Processors assembled from their parts, for families whose own one cannot be built.

The processors of some families have a video part, which CIES does not need and which cannot be
built without torchvision. Their image processor, tokenizer and chat template can. The functions
here add what is missing: the text that represents an image of a given size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from PIL import Image

#: Outputs of image processors that are meant for their own processor only.
_LAYOUT_KEYS = frozenset({"num_patches", "rows", "cols"})


class AssembledProcessor:
    """An image processor, a tokenizer and its chat template as one processor."""

    def __init__(self, config: Any, image_processor: Any, tokenizer: Any):
        """Assemble the parts.

        Args:
            config: the model's configuration, for which :func:`needs_assembly` is true.
            image_processor: the model's, without torchvision.
            tokenizer: the model's, with its chat template.
        """
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self._config = config
        self._image_text = _IMAGE_TEXTS[_kind(config)]
        if _kind(config) == "pixtral":
            # Only its own processor, not its files, makes sizes a multiple of a merged patch.
            side = config.vision_config.patch_size * _merge(config)
            image_processor.patch_size = {"height": side, "width": side}

    @property
    def writes_tiles(self) -> bool:
        """Whether an image cut into tiles, as the files say, can be written into a prompt here."""
        split = getattr(self.image_processor, "do_image_splitting", False)
        return not (split and _kind(self._config) == "smolvlm")

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render a conversation as text."""
        return self.tokenizer.apply_chat_template(conversation, tokenize=False, **options)

    def __call__(
        self,
        text: Sequence[str],
        images: Sequence[Image.Image],
        return_tensors: str = "pt",
        add_special_tokens: bool = True,
        **options: Any,
    ) -> Mapping[str, Any]:
        """Turn exactly one text and its images into tensors; ``options`` are for the images."""
        features = dict(
            self.image_processor(images=list(images), return_tensors=return_tensors, **options)
        )
        whole, start = text[0], 0
        for number in range(len(images)):
            own = {
                name: value[number : number + 1] if len(value) == len(images) else value
                for name, value in features.items()
            }
            mark, image_text = self._image_text(self._config, self.tokenizer, own)
            start = whole.index(mark, start)
            whole = whole[:start] + image_text + whole[start + len(mark) :]
            start += len(image_text)
        tokens = self.tokenizer(
            [whole],
            return_tensors=return_tensors,
            add_special_tokens=add_special_tokens,
        )
        kept = {name: value for name, value in features.items() if name not in _LAYOUT_KEYS}
        return {**tokens, **kept}


#: (configuration, tokenizer, image's tensors) to the placeholder in the chat template, and the
#: text that replaces it.
_ImageText = Callable[[Any, Any, Mapping[str, Any]], tuple[str, str]]


def _by_grid(config: Any, tokenizer: Any, features: Mapping[str, Any]) -> tuple[str, str]:
    """Qwen-VL and GLM-V: a token for every ``merge`` by ``merge`` patches."""
    merge = config.vision_config.spatial_merge_size
    mark = tokenizer.convert_ids_to_tokens(config.image_token_id)
    return mark, mark * (int(features["image_grid_thw"][0].prod()) // merge**2)


def _smolvlm(config: Any, tokenizer: Any, features: Mapping[str, Any]) -> tuple[str, str]:
    """SmolVLM, an image without tiles: a fixed number of tokens, between two marks."""
    vision = config.vision_config
    count = (vision.image_size // vision.patch_size) ** 2 // config.scale_factor**2
    mark = tokenizer.convert_ids_to_tokens(config.image_token_id)
    around = getattr(tokenizer, "fake_image_token", None) or "<fake_token_around_image>"
    whole = getattr(tokenizer, "global_image_token", None) or "<global-img>"
    return mark, f"{around}{whole}{mark * count}{around}"


def _internvl(config: Any, tokenizer: Any, features: Mapping[str, Any]) -> tuple[str, str]:
    """InternVL: a fixed number of tokens for each tile, between two marks."""
    count = config.image_seq_length * int(features["num_patches"][0])
    mark = tokenizer.context_image_token
    return mark, f"{tokenizer.start_image_token}{mark * count}{tokenizer.end_image_token}"


def _llava_onevision(config: Any, tokenizer: Any, features: Mapping[str, Any]) -> tuple[str, str]:
    """LLaVA-OneVision: the whole image, then its tiles without their padding."""
    from transformers.image_processing_utils import select_best_resolution

    size = config.vision_config.image_size
    side = size // config.vision_config.patch_size
    height, width = features["image_sizes"][0].tolist()
    best = select_best_resolution([height, width], config.image_grid_pinpoints)
    rows, columns = side * (best[0] // size), side * (best[1] // size)
    if width / height > columns / rows:
        rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
    most = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
    shrink = math.sqrt(rows * columns / (most * side**2))
    if shrink > 1.1:
        rows, columns = int(rows // shrink), int(columns // shrink)
    # Every row of the tiles' tokens ends with a newline token.
    mark = tokenizer.convert_ids_to_tokens(config.image_token_id)
    return mark, mark * (side**2 + rows * columns + rows)


def _merge(config: Any) -> int:
    return int(getattr(config, "spatial_merge_size", 1))


def _pixtral(config: Any, tokenizer: Any, features: Mapping[str, Any]) -> tuple[str, str]:
    """Pixtral, in Mistral 3 or LLaVA: rows of tokens, with a break token between two rows."""
    side = config.vision_config.patch_size * _merge(config)
    height, width = (int(length) // side for length in features["image_sizes"][0])
    mark = tokenizer.convert_ids_to_tokens(config.image_token_id)
    return mark, "[IMG_BREAK]".join([mark * width] * height) + "[IMG_END]"


#: Model types whose processor cannot be built without torchvision.
_IMAGE_TEXTS: Mapping[str, _ImageText] = MappingProxyType(
    {
        "glm4v": _by_grid,
        "internvl": _internvl,
        "llava_onevision": _llava_onevision,
        "pixtral": _pixtral,
        "qwen2_5_vl": _by_grid,
        "qwen2_vl": _by_grid,
        "qwen3_5": _by_grid,
        "qwen3_vl": _by_grid,
        "qwen3_vl_moe": _by_grid,
        "smolvlm": _smolvlm,
    }
)


def _kind(config: Any) -> str:
    """The model type, or ``pixtral`` for the types that have that image tower."""
    if config.model_type in ("llava", "mistral3") and config.vision_config.model_type == "pixtral":
        return "pixtral"
    return str(config.model_type)


def needs_assembly(config: Any) -> bool:
    """Whether the processor of a model must be assembled here."""
    return _kind(config) in _IMAGE_TEXTS
