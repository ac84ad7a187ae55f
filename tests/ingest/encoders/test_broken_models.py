"""Model folders with broken files of many kinds: each ends in a ModelError of one sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.tiny_models import save_qwen2_5_vl

from indexes.errors import ModelError
from ingest.conditions import Condition
from ingest.encoders.factory import make_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.models.find import ModelSource, find_model, is_dual
from ingest.encoders.models.load_errors import explain
from ingest.encoders.options import EncoderChoice


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def change(name: str, **values: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **values}))

    return apply


def change_text(**values: Any) -> Callable[[Path], None]:
    """Change the settings of the text part."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        content["text_config"] |= values
        (folder / "config.json").write_text(json.dumps(content))

    return apply


def change_weights(alter: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "model.safetensors"
        weights = {name: alter(value) for name, value in load_file(path).items()}
        save_file(weights, path, metadata={"format": "pt"})

    return apply


def without_weights(part: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "model.safetensors"
        kept = {name: value for name, value in load_file(path).items() if part not in name}
        save_file(kept, path, metadata={"format": "pt"})

    return apply


def as_folder(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return apply


def as_pipe(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return apply


PICTURES = "preprocessor_config.json"

KINDS: dict[str, Callable[[Path], None]] = {
    "config: a list": write("config.json", b"[]"),
    "config: a text": write("config.json", b'"x"'),
    "config: bytes": write("config.json", b"\xff\xfe\x00\x1b[31m"),
    "config: nested without end": write("config.json", b"[" * 100_000),
    "config: control characters": write(
        "config.json", b'{"model_type": "\\u001b[31mx\\u0007\\n\\n"}'
    ),
    "config: a type that is no text": change("config.json", model_type=["llava"]),
    "config: no text part": change("config.json", text_config=None),
    "config: layers without end": change_text(num_hidden_layers=10**9),
    "config: positions without end": change_text(max_position_embeddings=10**13),
    "config: heads that do not divide": change_text(num_attention_heads=0),
    "config: code from the hub": change("config.json", attn_implementation="someone/kernel"),
    "config: no picture token": change("config.json", image_token_id=1),
    "config: a larger model": change_text(hidden_size=8192, intermediate_size=28672),
    "pictures: a folder": as_folder(PICTURES),
    "tokenizer: a pipe": as_pipe("tokenizer.json"),
    "answers: no token": change("generation_config.json", eos_token_id={}),
    "pictures: a list": write(PICTURES, b"[]"),
    "pictures: zero std": change(PICTURES, image_std=[0.0, 0.0, 0.0]),
    "pictures: NaN mean": change(PICTURES, image_mean=[float("nan")] * 3),
    "pictures: a mean of one": change(PICTURES, image_mean=[0.5]),
    "pictures: an unknown class": change(PICTURES, image_processor_type="Nothing"),
    "pictures: huge": change(PICTURES, size={"height": 10**6, "width": 10**6}),
    "tokenizer: empty": write("tokenizer.json", b"{}"),
    "tokenizer: a number": write("tokenizer.json", b"3"),
    "tokenizer: no model": write("tokenizer.json", b'{"added_tokens": [], "model": null}'),
    "tokenizer: settings": write("tokenizer_config.json", b"null"),
    "tokenizer: an unknown class": change("tokenizer_config.json", tokenizer_class=7),
    "template: a loop": write(
        "chat_template.jinja",
        b"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    ),
    "template: half": write("chat_template.jinja", b"{% for m in messages %}"),
    "template: nothing": write("chat_template.jinja", b"hello"),
    "weights: without a layer": without_weights(".layers.2."),
    "weights: NaN": change_weights(lambda value: value * float("nan")),
    "weights: nothing": change_weights(lambda value: value * 0),
    "weights: infinite": change_weights(lambda value: value + float("inf")),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen2_5_vl(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("what", list(KINDS))
def test_broken_kinds_end_in_one_sentence(
    what: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.encoders.chat.template_renderer.SECONDS", 1)
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    KINDS[what](folder)
    assert not is_dual(str(folder))
    with pytest.raises(ModelError) as refused:
        DiorEncoder.load(EncoderChoice("dior", str(folder)))
    said = str(refused.value)
    assert said.endswith(".") and ". " not in said and len(said) < 600
    assert all(character.isprintable() for character in said)
    assert "name another model" in said or "name an image-text-to-text model" in said


CIES_JSON = (b"{", b"[]", b"3", b"{}", b'{"conditions": 5}', b'{"conditions": {"color": "red"}}')


@pytest.mark.parametrize("content", CIES_JSON)
def test_broken_lists_of_conditions(content: bytes, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    (folder / "cies.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"cies\.json .*name another model\.$"):
        find_model(str(folder)).declared_conditions()


def test_broken_dual_encoders(tmp_path: Path) -> None:
    clip = Path(find_model("tiny-clip").location)
    given = json.loads((clip / "processor_config.json").read_text())["image_processor"]
    no_spread = {**given, "image_std": [0, 0, 0]}
    for number, (breaks, said) in enumerate(
        (
            (change("processor_config.json", image_processor=no_spread), "divides by zero"),
            (change_weights(lambda value: value * float("nan")), "no numbers"),
            (change("config.json", text_config=3), "name another model"),
        )
    ):
        folder = tmp_path / str(number)
        shutil.copytree(clip, folder)
        breaks(folder)
        with pytest.raises(ModelError, match=said):
            make_encoder("clip", str(folder))


def test_whole_models_load(whole: Path) -> None:
    """The control: nothing of the above is refused for another reason."""
    vectors = make_encoder("dior", str(whole)).encode(
        [Image.new("RGB", (60, 60))], [Condition.parse("color")]
    )
    assert np.isfinite(vectors).all()


def test_library_messages_are_made_plain() -> None:
    error = ValueError("\x1b[31mbad\x07 value\nin \u202eline\n\n2. More. " + "x" * 999)
    said = explain(error, ModelSource("m", "m", None, local=True))
    assert all(character.isprintable() for character in said) and "More" not in said
