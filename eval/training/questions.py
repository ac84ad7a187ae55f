"""All that is asked about one picture or text, as one packed sequence with room for answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
import torch

from eval.training.curriculum import WORDINGS
from ingest.conditions import Condition, PromptTemplate
from ingest.encoders.vlm.packing import pack, packed_positions

#: Words of a whole description, its end included.
SENTENCE = 11


@dataclass(frozen=True)
class Questions:
    """A packed sequence.

    Attributes:
        ids: int64 [length]; the answers' places hold padding.
        mask: float [1, 1, length, length], 0 where a token sees another, else very negative.
        positions: int64 [1, length].
        asked: int64 [questions], the last prompt token of each one-word question.
        said: int64 [questions], where its answer stands.
        sentence: int64 [SENTENCE + 1], the last prompt token of the description and its words;
            empty if none is asked for.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    asked: torch.Tensor
    said: torch.Tensor
    sentence: torch.Tensor

    def to(self, device: torch.device) -> Questions:
        """The same on another device."""
        return Questions(
            self.ids.to(device),
            self.mask.to(device),
            self.positions.to(device),
            self.asked.to(device),
            self.said.to(device),
            self.sentence.to(device),
        )


class Examiner:
    """Puts questions in the words of the templates, through the model's own chat template."""

    def __init__(self, processor: Any, patches: int):
        self._processor = processor
        self._patches = patches

    def about_picture(
        self,
        names: Sequence[str],
        template: PromptTemplate,
        random: np.random.Generator,
        sentence: str = "",
    ) -> Questions:
        """Ask about a picture.

        Args:
            names: conditions of ``WORDINGS``, or empty for none.
            template: how one-word questions are put.
            random: chooses wordings.
            sentence: a question answered by a whole description, or empty.
        """
        prompts = [self._asked(template, name, random, [{"type": "image"}]) for name in names]
        if sentence:
            prompts.append(self._shown([{"type": "image"}, {"type": "text", "text": sentence}]))
        return self._packed(prompts, bool(sentence))

    def about_text(
        self,
        words: int,
        names: Sequence[str],
        template: PromptTemplate,
        random: np.random.Generator,
    ) -> tuple[Questions, torch.Tensor]:
        """Ask about a text that stands where a picture would.

        Args:
            words: its length in tokens.
            names: conditions of ``WORDINGS``.
            template: how questions are put.
            random: chooses wordings.

        Returns:
            The questions, and int64 [words] where the text's tokens go.
        """
        filler = " ".join(["thing"] * words)
        content = [{"type": "text", "text": filler + "\n"}]
        prompts = [self._asked(template, name, random, content) for name in names]
        packed = self._packed(prompts, False)
        thing = self._processor.tokenizer.convert_tokens_to_ids("thing")
        return packed, (packed.ids == thing).nonzero()[:words, 0]

    def _asked(
        self,
        template: PromptTemplate,
        name: str,
        random: np.random.Generator,
        content: list[dict[str, str]],
    ) -> list[int]:
        wordings = WORDINGS.get(name, ("",))
        # The plain name is what most people type, so it is half of what is asked.
        plain = random.random() < 0.5
        wording = wordings[0 if plain else int(random.integers(len(wordings)))]
        text = template.text(Condition(wording, wording))
        return self._shown([*content, {"type": "text", "text": text}])

    def _shown(self, content: list[dict[str, str]]) -> list[int]:
        turn = [{"role": "user", "content": content}]
        shown = self._processor.apply_chat_template(turn, add_generation_prompt=True)
        shown = shown.replace("<image>", "<image>" * self._patches)
        return list(self._processor.tokenizer(shown, add_special_tokens=False)["input_ids"])

    def _packed(self, prompts: list[list[int]], sentence: bool) -> Questions:
        room = [1] * len(prompts)
        if sentence:
            room[-1] = SENTENCE
        pad = self._processor.tokenizer.pad_token_id
        prompts = [[*p, *[pad] * r] for p, r in zip(prompts, room, strict=True)]
        packed = pack(prompts)
        positions = packed_positions(packed, [torch.arange(len(prompt)) for prompt in prompts])
        words = len(prompts) - sentence
        end = int(packed.last[-1])
        places = torch.arange(end - SENTENCE, end + 1) if sentence else torch.arange(0)
        blocked = torch.zeros(packed.mask.shape).masked_fill(~packed.mask, -1e9)
        return Questions(
            ids=packed.ids,
            mask=blocked[None, None],
            positions=positions[None],
            asked=packed.last[:words] - 1,
            said=packed.last[:words],
            sentence=places,
        )
