"""The packed sequence: one shared prefix, and a branch for every condition.

The prompts of K conditions agree up to the condition's own words: the system turn, the picture,
"Describe this image in one word regarding". Those tokens are run once; the K tails follow as
branches of one sequence. A boolean mask lets a branch see the prefix and itself only, and every
branch carries the positions it would have alone, so that each last token's hidden state is the
one a plain pass over its own prompt gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import torch

#: Tokens of all branches up to which they are never divided among passes.
_FEW = 512

#: Passes at most for the prompts of one picture.
_MOST_PASSES = 16


@dataclass(frozen=True)
class PackedPrompts:
    """K prompts as one sequence.

    Attributes:
        ids: int64 [length], prefix then tails.
        prefix: how many tokens are shared.
        mask: bool [length, length], True where a token (row) sees another (column).
        sources: for each token, (prompt, place) where it stands in the prompts it came from, so
            that positions can be taken from plain passes: int64 [length, 2].
        last: int64 [K], where each prompt's last token stands.
    """

    ids: torch.Tensor
    prefix: int
    mask: torch.Tensor
    sources: torch.Tensor
    last: torch.Tensor

    def places(self, step: int = 0) -> torch.Tensor:
        """Where each token stands in its own prompt, with ``step`` said tokens a branch.

        Returns:
            int64 [length + step * K]; said tokens come after the prompts, one of each branch at
            a time.
        """
        own = self.sources[:, 1]
        said = [own[self.last] + number for number in range(1, step + 1)]
        return torch.cat([own, *said])

    def tails(self, counts: Sequence[int]) -> list[torch.Tensor]:
        """Where the last tokens of each prompt stand.

        Args:
            counts: how many of each prompt, at least one.

        Returns:
            K tensors int64 [count], in the order of the prompt.
        """
        places = []
        for last, count in zip(self.last.tolist(), counts, strict=True):
            length = int(self.sources[last, 1]) + 1
            own = range(length - count, length)
            # A prompt stands in the shared prefix first, then in its branch.
            branch = last + 1 - length
            places.append(torch.tensor([p if p < self.prefix else p + branch for p in own]))
        return places

    def step_mask(self, step: int) -> torch.Tensor:
        """What the ``step``-th said token of each branch sees: its prompt, its words, itself.

        Returns:
            bool [K, length + step * K].
        """
        own = torch.eye(len(self.last), dtype=torch.bool)
        return torch.cat([self.mask[self.last], *[own] * step], dim=1)


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all prompts share, leaving each at least one of its own."""
    limit = min(len(prompt) for prompt in prompts) - 1
    first = prompts[0]
    for place in range(limit):
        if any(prompt[place] != first[place] for prompt in prompts):
            return place
    return limit


def together(prompts: Sequence[Sequence[int]], dimension: int) -> int:
    """How many prompts are best packed at once.

    Branches do not see one another, and yet the pass multiplies each token with every other, so
    that many long branches (five prompts each of two dozen conditions) cost more than to run the
    prefix again for every few of them. A pass over n tokens takes 24 n d operations a layer and
    dimension in its products with weights and 4 n^2 in attention, which, masked, takes about four
    times as long for each (measured with torch's on a CPU). For a large model the first is most
    of it, and all prompts go together.

    Args:
        prompts: K token sequences.
        dimension: d, of a hidden state.

    Returns:
        A number from 1 to K; K where the branches have no more than :data:`_FEW` tokens.
    """
    prefix = shared_prefix(prompts)
    own = sum(len(prompt) - prefix for prompt in prompts)
    if own <= _FEW:
        return len(prompts)

    def cost(passes: int) -> float:
        tokens = prefix + own / passes
        return passes * (24 * tokens * dimension + 16 * tokens**2)

    passes = min(range(1, min(len(prompts), _MOST_PASSES) + 1), key=cost)
    return -(-len(prompts) // passes)


def pack(prompts: Sequence[Sequence[int]]) -> PackedPrompts:
    """Pack prompts that share a prefix.

    Args:
        prompts: K token sequences, each of at least one token.
    """
    prefix = shared_prefix(prompts)
    ids = list(prompts[0][:prefix])
    branch = [-1] * prefix
    sources = [(0, place) for place in range(prefix)]
    last = []
    for number, prompt in enumerate(prompts):
        ids += prompt[prefix:]
        branch += [number] * (len(prompt) - prefix)
        sources += [(number, place) for place in range(prefix, len(prompt))]
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
    columns = [plain[prompt][..., place] for prompt, place in packed.sources.tolist()]
    return torch.stack(columns, dim=-1)


def see_each_other(mask: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """Let the tokens of one run, such as a picture's, see each other both ways.

    Args:
        mask: bool [length, length].
        members: bool [length], True inside runs; two runs are parted by a token outside.

    Returns:
        bool [length, length].
    """
    begins = members & ~torch.cat([members.new_zeros(1), members[:-1]])
    runs = torch.where(members, begins.long().cumsum(0), 0)
    return mask | ((runs[:, None] == runs[None, :]) & members[:, None])


def windowed(
    mask: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, window: int
) -> torch.Tensor:
    """Hide what lies ``window`` or more places back, counted in each token's own prompt.

    Args:
        mask: bool [rows, columns].
        rows: int64 [rows], places of the tokens that look.
        columns: int64 [columns], places of the tokens looked at.
        window: how many places a token sees, itself included.
    """
    return mask & (columns[None, :] > rows[:, None] - window)
