"""Pictures and prompts to tensors, for any chat model with eyes.

The model's own processor does it where it can be built. Some cannot be built without
torchvision because of a video part we have no use for; those are put together here from their
image processor, tokenizer and chat template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Protocol, Sequence

import torch
from PIL import Image

from indexes.errors import ModelError

#: What a processor returns beside the picture's own tensors.
_TEXT_KEYS = frozenset({"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"})


@dataclass(frozen=True)
class Prepared:
    """One picture with its prompts.

    Attributes:
        features: the picture's tensors, with a first dimension that pictures are joined along.
        prompts: token ids of every prompt, the picture's own tokens included.
    """

    features: Mapping[str, torch.Tensor]
    prompts: tuple[tuple[int, ...], ...]

    @property
    def bucket(self) -> tuple[Any, ...]:
        """Pictures with equal buckets can share one batch: same layout, same prompts.

        Whole numbers beside the pixels, such as a grid of patches, decide positions, so a tall
        and a wide picture of as many tokens must not meet.
        """
        layout = []
        for name, value in sorted(self.features.items()):
            numbers = () if value.is_floating_point() else tuple(value.flatten().tolist())
            layout.append((name, tuple(value.shape), numbers))
        return tuple(layout), self.prompts


class ChatProcessor(Protocol):
    """The part of a transformers processor that is used here."""

    tokenizer: Any

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render a conversation as the model was trained to read it."""
        ...

    def __call__(self, text: Any, images: Any, **options: Any) -> Mapping[str, Any]:
        """Turn text and pictures into tensors."""
        ...


class ComposedProcessor:
    """An image processor, a tokenizer and its chat template, put together."""

    def __init__(
        self,
        image_processor: Any,
        tokenizer: Any,
        image_token: str,
        tokens_of: Callable[[Mapping[str, Any]], int],
    ):
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self._image_token = image_token
        self._tokens_of = tokens_of

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """See :class:`ChatProcessor`."""
        return self.tokenizer.apply_chat_template(conversation, tokenize=False, **options)

    def __call__(
        self, text: Sequence[str], images: Sequence[Image.Image], **options: Any
    ) -> Mapping[str, Any]:
        """See :class:`ChatProcessor`; exactly one text and one picture."""
        features = dict(self.image_processor(images=list(images), return_tensors="pt"))
        grown = text[0].replace(self._image_token, self._image_token * self._tokens_of(features), 1)
        special = options.get("add_special_tokens", True)
        ids = self.tokenizer([grown], return_tensors="pt", add_special_tokens=special)
        return {"input_ids": ids["input_ids"], **features}


def _qwen_tokens(config: Any) -> Callable[[Mapping[str, Any]], int]:
    merge = config.vision_config.spatial_merge_size
    return lambda features: int(features["image_grid_thw"][0].prod()) // merge**2


#: Families whose processor does not build without torchvision: model type to the text that
#: stands for one image token, and how many a picture takes.
_COMPOSED: dict[str, tuple[str, Callable[[Any], Callable[[Mapping[str, Any]], int]]]] = {
    "qwen2_vl": ("<|image_pad|>", _qwen_tokens),
    "qwen2_5_vl": ("<|image_pad|>", _qwen_tokens),
    "qwen3_vl": ("<|image_pad|>", _qwen_tokens),
}


def load_processor(location: str, config: Any, where: Mapping[str, Any]) -> Any:
    """The processor of a model.

    Args:
        location: a hub id or a folder.
        config: the model's configuration.
        where: ``revision``, if one was asked for.

    Raises:
        ModelError: if it has no chat template, so that nobody knows how to ask it.
    """
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

    processor: Any
    if config.model_type in _COMPOSED:
        token, tokens_of = _COMPOSED[config.model_type]
        processor = ComposedProcessor(
            AutoImageProcessor.from_pretrained(location, backend="pil", **where),
            AutoTokenizer.from_pretrained(location, **where),
            token,
            tokens_of(config),
        )
    else:
        processor = AutoProcessor.from_pretrained(location, **where)
    if not (getattr(processor, "chat_template", None) or processor.tokenizer.chat_template):
        raise ModelError(
            f"{location} has no chat template, so it cannot be asked a question; name an "
            "instruction-tuned model."
        )
    return processor


class PromptWriter:
    """Prepares pictures for a fixed list of prompt texts."""

    def __init__(self, processor: ChatProcessor, texts: Sequence[str]):
        """Render the prompts.

        Args:
            processor: the model's.
            texts: the user's turn of each prompt, without the picture.
        """
        self._processor = processor
        self._chats = [self._chat(text) for text in texts]
        bos = processor.tokenizer.bos_token
        # A chat template that writes the opening token itself must not get a second one.
        self._special = not (bos and self._chats[0].startswith(bos))
        tokens = processor.tokenizer(self._chats, add_special_tokens=self._special)["input_ids"]
        self._bare = [list(ids) for ids in tokens]
        self._grown: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {}

    def _chat(self, text: str) -> str:
        turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
        return str(self._processor.apply_chat_template(turn, add_generation_prompt=True))

    def prepare(self, image: Image.Image) -> Prepared:
        """Tensors of one picture, and all prompts with the picture's tokens in place.

        Args:
            image: RGB.
        """
        inputs = dict(
            self._processor(
                text=[self._chats[0]],
                images=[image],
                return_tensors="pt",
                add_special_tokens=self._special,
            )
        )
        first = tuple(inputs["input_ids"][0].tolist())
        if first not in self._grown:
            self._grown[first] = self._grow(first, image)
        features = {name: value for name, value in inputs.items() if name not in _TEXT_KEYS}
        return Prepared(features, self._grown[first])

    def _grow(self, first: tuple[int, ...], image: Image.Image) -> tuple[tuple[int, ...], ...]:
        """All prompts with the picture's tokens, which the first one shows."""
        bare = self._bare[0]
        tail = 0
        while tail < min(len(bare), len(first)) and bare[-1 - tail] == first[-1 - tail]:
            tail += 1
        head, opening = bare[: len(bare) - tail], first[: len(first) - tail]
        prompts = []
        for ids, chat in zip(self._bare, self._chats, strict=True):
            if ids[: len(head)] == head:
                prompts.append((*opening, *ids[len(head) :]))
            else:
                grown = self._processor(
                    text=[chat],
                    images=[image],
                    return_tensors="pt",
                    add_special_tokens=self._special,
                )
                prompts.append(tuple(grown["input_ids"][0].tolist()))
        return tuple(prompts)
