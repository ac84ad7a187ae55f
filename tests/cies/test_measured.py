"""Measured speeds are stored and listed, and failures to store them are ignored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.timed import Timed

from cies.measured import (
    measured_rate,
    measured_speeds,
    remember_speed,
    speeds_file,
)
from cies.reports.models import run_models
from ingest.conditions import Condition
from ingest.encoders.base import Timing
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice


def test_the_newest_measurement_of_a_kind_is_kept() -> None:
    assert measured_speeds() == [] and measured_rate("tiny-lvlm", 4) is None
    remember_speed(Timed({4: Timing(100, 2.0), 1: Timing(200, 1.0), 2: Timing(10, 1.0)}))
    assert measured_rate("tiny-lvlm", 4) == 50.0
    assert measured_rate("tiny-lvlm", 1, "cpu") == 200.0
    # Ten pictures are too few; speeds hold for one device and model.
    assert measured_rate("tiny-lvlm", 2) is None
    assert measured_rate("tiny-lvlm", 4, "cuda") is None
    assert measured_rate("no such model", 4) is None
    remember_speed(Timed({4: Timing(300, 3.0)}))
    assert measured_rate("tiny-lvlm", 4) == 100.0
    remember_speed(Timed({4: Timing(300, 1.0)}, "org/model", "cuda"))
    assert measured_rate("org/model@main", 4, "cuda:1") == 300.0
    remember_speed(Timed({4: Timing(300, 0.5)}, "org/model", "2 cuda"))
    assert measured_rate("org/model", 4, "cuda:0,cuda:1") == 600.0
    assert measured_rate("org/model", 4, "cuda") == 300.0
    assert len(measured_speeds()) == 4
    assert [path.name for path in speeds_file().parent.iterdir()] == ["speeds.json"]
    assert json.loads(speeds_file().read_text())["schema_version"] == 1


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"speeds": [{}]}', '{"speeds": 3}', '{"speeds": [{"model": 1}]}', "\udcff"],
)
def test_a_damaged_file_is_ignored_and_replaced(content: str) -> None:
    speeds_file().parent.mkdir(parents=True)
    speeds_file().write_text(content, errors="surrogateescape")
    assert measured_speeds() == []
    remember_speed(Timed({4: Timing(100, 2.0)}))
    assert measured_rate("tiny-lvlm", 4) == 50.0


def test_a_folder_that_cannot_be_written_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    remember_speed(Timed({4: Timing(100, 2.0)}))
    assert measured_speeds() == []


def test_the_encoder_counts_what_it_read(qwen_folder: Path, pictures: list[Image.Image]) -> None:
    encoder = DiorEncoder.load(EncoderChoice("dior", str(qwen_folder)))
    assert not encoder.timings
    color, shape = Condition.parse("color"), Condition.parse("shape")
    encoder.encode(pictures, [color])
    encoder.encode(pictures[:2], [color])
    encoder.encode(pictures, [color, shape])
    assert {n: t.pictures for n, t in encoder.timings.items()} == {
        1: len(pictures) + 2,
        2: len(pictures),
    }
    assert all(0 < timing.seconds < 60 for timing in encoder.timings.values())
    assert encoder.device == "cpu" and encoder.threads >= 1


def test_an_ingest_is_shown_by_models(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for number, path in enumerate(sorted((world / "images").iterdir())[:10]):
        Image.open(path).rotate(90).save(more / f"{number}.png")
    command = [sys.executable, "-m", "cies", "ingest", str(world / "images"), str(more)]
    command += ["-g", "gallery", "-c", "color", "-c", "shape", "--model", "tiny-lvlm"]
    subprocess.run(command, check=True, capture_output=True)
    run_models(as_json=True)
    (entry,) = json.loads(capsys.readouterr().out)["measured"]
    assert (entry["model"], entry["conditions"], entry["pictures"]) == ("tiny-lvlm", 2, 70)
    assert (entry["device"], entry["dtype"]) == ("cpu", "float32")
    assert measured_rate("tiny-lvlm", 2) == entry["pictures_per_second"] > 0
    run_models(as_json=False)
    assert f"\t70\t{entry['when']}" in capsys.readouterr().out
