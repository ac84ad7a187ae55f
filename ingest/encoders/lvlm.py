"""Runs an LVLM over prompts that differ only in their last words.

Two ways to the same numbers. *Plain* asks the model's own ``generate`` once for each prompt: slow,
and as independent of this project as can be. *Packed* runs the shared prefix once and all tails
as branches of one sequence (:mod:`ingest.encoders.packing`), through the public outer model; it
is used for the families whose equality with the plain way is tested.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import torch

from ingest.encoders.packing import PackedPrompts, pack, packed_positions

#: Model types whose packed pass is proven equal to plain passes in the tests.
PACKED_FAMILIES = frozenset({"llava", "qwen2_5_vl"})

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
        self.packs = model.config.model_type in PACKED_FAMILIES
        self._accepts = set(inspect.signature(model.model.forward).parameters)
        self._stops = _stop_tokens(model, tokenizer)

    @property
    def dimension(self) -> int:
        """Length of a hidden state."""
        return int(self.model.config.get_text_config().hidden_size)

    def last_states(
        self, features: Mapping[str, torch.Tensor], prompts: Sequence[Sequence[int]], count: int
    ) -> LastStates:
        """Run a batch of pictures that share their prompts' token ids.

        Args:
            features: the pictures' tensors, joined along the first dimension.
            prompts: token ids of each prompt, the picture's tokens included.
            count: how many pictures.
        """
        device = self.model.device
        moved = {name: value.to(device) for name, value in features.items()}
        moved = {
            name: value.to(self.model.dtype) if value.is_floating_point() else value
            for name, value in moved.items()
        }
        with torch.inference_mode():
            if self.packs:
                return self._packed(moved, prompts, count)
            return self._plain(moved, prompts, count)

    # -- plain -----------------------------------------------------------------------------

    def _plain(
        self, features: Mapping[str, torch.Tensor], prompts: Sequence[Sequence[int]], count: int
    ) -> LastStates:
        from transformers import GenerationConfig

        greedy = GenerationConfig(
            do_sample=False,
            min_new_tokens=MAX_WORD_TOKENS,
            max_new_tokens=MAX_WORD_TOKENS,
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
                **self._kinds(ids),
                **features,
            )
            states.append(said.hidden_states[0][-1][:, -1].float())
            best = [logits.float().softmax(-1).max(-1) for logits in said.logits]
            probabilities.append(torch.stack([b.values for b in best], dim=-1))
            tokens.append(torch.stack([b.indices for b in best], dim=-1))
        return LastStates(
            torch.stack(states, 1), torch.stack(tokens, 1), torch.stack(probabilities, 1)
        )

    def _kinds(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Token kinds (0 text, 1 picture) for the models that ask for them."""
        kinds = (ids == self.model.config.image_token_id).int()
        names = self._accepts & {"mm_token_type_ids", "token_type_ids"}
        return dict.fromkeys(names, kinds)

    # -- packed ----------------------------------------------------------------------------

    def _packed(
        self, features: Mapping[str, torch.Tensor], prompts: Sequence[Sequence[int]], count: int
    ) -> LastStates:
        device = self.model.device
        packed = pack(prompts)
        plain = [self.positions(prompt, features) for prompt in prompts]
        positions = packed_positions(packed, plain).to(device)
        mask = packed.mask.to(device)
        output = self.model.model(
            input_ids=packed.ids.to(device).expand(count, -1),
            attention_mask=mask.expand(count, 1, -1, -1),
            position_ids=_for_batch(positions, count),
            use_cache=True,
            **features,
        )
        states = output.last_hidden_state[:, packed.last.to(device)]
        tokens, probabilities = self._say(states)
        said, sure = [tokens], [probabilities]
        cache = output.past_key_values
        for step in range(1, MAX_WORD_TOKENS):
            if all(self._ended(row) for row in torch.stack(said, -1).flatten(0, 1).tolist()):
                break
            following = self.model.model(
                input_ids=said[-1],
                attention_mask=_step_mask(packed, step, device).expand(count, 1, -1, -1),
                position_ids=_for_batch(positions[..., packed.last] + step, count),
                past_key_values=cache,
                use_cache=True,
            )
            tokens, probabilities = self._say(following.last_hidden_state)
            said.append(tokens)
            sure.append(probabilities)
        return LastStates(states.float(), torch.stack(said, -1), torch.stack(sure, -1))

    def _say(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.model.get_output_embeddings()(states).float()
        best = logits.softmax(-1).max(-1)
        return best.indices, best.values

    def positions(
        self, prompt: Sequence[int], features: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """The position ids the model itself gives a prompt: int64 [length] or [axes, length].

        Pictures of one batch have the same layout, so the first one's serves for all.
        """
        own = getattr(self.model.model, "get_rope_index", None)
        if own is None:
            return torch.arange(len(prompt))
        ids = torch.tensor([list(prompt)], device=self.model.device)
        kinds = (ids == self.model.config.image_token_id).int()
        grid = features["image_grid_thw"][:1]
        positions, _ = own(ids, mm_token_type_ids=kinds, image_grid_thw=grid)
        return torch.as_tensor(positions)[:, 0].cpu()

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


def _step_mask(packed: PackedPrompts, step: int, device: torch.device) -> torch.Tensor:
    """What the ``step``-th word token of each branch sees: its prompt, its own words, itself."""
    own = torch.eye(len(packed.last), dtype=torch.bool)
    seen = [packed.mask[packed.last], *[own] * step]
    return torch.cat(seen, dim=1).to(device)
