"""Pictures and prompts to tensors, for any chat model with eyes.

The model's own processor does it where it can be built, else one put together from its parts
(:mod:`ingest.encoders.vlm.composed`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Mapping, Protocol, Sequence

import torch
from PIL import Image

from indexes.errors import ModelError
from ingest.encoders.vlm.composed import ComposedProcessor, composes

#: What a processor returns beside the picture's own tensors.
_TEXT_KEYS = frozenset(
    {
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "mm_token_type_ids",
        "cross_attention_mask",
        "labels",
    }
)

#: Settings of image processors that cut a picture into tiles.
_TILE_SWITCHES = ("do_image_splitting", "crop_to_patches", "do_pan_and_scan")


@dataclass(frozen=True)
class Prepared:
    """One picture, or one text in its place, with its prompts.

    Attributes:
        features: the picture's tensors, with a first dimension that pictures are joined along;
            none of a text.
        prompts: token ids of every prompt, the picture's own tokens included.
        tails: over how many of each prompt's last tokens states are averaged; ``None`` for one.
    """

    features: Mapping[str, torch.Tensor]
    prompts: tuple[tuple[int, ...], ...]
    tails: tuple[int, ...] | None = None

    @property
    def bucket(self) -> tuple[Any, ...]:
        """Pictures with equal buckets can share one batch: same layout, same prompts.

        Whole numbers beside the pixels, such as a grid of patches, decide positions, so a tall
        and a wide picture of as many tokens must not meet.
        """
        layout = []
        for name, value in sorted(self.features.items()):
            # As bytes, because a mask of pixels holds a million numbers.
            numbers = b"" if value.is_floating_point() else value.contiguous().numpy().tobytes()
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


def load_processor(location: str, config: Any, where: Mapping[str, Any]) -> Any:
    """The processor of a model.

    Args:
        location: a hub id or a folder.
        config: the model's configuration.
        where: ``revision``, if one was asked for.

    Raises:
        ModelError: if it cannot be built here, or has no chat template, so that nobody knows how
            to ask it.
    """
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

    processor: Any
    if composes(config):
        processor = ComposedProcessor(
            config,
            AutoImageProcessor.from_pretrained(location, backend="pil", **where),
            AutoTokenizer.from_pretrained(location, **where),
        )
    else:
        try:
            processor = AutoProcessor.from_pretrained(location, **where)
        except ImportError as error:
            raise ModelError(
                f"The processor of {location} cannot be built: {_first_sentence(error)}. "
                "Install what is missing, or name another model."
            ) from error
    if not (getattr(processor, "chat_template", None) or processor.tokenizer.chat_template):
        raise ModelError(
            f"{location} has no chat template, so it cannot be asked a question; name an "
            "instruction-tuned model."
        )
    return processor


def _first_sentence(error: Exception) -> str:
    return " ".join(str(error).split()).partition(". ")[0].rstrip(".")


def untiled(processor: Any) -> dict[str, bool]:
    """Options by which a processor has a picture read whole, once, and not also in tiles.

    Tiles multiply a picture's tokens by up to seventeen. Families that cannot do without (such as
    LLaVA-NeXT, LLaVA-OneVision and Mllama) have no switch for it and keep theirs.
    """
    image_processor = getattr(processor, "image_processor", None)
    return {switch: False for switch in _TILE_SWITCHES if hasattr(image_processor, switch)}


class PromptWriter:
    """Prepares pictures, or one text, for a fixed list of questions."""

    def __init__(
        self,
        processor: ChatProcessor,
        questions: Sequence[str],
        as_it_comes: bool = False,
        begins: Sequence[int] | None = None,
        text: str | None = None,
    ):
        """Render the prompts.

        Args:
            processor: the model's.
            questions: what each prompt asks.
            as_it_comes: leave the processor's own settings alone: tiles where it makes them, and
                an opening token even if the chat template has written one.
            begins: a character's place in each question, from which on tokens are counted as the
                prompt's tail; ``None`` if tails are not wanted.
            text: what the questions are about, on the lines above them; ``None`` for pictures.

        Raises:
            ModelError: if it makes tiles that cannot be written into a prompt here.
        """
        if as_it_comes and isinstance(processor, ComposedProcessor) and not processor.writes_tiles:
            raise ModelError(
                "This model's processor cuts pictures into tiles, which cannot be written into a "
                "prompt here; leave --compat out, or name another model."
            )
        self._processor = processor
        self._questions = list(questions)
        self._begins = begins
        above = [{"type": "image"}] if text is None else []
        before = "" if text is None else f"{text}\n"
        self._chats = [self._chat(above, before + question) for question in questions]
        bos = processor.tokenizer.bos_token
        # A chat template that writes the opening token itself must not get a second one.
        self._special = as_it_comes or not (bos and self._chats[0].startswith(bos))
        options = {"add_special_tokens": self._special, **untiled(processor)}
        self._options: dict[str, Any] = {} if as_it_comes else options
        tokens = processor.tokenizer(self._chats, add_special_tokens=self._special)["input_ids"]
        self._bare = [tuple(ids) for ids in tokens]
        self._grown: dict[tuple[int, ...], Prepared] = {}

    def _chat(self, above: list[dict[str, str]], text: str) -> str:
        turn = [{"role": "user", "content": [*above, {"type": "text", "text": text}]}]
        return str(self._processor.apply_chat_template(turn, add_generation_prompt=True))

    def prepare(self, image: Image.Image, processor: ChatProcessor | None = None) -> Prepared:
        """Tensors of one picture, and all prompts with the picture's tokens in place.

        Args:
            image: RGB.
            processor: a copy of the model's, for a thread that is not alone in preparing.
        """
        processor = processor or self._processor
        inputs = self._processed(processor, self._chats[0], image)
        first = tuple(inputs["input_ids"][0].tolist())
        if first not in self._grown:
            self._grown[first] = self._with_tails(processor, self._grow(processor, first, image))
        features = {name: value for name, value in inputs.items() if name not in _TEXT_KEYS}
        return replace(self._grown[first], features=features)

    def prepare_text(self) -> Prepared:
        """All prompts about the text."""
        return self._with_tails(self._processor, tuple(self._bare))

    def _processed(self, processor: ChatProcessor, chat: str, image: Image.Image) -> dict[str, Any]:
        return dict(processor(text=[chat], images=[image], return_tensors="pt", **self._options))

    def _grow(
        self, processor: ChatProcessor, first: tuple[int, ...], image: Image.Image
    ) -> tuple[tuple[int, ...], ...]:
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
                grown = self._processed(processor, chat, image)
                prompts.append(tuple(grown["input_ids"][0].tolist()))
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
        """How many tokens each prompt has from some character of its question to its end.

        A token that holds that character and some before it counts. Where tokens end is seen
        from the prompt cut off before the character: what differs from then on is counted.

        Args:
            processor: the model's, or a copy.
            begins: that character's place in each of the questions.
            prompts: with the picture's tokens in place.

        Raises:
            ModelError: if the model's chat template rewrites the question, or puts the picture
                after it.
        """
        counts = []
        for question, begin, chat, bare, prompt in zip(
            self._questions, begins, self._chats, self._bare, prompts, strict=True
        ):
            start = chat.rfind(question[begin:].rstrip())
            if start < 0:
                raise ModelError(
                    "This model's chat template rewrites the question, so that its words are not "
                    "found again; leave out --token mean, or name another model."
                )
            cut = processor.tokenizer(chat[:start], add_special_tokens=self._special)
            count = len(bare) - _agreeing(bare, cut["input_ids"])
            if tuple(prompt[-count:]) != bare[-count:]:
                raise ModelError(
                    "This model's chat template puts the picture after the question; leave out "
                    "--token mean, or name another model."
                )
            counts.append(count)
        return tuple(counts)


def _agreeing(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading tokens two sequences have in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
