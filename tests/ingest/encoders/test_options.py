"""Layers, tokens, prompts, sizes and reference mode: each equal to a plain computation.

The reference is transformers alone: one picture and one prompt at a time, all hidden states.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.chosen_options import chosen, tail_of
from support.tiny_reference import CONDITIONS, Tiny, furthest, inputs_of

from indexes.errors import ModelError, UsageError
from ingest.conditions import Condition, prompt_template
from ingest.encoders.factory import make_encoder, remake_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice, EncoderOptions

CLOSE, FAR = 2e-5, 1e-3

#: Packed with and without axes, windows, cross-attention and deep pictures, and plain.
SOME = ["llava", "qwen2_5_vl", "qwen3_vl", "gemma3", "mllama", "paligemma", "qwen3_5"]

some = pytest.mark.parametrize("tiny", SOME, indirect=True)


def unit(states: list[torch.Tensor], rows: int) -> np.ndarray:
    vectors = torch.nn.functional.normalize(torch.stack(states).float(), dim=-1).numpy()
    return vectors.reshape(rows, len(CONDITIONS), -1)


def all_states(
    encoder: DiorEncoder, picture: Image.Image, condition: Condition, **more: Any
) -> Any:
    """The hidden states of a plain pass: a tuple of [1, length, dim]."""
    inputs = {**inputs_of(encoder, picture, condition), **more}
    with torch.inference_mode():
        return encoder._loaded.model(**inputs, output_hidden_states=True).hidden_states


# -- layers ------------------------------------------------------------------------------------


def check_layers(encoder: DiorEncoder, pictures: list[Image.Image]) -> None:
    plain = [all_states(encoder, p, c) for p in pictures for c in CONDITIONS]
    last = len(plain[0]) - 1
    for layer in [*range(last + 1), -1]:
        read = chosen(encoder, layer=layer)
        want = unit([states[layer][0, -1] for states in plain], len(pictures))
        assert furthest(read.encode(pictures, CONDITIONS), want) < CLOSE
        assert read.spec.settings["layer"] == (-1 if layer == last else layer)
    for layer in (last + 1, 99):
        with pytest.raises(UsageError, match=f"has {last} layers.*from 0 to {last}"):
            chosen(encoder, layer=layer)
    # The model is unchanged afterwards.
    assert furthest(encoder.encode(pictures[:1], CONDITIONS), want[:1]) < CLOSE


@some
def test_layer_is_that_of_transformers(tiny: Tiny, pictures: list[Image.Image]) -> None:
    check_layers(tiny.encoder, pictures[:2])


def test_layer_of_the_builtin_model(builtin: DiorEncoder, pictures: list[Image.Image]) -> None:
    check_layers(builtin, pictures[:2])


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_layers_nobody_reads_are_not_run(
    layer: int, qwen: DiorEncoder, pictures: list[Image.Image]
) -> None:
    decoder, run = qwen.lvlm.model.get_decoder(), []
    hooks = [
        part.register_forward_pre_hook(lambda _, given, n=n: run.append(n))
        for n, part in enumerate(decoder.layers)
    ]
    try:
        reading = chosen(qwen, layer=layer).embed(pictures[:1], CONDITIONS)
    finally:
        for hook in hooks:
            hook.remove()
    assert run == list(range(layer))
    assert not any(word for row in reading.words for word in row)
    assert not reading.word_probabilities.any()
    assert len(decoder.layers) == 4


# -- tokens ------------------------------------------------------------------------------------


def first_generated(encoder: DiorEncoder, picture: Image.Image, condition: Condition) -> Any:
    """All layers' states of the first generated token, with the cache."""
    model = encoder._loaded.model
    inputs = inputs_of(encoder, picture, condition)
    with torch.inference_mode():
        said = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=2,
            eos_token_id=-1,
            return_dict_in_generate=True,
            output_hidden_states=True,
            output_logits=True,
        )
    assert said.sequences[0, -2] == said.logits[0].argmax()
    return [layer[0, -1] for layer in said.hidden_states[1]]


@some
def test_first_generated_token(tiny: Tiny, pictures: list[Image.Image]) -> None:
    two = pictures[:2]
    plain = [first_generated(tiny.encoder, p, c) for p in two for c in CONDITIONS]
    read = chosen(tiny.encoder, token="first_generated")
    want = unit([states[-1] for states in plain], 2)
    reading = read.embed(two, CONDITIONS)
    assert furthest(reading.vectors, want) < CLOSE
    assert furthest(read.encode(two, CONDITIONS), want) < CLOSE
    assert furthest(reading.vectors, tiny.vectors[:2]) > FAR
    assert reading.words == tiny.encoder.embed(two, CONDITIONS).words
    inner = chosen(tiny.encoder, token="first_generated", layer=1)
    assert not inner.lvlm.packs
    assert furthest(inner.encode(two, CONDITIONS), unit([s[1] for s in plain], 2)) < CLOSE


