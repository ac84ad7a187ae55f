"""Masks of the packed sequence, on small examples."""

from __future__ import annotations

import torch

from ingest.encoders.vlm.packing import pack, prompts_per_pass, windowed, with_mutual_attention

PACKED = pack([[1, 2, 3, 4], [1, 2, 3, 5, 6], [1, 2, 7]])


def test_places_are_those_of_the_own_prompt() -> None:
    assert PACKED.prompt_positions().tolist() == [0, 1, 2, 3, 2, 3, 4, 2]
    assert PACKED.prompt_positions(2)[8:].tolist() == [4, 5, 3, 5, 6, 4]


def test_said_tokens_see_their_own_prompt_and_words() -> None:
    mask = PACKED.step_mask(2).int().tolist()
    assert mask[0] == [1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0]
    assert mask[2] == [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1]


def test_runs_see_each_other_both_ways_and_no_other_run() -> None:
    members = torch.tensor([False, True, True, False, True, True])
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    mask = with_mutual_attention(causal, members)
    assert (mask & ~causal).nonzero().tolist() == [[1, 2], [4, 5]]
    assert (causal & ~mask).sum() == 0


def test_window_counts_places_not_columns() -> None:
    places = PACKED.prompt_positions()
    near = windowed(PACKED.mask, places, places, 2)
    # The last token of the third prompt is at position 2, right after the shared position 1.
    assert near[7].int().tolist() == [0, 1, 0, 0, 0, 0, 0, 1]
    assert near[6].int().tolist() == [0, 0, 0, 0, 0, 1, 1, 0]


def test_few_branches_go_together_and_many_do_where_the_model_is_large() -> None:
    prefix = list(range(70))
    few = [[*prefix, 100 + n, 3, 4] for n in range(60)]
    many = [[*prefix, 1000 + n, *range(14)] for n in range(115)]
    assert prompts_per_pass(few, 192) == 60
    assert prompts_per_pass(many, 192) <= 30
    assert prompts_per_pass([[*range(1000), *prompt] for prompt in many], 3584) == 115
    assert prompts_per_pass([list(range(600)), [7, *range(600)]], 16) in (1, 2)
