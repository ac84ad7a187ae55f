"""Options: refused in one sentence, stored by a gallery, given on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.commands import run
from support.tiny_reference import CONDITIONS

import cies
from indexes.errors import GalleryMismatch, UsageError
from ingest.conditions import Condition
from ingest.encoders.factory import make_encoder, remake_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderOptions


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layer": 2},
        {"token": "mean", "max_side": 128},
        {"token": "first_generated"},
        {"compat": "reference", "layer": 1},
        {"attention": "eager"},
    ],
)
def test_an_encoder_is_made_again(
    options: dict[str, Any], qwen_folder: Path, pictures: list[Image.Image]
) -> None:
    first = make_encoder(model=str(qwen_folder), options=EncoderOptions(**options))
    again = remake_encoder(first.spec)
    assert again.spec == first.spec
    assert EncoderOptions.from_settings(first.spec.settings) == EncoderOptions(**options)
    assert (again.encode(pictures[:1], CONDITIONS) == first.encode(pictures[:1], CONDITIONS)).all()
    plain = make_encoder(model=str(qwen_folder))
    assert (first.spec == plain.spec) == (not options)


def test_a_gallery_from_before_there_was_a_choice(builtin: DiorEncoder) -> None:
    assert builtin.spec.settings == {
        "prompt": "describe",
        "template": [builtin.template.conditional, builtin.template.unconditional],
        "layer": -1,
        "token": "last_prompt",
        "max_side": 700,
        "tiles": "off",
        "dtype": "float32",
    }
    assert EncoderOptions.from_settings({"prompt": "describe"}) == EncoderOptions()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": True}, "--layer is True"),
        ({"layer": 1.5}, "--layer is 1.5"),
        ({"token": "second"}, "no --token 'second'; choose last_prompt or first_generated or mean"),
        ({"max_side": 31}, "--max-side is 31.*32 to 4096"),
        ({"max_side": 4097}, "--max-side is 4097"),
        ({"attention": "flash_attention_2"}, "'flash_attention_2'.*sdpa or eager"),
        ({"compat": "clip"}, "no --compat 'clip'; choose reference"),
        ({"compat": "reference", "token": "mean"}, "leave --token out"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        EncoderOptions(**options)
    assert str(refused.value).count(".") <= 2 and "\n" not in str(refused.value)


def test_a_gallery_keeps_its_options(world: Path, tmp_path: Path) -> None:
    sources = sorted((world / "images").iterdir())[:3]
    gallery = cies.create(tmp_path / "gallery")
    options = EncoderOptions(layer=2, max_side=64)
    cies.ingest(gallery, sources[:2], ["color"], options=options)
    # Without options, those of the gallery are used; the same options are accepted.
    cies.ingest(gallery, sources[:2], ["shape"])
    cies.ingest(gallery, sources, options=options)
    tables = gallery.conditions()
    assert [table.made_by["settings"]["layer"] for table in tables] == [2, 2]
    images = [Image.open(source).convert("RGB") for source in sources]
    want = cies.load_encoder(options=options).encode(images, [Condition.parse("shape")])[:, 0]
    column = cies.open(gallery.path).vectors("shape")
    assert len(column.keys) == 3
    cosines = column.vectors @ want.T
    assert (cosines.max(1) > 0.999).all()
    for choice in (
        {"options": EncoderOptions()},
        {"options": EncoderOptions(layer=2)},
        {"prompt": "express"},
        {"dtype": "bfloat16"},
    ):
        with pytest.raises(GalleryMismatch, match=r"was built with (layer|max_side|prompt|dtype)"):
            cies.ingest(gallery, sources, **choice)


def test_options_of_the_command(world: Path, tmp_path: Path) -> None:
    source, place = sorted((world / "images").iterdir())[0], tmp_path / "gallery"
    done = run(
        *("ingest", source, "-g", place, "-c", "color", "--layer", 1, "--token", "mean"),
        *("--max-side", 96, "--prompt", "the {condition}", "--device-map", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    settings = cies.create(place).conditions()[0].made_by["settings"]
    kept = {name: settings[name] for name in ("layer", "token", "max_side", "prompt")}
    assert list(kept.values()) == [1, "mean", 96, "the {condition}"]
    refused = run("ingest", source, "-g", tmp_path / "other", "-c", "color", "--token", "all")
    assert refused.returncode == 2
    assert refused.stderr.startswith("Error: There is no --token 'all'")
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "other").exists()


def test_the_last_layer_by_its_number_is_the_last_layer(world: Path, tmp_path: Path) -> None:
    source = sorted((world / "images").iterdir())[0]
    gallery = cies.create(tmp_path / "gallery")
    cies.ingest(gallery, [source], ["color"])
    last = cies.load_encoder().lvlm.model.config.get_text_config().num_hidden_layers
    report = cies.ingest(gallery, [source], ["shape"], options=EncoderOptions(layer=last))
    assert report.conditions == ["color", "shape"]
    assert {table.made_by["settings"]["layer"] for table in gallery.conditions()} == {-1}
    with pytest.raises(GalleryMismatch, match="was built with layer -1, not 1"):
        cies.ingest(gallery, [source], ["size"], options=EncoderOptions(layer=1))
    with pytest.raises(UsageError, match=f"--layer is {last + 1}; give a number from 0 to {last}"):
        cies.ingest(gallery, [source], ["size"], options=EncoderOptions(layer=last + 1))


def test_attention_of_the_command(world: Path, tmp_path: Path) -> None:
    source, place = sorted((world / "images").iterdir())[0], tmp_path / "gallery"
    done = run("ingest", source, "-g", place, "-c", "color", "--attention", "eager")
    assert done.returncode == 0, done.stderr
    assert cies.create(place).conditions()[0].made_by["settings"]["attention"] == "eager"
    with pytest.raises(GalleryMismatch, match="was built with attention eager, not sdpa"):
        cies.ingest(cies.create(place), [source], options=EncoderOptions())
    refused = run(
        "ingest", source, "-g", tmp_path / "x", "-c", "color", "--attention", "flash_attention_2"
    )
    assert refused.returncode == 2 and not (tmp_path / "x").exists()
    assert refused.stderr.startswith("Error: --attention 'flash_attention_2' is not offered")
