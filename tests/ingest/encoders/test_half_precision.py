"""bf16 and fp16: what ``from_pretrained`` leaves in another format stays in it.

The reference is transformers alone: its own model at the same precision, its own forward, one
picture and one condition at a time.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image
from support.tiny_families import BUILDERS
from support.tiny_parts import chat, plain_tokenizer, save, text, vision
from support.tiny_reference import CONDITIONS, Tiny, inputs_of

from ingest.conditions import Condition
from ingest.encoders.base import EncoderSpec
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.factory import make_encoder, remake_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice

#: How much further from fp32 than transformers' own bf16 vectors may end. Rounding falls
#: differently in a packed pass, so the two are equal up to chance only.
CHANCE = 1.3


def own_model(folder: Path, dtype: str) -> Any:
    """The model as transformers loads it."""
    return tf.AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, dtype))


def own_vectors(
    model: Any,
    encoder: DiorEncoder,
    pictures: list[Image.Image],
    conditions: list[Condition] = CONDITIONS,
) -> np.ndarray:
    """Unit vectors [images, conditions, dim] by transformers' forward of a model."""
    rows = []
    with torch.inference_mode():
        for picture in pictures:
            for condition in conditions:
                inputs = {
                    name: value.to(model.dtype) if value.is_floating_point() else value
                    for name, value in inputs_of(encoder, picture, condition).items()
                }
                rows.append(model.model(**inputs).last_hidden_state[0, -1].float().numpy())
    vectors = np.array(rows).reshape(len(pictures), len(conditions), -1)
    units: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return units


def mean_distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other, axis=-1).mean())


#: All families; a few of them in each run, the others by `make soak`.
_FEW = ("llava", "qwen2_5_vl", "qwen3_vl", "gemma3")
FAMILIES = [
    pytest.param(name, marks=[] if name in _FEW else [pytest.mark.soak]) for name in BUILDERS
]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("tiny", FAMILIES, indirect=True)
def test_numbers_are_as_from_pretrained_leaves_them(tiny: Tiny, dtype: str) -> None:
    encoder = DiorEncoder.load(EncoderChoice("dior", str(tiny.folder), dtype=dtype))
    loaded, own = encoder.lvlm.model, own_model(tiny.folder, dtype)
    for ours, theirs in (
        (dict(loaded.named_buffers()), dict(own.named_buffers())),
        (dict(loaded.named_parameters()), dict(own.named_parameters())),
    ):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name].dtype == value.dtype, name
            assert torch.equal(ours[name], value), name
    assert encoder.spec.settings["buffers"] == "as loaded"


@pytest.mark.parametrize("tiny", FAMILIES, indirect=True)
def test_bf16_is_no_further_from_fp32_than_transformers(
    tiny: Tiny, pictures: list[Image.Image]
) -> None:
    encoder = DiorEncoder.load(EncoderChoice("dior", str(tiny.folder), dtype="bfloat16"))
    ours = mean_distance(encoder.encode(pictures[:3], CONDITIONS), tiny.vectors[:3])
    half = own_vectors(own_model(tiny.folder, "bfloat16"), encoder, pictures[:3])
    assert ours < CHANCE * mean_distance(half, tiny.vectors[:3])


# -- with as many tokens as a photograph has ----------------------------------------------------


def large_llava(folder: Path) -> Path:
    """LLaVA with 484 tokens for a picture."""
    tokenizer = plain_tokenizer("<image>", template=chat("<image>"))
    config = tf.LlavaConfig(
        text_config=text(tokenizer, "llama", hidden_size=96, intermediate_size=192),
        vision_config=vision("siglip_vision_model", image_size=308),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    processor = tf.LlavaProcessor(
        tf.SiglipImageProcessorPil(size={"height": 308, "width": 308}),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )
    return save(folder, tf.LlavaForConditionalGeneration(config), tokenizer, processor)


def noise() -> Image.Image:
    """A picture whose patches all differ, so that attention is sharp."""
    draw = np.random.default_rng(0)
    return Image.fromarray(draw.integers(0, 255, (40, 40, 3), dtype=np.uint8)).resize((200, 150))


def test_bf16_with_the_tokens_of_a_photograph(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder, some, asked = large_llava(tmp_path / "model"), [noise()], CONDITIONS[:2]
    exact = DiorEncoder.load(EncoderChoice("dior", str(folder)))
    assert len(inputs_of(exact, some[0], asked[0])["input_ids"][0]) > 480
    known = own_vectors(own_model(folder, "float32"), exact, some, asked)
    assert mean_distance(exact.encode(some, asked), known) < 1e-4
    encoder = DiorEncoder.load(EncoderChoice("dior", str(folder), dtype="bfloat16"))
    ours = mean_distance(encoder.encode(some, asked), known)
    own = mean_distance(own_vectors(own_model(folder, "bfloat16"), encoder, some, asked), known)
    assert ours < CHANCE * own
    # The control: a model that was converted as a whole, as earlier versions did.
    earlier = remake_encoder(without_the_setting(encoder.spec))
    assert mean_distance(earlier.encode(some, asked), known) > 2 * own


# -- galleries of earlier versions --------------------------------------------------------------


def without_the_setting(spec: EncoderSpec) -> EncoderSpec:
    """The specification as a version stored it that rounded everything."""
    settings = {name: value for name, value in spec.settings.items() if name != "buffers"}
    return replace(spec, settings=settings)


def test_earlier_galleries_get_the_vectors_they_have(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = large_llava(tmp_path / "model")
    encoder = make_encoder("dior", str(folder), dtype="bfloat16")
    stored = without_the_setting(encoder.spec)
    assert stored.rounds_everything and not encoder.spec.rounds_everything
    earlier = remake_encoder(stored)
    assert earlier.spec == stored != encoder.spec
    # The note names the reason and the way out.
    assert "rounded the positions" in stored.outdated and "ingest" in stored.outdated
    assert encoder.spec.outdated == "" and make_encoder("dior").spec.outdated == ""
    whole = own_model(folder, "bfloat16").to(torch.bfloat16)
    assert isinstance(earlier, DiorEncoder)
    for name, value in dict(earlier.lvlm.model.named_buffers()).items():
        assert torch.equal(value, dict(whole.named_buffers())[name]), name
    now, before = (each.encode([noise()], CONDITIONS) for each in (encoder, earlier))
    assert mean_distance(now, before) > 1e-2
    # A new gallery's table is another one, so vectors of the two are never in one table.
    assert stored.made_by(CONDITIONS[0]) != encoder.spec.made_by(CONDITIONS[0])


def test_float32_and_clip_stay_as_they_were() -> None:
    """Nothing of theirs was rounded, so galleries filled by earlier versions still match."""
    assert "buffers" not in make_encoder("dior", "tiny-lvlm").spec.settings
    half = make_encoder("clip", "tiny-clip", dtype="bfloat16")
    assert set(half.spec.settings) == {"max_side", "dtype"}
    assert remake_encoder(half.spec).spec == half.spec


def test_dual_encoders_keep_what_is_no_weight() -> None:
    encoder = DualEncoder.load("tiny-clip", "float16")
    own = tf.AutoModel.from_pretrained(encoder.source.location, dtype=torch.float16)
    theirs = {**dict(own.named_parameters()), **dict(own.named_buffers())}
    model = encoder.towers.model
    ours = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert {name: value.dtype for name, value in ours.items()} == {
        name: value.dtype for name, value in theirs.items()
    }
