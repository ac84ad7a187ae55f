"""Runs an LVLM over prompts that differ only in their last words.

There are four ways. *Plain* calls the model's own ``generate`` once for each prompt, after
encoding the image once where the model accepts that: slow, and independent of this project's
code. *Packed* runs the shared prefix once and all tails as branches of one sequence
(:mod:`ingest.encoders.vlm.packing`), through the model's public forward, with the same numbers; it
is used for the families for which tests show that equality (:mod:`ingest.encoders.vlm.families`).
*Continued* runs the shared prefix once too, and the tails as a batch, each after a copy of its
cache; it is used for families in which no mask can part the branches. *Reference* reproduces the
numbers of the published code.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from indexes.errors import UsageError
from ingest.encoders.options import DEFAULT_OPTIONS, EncoderOptions
from ingest.encoders.vlm.families import family
from ingest.encoders.vlm.model_inputs import ModelInputs, input_device
from ingest.encoders.vlm.packing import PackedPrompts, pack, packed_positions, prompts_per_pass
from ingest.encoders.vlm.skip_unused import (
    LAST_LAYER,
    layer_outputs,
    skip_layers_after,
    skip_unread_tokens,
)
from ingest.encoders.vlm.states import (
    NO_TOKEN,
    LastStates,
    best_tokens,
    generation_settings,
    join_prompts,
    same_draws,
    stop_tokens,
    without_words,
)
from ingest.encoders.vlm.words import CUT, find_word

#: Most tokens of a word. Generation ends with the word, so that most words take two or three.
MAX_WORD_TOKENS = 12

#: Characters around an answer, since the prompt ends in an opening quotation mark.
_AROUND = " .\"'“”‘’"


@dataclass(frozen=True)
class _Wanted:
    """What is read of a pass.

    Attributes:
        layers: the layers whose states are read, as :class:`EncoderOptions` numbers them; their
            states are returned side by side.
        words: whether words are needed.
        has_words: whether tokens come with the states; if not, the states alone are returned.
    """

    layers: tuple[int, ...]
    words: bool
    has_words: bool


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
        #: How its text model computes attention, such as ``sdpa``.
        self.attention: str = getattr(text, "_attn_implementation", "unknown")
        #: How this model runs and why, for people.
        self.family = family(model.config.model_type, text.model_type, self.attention)
        #: Whether all prompts share one pass, if only the layer of the options is read.
        self.packs = self._packs((options.layer,))
        #: Whether words, or answers, come with the states of that layer.
        self.has_words = self._has_words((options.layer,))
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
        layers: Sequence[int] | None = None,
    ) -> LastStates:
        """Run a batch of images that share their prompts' token ids.

        Args:
            features: the images' tensors, joined along the first dimension.
            prompts: token ids of each prompt, the image's tokens included.
            count: how many images.
            words: whether words are needed; without them one token is generated.
            tails: over how many of each prompt's last tokens states are averaged; one by default.
            layers: the layers whose states are read, side by side in the order given; that of the
                options by default. Several are read in one pass, and equal those of a pass each.
        """
        number = self.options.token_number
        if number is not None:
            tails = [_tokens_from(prompt, number) for prompt in prompts]
        tails = tails or [1] * len(prompts)
        moved = self.moved(features)
        chosen = tuple(layers or (self.options.layer,))
        with self.lock, torch.inference_mode():
            if len({self._packs((layer,)) for layer in chosen}) == 1:
                return self._run(moved, prompts, count, words, tails, chosen)
            # The first generated token: only with the last layer do the prompts share a pass.
            single = [self._run(moved, prompts, count, words, tails, (one,)) for one in chosen]
            states = torch.cat([one.states for one in single], -1)
            return replace(single[chosen.index(LAST_LAYER)], states=states)

    def _packs(self, layers: Sequence[int]) -> bool:
        """Whether all prompts share one pass that reads these layers."""
        # A generated token depends on all layers, so the pass before it cannot end earlier.
        deeper = self._reads_generated and any(layer != LAST_LAYER for layer in layers)
        published = self.options.compat is not None or self.options.temperature > 0
        return self.family.mode == "packed" and not published and not deeper

    def _has_words(self, layers: Sequence[int]) -> bool:
        """Whether words, or answers, come with the states of these layers."""
        if self._answer_tokens is not None:
            return True
        return LAST_LAYER in layers and self.options.compat is None and self.options.words

    def _run(
        self,
        features: Mapping[str, torch.Tensor],
        prompts: Sequence[Sequence[int]],
        count: int,
        words: bool,
        tails: Sequence[int],
        layers: tuple[int, ...],
    ) -> LastStates:
        """Run a batch in the way that suits the model."""
        has_words = self._has_words(layers)
        wanted = _Wanted(layers, words and has_words, has_words)
        if self.options.compat == "reference" and self._answer_tokens is None:
            return self._reference(features, prompts, count, tails, layers)
        packs = self._packs(layers)
        if packs and self.family.continues:
            packed = pack(prompts)
            if len(prompts) > 1 and self.inputs.can_continue(packed):
                return self._continued(features, packed, prompts, count, wanted, tails)
        elif packs:
            size = prompts_per_pass(prompts, self.dimension)
            parts = [slice(n, n + size) for n in range(0, len(prompts), size)]
            all_packed = [pack(prompts[part]) for part in parts]
            if all(self.inputs.can_pack(packed, self.max_new_tokens) for packed in all_packed):
                passes = [
                    self._packed(features, packed, prompts[part], count, wanted, tails[part])
                    for packed, part in zip(all_packed, parts, strict=True)
                ]
                return passes[0] if len(passes) == 1 else join_prompts(passes)
        return self._plain(features, prompts, count, wanted, tails)

    def moved(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors on the model's device, floating point numbers in its dtype."""
        moved = {name: value.to(self.device) for name, value in features.items()}
        return {
            name: value.to(self.model.dtype) if value.is_floating_point() else value
            for name, value in moved.items()
        }

    def _picked(self, tail: torch.Tensor) -> torch.Tensor:
        """The state that is read of the last tokens of a prompt: their mean, or the first one.

        Args:
            tail: [images, tokens, layers * dim].

        Returns:
            float32 [images, layers * dim].
        """
        if self.options.token_number is not None:
            return tail[:, 0].float()
        # Layer by layer, so that the numbers do not depend on how many are read.
        layers = torch.split(tail.float(), self.dimension, -1)
        return torch.cat([layer.contiguous().mean(1) for layer in layers], -1)

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
        self,
        features: Mapping[str, torch.Tensor],
        prompts: Sequence[Sequence[int]],
        count: int,
        tails: Sequence[int],
        layers: Sequence[int],
    ) -> LastStates:
        """One pass for each prompt, positions counted along one axis whatever the model has."""
        states = []
        for prompt, tail in zip(prompts, tails, strict=True):
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
            states.append(_side_by_side(output.hidden_states, layers)[:, -tail].float())
        return without_words(torch.stack(states, 1))

    # -- plain -----------------------------------------------------------------------------

    def _plain(
        self,
        features: Mapping[str, torch.Tensor],
        prompts: Sequence[Sequence[int]],
        count: int,
        wanted: _Wanted,
        tails: Sequence[int],
    ) -> LastStates:
        # No token ends the generation of one image before that of the others.
        heat = self.options.temperature
        drawn = {"do_sample": True, "temperature": heat, "top_k": 0} if heat else {}
        settings = generation_settings(
            self.tokenizer,
            self._steps(wanted.words),
            -1,
            return_dict_in_generate=True,
            output_hidden_states=True,
            output_logits=True,
            **drawn,
        )
        least = 2 if self._reads_generated else 1
        image_inputs = self.inputs.image_inputs(features)
        passes = []
        for prompt, tail in zip(prompts, tails, strict=True):
            ids = torch.tensor([list(prompt)], device=self.device).expand(count, -1)
            with same_draws(self.device):
                output = self.model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=settings,
                    stopping_criteria=[self._stop_when_complete(len(prompt), least)],
                    **self.inputs.for_prompts(ids, features),
                    **image_inputs(),
                )
            hidden = output.hidden_states[1 if self._reads_generated else 0]
            states = self._picked(_side_by_side(hidden, wanted.layers)[:, -tail:])
            if not wanted.has_words:
                passes.append(without_words(states[:, None]))
                continue
            tokens = output.sequences[:, len(prompt) :]
            chances = torch.stack(output.logits, 1).float().softmax(-1)
            probabilities = chances.gather(-1, tokens[..., None])[..., 0]
            passes.append(LastStates(states[:, None], tokens[:, None], probabilities[:, None]))
        return join_prompts(passes)

    def _stop_when_complete(
        self, prompt: int, least: int
    ) -> Callable[[torch.Tensor, Any], torch.Tensor]:
        """A criterion of transformers that ends the generation when all answers are complete.

        Args:
            prompt: how many tokens the prompt has.
            least: how many tokens are generated in any case.
        """

        def stop(ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            said = ids[:, prompt:]
            done = said.shape[1] >= least and self._all_complete(said[:, None])
            return torch.full((len(ids),), done, dtype=torch.bool, device=ids.device)

        return stop

    # -- packed ----------------------------------------------------------------------------

    def _packed(
        self,
        features: Mapping[str, torch.Tensor],
        packed: PackedPrompts,
        prompts: Sequence[Sequence[int]],
        count: int,
        wanted: _Wanted,
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
            skip_layers_after(self.model, wanted.layers),
            skip_unread_tokens(
                self.model, packed, causal_prefix, read, LAST_LAYER in wanted.layers
            ),
            layer_outputs(self.model, wanted.layers, read) as inner,
        ):
            last, logits = self._forward(read.to(device), **inputs)
        hidden = torch.cat(
            [inner[n].to(last.device) if n in inner else last for n in wanted.layers], -1
        )
        rows = [torch.searchsorted(read, tail).to(hidden.device) for tail in tail_indices]
        states = torch.stack([self._picked(hidden[:, tail]) for tail in rows], 1)
        if not wanted.has_words:
            return without_words(states)
        token, probability = best_tokens(logits[:, [int(tail[-1]) for tail in rows]])
        tokens, probabilities = [token], [probability]
        for step in range(1, self._steps(wanted.words)):
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
            token, probability = best_tokens(logits)
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

    # -- continued -------------------------------------------------------------------------

    def _continued(
        self,
        features: Mapping[str, torch.Tensor],
        packed: PackedPrompts,
        prompts: Sequence[Sequence[int]],
        count: int,
        wanted: _Wanted,
        tails: Sequence[int],
    ) -> LastStates:
        prefix, device = packed.prefix, self.device
        plain = [self.inputs.positions(prompt, features) for prompt in prompts]
        positions = packed_positions(packed, plain).to(device)
        shared = packed.ids[:prefix].to(device).expand(count, -1)
        needed = any(len(p) - tail < prefix for p, tail in zip(prompts, tails, strict=True))
        begin = self.model(
            input_ids=shared,
            attention_mask=torch.ones_like(shared),
            position_ids=_for_batch(positions[..., :prefix], count),
            use_cache=True,
            logits_to_keep=1,
            output_hidden_states=needed,
            **self.inputs.for_prompts(shared, features),
            **features,
        )
        early = _side_by_side(begin.hidden_states, wanted.layers).float() if needed else None
        # Tails of one length are a batch; padding would change the state of recurrent layers.
        own = [packed.mask[last].nonzero()[prefix:, 0] for last in packed.last.tolist()]
        groups: dict[int, list[int]] = {}
        for number, columns in enumerate(own):
            groups.setdefault(len(columns), []).append(number)
        passes = []
        for numbers in groups.values():
            columns = torch.stack([own[number] for number in numbers])
            cache = copy.deepcopy(begin.past_key_values)
            cache.reorder_cache(torch.arange(count, device=device).repeat_interleave(len(numbers)))
            states, tokens, probabilities = (
                rows.view(count, len(numbers), *rows.shape[1:])
                for rows in self._after(
                    cache,
                    packed.ids[columns].to(device).repeat(count, 1),
                    _for_images(positions[..., columns], count),
                    wanted,
                )
            )
            if not self._reads_generated:
                if early is not None:
                    states = torch.cat(
                        [early[:, None].expand(*states.shape[:2], -1, -1), states], 2
                    )
                parts = [self._picked(states[:, at, -tails[n] :]) for at, n in enumerate(numbers)]
                states = torch.stack(parts, 1)
            else:
                states = states[:, :, -1]
            passes.append(LastStates(states, tokens, probabilities))
        joined = join_prompts(passes)
        back = torch.tensor([number for numbers in groups.values() for number in numbers]).argsort()
        states = joined.states[:, back]
        if not wanted.has_words:
            return without_words(states)
        return LastStates(states, joined.tokens[:, back], joined.probabilities[:, back])

    def _after(
        self, cache: Any, ids: torch.Tensor, positions: torch.Tensor, wanted: _Wanted
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run tails after their prefix, and generate.

        Args:
            cache: of the prefix, with as many rows as there are tails.
            ids: int64 [rows, length].
            positions: int64 [rows, length] or [axes, rows, length].
            wanted: what is read.

        Returns:
            The states of the tails, or of the first generated token, float32 [rows, length,
            layers * dim]; tokens int64 [rows, steps], and their probabilities, float32 [rows,
            steps].
        """
        states = torch.empty(0)
        tokens: list[torch.Tensor] = []
        probabilities: list[torch.Tensor] = []
        for step in range(self._steps(wanted.words)):
            first_read = step == 1 and self._reads_generated
            if step and not first_read and self._all_complete(torch.stack(tokens, -1)[:, None]):
                break
            if step:
                ids, positions = tokens[-1][:, None], positions[..., -1:] + 1
            seen = cache.get_seq_length() + ids.shape[1]
            output = self.model(
                input_ids=ids,
                attention_mask=ids.new_ones(len(ids), seen),
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
                output_hidden_states=step == 0 or first_read,
            )
            if step == 0 or first_read:
                states = _side_by_side(output.hidden_states, wanted.layers).float()
            token, probability = best_tokens(output.logits[:, -1])
            tokens.append(token)
            probabilities.append(probability)
        return states, torch.stack(tokens, -1), torch.stack(probabilities, -1)

    # -- words -----------------------------------------------------------------------------

    def _all_complete(self, tokens: torch.Tensor) -> bool:
        return all(self._is_complete(row) for row in tokens.flatten(0, 1).tolist())

    def _is_complete(self, tokens: Sequence[int]) -> bool:
        """Whether the tokens contain all that is needed: the first word, or the whole answer."""
        if not self._stops.isdisjoint(tokens):
            return True
        if self._answer_tokens is not None:
            return False
        return find_word(self.tokenizer.decode(tokens, skip_special_tokens=True)).ends

    def first_word(
        self, tokens: Sequence[int], probabilities: Sequence[float]
    ) -> tuple[str, float]:
        """The first word of an answer, and the product of its tokens' probabilities.

        The word ends in :data:`ingest.encoders.vlm.words.CUT` if the tokens end before it does.

        Args:
            tokens: greedily generated.
            probabilities: the probabilities of each of these tokens.
        """
        until = self.answer_ids(tokens)
        stopped = any(token in self._stops for token in tokens)
        found = find_word(self.tokenizer.decode(list(until), skip_special_tokens=True))
        if stopped and not found.text:
            return "", 0.0
        probability = 1.0
        for count in range(1, len(until) + 1):
            probability *= probabilities[count - 1]
            part = self.tokenizer.decode(list(until[:count]), skip_special_tokens=True)
            if found.text and find_word(part).text == found.text:
                break
        return found.text if stopped or found.ends else found.text + CUT, probability

    def full_answer(
        self, tokens: Sequence[int], probabilities: Sequence[float]
    ) -> tuple[str, float]:
        """The whole answer, without the quotation marks around it, and its probability.

        Args:
            tokens: greedily generated, without the prompt.
            probabilities: the probabilities of each of these tokens.
        """
        tokens = self.answer_ids(tokens)
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        probability = 1.0
        for one in probabilities[: len(tokens)]:
            probability *= one
        plain = " ".join(text.split()).strip(_AROUND)
        return plain, probability if plain else 0.0

    def answer_ids(self, tokens: Sequence[int]) -> Sequence[int]:
        """The tokens of an answer before the one that ends it."""
        last = self._stops | {NO_TOKEN}
        ends = (index for index, token in enumerate(tokens) if token in last)
        return tokens[: next(ends, len(tokens))]


def _side_by_side(hidden: Sequence[torch.Tensor], layers: Sequence[int]) -> torch.Tensor:
    """The states of some layers: [images, tokens, layers * dim].

    Args:
        hidden: ``hidden_states`` of transformers.
        layers: their numbers there.
    """
    if len(layers) == 1:
        return hidden[layers[0]]
    return torch.cat([hidden[layer].to(hidden[-1].device) for layer in layers], -1)


def _for_batch(positions: torch.Tensor, count: int) -> torch.Tensor:
    """[length] to [count, length], or [axes, length] to [axes, count, length]."""
    if positions.ndim == 1:
        return positions.expand(count, -1)
    return positions[:, None].expand(-1, count, -1)


def _for_images(positions: torch.Tensor, count: int) -> torch.Tensor:
    """[..., prompts, length] to [..., count * prompts, length], all prompts of each image."""
    return positions.repeat(*[1] * (positions.ndim - 2), count, 1)


def _tokens_from(prompt: Sequence[int], number: int) -> int:
    """How many tokens a prompt has from one of its tokens to its end.

    Args:
        prompt: token ids.
        number: of the token, from 0 at the first one, or from -1 at the last one.

    Raises:
        UsageError: if the prompt has no such token.
    """
    length = len(prompt)
    if not -length <= number < length:
        raise UsageError(
            f"--token is {number}, and the prompt has {length} tokens; give a number from "
            f"{-length} to {length - 1}."
        )
    return -number if number < 0 else length - number
