"""The benchmark's own claims that do not depend on the clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from eval.bench.embed import CONDITIONS, bench_embed
from eval.bench.stand_in_model import SHAPES, make_config, make_stand_in
from eval.world.factors import sample_scenes
from eval.world.render import render
from ingest.conditions import Condition


@pytest.fixture(scope="module")
def lines():
    shape = replace(SHAPES["136m"], layers=4)
    encoder = make_stand_in([Condition.parse(name) for name in CONDITIONS], shape=shape)
    pictures = [render(scene, 224) for scene in sample_scenes(1, seed=3)]
    return {(line.way, line.conditions): line for line in bench_embed(encoder, pictures, [1, 8], 1)}


def test_one_vision_pass_a_picture_whatever_the_number_of_conditions(lines) -> None:
    assert lines["ours", 1].vision_passes == lines["ours", 8].vision_passes == 1
    assert lines["cached", 8].vision_passes == 1
    assert lines["reference", 8].vision_passes == 8


def test_counted_work_is_near_the_least_there_is(lines) -> None:
    for conditions in (1, 8):
        assert 0.97 <= lines["ours", conditions].share_of_ceiling <= 1.0
    assert lines["ours", 8].flop_ratio > lines["cached", 8].flop_ratio > 4


def test_all_ways_agree(lines) -> None:
    assert min(line.worst_cosine for line in lines.values()) > 0.99999


@pytest.mark.parametrize(("name", "billions"), [("136m", 0.136), ("3b", 3.755), ("7b", 8.292)])
def test_shapes_have_the_sizes_they_are_called_by(name: str, billions: float) -> None:
    """Parameters as the published checkpoints' index files count them."""
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(make_config(lambda token: 1, SHAPES[name]))
    assert sum(part.numel() for part in model.parameters()) / 1e9 == pytest.approx(billions, 0.005)
