"""All questions about one picture or text, packed into one sequence with room for answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
import torch

from eval.training.curriculum import WORDINGS
from ingest.conditions import Condition, PromptTemplate
from ingest.encoders.vlm.packing import pack, packed_positions

#: Tokens of a description, with its end.
SENTENCE = 11


@dataclass(frozen=True)
class PackedQuestions:
    """Packed questions and the positions of their answers.

    Attributes:
        ids: int64 [length]; padding at the answers' positions.
        mask: float [1, 1, length, length], 0 where a token attends to another, else -1e9.
        positions: int64 [1, length].
        asked: int64 [questions], the last prompt token of each one-word question.
        said: int64 [questions], the position of its answer.
        sentence: int64 [SENTENCE + 1], the last prompt token of the description and the positions
            of its words; empty without a description.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    asked: torch.Tensor
    said: torch.Tensor
    sentence: torch.Tensor

    def to(self, device: torch.device) -> PackedQuestions:
        """Copies on another device."""
        return PackedQuestions(
            self.ids.to(device),
            self.mask.to(device),
            self.positions.to(device),
            self.asked.to(device),
            self.said.to(device),
            self.sentence.to(device),
        )


class QuestionPacker:
    """Writes questions by the prompt templates and the model's chat template, and packs them."""

    def __init__(self, processor: Any, patches: int):
        self._processor = processor
        self._patches = patches

    def about_picture(
        self,
        names: Sequence[str],
        template: PromptTemplate,
        random: np.random.Generator,
        sentence: str = "",
    ) -> PackedQuestions:
        """Questions about a picture.

        Args:
            names: conditions of ``WORDINGS``; an empty name asks without a condition.
            template: the template of the one-word questions.
            random: chooses wordings.
            sentence: a question that is answered by a description, or empty.
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
    ) -> tuple[PackedQuestions, torch.Tensor]:
        """Questions about a text in the place of a picture.

        Args:
            words: length of the text in tokens.
            names: conditions of ``WORDINGS``.
            template: the template of the questions.
            random: chooses wordings.

        Returns:
            The questions, and int64 [words], the positions of the text's tokens.
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
        # Most people type the plain name, so half of the questions use it.
        plain = random.random() < 0.5
        wording = wordings[0 if plain else int(random.integers(len(wordings)))]
        text = template.text(Condition(wording, wording))
        return self._shown([*content, {"type": "text", "text": text}])

    def _shown(self, content: list[dict[str, str]]) -> list[int]:
        turn = [{"role": "user", "content": content}]
        shown = self._processor.apply_chat_template(turn, add_generation_prompt=True)
        shown = shown.replace("<image>", "<image>" * self._patches)
        return list(self._processor.tokenizer(shown, add_special_tokens=False)["input_ids"])

    def _packed(self, prompts: list[list[int]], sentence: bool) -> PackedQuestions:
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
        return PackedQuestions(
            ids=packed.ids,
            mask=blocked[None, None],
            positions=positions[None],
            asked=packed.last[:words] - 1,
            said=packed.last[:words],
            sentence=places,
        )
