"""Lets an LVLM speak in sentences, and say how sure it is of a yes: for composed queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import ModelError, UsageError
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.models.find import find
from ingest.encoders.vlm.lvlm import stop_tokens
from ingest.encoders.vlm.processors import Prepared, PromptWriter
from ingest.read.images import reduced

#: Pictures in one pass.
_BATCH = 16

#: Ways to write the answers, of which a tokenizer may have some as one token.
_YES = ("yes", "Yes", " yes", " Yes", "YES")
_NO = ("no", "No", " no", " No", "NO")


@dataclass(frozen=True)
class Votes:
    """What a model says of some pictures, asked for a yes or a no.

    Attributes:
        yes: float64 [pictures], P(yes) / (P(yes) + P(no)).
        mass: float64 [pictures], P(yes) + P(no): how much it kept to the question.
    """

    yes: NDArray[np.float64]
    mass: NDArray[np.float64]


class Speaker:
    """An LVLM that answers questions in words of its own."""

    def __init__(self, encoder: DiorEncoder):
        """Use the model of an encoder, which goes on embedding."""
        self._encoder = encoder
        self._lvlm = encoder.lvlm
        self._processor = encoder.processor
        settings = self._lvlm.model.config.get_text_config()
        self._side = encoder.spec.max_side or 10**6
        self._most = getattr(settings, "max_position_embeddings", None)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._encoder.spec.model

    @property
    def revision(self) -> str:
        """The hub's commit, or a digest of the folder's files; with the numbers' kind."""
        spec = self._encoder.spec
        return f"{spec.revision} {spec.settings['dtype']} {spec.max_side}"

    @property
    def schooled(self) -> bool:
        """Whether it declares what it was schooled on, and so answers nothing else."""
        return find(self.name).trained_on() is not None

    def say(self, images: Sequence[Image.Image], question: str, most: int = 120) -> list[str]:
        """Answer a question about each picture, greedily.

        Args:
            images: RGB.
            question: the same about all.
            most: tokens of an answer.

        Raises:
            UsageError: if the question holds a mark of the model or is longer than it can read.
        """
        self._check(question)
        writer = PromptWriter(self._processor, [question])
        prepared = [writer.prepare(reduced(image, self._side)) for image in images]
        return self._said(prepared, most)

    def continued(self, text: str, most: int = 120) -> str:
        """Answer a question in which no picture has a part.

        Raises:
            UsageError: as :meth:`say`.
        """
        self._check(text)
        first, _, rest = text.strip().partition("\n")
        prepared = PromptWriter(self._processor, [rest or first], text=first if rest else "")
        return self._said([prepared.prepare_text()], most)[0]

    def can_vote(self) -> bool:
        """Whether the model has a word for yes and one for no, and may have learned to say them."""
        return bool(self._tokens(_YES)) and bool(self._tokens(_NO)) and not self.schooled

    def vote(self, images: Sequence[Image.Image], question: str) -> Votes:
        """How likely the model says yes rather than no, of each picture.

        Raises:
            ModelError: if it has no such words, or was never taught to answer with them.
            UsageError: as :meth:`say`.
        """
        if not self.can_vote():
            raise ModelError(
                f"{self.name} was not taught to answer yes or no, so that it cannot verify hits; "
                "leave --verify out, or name a large model, such as "
                "--lvlm Qwen/Qwen2.5-VL-3B-Instruct."
            )
        self._check(question)
        writer = PromptWriter(self._processor, [question])
        prepared = [writer.prepare(reduced(image, self._side)) for image in images]
        yes, mass = np.zeros(len(images)), np.zeros(len(images))
        for rows in _alike(prepared):
            prompt = prepared[rows[0]].prompts[0]
            joined = self._joined(prepared, rows)
            chances = self._generate(joined, prompt, len(rows), 1, chances=True)
            first = chances[:, self._tokens(_YES)].sum(1).double().numpy()
            second = chances[:, self._tokens(_NO)].sum(1).double().numpy()
            mass[rows] = first + second
            yes[rows] = first / np.maximum(first + second, 1e-12)
        return Votes(yes, mass)

    # -- running ---------------------------------------------------------------------------

    def _check(self, text: str) -> None:
        self._encoder.check_marks("question", text)
        self._encoder.check_words(text)

    def _said(self, prepared: Sequence[Prepared], most: int) -> list[str]:
        answers = [""] * len(prepared)
        for rows in _alike(prepared):
            prompt = prepared[rows[0]].prompts[0]
            if self._most is not None and len(prompt) + 1 > self._most:
                raise UsageError(
                    f"The question is too long for {self.name}: it comes to {len(prompt)} tokens, "
                    f"and {self._most} can be read; say it in fewer words."
                )
            room = most if self._most is None else min(most, self._most - len(prompt))
            tokens = self._generate(self._joined(prepared, rows), prompt, len(rows), room)
            for row, said in zip(rows, tokens.tolist(), strict=True):
                text = self._processor.tokenizer.decode(said, skip_special_tokens=True)
                answers[row] = text.strip()
        return answers

    def _generate(
        self,
        features: Mapping[str, torch.Tensor],
        prompt: Sequence[int],
        count: int,
        most: int,
        chances: bool = False,
    ) -> torch.Tensor:
        """What the model says after a prompt, greedily, until it ends.

        Args:
            features: the pictures' tensors, joined along the first dimension.
            prompt: token ids, the picture's tokens included.
            count: how many pictures.
            most: tokens.
            chances: in place of the tokens, how likely each token of the vocabulary is first.

        Returns:
            int64 [pictures, steps]; or float32 [pictures, vocabulary].
        """
        from transformers import GenerationConfig

        lvlm = self._lvlm
        greedy = GenerationConfig(
            do_sample=False,
            max_new_tokens=most,
            eos_token_id=sorted(stop_tokens(lvlm.model, lvlm.tokenizer)) or None,
            pad_token_id=lvlm.tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_logits=chances,
        )
        ids = torch.tensor([list(prompt)], device=lvlm.device).expand(count, -1)
        moved = lvlm.moved(features)
        with lvlm.lock, torch.inference_mode():
            said = lvlm.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=greedy,
                **lvlm.hints.of_tokens(ids, moved),
                **moved,
            )
        if chances:
            return torch.as_tensor(said.logits[0].float().softmax(-1).cpu())
        return torch.as_tensor(said.sequences[:, len(prompt) :].cpu())

    def _joined(self, prepared: Sequence[Prepared], rows: Sequence[int]) -> dict[str, torch.Tensor]:
        names = prepared[rows[0]].features
        return {name: torch.cat([prepared[r].features[name] for r in rows]) for name in names}

    def _tokens(self, words: Sequence[str]) -> list[int]:
        tokenizer = self._processor.tokenizer
        found = set()
        for word in words:
            ids = tokenizer(word, add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                found.add(int(ids[0]))
        return sorted(found)


def _alike(prepared: Sequence[Prepared]) -> list[list[int]]:
    """Numbers of the pictures that can share a pass, in batches."""
    groups: dict[object, list[int]] = {}
    for number, one in enumerate(prepared):
        groups.setdefault(one.bucket, []).append(number)
    return [
        rows[start : start + _BATCH]
        for rows in groups.values()
        for start in range(0, len(rows), _BATCH)
    ]
