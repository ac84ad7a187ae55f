"""Images and prompts to tensors, for any chat model that sees images.

The model's own processor is used where it can be built, otherwise one assembled from its parts
(:mod:`ingest.encoders.vlm.assembled_processor`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from PIL import Image

from indexes.errors import ModelError
from ingest.encoders.chat.chat_template import ChatTemplate, PromptRenderer
from ingest.encoders.models.find import ModelSource
from ingest.encoders.models.pretrained import check_picture_sizes, library_call, load_pretrained
from ingest.encoders.vlm.assembled_processor import AssembledProcessor, needs_assembly
from ingest.encoders.vlm.own_processor import (
    build_own_processor,
    load_auto_processor,
    needs_parts,
)

#: Outputs of a processor that are not the image's own tensors.
_TEXT_KEYS = frozenset(
    {
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "mm_token_type_ids",
        "moe_mm_token_type_ids",
        "cross_attention_mask",
        "labels",
    }
)

#: Settings of image processors that cut an image into tiles.
_TILE_SWITCHES = ("do_image_splitting", "crop_to_patches", "do_pan_and_scan")


@dataclass(frozen=True)
class Prepared:
    """One image, or one text in its place, with its prompts.

    Attributes:
        features: the image's tensors, with a first dimension that images are joined along;
            empty for a text.
        prompts: token ids of every prompt, the image's own tokens included.
        tails: over how many of each prompt's last tokens states are averaged; ``None`` for one.
    """

    features: Mapping[str, torch.Tensor]
    prompts: tuple[tuple[int, ...], ...]
    tails: tuple[int, ...] | None = None

    @property
    def bucket(self) -> tuple[Any, ...]:
        """Images with equal buckets can share one batch: same layout, same prompts.

        Integer tensors, such as a grid of patches, determine positions, so a tall and a wide image
        with the same number of tokens must not share a batch.
        """
        layout = []
        for name, value in sorted(self.features.items()):
            # As bytes, because a pixel mask holds a million numbers.
            integers = b"" if value.is_floating_point() else value.contiguous().numpy().tobytes()
            layout.append((name, tuple(value.shape), integers))
        return tuple(layout), self.prompts


class ChatProcessor(Protocol):
    """The part of a transformers processor that is used here."""

    tokenizer: Any

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render a conversation as the model was trained to read it."""
        ...

    def __call__(self, text: Any, images: Any, **options: Any) -> Mapping[str, Any]:
        """Turn text and images into tensors."""
        ...


def load_processor(source: ModelSource, config: Any, answers: bool = True) -> Any:
    """The processor of a model.

    Args:
        source: the model.
        config: its configuration.
        answers: whether the model must answer questions, and so needs a chat template.

    Raises:
        ModelError: if it cannot be built here, or has no chat template that is needed.
    """
    from transformers import AutoImageProcessor, AutoTokenizer

    check_picture_sizes(source)
    processor: Any
    if needs_assembly(config):
        image_processor = load_pretrained(AutoImageProcessor, source, backend="pil")
        tokenizer = load_pretrained(AutoTokenizer, source)
        with library_call(source):  # the files may lack what the assembly needs
            processor = AssembledProcessor(config, image_processor, tokenizer)
    elif needs_parts(source, config):
        processor = build_own_processor(source, config)
    else:
        processor = load_auto_processor(source, config)
    if getattr(processor, "tokenizer", None) is None:
        raise ModelError(
            f"{source.name} has no processor for texts and pictures; copy its processor's files "
            "there too, or name another model."
        )
    _complete_settings(processor, config)
    templates = getattr(processor, "chat_template", None), processor.tokenizer.chat_template
    if answers and not any(templates):
        raise ModelError(
            f"{source.name} has no chat template, so it cannot be asked a question; name an "
            "instruction-tuned model."
        )
    return processor


def _complete_settings(processor: Any, config: Any) -> None:
    """Add what files of LLaVA models from before 2025 do not say of a picture's tokens; models such
    as E5-V and BGE-VL-MLLM are published so.
    """
    vision: Any = getattr(config, "vision_config", None)
    if getattr(processor, "patch_size", 0) is not None or not hasattr(vision, "patch_size"):
        return
    processor.patch_size = vision.patch_size
    processor.vision_feature_select_strategy = config.vision_feature_select_strategy
    # The vision tower of CLIP has a token of the class besides those of the patches.
    processor.num_additional_image_tokens = int(vision.model_type == "clip_vision_model")


def untiled(processor: Any) -> dict[str, bool]:
    """Options with which a processor encodes the whole image once, without tiles.

    Tiles multiply an image's tokens by up to seventeen. Families that need them (such as
    LLaVA-NeXT, LLaVA-OneVision and Mllama) have no switch for it and keep them. So does Idefics2,
    whose processor ignores the switch where it writes the prompt.
    """
    if type(processor).__name__ == "Idefics2Processor":
        return {}
    image_processor = getattr(processor, "image_processor", None)
    return {switch: False for switch in _TILE_SWITCHES if hasattr(image_processor, switch)}


def processing_options(processor: Any, chat: str) -> dict[str, bool]:
    """Options with which a processor reads a rendered prompt: without tiles where it has a switch
    for them, and without an opening token if the chat template has written one.
    """
    bos = processor.tokenizer.bos_token
    return {
        "add_special_tokens": not (bos and chat.startswith(bos)),
        **untiled(processor),
    }


