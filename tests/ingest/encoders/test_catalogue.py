"""Models of the hub: where each fits, and which is recommended."""

from __future__ import annotations

import json
import os

import pytest

from cies.reports.models import run_models
from ingest.encoders.embedders.presets import embedder_presets, preset_of
from ingest.encoders.models.catalogue import (
    KINDS,
    MACHINES,
    Machine,
    all_models,
    hub_models,
    recommended,
    this_machine,
)
from ingest.encoders.models.find import DUAL_TYPES, VISION_TYPES, is_dual, is_vision
from ingest.encoders.vlm.families import FAMILIES

SMALL, LARGE = hub_models()[0], hub_models()[-1]


def test_every_entry_is_of_a_known_family() -> None:
    assert all(model.family in FAMILIES for model in hub_models())
    assert [model.gigabytes for model in hub_models()] == sorted(m.gigabytes for m in hub_models())


@pytest.mark.parametrize(
    ("machine", "places", "start"),
    [
        (Machine(memory=4, gpu=0, bf16=False), ("cpu", ""), SMALL),
        (Machine(memory=64, gpu=0, bf16=True), ("cpu", "cpu"), SMALL),
        (Machine(memory=32, gpu=0, bf16=False), ("cpu", ""), SMALL),
        (Machine(memory=32, gpu=24, bf16=False), ("gpu", "gpu"), LARGE),
        (Machine(memory=1, gpu=0, bf16=False), ("", ""), None),
        (Machine(memory=None, gpu=0, bf16=False), ("", ""), None),
        (Machine(memory=None, gpu=24, bf16=False), ("gpu", "gpu"), LARGE),
    ],
)
def test_places(machine: Machine, places: tuple[str, str], start: object) -> None:
    assert (machine.place(SMALL), machine.place(LARGE)) == places
    assert recommended(machine) is start


def test_every_kind_is_recommended_for_every_machine() -> None:
    for kind in KINDS:
        for machine in MACHINES.values():
            found = recommended(machine, kind)
            assert found is not None and found.kind == kind and found.commercial
    larger = [recommended(MACHINES[name], "embedder") for name in ("8 GB", "80 GB")]
    assert [one.name[-2:] for one in larger if one] == ["2B", "8B"]


def test_other_models_are_of_their_kind_and_embedders_have_presets() -> None:
    for model in all_models():
        assert model.kind in KINDS and (model.kind == "lvlm") == (not model.purpose)
        assert model.licence and (model.vector > 0) == (model.kind != "reranker")
        assert is_dual(model.name) == (model.kind == "dual") == (model.family in DUAL_TYPES)
        assert is_vision(model.name) == (model.kind == "vision") == (model.family in VISION_TYPES)
        preset = preset_of(model.name)
        assert (preset is not None) == (model.kind == "embedder")
        assert preset is None or (model.family in preset.types and model.name in preset.models)
    listed = {preset_of(one.name) for one in hub_models("embedder")}
    # VLM2Vec is published as an adapter, which must be merged first.
    assert listed == {p for name, p in embedder_presets().items() if name != "vlm2vec-v2"}


def test_this_machine_has_memory() -> None:
    memory = this_machine().memory
    assert memory is not None and memory > 0.5


def test_a_system_that_does_not_say_its_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert this_machine().memory is None
    run_models(as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["machine"]["memory"] is None
    run_models(as_json=False)
    shown = capsys.readouterr().out
    assert "\tunknown\t" in shown or document["machine"]["gpu"]