@pytest.mark.parametrize("tiny", ["llava", "qwen2_5_vl"], indirect=True)
def test_first_generated_is_one_whole_pass_over_prompt_and_token(
    tiny: Tiny, pictures: list[Image.Image]
) -> None:
    """As above without ``generate`` and its cache: the token is appended, and all is run again."""
    model, states = tiny.encoder._loaded.model, []
    for condition in CONDITIONS:
        inputs = inputs_of(tiny.encoder, pictures[0], condition)
        with torch.inference_mode():
            said = model(**inputs).logits[:, -1:].argmax(-1)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], said], -1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if "mm_token_type_ids" in inputs:
                kinds = inputs["mm_token_type_ids"]
                inputs["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(said)], -1)
            states.append(model.model(**inputs).last_hidden_state[0, -1])
    read = chosen(tiny.encoder, token="first_generated")
    assert furthest(read.encode(pictures[:1], CONDITIONS), unit(states, 1)) < CLOSE


@some
def test_mean_over_the_conditions_own_tokens(tiny: Tiny, pictures: list[Image.Image]) -> None:
    two, encoder = pictures[:2], tiny.encoder
    plain = {-1: [], 1: []}  # type: dict[int, list[torch.Tensor]]
    for picture in two:
        for condition in CONDITIONS:
            ids = inputs_of(encoder, picture, condition)["input_ids"][0].tolist()
            states = all_states(encoder, picture, condition)
            tail = tail_of(encoder, ids, condition)
            assert 1 < tail < len(ids)
            for layer, averaged in plain.items():
                averaged.append(states[layer][0, -tail:].mean(0))
    for layer, averaged in plain.items():
        read, want = chosen(encoder, token="mean", layer=layer), unit(averaged, 2)
        reading = read.embed(two, CONDITIONS)
        assert furthest(reading.vectors, want) < CLOSE
        # The tail does not depend on the other conditions.
        assert furthest(read.encode(two, CONDITIONS[1:2])[:, 0], want[:, 1]) < CLOSE
        assert furthest(reading.vectors, tiny.vectors[:2]) > FAR
    said = chosen(encoder, token="mean").embed(two, CONDITIONS).words
    assert said == encoder.embed(two, CONDITIONS).words


@pytest.mark.parametrize("tiny", ["llava-text_first"], indirect=True)
def test_mean_needs_the_picture_before_the_question(
    tiny: Tiny, pictures: list[Image.Image]
) -> None:
    with pytest.raises(ModelError, match=r"picture after the question.*--token mean"):
        chosen(tiny.encoder, token="mean").encode(pictures[:1], CONDITIONS)


# -- prompts and sizes -------------------------------------------------------------------------


def test_free_prompt(qwen: DiorEncoder, pictures: list[Image.Image]) -> None:
    text = "the {condition} of this image"
    read = DiorEncoder(qwen._source, qwen._loaded, prompt=text)
    conditions = CONDITIONS[:3]
    want = [all_states(read, pictures[0], c)[-1][0, -1] for c in conditions]
    vectors = read.encode(pictures[:1], conditions)
    want_unit = torch.nn.functional.normalize(torch.stack(want), dim=-1).numpy()
    assert furthest(vectors[0], want_unit) < CLOSE
    assert furthest(vectors, qwen.encode(pictures[:1], conditions)) > FAR
    assert read.spec.settings["prompt"] == text
    with pytest.raises(UsageError, match=r"no form without a condition.*--prompt describe"):
        read.check(CONDITIONS)


def test_prompts_that_are_none() -> None:
    with pytest.raises(UsageError, match="2 times; write it exactly once"):
        prompt_template("{condition} or {condition}")
    with pytest.raises(UsageError, match=r"no prompt 'shout'.*describe.*\{condition\}"):
        prompt_template("shout")


def test_longest_side(builtin: DiorEncoder) -> None:
    drawn = np.random.default_rng(3).integers(0, 256, (400, 800, 3), dtype=np.uint8)
    whole = Image.fromarray(drawn)
    for side, size in ((700, (700, 350)), (64, (64, 32)), (4096, (800, 400))):
        # Pillow's thumbnails halve large pictures first; its plain resize does not.
        small = whole.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        unlimited = chosen(builtin, max_side=4096).encode([small], CONDITIONS)
        near = furthest(chosen(builtin, max_side=side).encode([whole], CONDITIONS), unlimited)
        assert near < 1e-6, (side, near)
    small, large = (chosen(builtin, max_side=s).encode([whole], CONDITIONS) for s in (32, 4096))
    assert furthest(small, large) > 0.05


# -- attention and devices ---------------------------------------------------------------------


@pytest.mark.parametrize("tiny", ["llava"], indirect=True)
def test_eager_attention_runs_plain(tiny: Tiny, pictures: list[Image.Image]) -> None:
    eager = DiorEncoder.load(
        EncoderChoice("dior", str(tiny.folder), options=EncoderOptions(attention="eager"))
    )
    assert not eager.lvlm.packs
    assert eager.lvlm.model.config._attn_implementation == "eager"
    assert furthest(eager.encode(pictures[:2], CONDITIONS), tiny.vectors[:2]) < CLOSE
    again = remake_encoder(eager.spec)
    assert again.spec == eager.spec != tiny.encoder.spec


@pytest.mark.parametrize("tiny", ["llava", "qwen2_5_vl"], indirect=True)
@pytest.mark.parametrize("device_map", ["cpu", "auto"])
def test_device_map(tiny: Tiny, device_map: str, pictures: list[Image.Image]) -> None:
    spread = DiorEncoder.load(EncoderChoice("dior", str(tiny.folder), device_map=device_map))
    assert spread.spec == tiny.encoder.spec
    assert spread.lvlm.packs
    for _ in range(2):
        assert furthest(spread.encode(pictures[:2], CONDITIONS), tiny.vectors[:2]) < CLOSE


@pytest.mark.parametrize("tiny", ["qwen2_5_vl"], indirect=True)
def test_a_model_that_accelerate_has_wrapped(tiny: Tiny, pictures: list[Image.Image]) -> None:
    """Weights that are offloaded and loaded for each layer, as with ``auto``."""
    from accelerate import cpu_offload

    loaded = DiorEncoder.load(EncoderChoice("dior", str(tiny.folder)))
    cpu_offload(loaded.lvlm.model, torch.device("cpu"))
    assert loaded.lvlm.device == torch.device("cpu")
    for _ in range(2):
        reading = loaded.embed(pictures[:2], CONDITIONS)
        assert furthest(reading.vectors, tiny.vectors[:2]) < CLOSE
    layer = chosen(loaded, layer=2).encode(pictures[:1], CONDITIONS)
    assert furthest(layer, chosen(tiny.encoder, layer=2).encode(pictures[:1], CONDITIONS)) < CLOSE


def test_devices_that_are_none() -> None:
    with pytest.raises(UsageError, match="--device-map auto exclude one another"):
        make_encoder(device="cpu", device_map="auto")
    with pytest.raises(UsageError, match=r"no --device-map 'everywhere'.*balanced"):
        make_encoder(device_map="everywhere")
    with pytest.raises(UsageError, match=r"no --device 'abacus'.*cpu"):
        make_encoder(device="abacus")


# -- the published code ------------------------------------------------------------------------


def published(encoder: DiorEncoder, picture: Image.Image, condition: Condition) -> Any:
    """The inputs of the published code, written out."""
    processor, model = encoder._loaded.processor, encoder._loaded.model
    question = encoder.template.text(condition)
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    chat = processor.apply_chat_template(turn, add_generation_prompt=True)
    inputs = dict(processor(text=[chat], images=[picture], return_tensors="pt"))
    inputs["position_ids"] = inputs["attention_mask"].cumsum(1) - 1
    assert inputs["position_ids"].ndim == 2
    with torch.inference_mode():
        return model(**inputs, output_hidden_states=True).hidden_states


@pytest.mark.parametrize(
    "tiny", ["qwen2_5_vl", "qwen3_vl", "llava", "idefics3", "mllama", "gemma3"], indirect=True
)
def test_published_vectors(tiny: Tiny, pictures: list[Image.Image], record_property: Any) -> None:
    read, two = chosen(tiny.encoder, compat="reference"), pictures[1:3]
    plain = [published(tiny.encoder, p, c) for p in two for c in CONDITIONS]
    reading = read.embed(two, CONDITIONS)
    assert furthest(reading.vectors, unit([s[-1][0, -1] for s in plain], 2)) < CLOSE
    deep = chosen(tiny.encoder, compat="reference", layer=2).encode(two, CONDITIONS)
    assert furthest(deep, unit([s[2][0, -1] for s in plain], 2)) < CLOSE
    assert not any(word for row in reading.words for word in row)
    away = furthest(reading.vectors, tiny.vectors[1:3])
    record_property("from_native", away)
    if tiny.name.startswith("qwen"):
        assert away > 0.05
    if tiny.name == "llava":
        assert away < CLOSE


@pytest.mark.parametrize("tiny", ["smolvlm"], indirect=True)
def test_published_vectors_need_the_tiles(tiny: Tiny, pictures: list[Image.Image]) -> None:
    with pytest.raises(ModelError, match=r"into tiles.*leave --compat out"):
        chosen(tiny.encoder, compat="reference").encode(pictures[:1], CONDITIONS)
