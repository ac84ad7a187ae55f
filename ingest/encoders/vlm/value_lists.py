"""Asks an LVLM, without an image, for the values that a condition can have.

Used for conditions without a word list. Answers are parsed leniently (numbers, bullets, lines,
explanations); an answer that is not a list is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from indexes.errors import ModelError
from ingest.conditions import fold_name
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.encoders.models.find import BUILTIN, find_model

#: How many values are asked for, and the fewest that count as a list.
WANTED, LEAST = 40, 8

#: Most words in a value; a part with more is a sentence.
_MAX_WORDS = 5

_QUESTION = (
    "List about {wanted} different values that the {condition} of a picture, or of what it shows, "
    "can have."
)
_FORM = "Answer with the values alone, each one to three words, separated by commas."

_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_MARK = re.compile(r"^\s*(?:[-*•–—·+>]|\(?\d{1,3}[.):]|#+)\s*")
_NUMBERED_INSIDE = re.compile(r"(?<=[\s,;])\d{1,3}[.)]\s+")
_SEPARATOR = re.compile(r"[,;，、；|]")
_EXPLANATION = re.compile(r"\s*(?:[(:]|\s[-–—]\s).*$", re.DOTALL)
_AND = re.compile(r"^(?:and|or|und|et)\s+", re.IGNORECASE)
_AROUND = " \t\"'`*_.!?“”‘’[]{}"
_ENDS = (".", "!", "?")


class LvlmWordLister:
    """Lists a condition's values with a model, which is loaded at the first call."""

    def __init__(
        self,
        model: str,
        load: Callable[[], tuple[Any, Any]] | None = None,
        max_tokens: int = 600,
    ):
        """Choose a model.

        Args:
            model: a built-in name, ``ORG/NAME[@REVISION]``, or a folder.
            load: returns the model of transformers and its processor, where they may be loaded
                already; by default they are loaded.
            max_tokens: the limit of an answer; a word and its comma have three on average.
        """
        self._model = model
        self._load = load
        self._max_tokens = max_tokens
        self._loaded: tuple[Any, Any] | None = None

    @property
    def model(self) -> str:
        """The model's name."""
        return self._model

    def __call__(self, condition: str) -> list[str]:
        """Values of a condition, as the model lists them.

        Raises:
            ModelError: if the model cannot be loaded, is built in, or does not answer with a list.
        """
        if not can_list_values(self._model):
            raise ModelError(
                f"{self._model} says one word of a picture and cannot list the values of "
                f"'{condition}'; write them with `cies conditions edit \"{condition}\" --words "
                '"..., ..."`, or name a large model.'
            )
        answer, complete = self.answer(condition)
        values = parse_values(answer, complete)
        if len(values) < LEAST:
            line = " ".join(answer.split())
            shown = f"{line[:60]}..." if len(line) > 60 else line
            raise ModelError(
                f"{self._model} did not list values of '{condition}' but answered {shown!r}; "
                f'write them with `cies conditions edit "{condition}" --words "..., ..."`.'
            )
        return values

    def answer(self, condition: str) -> tuple[str, bool]:
        """The model's answer, without the question, and whether it is complete.

        Raises:
            ModelError: if the model cannot be loaded.
        """
        import torch

        from ingest.encoders.vlm.model_inputs import ModelInputs, input_device
        from ingest.encoders.vlm.processors import PromptWriter
        from ingest.encoders.vlm.states import generation_settings, stop_tokens

        model, processor = self._load_once()
        question = _QUESTION.format(wanted=WANTED, condition=condition)
        prompt = PromptWriter(processor, [_FORM], text=question).prepare_text().prompts[0]
        stops = sorted(stop_tokens(model, processor.tokenizer))
        with torch.inference_mode():
            ids = torch.tensor([list(prompt)], device=input_device(model))
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=generation_settings(
                    processor.tokenizer, self._max_tokens, stops or None
                ),
                **ModelInputs(model).for_prompts(ids, {}),
            )
        generated = output[0, len(prompt) :].tolist()
        complete = len(generated) < self._max_tokens or generated[-1] in stops
        return str(processor.tokenizer.decode(generated, skip_special_tokens=True)), complete

    def _load_once(self) -> tuple[Any, Any]:
        if self._loaded is None:
            if self._load is not None:
                self._loaded = self._load()
            else:
                from ingest.encoders.models.loading import load_model

                loaded = load_model(find_model(self._model))
                self._loaded = loaded.model, loaded.processor
        return self._loaded


def can_list_values(model: str) -> bool:
    """Whether a model can list words: not if it was trained to say one word about an image.

    Raises:
        ModelError: if there can be no such model.
    """
    return model not in BUILTIN and find_model(model).declared_conditions() is None


def word_lister_for(
    spec: EncoderSpec, load_encoder: Callable[[EncoderSpec], BaseEncoder]
) -> LvlmWordLister | None:
    """A word lister that uses the LVLM of a gallery's encoder.

    Args:
        spec: the specification of that encoder.
        load_encoder: loads it; called at the first list.

    Returns:
        ``None`` if the model cannot list words.
    """
    try:
        if not can_list_values(spec.model):
            return None
    except ModelError:
        return None  # the model was moved, which matters only when it has to be loaded

    def load() -> tuple[Any, Any]:
        from ingest.encoders.methods.dior import DiorEncoder

        encoder = load_encoder(spec)
        if not isinstance(encoder, DiorEncoder):
            raise ModelError(
                f"{spec.model} cannot list words; write them with `cies conditions edit`."
            )
        return encoder.lvlm.model, encoder.processor

    return LvlmWordLister(spec.model, load)


def parse_values(answer: str, complete: bool = True) -> list[str]:
    """The values in a model's answer, each once; sentences around them are ignored.

    Args:
        answer: such as ``1. Happy`` and so on, or ``happy, sad, calm``.
        complete: whether the answer ended; if not, its last value is cut off and dropped.
    """
    found: list[str] = []
    lines = [line for line in _THOUGHT.sub("", answer).splitlines() if line.strip()]
    for line in lines:
        found += _values(line)
    if not complete and found and lines and _values(lines[-1])[-1:] == found[-1:]:
        found.pop()
    unique: dict[str, str] = {}
    for value in found:
        unique.setdefault(fold_name(value), value)
    return list(unique.values())


def _values(line: str) -> list[str]:
    """The values of one line; none if it is prose."""
    text = _MARK.sub("", line)
    _, colon, rest = text.partition(":")
    if colon and _SEPARATOR.search(rest):
        # "Here are some values: happy, sad"; "Warm: red, orange".
        text = rest
    elif colon and not rest.strip("*_ "):
        return []  # "Here are 40 values:", or a heading.
    parts = _SEPARATOR.split(_NUMBERED_INSIDE.sub(",", text))
    if text.rstrip().endswith(_ENDS) and _mean_length(parts) > 3:
        return []
    values = [
        _AND.sub("", _EXPLANATION.sub("", _MARK.sub("", part)).strip(_AROUND)) for part in parts
    ]
    return [value for value in values if value and len(value.split()) <= _MAX_WORDS]


def _mean_length(parts: Sequence[str]) -> float:
    """Average number of words in a part."""
    return sum(len(part.split()) for part in parts) / len(parts)
