"""Runs an LVLM over prompts that differ only in their last words.

There are three ways. *Plain* calls the model's own ``generate`` once for each prompt, after
encoding the image once where the model accepts that: slow, and independent of this project's
code. *Packed* runs the shared prefix once and all tails as branches of one sequence
(:mod:`ingest.encoders.vlm.packing`), through the model's public forward, with the same numbers; it
is used for the families for which tests show that equality (:mod:`ingest.encoders.vlm.families`).
*Reference* reproduces the numbers of the published code.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ingest.encoders.options import DEFAULT_OPTIONS, EncoderOptions
from ingest.encoders.vlm.families import family
from ingest.encoders.vlm.model_inputs import ModelInputs, input_device
from ingest.encoders.vlm.packing import PackedPrompts, pack, packed_positions, prompts_per_pass
from ingest.encoders.vlm.skip_unused import skip_layers_after, skip_unread_tokens

#: Most tokens of a word.
MAX_WORD_TOKENS = 6

_WORD = re.compile(r"\w[\w'’-]*")

#: Characters around an answer, since the prompt ends in an opening quotation mark.
_AROUND = " .\"'“”‘’"


@dataclass(frozen=True)
class LastStates:
    """States and next tokens of the model at the end of each prompt.

    Attributes:
        states: float32 [images, prompts, dim], of the chosen layer and token.
        tokens: int64 [images, prompts, steps], the greedily generated tokens; no steps where
            the options leave no words.
        probabilities: float32 [images, prompts, steps], of each of these tokens.
    """

    states: torch.Tensor
    tokens: torch.Tensor
    probabilities: torch.Tensor


class Lvlm:
    """A loaded model with the ways to run it."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        options: EncoderOptions = DEFAULT_OPTIONS,
        answer_tokens: int | None = None,
    ):
        """Choose how a model is run.

        Args:
            model: a model of transformers, in evaluation mode.
            tokenizer: the model's.
            options: which state is read; ``layer`` is -1 or less than the number of layers.
            answer_tokens: most tokens of an answer, where the whole answer is needed; ``None``
                for its first word.
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
        # A generated token depends on all layers, so the pass before it cannot end earlier.
        deeper = options.token == "first_generated" and options.layer != -1
        self.packs = self.family.mode == "packed" and options.compat is None and not deeper
        self.inputs = ModelInputs(model)
        self._stops = stop_tokens(model, tokenizer)
        #: Locked while the model runs: it keeps state between calls (M-RoPE's offset), and the
        #: packed pass attaches hooks.
        self.lock = threading.Lock()

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return input_device(self.model)

    @property
    def max_new_tokens(self) -> int:
        """Most tokens that are generated."""
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
        """Run a batch of images that share their prompts' token ids.

        Args:
            features: the images' tensors, joined along the first dimension.
            prompts: token ids of each prompt, the image's tokens included.
            count: how many images.
            words: whether words are needed; without them one token is generated.
            tails: over how many of each prompt's last tokens states are averaged; one by default.
        """
        tails = tails or [1] * len(prompts)
        words = words and self.options.has_words
        moved = self.moved(features)
        with self.lock, torch.inference_mode():
            if self.options.compat == "reference":
                return self._reference(moved, prompts, count)
            if self.packs:
                size = (
                    len(prompts) if not self._stops else prompts_per_pass(prompts, self.dimension)
                )
                parts = [slice(n, n + size) for n in range(0, len(prompts), size)]
                packs = [pack(prompts[part]) for part in parts]
                if all(self.inputs.can_pack(packed, self.max_new_tokens) for packed in packs):
                    passes = [
                        self._packed(moved, packed, prompts[part], count, words, tails[part])
                        for packed, part in zip(packs, parts, strict=True)
                    ]
                    return passes[0] if len(passes) == 1 else _joined(passes, min(self._stops))
            return self._plain(moved, prompts, count, words, tails)

    def moved(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors on the model's device, floating point numbers in its dtype."""
        moved = {name: value.to(self.device) for name, value in features.items()}
        return {
            name: value.to(self.model.dtype) if value.is_floating_point() else value
            for name, value in moved.items()
        }

    @property
    def _reads_generated(self) -> bool:
        return self.options.token == "first_generated"

    def _steps(self, words: bool) -> int:
        """How many tokens are generated at most."""
        if words:
            return self.max_new_tokens
        return 2 if self._reads_generated else 1

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
                **self.inputs.for_prompts(ids, features),
                **features,
            )
            states.append(output.hidden_states[self.options.layer][:, -1].float())
        return _without_words(torch.stack(states, 1))

    # -- plain -----------------------------------------------------------------------------

    def _plain(
        self,
        features: Mapping[str, torch.Tensor],
        prompts: Sequence[Sequence[int]],
        count: int,
        words: bool,
        tails: Sequence[int],
    ) -> LastStates:
        # No token ends the generation, so that the same steps run as in a packed pass.
        greedy = greedy_generation(
            self.tokenizer,
            self._steps(words),
            -1,
            return_dict_in_generate=True,
            output_hidden_states=True,
            output_logits=True,
        )
        image_inputs = self.inputs.image_inputs(features)
        states, tokens, probabilities = [], [], []
        for prompt, tail in zip(prompts, tails, strict=True):
            ids = torch.tensor([list(prompt)], device=self.device).expand(count, -1)
            output = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=greedy,
                **self.inputs.for_prompts(ids, features),
                **image_inputs(),
            )
            hidden = output.hidden_states[1 if self._reads_generated else 0]
            states.append(hidden[self.options.layer][:, -tail:].float().mean(1))
            best = [_best(logits) for logits in output.logits]
            tokens.append(torch.stack([token for token, _ in best], dim=-1))
            probabilities.append(torch.stack([probability for _, probability in best], dim=-1))
        if not self.options.has_words:
            return _without_words(torch.stack(states, 1))
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
        plain = [self.inputs.positions(prompt, features) for prompt in prompts]
        positions = packed_positions(packed, plain).to(device)
        ids = packed.ids.to(device).expand(count, -1)
        # A cache with the model's settings would drop what is outside a layer's window.
        cache = DynamicCache()
        inputs = {
            "input_ids": ids,
            "attention_mask": self.inputs.masks(packed, count),
            "position_ids": _for_batch(positions, count),
            "past_key_values": cache,
            **self.inputs.for_packed(ids, features),
            **features,
        }
        tail_indices = packed.tail_indices(tails)
        read = torch.tensor(sorted(set(torch.cat(tail_indices).tolist())))
        causal_prefix = self.inputs.has_causal_prefix(packed)
        with (
            skip_layers_after(self.model, self.options.layer),
            skip_unread_tokens(self.model, packed, causal_prefix, read),
        ):
            hidden, logits = self._forward(read.to(device), **inputs)
        rows = [torch.searchsorted(read, tail).to(hidden.device) for tail in tail_indices]
        states = torch.stack([hidden[:, tail].float().mean(1) for tail in rows], 1)
        if not self.options.has_words:
            return _without_words(states)
        token, probability = _best(logits[:, [int(tail[-1]) for tail in rows]])
        tokens, probabilities = [token], [probability]
        for step in range(1, self._steps(words)):
            first = step == 1 and self._reads_generated
            if not first and self._all_complete(torch.stack(tokens, -1)):
                break
            hidden, logits = self._forward(
                0,
                input_ids=tokens[-1],
                attention_mask=self.inputs.step_masks(packed, step, count),
                position_ids=_for_batch(positions[..., packed.last] + step, count),
                past_key_values=cache,
                **self.inputs.for_generated(tokens[-1], features),
            )
            if first:
                states = hidden.float()
            token, probability = _best(logits)
            tokens.append(token)
            probabilities.append(probability)
        return LastStates(states, torch.stack(tokens, -1), torch.stack(probabilities, -1))

    def _forward(
        self, keep: torch.Tensor | int, **inputs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The states that enter the output head, and the logits.

        The head is run by the model, because some models scale or cap the logits; a hook on it
        avoids keeping the states of every layer.
        """
        states: list[torch.Tensor] = []
        hook = self.model.get_output_embeddings().register_forward_pre_hook(
            lambda _, arguments: states.append(arguments[0])
        )
        try:
            output = self.model(logits_to_keep=keep, use_cache=True, **inputs)
        finally:
            hook.remove()
        return states[-1], output.logits

    # -- words -----------------------------------------------------------------------------

    def _all_complete(self, tokens: torch.Tensor) -> bool:
        return all(self._is_complete(row) for row in tokens.flatten(0, 1).tolist())

    def _is_complete(self, tokens: Sequence[int]) -> bool:
        """Whether the tokens contain all that is needed: the first word, or the whole answer."""
        if not self._stops.isdisjoint(tokens):
            return True
        if self._answer_tokens is not None:
            return False
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        found = _WORD.search(text)
        return bool(found and found.end() < len(text))

    def first_word(
        self, tokens: Sequence[int], probabilities: Sequence[float]
    ) -> tuple[str, float]:
        """The first word of an answer, and the product of its tokens' probabilities.

        Args:
            tokens: greedily generated.
            probabilities: the probabilities of each of these tokens.
        """
        tokens = self._until_stop(tokens)
        found = _WORD.search(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
        if found is None:
            return "", 0.0
        word, probability = found.group(), 1.0
        for count in range(1, len(tokens) + 1):
            probability *= probabilities[count - 1]
            part = self.tokenizer.decode(list(tokens[:count]), skip_special_tokens=True)
            begun = _WORD.search(part)
            if begun and begun.group() == word:
                break
        return word, probability

    def full_answer(
        self, tokens: Sequence[int], probabilities: Sequence[float]
    ) -> tuple[str, float]:
        """The whole answer, without the quotation marks around it, and its probability.

        Args:
            tokens: greedily generated, without the prompt.
            probabilities: the probabilities of each of these tokens.
        """
        tokens = self._until_stop(tokens)
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        probability = 1.0
        for one in probabilities[: len(tokens)]:
            probability *= one
        plain = " ".join(text.split()).strip(_AROUND)
        return plain, probability if plain else 0.0

    def _until_stop(self, tokens: Sequence[int]) -> Sequence[int]:
        ends = (index for index, token in enumerate(tokens) if token in self._stops)
        return tokens[: next(ends, len(tokens))]


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer."""
    stops = model.generation_config.eos_token_id
    listed = stops if isinstance(stops, list) else [stops]
    return frozenset(token for token in [*listed, tokenizer.eos_token_id] if token is not None)


def greedy_generation(
    tokenizer: Any, max_new_tokens: int, stops: int | list[int] | None, **options: Any
) -> Any:
    """The generation settings of a greedy answer.

    Args:
        tokenizer: the model's.
        max_new_tokens: most tokens of the answer.
        stops: tokens that end it.
        **options: of transformers' ``GenerationConfig``.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
        **options,
    )


def _for_batch(positions: torch.Tensor, count: int) -> torch.Tensor:
    """[length] to [count, length], or [axes, length] to [axes, count, length]."""
    if positions.ndim == 1:
        return positions.expand(count, -1)
    return positions[:, None].expand(-1, count, -1)


def _best(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The most probable token of each row and its probability."""
    best = logits.float().softmax(-1).max(-1)
    return best.indices, best.values


def _joined(passes: Sequence[LastStates], stop: int) -> LastStates:
    """Passes over the same images with different prompts as one; short answers are padded."""
    steps = max(one.tokens.shape[-1] for one in passes)
    tokens, probabilities = [], []
    for one in passes:
        short = (0, steps - one.tokens.shape[-1])
        tokens.append(torch.nn.functional.pad(one.tokens, short, value=stop))
        probabilities.append(torch.nn.functional.pad(one.probabilities, short, value=1.0))
    states = torch.cat([one.states for one in passes], 1)
    return LastStates(states, torch.cat(tokens, 1), torch.cat(probabilities, 1))


def _without_words(states: torch.Tensor) -> LastStates:
    empty = states.new_zeros(*states.shape[:2], 0)
    return LastStates(states, empty.long(), empty)
