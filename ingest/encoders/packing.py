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
