"""What a model says at the end of prompts: states and tokens; how its answers are generated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

#: In place of a token, where an answer has fewer tokens than others of the same batch.
NO_TOKEN = -1


@dataclass(frozen=True)
class LastStates:
    """States and next tokens of the model at the end of each prompt.

    Attributes:
        states: float32 [images, prompts, layers * dim], of the chosen token and layers, side by
            side.
        tokens: int64 [images, prompts, steps], the greedily generated tokens, and
            :data:`NO_TOKEN` after them; no steps where the options leave no words.
        probabilities: float32 [images, prompts, steps], of each of these tokens.
    """

    states: torch.Tensor
    tokens: torch.Tensor
    probabilities: torch.Tensor


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer."""
    stops = model.generation_config.eos_token_id
    listed = stops if isinstance(stops, list) else [stops]
    return frozenset(token for token in [*listed, tokenizer.eos_token_id] if token is not None)


@contextmanager
def same_draws(device: torch.device) -> Iterator[None]:
    """Draw the same random numbers each time inside a ``with`` block, and leave others alone."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def generation_settings(
    tokenizer: Any, max_new_tokens: int, stops: int | list[int] | None, **options: Any
) -> Any:
    """The generation settings of an answer, greedy unless the options say otherwise.

    Args:
        tokenizer: the model's.
        max_new_tokens: most tokens of the answer.
        stops: tokens that end it.
        **options: of transformers' ``GenerationConfig``.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
        **{"do_sample": False, **options},
    )


def best_tokens(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The most probable token of each row and its probability.

    Args:
        logits: [..., vocabulary].

    Returns:
        int64 [...] and float32 [...].
    """
    best = logits.float().softmax(-1).max(-1)
    return best.indices, best.values


def join_prompts(passes: Sequence[LastStates]) -> LastStates:
    """Passes over the same images with different prompts as one; short answers are padded."""
    steps = max(one.tokens.shape[-1] for one in passes)
    tokens, probabilities = [], []
    for one in passes:
        short = (0, steps - one.tokens.shape[-1])
        tokens.append(torch.nn.functional.pad(one.tokens, short, value=NO_TOKEN))
        probabilities.append(torch.nn.functional.pad(one.probabilities, short, value=1.0))
    states = torch.cat([one.states for one in passes], 1)
    return LastStates(states, torch.cat(tokens, 1), torch.cat(probabilities, 1))


def without_words(states: torch.Tensor) -> LastStates:
    """States whose tokens nobody needs: float32 [images, prompts, dim]."""
    empty = states.new_zeros(*states.shape[:2], 0)
    return LastStates(states, empty.long(), empty)
