"""Runs an LVLM over prompts that differ only in their last words.

Two ways to the same numbers. *Plain* asks the model's own ``generate`` once for each prompt: slow,
and as independent of this project as can be. *Packed* runs the shared prefix once and all tails
as branches of one sequence (:mod:`ingest.encoders.packing`), through the model's public forward;
it is used for the families whose equality with the plain way is tested
(:mod:`ingest.encoders.families`).
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import torch

from ingest.encoders.families import family
from ingest.encoders.hints import Hints
from ingest.encoders.packing import PackedPrompts, pack, packed_positions
from ingest.encoders.tree import spared

#: Tokens a word may take before it is cut.
MAX_WORD_TOKENS = 6

_WORD = re.compile(r"\w[\w'’-]*")


@dataclass(frozen=True)
class LastStates:
    """What the model holds in mind at the end of each prompt.

    Attributes:
        states: float32 [pictures, prompts, dim], after the final norm.
        tokens: int64 [pictures, prompts, steps], what it would say next, greedily.
        probabilities: float32 [pictures, prompts, steps], of each of these tokens.
    """

    states: torch.Tensor
    tokens: torch.Tensor
    probabilities: torch.Tensor


class Lvlm:
    """A loaded model with its two ways of running."""

    def __init__(self, model: Any, tokenizer: Any):
        self.model = model
        self.tokenizer = tokenizer
        text = model.config.get_text_config()
        #: How this model runs and why, for people.
        self.family = family(
            model.config.model_type,
            text.model_type,
            getattr(text, "_attn_implementation", "unknown"),
        )
        self.packs = self.family.mode == "packed"
        self.hints = Hints(model)
        self._stops = _stop_tokens(model, tokenizer)
        # The model keeps state between calls (M-RoPE's offset), and the packed pass listens in.
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int:
        """Length of a hidden state."""
        return int(self.model.config.get_text_config().hidden_size)

    def last_states(
        self,
        features: Mapping[str, torch.Tensor],
        prompts: Sequence[Sequence[int]],
        count: int,
        words: bool = True,
    ) -> LastStates:
        """Run a batch of pictures that share their prompts' token ids.

        Args:
            features: the pictures' tensors, joined along the first dimension.
            prompts: token ids of each prompt, the picture's tokens included.
            count: how many pictures.
            words: whether the words are wanted; without them one token is said.
        """
        device = self.model.device
        moved = {name: value.to(device) for name, value in features.items()}
        moved = {
            name: value.to(self.model.dtype) if value.is_floating_point() else value
            for name, value in moved.items()
        }
        with self._lock, torch.inference_mode():
            if self.packs:
                packed = pack(prompts)
                if self.hints.can_share(packed, MAX_WORD_TOKENS):
                    return self._packed(moved, packed, prompts, count, words)
            return self._plain(moved, prompts, count, words)

    # -- plain -----------------------------------------------------------------------------

    def _plain(
        self,
        features: Mapping[str, torch.Tensor],
        prompts: Sequence[Sequence[int]],
        count: int,
        words: bool,
    ) -> LastStates:
        from transformers import GenerationConfig

        tokens_said = MAX_WORD_TOKENS if words else 1

        greedy = GenerationConfig(
            do_sample=False,
            min_new_tokens=tokens_said,
            max_new_tokens=tokens_said,
            pad_token_id=self.tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_hidden_states=True,
            output_logits=True,
        )
        states, tokens, probabilities = [], [], []
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=self.model.device).expand(count, -1)
            said = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=greedy,
                **self.hints.of_tokens(ids, features),
                **features,
            )
            states.append(said.hidden_states[0][-1][:, -1].float())
            best = [logits.float().softmax(-1).max(-1) for logits in said.logits]
            probabilities.append(torch.stack([b.values for b in best], dim=-1))
            tokens.append(torch.stack([b.indices for b in best], dim=-1))
        return LastStates(
            torch.stack(states, 1), torch.stack(tokens, 1), torch.stack(probabilities, 1)
        )

    # -- packed ----------------------------------------------------------------------------

    def _packed(
        self,
        features: Mapping[str, torch.Tensor],
        packed: PackedPrompts,
        prompts: Sequence[Sequence[int]],
        count: int,
        words: bool,
    ) -> LastStates:
        from transformers import DynamicCache

        device = self.model.device
        plain = [self.hints.positions(prompt, features) for prompt in prompts]
        positions = packed_positions(packed, plain).to(device)
        ids = packed.ids.to(device).expand(count, -1)
        # A cache that knows the model's settings would drop what is out of a layer's window.
        cache = DynamicCache()
        inputs = {
            "input_ids": ids,
            "attention_mask": self.hints.masks(packed, count),
            "position_ids": _for_batch(positions, count),
            "past_key_values": cache,
            **self.hints.of_packed(ids, features),
            **features,
        }
        with spared(self.model, packed, self.hints.is_tree(packed)):
            states, logits = self._forward(packed.last.to(device), **inputs)
        said, sure = _best(logits)
        tokens, probabilities = [said], [sure]
        for step in range(1, MAX_WORD_TOKENS if words else 1):
            if all(self._ended(row) for row in torch.stack(tokens, -1).flatten(0, 1).tolist()):
                break
            _, logits = self._forward(
                0,
                input_ids=tokens[-1],
                attention_mask=self.hints.step_masks(packed, step, count),
                position_ids=_for_batch(positions[..., packed.last] + step, count),
                past_key_values=cache,
                **self.hints.of_said(tokens[-1], features),
            )
            said, sure = _best(logits)
            tokens.append(said)
            probabilities.append(sure)
        return LastStates(states.float(), torch.stack(tokens, -1), torch.stack(probabilities, -1))

    def _forward(
        self, keep: torch.Tensor | int, **inputs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States that enter the output head and the logits that leave the model.

        The head is left to the model, because some scale or cap what leaves it; listening at its
        door spares keeping the states of every layer.
        """
        entered: list[torch.Tensor] = []
        ear = self.model.get_output_embeddings().register_forward_pre_hook(
            lambda _, given: entered.append(given[0])
        )
        try:
            output = self.model(logits_to_keep=keep, use_cache=True, **inputs)
        finally:
            ear.remove()
        return entered[-1], output.logits

    # -- words -----------------------------------------------------------------------------

    def _ended(self, tokens: Sequence[int]) -> bool:
        """Whether the first word of what is said is complete."""
        if tokens[-1] in self._stops:
            return True
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        found = _WORD.search(text)
        return bool(found and found.end() < len(text))

    def word(self, tokens: Sequence[int], probabilities: Sequence[float]) -> tuple[str, float]:
        """The first word of what is said, and the product of its tokens' probabilities.

        Args:
            tokens: what the model says, greedily.
            probabilities: of each of these tokens.
        """
        for place, token in enumerate(tokens):
            if token in self._stops:
                tokens = tokens[:place]
                break
        found = _WORD.search(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
        if found is None:
            return "", 0.0
        word, probability = found.group(), 1.0
        for place in range(1, len(tokens) + 1):
            probability *= probabilities[place - 1]
            part = self.tokenizer.decode(list(tokens[:place]), skip_special_tokens=True)
            begun = _WORD.search(part)
            if begun and begun.group() == word:
                break
        return word, probability


def _stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    stops = model.generation_config.eos_token_id
    listed = stops if isinstance(stops, list) else [stops]
    return frozenset(token for token in [*listed, tokenizer.eos_token_id] if token is not None)


def _for_batch(positions: torch.Tensor, count: int) -> torch.Tensor:
    """[length] to [count, length], or [axes, length] to [axes, count, length]."""
    if positions.ndim == 1:
        return positions.expand(count, -1)
    return positions[:, None].expand(-1, count, -1)


def _best(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest token of each row and its probability."""
    best = logits.float().softmax(-1).max(-1)
    return best.indices, best.values
