"""Asks an LVLM, in words alone, what values a condition can have.

For conditions of which no list is known. What models answer is read leniently (numbers, bullets,
lines, explanations), and what is no list at all is refused rather than guessed at.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Sequence

from indexes.errors import ModelError
from ingest.conditions import folded
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.encoders.models.find import BUILTIN, find

#: How many values are asked for, and fewer than how many of them are taken for no list.
WANTED, LEAST = 40, 8

#: Words in a value; more are a sentence.
_MAX_WORDS = 5

_ASK = (
    "List about {wanted} different values that the {condition} of a picture, or of what it shows, "
    "can have."
)
_FORM = "Answer with the values alone, each one to three words, separated by commas."

_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_MARK = re.compile(r"^\s*(?:[-*•–—·+>]|\(?\d{1,3}[.):]|#+)\s*")
_NUMBERED_INSIDE = re.compile(r"(?<=[\s,;])\d{1,3}[.)]\s+")
_APART = re.compile(r"[,;，、；|]")
_EXPLAINED = re.compile(r"\s*(?:[(:]|\s[-–—]\s).*$", re.DOTALL)
_AND = re.compile(r"^(?:and|or|und|et)\s+", re.IGNORECASE)
_BARE = " \t\"'`*_.!?“”‘’[]{}"
_ENDS = (".", "!", "?")


class Listing:
    """Makes lists of words by a model, which is loaded when the first one is asked for."""

    def __init__(
        self, model: str, load: Callable[[], tuple[Any, Any]] | None = None, most: int = 600
    ):
        """Remember what to load.

        Args:
            model: a built-in name, ``ORG/NAME[@REVISION]``, or a folder.
            load: gives the model of transformers and its processor, where they may be loaded
                already; by default they are loaded anew.
            most: tokens an answer may take; a word and its comma are three on average.
        """
        self._model = model
        self._load = load
        self._most = most
        self._loaded: tuple[Any, Any] | None = None

    @property
    def model(self) -> str:
        """Who makes the lists, for people."""
        return self._model

    def __call__(self, condition: str) -> list[str]:
        """Values of a condition, as the model lists them.

        Raises:
            ModelError: if the model cannot be had, is built in, or does not answer with a list.
        """
        if not lists(self._model):
            raise ModelError(
                f"{self._model} says one word of a picture and cannot list the values of "
                f"'{condition}'; write them with `cies conditions edit \"{condition}\" --words "
                '"..., ..."`, or name a large model.'
            )
        answer, whole = self.answer(condition)
        values = read_list(answer, whole)
        if len(values) < LEAST:
            said = " ".join(answer.split())
            shown = f"{said[:60]}..." if len(said) > 60 else said
            raise ModelError(
                f"{self._model} did not list values of '{condition}' but answered {shown!r}; "
                f'write them with `cies conditions edit "{condition}" --words "..., ..."`.'
            )
        return values

    def answer(self, condition: str) -> tuple[str, bool]:
        """What the model says, its own words alone, and whether it came to an end.

        Raises:
            ModelError: if the model cannot be had.
        """
        import torch
        from transformers import GenerationConfig

        from ingest.encoders.vlm.lvlm import stop_tokens
        from ingest.encoders.vlm.model_inputs import ModelInputs, input_device
        from ingest.encoders.vlm.processors import PromptWriter

        model, processor = self._ready()
        asked = _ASK.format(wanted=WANTED, condition=condition)
        prompt = PromptWriter(processor, [_FORM], text=asked).prepare_text().prompts[0]
        hints = ModelInputs(model)
        stops = sorted(stop_tokens(model, processor.tokenizer))
        greedy = GenerationConfig(
            do_sample=False,
            max_new_tokens=self._most,
            eos_token_id=stops or None,
            pad_token_id=processor.tokenizer.pad_token_id,
        )
        with torch.inference_mode():
            ids = torch.tensor([list(prompt)], device=input_device(model))
            said = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=greedy,
                **hints.of_tokens(ids, {}),
            )
        fresh = said[0, len(prompt) :].tolist()
        whole = len(fresh) < self._most or fresh[-1] in stops
        return str(processor.tokenizer.decode(fresh, skip_special_tokens=True)), whole

    def _ready(self) -> tuple[Any, Any]:
        if self._loaded is None:
            if self._load is not None:
                self._loaded = self._load()
            else:
                from ingest.encoders.models.find import load

                loaded = load(find(self._model))
                self._loaded = loaded.model, loaded.processor
        return self._loaded


def lists(model: str) -> bool:
    """Whether a model may list words: not one that was schooled to say one word of a picture.

    Raises:
        ModelError: if there can be no such model.
    """
    return model not in BUILTIN and find(model).trained_on() is None


def listing_of(spec: EncoderSpec, encoder: Callable[[EncoderSpec], BaseEncoder]) -> Listing | None:
    """What lists words by the LVLM that a gallery's vectors were made with.

    Args:
        spec: of that encoder.
        encoder: gives it, loaded; called when a list is asked for.

    Returns:
        ``None`` if the model cannot list words.
    """
    try:
        if not lists(spec.model):
            return None
    except ModelError:
        return None  # it was moved since, which matters only when something must be embedded

    def load() -> tuple[Any, Any]:
        from ingest.encoders.methods.dior import DiorEncoder

        made = encoder(spec)
        if not isinstance(made, DiorEncoder):
            raise ModelError(
                f"{spec.model} cannot list words; write them by `cies conditions edit`."
            )
        return made.lvlm.model, made.processor

    return Listing(spec.model, load)


def read_list(answer: str, whole: bool = True) -> list[str]:
    """The values in a model's answer, each once; sentences around them are passed over.

    Args:
        answer: such as ``1. Happy`` and so on, or ``happy, sad, calm``.
        whole: whether it came to an end; if not, its last value is cut off and left out.
    """
    found: list[str] = []
    lines = [line for line in _THOUGHT.sub("", answer).splitlines() if line.strip()]
    for line in lines:
        found += _values(line)
    if not whole and found and lines and _values(lines[-1])[-1:] == found[-1:]:
        found.pop()
    kept: dict[str, str] = {}
    for value in found:
        kept.setdefault(folded(value), value)
    return list(kept.values())


def _values(line: str) -> list[str]:
    """The values of one line; none if it is prose."""
    bare = _MARK.sub("", line)
    _, colon, rest = bare.partition(":")
    if colon and _APART.search(rest):
        # "Here are some values: happy, sad"; "Warm: red, orange".
        bare = rest
    elif colon and not rest.strip("*_ "):
        return []  # "Here are 40 values:", or a heading.
    parts = _APART.split(_NUMBERED_INSIDE.sub(",", bare))
    if bare.rstrip().endswith(_ENDS) and _mean_length(parts) > 3:
        return []
    values = [_AND.sub("", _EXPLAINED.sub("", _MARK.sub("", part)).strip(_BARE)) for part in parts]
    return [value for value in values if value and len(value.split()) <= _MAX_WORDS]


def _mean_length(parts: Sequence[str]) -> float:
    """Words in a part, on average."""
    return sum(len(part.split()) for part in parts) / len(parts)
