"""Runs an LVLM over prompts that differ only in their last words.

Two ways to the same numbers, and one to others. *Plain* asks the model's own ``generate`` once
for each prompt, after one look at the picture where the model can be handed what it saw: slow,
and as independent of this project as can be. *Packed* runs the shared
prefix once and all tails as branches of one sequence (:mod:`ingest.encoders.vlm.packing`), through
the model's public forward; it is used for the families whose equality with the plain way is tested
(:mod:`ingest.encoders.vlm.families`). The third, *reference*, gives what the published code gives.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import torch

from ingest.encoders.options import DiorOptions
from ingest.encoders.vlm.families import family
from ingest.encoders.vlm.layers import up_to
from ingest.encoders.vlm.model_inputs import ModelInputs, input_device
from ingest.encoders.vlm.packing import PackedPrompts, pack, packed_positions, together
from ingest.encoders.vlm.skip_unused import spared

#: Tokens a word may take before it is cut.
MAX_WORD_TOKENS = 6

_DEFAULT = DiorOptions()

_WORD = re.compile(r"\w[\w'’-]*")

#: What stands around an answer, since the prompt ends in an opening quotation mark.
_AROUND = " .\"'“”‘’"


@dataclass(frozen=True)
class LastStates:
    """What the model holds in mind at the end of each prompt.

    Attributes:
        states: float32 [pictures, prompts, dim], of the layer and token chosen.
        tokens: int64 [pictures, prompts, steps], what it would say next, greedily; no steps
            where the options leave no words.
        probabilities: float32 [pictures, prompts, steps], of each of these tokens.
    """

    states: torch.Tensor
    tokens: torch.Tensor
    probabilities: torch.Tensor


class Lvlm:
    """A loaded model with its ways of running."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        options: DiorOptions = _DEFAULT,
        answer_tokens: int | None = None,
    ):
        """Settle how a model is run.

        Args:
            model: of transformers, in evaluation mode.
            tokenizer: the model's.
            options: which state is read; ``layer`` is -1 or less than the number of layers.
            answer_tokens: how many tokens are said at most where the whole answer is wanted;
                ``None`` for its first word.
        """
        self._answer_tokens = answer_tokens
        self.model = model
        self.tokenizer = tokenizer
        self.options = options
        text = model.config.get_text_config()
        #: How this model runs and why, for people.
        self.family = family(
            model.config.model_type,
            text.model_type,
            getattr(text, "_attn_implementation", "unknown"),
        )
        # The token said hangs on all layers, so a layer in between cannot end the pass before it.
        deeper = options.token == "first_generated" and options.layer != -1
        self.packs = self.family.mode == "packed" and options.compat is None and not deeper
        self.hints = ModelInputs(model)
        self._stops = stop_tokens(model, tokenizer)
        # The model keeps state between calls (M-RoPE's offset), and the packed pass listens in.
        #: Held while the model runs.
        self.lock = threading.Lock()

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return input_device(self.model)

    @property
    def said_tokens(self) -> int:
        """How many tokens are said at most."""
        return self._answer_tokens or MAX_WORD_TOKENS

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
        tails: Sequence[int] | None = None,
    ) -> LastStates:
        """Run a batch of pictures that share their prompts' token ids.

        Args:
            features: the pictures' tensors, joined along the first dimension.
            prompts: token ids of each prompt, the picture's tokens included.
            count: how many pictures.
            words: whether the words are wanted; without them one token is said.
            tails: over how many of each prompt's last tokens states are averaged; one by default.
        """
        tails = tails or [1] * len(prompts)
        words = words and self.options.speaks
        moved = self.moved(features)
        with self.lock, torch.inference_mode():
            if self.options.compat == "reference":
                return self._reference(moved, prompts, count)
            if self.packs:
                size = len(prompts) if not self._stops else together(prompts, self.dimension)
                parts = [slice(n, n + size) for n in range(0, len(prompts), size)]
                packs = [pack(prompts[part]) for part in parts]
                if all(self.hints.can_share(packed, self.said_tokens) for packed in packs):
                    found = [
                        self._packed(moved, packed, prompts[part], count, words, tails[part])
                        for packed, part in zip(packs, parts, strict=True)
                    ]
                    return found[0] if len(found) == 1 else _beside(found, min(self._stops))
            return self._plain(moved, prompts, count, words, tails)

    def moved(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors where the model takes them, numbers with a fraction in its own kind."""
        moved = {name: value.to(self.device) for name, value in features.items()}
        return {
            name: value.to(self.model.dtype) if value.is_floating_point() else value
            for name, value in moved.items()
        }

    @property
    def _after_saying(self) -> bool:
        return self.options.token == "first_generated"

    def _steps(self, words: bool) -> int:
        """How many tokens are said at most."""
        if words:
            return self.said_tokens
        return 2 if self._after_saying else 1

    # -- reference -------------------------------------------------------------------------

    def _reference(
        self, features: Mapping[str, torch.Tensor], prompts: Sequence[Sequence[int]], count: int
    ) -> LastStates:
        """One pass for each prompt, positions counted along one axis whatever the model has."""
        states = []
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=self.device).expand(count, -1)
            mask = torch.ones_like(ids)
            output = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=mask.cumsum(-1) - 1,
                use_cache=False,
                output_hidden_states=True,
                **self.hints.of_tokens(ids, features),
                **features,
            )
            states.append(output.hidden_states[self.options.layer][:, -1].float())
        return _wordless(torch.stack(states, 1))

    # -- plain -----------------------------------------------------------------------------

    def _plain(
        self,
        features: Mapping[str, torch.Tensor],
        prompts: Sequence[Sequence[int]],
        count: int,
        words: bool,
        tails: Sequence[int],
    ) -> LastStates:
        from transformers import GenerationConfig

        greedy = GenerationConfig(
            do_sample=False,
            max_new_tokens=self._steps(words),
            # No token ends it, so that one that would is read back in like any other.
            eos_token_id=-1,
            pad_token_id=self.tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_hidden_states=True,
            output_logits=True,
        )
        seen = self.hints.seen(features)
        states, tokens, probabilities = [], [], []
        for prompt, tail in zip(prompts, tails, strict=True):
            ids = torch.tensor([list(prompt)], device=self.device).expand(count, -1)
            said = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=greedy,
                **self.hints.of_tokens(ids, features),
                **seen(),
            )
            passed = said.hidden_states[1 if self._after_saying else 0]
            states.append(passed[self.options.layer][:, -tail:].float().mean(1))
            best = [_best(logits) for logits in said.logits]
            tokens.append(torch.stack([token for token, _ in best], dim=-1))
            probabilities.append(torch.stack([sure for _, sure in best], dim=-1))
        if not self.options.speaks:
            return _wordless(torch.stack(states, 1))
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
        tails: Sequence[int],
    ) -> LastStates:
        from transformers import DynamicCache

        device = self.device
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
        places = packed.tails(tails)
        read = torch.tensor(sorted(set(torch.cat(places).tolist())))
        with (
            up_to(self.model, self.options.layer),
            spared(self.model, packed, self.hints.is_tree(packed), read),
        ):
            entered, logits = self._forward(read.to(device), **inputs)
        found = [torch.searchsorted(read, own).to(entered.device) for own in places]
        states = torch.stack([entered[:, own].float().mean(1) for own in found], 1)
        if not self.options.speaks:
            return _wordless(states)
        said, sure = _best(logits[:, [int(own[-1]) for own in found]])
        tokens, probabilities = [said], [sure]
        for step in range(1, self._steps(words)):
            first = step == 1 and self._after_saying
            if not first and self._all_ended(torch.stack(tokens, -1)):
                break
            entered, logits = self._forward(
                0,
                input_ids=tokens[-1],
                attention_mask=self.hints.step_masks(packed, step, count),
                position_ids=_for_batch(positions[..., packed.last] + step, count),
                past_key_values=cache,
                **self.hints.of_said(tokens[-1], features),
            )
            if first:
                states = entered.float()
            said, sure = _best(logits)
            tokens.append(said)
            probabilities.append(sure)
        return LastStates(states, torch.stack(tokens, -1), torch.stack(probabilities, -1))

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

    def _all_ended(self, tokens: torch.Tensor) -> bool:
        return all(self._ended(row) for row in tokens.flatten(0, 1).tolist())

    def _ended(self, tokens: Sequence[int]) -> bool:
        """Whether what is wanted of what is said is complete: its first word, or all."""
        if not self._stops.isdisjoint(tokens):
            return True
        if self._answer_tokens is not None:
            return False
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        found = _WORD.search(text)
        return bool(found and found.end() < len(text))

    def word(self, tokens: Sequence[int], probabilities: Sequence[float]) -> tuple[str, float]:
        """The first word of what is said, and the product of its tokens' probabilities.

        Args:
            tokens: what the model says, greedily.
            probabilities: of each of these tokens.
        """
        tokens = self._until_stop(tokens)
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

    def answer(self, tokens: Sequence[int], probabilities: Sequence[float]) -> tuple[str, float]:
        """All that is said, without the quotation marks around it, and its probability.

        Args:
            tokens: what the model says, greedily; none of the prompt.
            probabilities: of each of these tokens.
        """
        said = self._until_stop(tokens)
        text = self.tokenizer.decode(list(said), skip_special_tokens=True)
        probability = 1.0
        for sure in probabilities[: len(said)]:
            probability *= sure
        plain = " ".join(text.split()).strip(_AROUND)
        return plain, probability if plain else 0.0

    def _until_stop(self, tokens: Sequence[int]) -> Sequence[int]:
        ends = (place for place, token in enumerate(tokens) if token in self._stops)
        return tokens[: next(ends, len(tokens))]


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end what a model says."""
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


def _beside(found: Sequence[LastStates], stop: int) -> LastStates:
    """Passes over the same pictures, prompts one after another; who said less says no more."""
    steps = max(one.tokens.shape[-1] for one in found)
    tokens, probabilities = [], []
    for one in found:
        short = (0, steps - one.tokens.shape[-1])
        tokens.append(torch.nn.functional.pad(one.tokens, short, value=stop))
        probabilities.append(torch.nn.functional.pad(one.probabilities, short, value=1.0))
    states = torch.cat([one.states for one in found], 1)
    return LastStates(states, torch.cat(tokens, 1), torch.cat(probabilities, 1))


def _wordless(states: torch.Tensor) -> LastStates:
    empty = states.new_zeros(*states.shape[:2], 0)
    return LastStates(states, empty.long(), empty)
