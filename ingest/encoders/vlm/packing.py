"""Packed prompts: one shared prefix, and a branch for every condition.

The prompts of K conditions agree up to the condition's own words: the system turn, the image,
"Describe this image in one word regarding". Those tokens are run once; the K tails follow as
branches of one sequence. A boolean mask lets a branch see only the prefix and itself, and every
branch has the positions it would have alone, so each last token's hidden state equals that of a
plain pass over its own prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

#: Up to this many tokens in all branches, they are always run in one pass.
_UNSPLIT_TOKENS = 512

#: Most passes for the prompts of one image.
_MAX_PASSES = 16


@dataclass(frozen=True)
class PackedPrompts:
    """K prompts as one sequence.

    Attributes:
        ids: int64 [length], prefix then tails.
        prefix: how many tokens are shared.
        mask: bool [length, length], True where a token (row) sees another (column).
        sources: int64 [length, 2], for each token the number of its prompt and its position
            there, so that position ids can be taken from plain passes.
        last: int64 [K], index of each prompt's last token.
    """

    ids: torch.Tensor
    prefix: int
    mask: torch.Tensor
    sources: torch.Tensor
    last: torch.Tensor

    def prompt_positions(self, steps: int = 0) -> torch.Tensor:
        """Each token's position in its own prompt, after ``steps`` generated tokens per branch.

        Returns:
            int64 [length + steps * K]; generated tokens follow the prompts, one of each branch
            per step.
        """
        own = self.sources[:, 1]
        generated = [own[self.last] + number for number in range(1, steps + 1)]
        return torch.cat([own, *generated])

    def tail_indices(self, counts: Sequence[int]) -> list[torch.Tensor]:
        """Indices of the last tokens of each prompt.

        Args:
            counts: how many for each prompt, at least one.

        Returns:
            K tensors int64 [count], in the order of the prompt.
        """
        indices = []
        for last, count in zip(self.last.tolist(), counts, strict=True):
            length = int(self.sources[last, 1]) + 1
            positions = range(length - count, length)
            # A prompt begins in the shared prefix and ends in its branch.
            shift = last + 1 - length
            indices.append(torch.tensor([p if p < self.prefix else p + shift for p in positions]))
        return indices

    def step_mask(self, step: int) -> torch.Tensor:
        """What the ``step``-th generated token of each branch sees: its prompt and its own tokens.

        Returns:
            bool [K, length + step * K].
        """
        own = torch.eye(len(self.last), dtype=torch.bool)
        return torch.cat([self.mask[self.last], *[own] * step], dim=1)


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all prompts share, leaving each at least one of its own."""
    limit = min(len(prompt) for prompt in prompts) - 1
    first = prompts[0]
    for position in range(limit):
        if any(prompt[position] != first[position] for prompt in prompts):
            return position
    return limit


def prompts_per_pass(prompts: Sequence[Sequence[int]], dimension: int) -> int:
    """How many prompts to pack into one pass for the least work.

    Branches do not see one another, but the pass multiplies each token with every other, so
    many long branches (five prompts for each of two dozen conditions) cost more than running the
    prefix again for every few of them. A pass over n tokens takes 24 n d operations a layer and
    dimension in its products with weights and 4 n^2 in attention, which, masked, takes about four
    times as long for each (measured with torch on a CPU). For a large model the first term
    dominates, and all prompts share one pass.

    Args:
        prompts: K token sequences.
        dimension: d, of a hidden state.

    Returns:
        A number from 1 to K; K where the branches have at most :data:`_UNSPLIT_TOKENS` tokens.
    """
    prefix = shared_prefix(prompts)
    branch_tokens = sum(len(prompt) - prefix for prompt in prompts)
    if branch_tokens <= _UNSPLIT_TOKENS:
        return len(prompts)

    def cost(passes: int) -> float:
        tokens = prefix + branch_tokens / passes
        return passes * (24 * tokens * dimension + 16 * tokens**2)

    passes = min(range(1, min(len(prompts), _MAX_PASSES) + 1), key=cost)
    return -(-len(prompts) // passes)


def pack(prompts: Sequence[Sequence[int]]) -> PackedPrompts:
    """Pack prompts that share a prefix.

    Args:
        prompts: K token sequences, each of at least one token.
    """
    prefix = shared_prefix(prompts)
    ids = list(prompts[0][:prefix])
    branch = [-1] * prefix
    sources = [(0, position) for position in range(prefix)]
    last = []
    for number, prompt in enumerate(prompts):
        ids += prompt[prefix:]
        branch += [number] * (len(prompt) - prefix)
        sources += [(number, position) for position in range(prefix, len(prompt))]
        last.append(len(ids) - 1)
    branches = torch.tensor(branch)
    order = torch.arange(len(ids))
    earlier = order[:, None] >= order[None, :]
    visible = (branches[None, :] == -1) | (branches[:, None] == branches[None, :])
    return PackedPrompts(
        ids=torch.tensor(ids),
        prefix=prefix,
        mask=earlier & visible,
        sources=torch.tensor(sources),
        last=torch.tensor(last),
    )


def packed_positions(packed: PackedPrompts, plain: Sequence[torch.Tensor]) -> torch.Tensor:
    """Position ids of the packed sequence, each as in the plain pass over its own prompt.

    Args:
        packed: the packed prompts.
        plain: for each prompt int64 [..., its length], such as [length] or [3, length].

    Returns:
        int64 [..., packed length].
    """
    columns = [plain[prompt][..., position] for prompt, position in packed.sources.tolist()]
    return torch.stack(columns, dim=-1)


def with_mutual_attention(mask: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """Let the tokens of one run, such as an image's, see each other in both directions.

    Args:
        mask: bool [length, length].
        members: bool [length], True inside runs; a token outside separates two runs.

    Returns:
        bool [length, length].
    """
    begins = members & ~torch.cat([members.new_zeros(1), members[:-1]])
    runs = torch.where(members, begins.long().cumsum(0), 0)
    return mask | ((runs[:, None] == runs[None, :]) & members[:, None])


def windowed(
    mask: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, window: int
) -> torch.Tensor:
    """Hide tokens ``window`` or more positions back, counted in each token's own prompt.

    Args:
        mask: bool [rows, columns].
        rows: int64 [rows], positions of the tokens that attend.
        columns: int64 [columns], positions of the tokens attended to.
        window: how many positions a token sees, itself included.
    """
    return mask & (columns[None, :] > rows[:, None] - window)