def image_features(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The images' own tensors among the outputs of a processor."""
    return {name: value for name, value in inputs.items() if name not in _TEXT_KEYS}


class PromptWriter:
    """Prepares images, or one text, for a fixed list of questions."""

    def __init__(
        self,
        processor: ChatProcessor,
        questions: Sequence[str],
        default_settings: bool = False,
        begins: Sequence[int] | None = None,
        text: str | None = None,
        chat: PromptRenderer | None = None,
    ):
        """Render the prompts.

        Args:
            processor: the model's.
            questions: one for each prompt.
            default_settings: keep the processor's own settings: tiles where it makes them, and
                an opening token even if the chat template has written one.
            begins: index of a character in each question; the prompt's tail begins there.
                ``None`` if tails are not needed.
            text: what the questions are about, on the lines above them; ``None`` for images.
            chat: writes the prompts; by default the processor's chat template.

        Raises:
            ModelError: if the chat template takes no such question; or if the processor makes
                tiles that cannot be written into a prompt here.
        """
        if (
            default_settings
            and isinstance(processor, AssembledProcessor)
            and not processor.writes_tiles
        ):
            raise ModelError(
                "This model's processor cuts pictures into tiles, which cannot be written into a "
                "prompt here; leave --compat out, or name another model."
            )
        self._processor = processor
        self._questions = list(questions)
        self._begins = begins
        before = "" if text is None else f"{text}\n"
        chat = chat or ChatTemplate(processor)
        self._chats = [chat.render(before + question, text is None) for question in questions]
        options = processing_options(processor, self._chats[0])
        self._add_special = default_settings or options["add_special_tokens"]
        self._options: dict[str, Any] = {} if default_settings else options
        tokens = processor.tokenizer(self._chats, add_special_tokens=self._add_special)["input_ids"]
        self._chat_ids = [tuple(ids) for ids in tokens]
        #: By the first prompt's ids, which depend on the image's size only.
        self._prompts: dict[tuple[int, ...], Prepared] = {}

    def prepare(self, image: Image.Image, processor: ChatProcessor | None = None) -> Prepared:
        """Tensors of one image, and all prompts with the image's tokens in place.

        Args:
            image: RGB.
            processor: a copy of the model's, if several threads prepare images.
        """
        processor = processor or self._processor
        inputs = self._process(processor, self._chats[0], image)
        first = tuple(inputs["input_ids"][0].tolist())
        if first not in self._prompts:
            prompts = self._with_image_tokens(processor, first, image)
            self._prompts[first] = self._with_tails(processor, prompts)
        return replace(self._prompts[first], features=image_features(inputs))

    def prepare_text(self) -> Prepared:
        """All prompts about the text."""
        return self._with_tails(self._processor, tuple(self._chat_ids))

    def _process(self, processor: ChatProcessor, chat: str, image: Image.Image) -> dict[str, Any]:
        return dict(processor(text=[chat], images=[image], return_tensors="pt", **self._options))

    def _with_image_tokens(
        self, processor: ChatProcessor, first: tuple[int, ...], image: Image.Image
    ) -> tuple[tuple[int, ...], ...]:
        """All prompts with the image's tokens, which are taken from the first prompt."""
        plain = self._chat_ids[0]
        tail = _common_prefix(plain[::-1], first[::-1])
        head, opening = plain[: len(plain) - tail], first[: len(first) - tail]
        prompts = []
        for ids, chat in zip(self._chat_ids, self._chats, strict=True):
            if ids[: len(head)] == head:
                prompts.append((*opening, *ids[len(head) :]))
            else:
                processed = self._process(processor, chat, image)
                prompts.append(tuple(processed["input_ids"][0].tolist()))
        return tuple(prompts)

    def _with_tails(
        self, processor: ChatProcessor, prompts: tuple[tuple[int, ...], ...]
    ) -> Prepared:
        begins = self._begins
        tails = None if begins is None else self._tails(processor, begins, prompts)
        return Prepared({}, prompts, tails)

    def _tails(
        self,
        processor: ChatProcessor,
        begins: Sequence[int],
        prompts: Sequence[Sequence[int]],
    ) -> tuple[int, ...]:
        """How many tokens each prompt has from a given character of its question to its end.

        A token that holds that character and some before it counts. Token boundaries are found by
        tokenizing the prompt up to that character: the tokens that differ are counted.

        Args:
            processor: the model's, or a copy.
            begins: index of that character in each question.
            prompts: with the image's tokens in place.

        Raises:
            ModelError: if the model's chat template changes the question, or puts the image after
                it.
        """
        counts = []
        for question, begin, chat, ids, prompt in zip(
            self._questions, begins, self._chats, self._chat_ids, prompts, strict=True
        ):
            start = chat.rfind(question[begin:].rstrip())
            if start < 0:
                raise ModelError(
                    "This model's chat template changes the question, so that its words are not "
                    "found again; leave out --token mean, or name another model."
                )
            cut = processor.tokenizer(chat[:start], add_special_tokens=self._add_special)
            count = len(ids) - _common_prefix(ids, cut["input_ids"])
            if tuple(prompt[-count:]) != ids[-count:]:
                raise ModelError(
                    "This model's chat template puts the picture after the question; leave out "
                    "--token mean, or name another model."
                )
            counts.append(count)
        return tuple(counts)


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading tokens two sequences have in common."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(first), len(second)))
