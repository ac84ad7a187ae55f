"""DIOR: the packed pass computes the same as plain passes, for the packed families."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ingest.encoders.vlm.lvlm as lvlm_module
from indexes.errors import ModelError, UsageError
from ingest.conditions import Condition, prompt_templates
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice
from ingest.encoders.vlm.packing import PackedPrompts, pack

NAMES = ["color", "shape", "pattern", "background", "unconditional"]
CONDITIONS = [Condition.parse(name) for name in NAMES]


@pytest.fixture(params=["builtin", "qwen"])
def encoder(request: pytest.FixtureRequest) -> DiorEncoder:
    return request.getfixturevalue(request.param)


def plain_vectors(encoder: DiorEncoder, image: Image.Image, condition: Condition) -> np.ndarray:
    """One picture, one condition, one pass, by transformers alone: the reference."""
    processor = encoder._loaded.processor
    text = encoder._template.text(condition)
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    chat = processor.apply_chat_template(turn, add_generation_prompt=True)
    inputs = dict(
        processor(text=[chat], images=[image], return_tensors="pt", add_special_tokens=False)
    )
    model = encoder._loaded.model
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == model.config.image_token_id).int()
    with torch.inference_mode():
        states = model.model(**inputs).last_hidden_state[0, -1].float().numpy()
    return states / np.linalg.norm(states)


def furthest(encoder: DiorEncoder, pictures: list[Image.Image]) -> float:
    """Largest difference between the encoder's vectors and the reference's."""
    vectors = encoder.encode(pictures, CONDITIONS)
    plain = [[plain_vectors(encoder, p, c) for c in CONDITIONS] for p in pictures]
    return float(np.abs(vectors - np.array(plain)).max())


def test_packed_equals_plain(encoder: DiorEncoder, pictures: list[Image.Image]) -> None:
    assert encoder.lvlm.packs
    assert furthest(encoder, pictures) < 2e-5


def test_control_without_tree_mask_differs(
    encoder: DiorEncoder, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    def causal(prompts: list[list[int]]) -> PackedPrompts:
        packed = pack(prompts)
        whole = torch.ones_like(packed.mask).tril()
        return PackedPrompts(packed.ids, packed.prefix, whole, packed.sources, packed.last)

    monkeypatch.setattr(lvlm_module, "pack", causal)
    assert furthest(encoder, pictures) > 1e-3


def test_control_with_flattened_positions_differs(
    encoder: DiorEncoder, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    def flat(packed: PackedPrompts, plain: list[torch.Tensor]) -> torch.Tensor:
        return torch.arange(len(packed.ids)).expand_as(
            torch.empty(*plain[0].shape[:-1], len(packed.ids))
        )

    monkeypatch.setattr(lvlm_module, "packed_positions", flat)
    assert furthest(encoder, pictures) > 1e-3


def test_alone_in_batch_and_in_any_order(encoder: DiorEncoder, pictures: list[Image.Image]) -> None:
    together = encoder.encode(pictures, CONDITIONS)
    for number, picture in enumerate(pictures):
        for column, condition in enumerate(CONDITIONS):
            alone = encoder.encode([picture], [condition])[0, 0]
            assert np.abs(alone - together[number, column]).max() < 2e-5
    turned = encoder.encode(pictures[::-1], CONDITIONS[::-1])[::-1, ::-1]
    assert np.abs(turned - together).max() < 2e-5


def test_unit_length_and_shape(encoder: DiorEncoder, pictures: list[Image.Image]) -> None:
    vectors = encoder.encode(pictures, CONDITIONS)
    assert vectors.shape == (len(pictures), len(CONDITIONS), encoder.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)


def test_word_is_what_generate_says(encoder: DiorEncoder, pictures: list[Image.Image]) -> None:
    packed = encoder.embed(pictures, CONDITIONS)
    encoder.lvlm.packs = False
    try:
        plain = encoder.embed(pictures, CONDITIONS)
    finally:
        encoder.lvlm.packs = True
    assert packed.words == plain.words
    assert any(word for row in packed.words for word in row)
    assert np.abs(packed.word_probabilities - plain.word_probabilities).max() < 1e-4
    assert np.abs(packed.vectors - plain.vectors).max() < 2e-5


def test_one_vision_pass_a_picture(
    encoder: DiorEncoder, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = encoder._loaded.model.model.get_image_features

    def counting(*args: object, **options: object) -> object:
        pixels = options.get("pixel_values", args[0] if args else None)
        grid = options.get("image_grid_thw", args[1] if len(args) > 1 else None)
        seen.append(len(grid) if grid is not None else len(pixels))
        return real(*args, **options)

    monkeypatch.setattr(encoder._loaded.model.model, "get_image_features", counting)
    encoder.encode(pictures, CONDITIONS)
    assert sum(seen) == len(pictures)


def test_every_prompt_template_packs(qwen_folder: Path, pictures: list[Image.Image]) -> None:
    assert len(prompt_templates()) == 7
    for name in prompt_templates():
        encoder = DiorEncoder.load(EncoderChoice("dior", str(qwen_folder), prompt=name))
        assert furthest(encoder, pictures[:2]) < 2e-5


def test_pack_shares_the_longest_prefix() -> None:
    packed = pack([[1, 2, 3, 4], [1, 2, 3, 5, 6], [1, 2, 7]])
    assert packed.prefix == 2
    assert packed.ids.tolist() == [1, 2, 3, 4, 3, 5, 6, 7]
    assert packed.last.tolist() == [3, 6, 7]
    # Each last token sees the prefix and its own branch, nothing else.
    assert packed.mask[3].int().tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert packed.mask[6].int().tolist() == [1, 1, 0, 0, 1, 1, 1, 0]
    assert packed.mask[7].int().tolist() == [1, 1, 0, 0, 0, 0, 0, 1]


def test_equal_prompts_keep_a_token_each() -> None:
    packed = pack([[1, 2], [1, 2]])
    assert packed.prefix == 1 and packed.ids.tolist() == [1, 2, 2]


@pytest.mark.parametrize("word", ["color", "colour", "hue", "background color"])
def test_builtin_understands_spellings(
    word: str, builtin: DiorEncoder, pictures: list[Image.Image]
) -> None:
    builtin.encode(pictures[:1], [Condition.parse(word)])


def test_the_builtin_model_refuses_conditions_it_was_not_trained_on(
    builtin: DiorEncoder, pictures: list[Image.Image]
) -> None:
    with pytest.raises(ModelError, match=r"movie genre.*--model.*--force"):
        builtin.encode(pictures[:1], [Condition.parse("movie genre")])
    forced = DiorEncoder.load(EncoderChoice("dior", "tiny-lvlm", force=True))
    two = [Condition.parse("movie genre"), Condition.parse("fabric")]
    vectors = forced.encode(pictures[:1], two)
    assert not np.allclose(vectors[0, 0], vectors[0, 1], atol=1e-3)


def test_builtin_model_loads_without_our_code(builtin: DiorEncoder) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = builtin._source.location
    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert type(processor).__name__ == "LlavaProcessor"
    assert sum(p.numel() for p in model.parameters()) <= 12_000_000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: "no-such-model", "no model 'no-such-model'.*built-in"),
        (lambda folder: "./missing", "no such folder"),
        (lambda folder: str(folder), "config.json is missing"),
        (lambda folder: "someone/model", "not in the local cache"),
        (lambda folder: _another_kind(folder), "'bert', which does not answer questions"),
        (lambda folder: _pickled(folder), "no safetensors weights"),
    ],
)
def test_models_that_cannot_be_had(
    make: Callable[[Path], str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        DiorEncoder.load(EncoderChoice("dior", make(tmp_path)))


def _another_kind(folder: Path) -> str:
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return str(folder)


def _pickled(folder: Path) -> str:
    from support.tiny_models import save_qwen2_5_vl

    save_qwen2_5_vl(folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    return str(folder)


def test_unknown_prompt_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="describe"):
        DiorEncoder.load(EncoderChoice("dior", "tiny-lvlm", prompt="shout"))
