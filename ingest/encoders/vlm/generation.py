"""Generates answers with an LVLM, and the probability of a yes, for composed queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import ModelError, UsageError
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.models.find import find_model
from ingest.encoders.runner import join_features
from ingest.encoders.vlm.processors import (
    Prepared,
    PromptWriter,
    image_features,
    processing_options,
)
from ingest.encoders.vlm.states import generation_settings, stop_tokens
from ingest.read.images import reduced

#: Images in one pass.
_BATCH = 16

#: Spellings of the answers; a tokenizer may have some of them as one token.
_YES = ("yes", "Yes", " yes", " Yes", "YES")
_NO = ("no", "No", " no", " No", "NO")


@dataclass(frozen=True)
class YesProbabilities:
    """A model's answers to a yes-or-no question about some images.

    Attributes:
        yes: float64 [images], P(yes) / (P(yes) + P(no)).
        mass: float64 [images], P(yes) + P(no): how far the model answers the question at all.
    """

    yes: NDArray[np.float64]
    mass: NDArray[np.float64]


class TextGenerator:
    """An LVLM that answers questions in free text."""

    def __init__(self, encoder: DiorEncoder):
        """Use the model of an encoder; the encoder can still be used."""
        self._encoder = encoder
        self._lvlm = encoder.lvlm
        self._processor = encoder.processor
        settings = self._lvlm.model.config.get_text_config()
        self._max_side = encoder.spec.max_side or 10**6
        self._max_tokens = getattr(settings, "max_position_embeddings", None)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._encoder.spec.model

    @property
    def revision(self) -> str:
        """The hub's commit, or a digest of the folder's files; with dtype and image size."""
        spec = self._encoder.spec
        return f"{spec.revision} {spec.settings['dtype']} {spec.max_side}"

    @property
    def declares_conditions(self) -> bool:
        """Whether the model declares its training conditions, and so answers nothing else."""
        return find_model(self.name).declared_conditions() is not None

    def generate(
        self, images: Sequence[Image.Image], question: str, max_tokens: int = 120
    ) -> list[str]:
        """Answer a question about each image, greedily.

        Args:
            images: RGB.
            question: the same for all images.
            max_tokens: the maximum number of tokens of an answer.

        Raises:
            UsageError: if the question holds a special token of the model or is longer than the
                model can read.
            ModelError: if the model has no token for a word of it.
        """
        return self._answers(self._prepare(images, question), max_tokens)

    def generate_text(self, text: str, max_tokens: int = 120) -> str:
        """Answer a question without an image.

        Raises:
            UsageError: as :meth:`generate`.
            ModelError: as :meth:`generate`.
        """
        self.check_text(text)
        first, _, rest = text.strip().partition("\n")
        prepared = PromptWriter(
            self._processor,
            [rest or first],
            text=first if rest else "",
            chat=self._encoder.chat,
        )
        return self._answers([prepared.prepare_text()], max_tokens)[0]

    def can_answer_yes_no(self) -> bool:
        """Whether the model has tokens for yes and no, and is not restricted to its conditions."""
        answers = self._token_ids(_YES) and self._token_ids(_NO)
        return bool(answers) and not self.declares_conditions

    def yes_probabilities(self, images: Sequence[Image.Image], question: str) -> YesProbabilities:
        """How probable it is that the model answers yes rather than no, for each image.

        Raises:
            ModelError: if the model cannot answer yes or no.
            UsageError: as :meth:`generate`.
        """
        self.check_answers()
        return self._yes_probabilities(self._prepare(images, question), (_YES, _NO))

    def check_answers(self) -> None:
        """Refuse a model that cannot answer yes or no.

        Raises:
            ModelError: if it cannot.
        """
        if not self.can_answer_yes_no():
            raise ModelError(
                f"{self.name} was not trained to answer yes or no, so it cannot verify hits; "
                "leave --verify out, or name a large model, such as "
                "--lvlm Qwen/Qwen3-VL-2B-Instruct (Apache-2.0)."
            )

    def yes_of_pictures(
        self,
        chat: str,
        pictures: Sequence[Sequence[Image.Image]],
        answers: tuple[str, str] | None = None,
        raw: bool = False,
    ) -> YesProbabilities:
        """As :meth:`yes_probabilities`, about one or more pictures in one prompt.

        Args:
            chat: the whole prompt, with a mark for each picture.
            pictures: for each prompt, its pictures in their order.
            answers: the two answers; the usual spellings of yes and no by default.
            raw: whether the processor keeps its own settings, tiles included.

        Raises:
            UsageError: if a prompt is longer than the model can read.
        """
        options = {} if raw else processing_options(self._processor, chat)
        prepared = []
        for own in pictures:
            small = [reduced(image, self._max_side) for image in own]
            inputs = self._processor(text=[chat], images=small, return_tensors="pt", **options)
            prompt = tuple(inputs["input_ids"][0].tolist())
            self._check_length(len(prompt))
            prepared.append(Prepared(image_features(dict(inputs)), (prompt,)))
        both = (_YES, _NO) if answers is None else ((answers[0],), (answers[1],))
        return self._yes_probabilities(prepared, both)

    def _yes_probabilities(
        self, prepared: Sequence[Prepared], answers: tuple[Sequence[str], Sequence[str]]
    ) -> YesProbabilities:
        yes, mass = np.zeros(len(prepared)), np.zeros(len(prepared))
        for rows, batch in _batches(prepared):
            probabilities = self._first_probabilities(batch)
            p_yes = probabilities[:, self._token_ids(answers[0])].sum(1).double().numpy()
            p_no = probabilities[:, self._token_ids(answers[1])].sum(1).double().numpy()
            mass[rows] = p_yes + p_no
            yes[rows] = p_yes / np.maximum(p_yes + p_no, 1e-12)
        return YesProbabilities(yes, mass)

    # -- running ---------------------------------------------------------------------------

    def check_text(self, text: str) -> None:
        """Refuse a text with a special token of the model, or a word without a token.

        Raises:
            UsageError: naming the special token.
            ModelError: naming the word.
        """
        self._encoder.check_special_tokens("question", text)
        self._encoder.check_vocabulary(text)

    def _prepare(self, images: Sequence[Image.Image], question: str) -> list[Prepared]:
        self.check_text(question)
        writer = PromptWriter(self._processor, [question], chat=self._encoder.chat)
        return [writer.prepare(reduced(image, self._max_side)) for image in images]

    def _answers(self, prepared: Sequence[Prepared], max_tokens: int) -> list[str]:
        answers = [""] * len(prepared)
        for rows, batch in _batches(prepared):
            length = len(batch[0].prompts[0])
            self._check_length(length)
            room = max_tokens
            if self._max_tokens is not None:
                room = min(max_tokens, self._max_tokens - length)
            output = self._run(batch, room)
            for row, tokens in zip(rows, output.sequences[:, length:].tolist(), strict=True):
                text = self._processor.tokenizer.decode(tokens, skip_special_tokens=True)
                answers[row] = text.strip()
        return answers

    def _check_length(self, length: int) -> None:
        if self._max_tokens is not None and length + 1 > self._max_tokens:
            raise UsageError(
                f"The question is too long for {self.name}: it comes to {length} tokens, and "
                f"{self._max_tokens} can be read; shorten it."
            )

    def _first_probabilities(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """Probabilities of the first token of an answer: float32 [images, vocabulary]."""
        return torch.as_tensor(self._run(batch, 1, logits=True).logits[0].float().softmax(-1).cpu())

    def _run(self, batch: Sequence[Prepared], max_tokens: int, logits: bool = False) -> Any:
        """Generate after a prompt, greedily, until the answer ends.

        Args:
            batch: images of one layout and one prompt.
            max_tokens: the maximum number of tokens of an answer.
            logits: whether the output has the logits of each step.

        Returns:
            The output of transformers; ``sequences`` is int64 [images, prompt and answer].
        """
        lvlm = self._lvlm
        stops = sorted(stop_tokens(lvlm.model, lvlm.tokenizer)) or None
        greedy = generation_settings(
            lvlm.tokenizer, max_tokens, stops, return_dict_in_generate=True, output_logits=logits
        )
        prompt = list(batch[0].prompts[0])
        ids = torch.tensor([prompt], device=lvlm.device).expand(len(batch), -1)
        features = lvlm.moved(join_features(batch))
        with lvlm.lock, torch.inference_mode():
            return lvlm.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=greedy,
                **lvlm.inputs.for_prompts(ids, features),
                **features,
            )

    def _token_ids(self, words: Sequence[str]) -> list[int]:
        tokenizer = self._processor.tokenizer
        found = set()
        for word in words:
            ids = tokenizer(word, add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                found.add(int(ids[0]))
        return sorted(found)


def _batches(prepared: Sequence[Prepared]) -> Iterator[tuple[list[int], list[Prepared]]]:
    """Images that can share a pass, with their numbers."""
    groups: dict[object, list[int]] = {}
    for number, one in enumerate(prepared):
        groups.setdefault(one.bucket, []).append(number)
    for numbers in groups.values():
        for start in range(0, len(numbers), _BATCH):
            rows = numbers[start : start + _BATCH]
            yield rows, [prepared[row] for row in rows]
