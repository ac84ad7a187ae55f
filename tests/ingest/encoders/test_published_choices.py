"""The choices of the published code: any layer, any token, answers; its formulas, written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.chosen_options import chosen
from support.tiny_reference import CONDITIONS, Tiny, furthest, inputs_of

from indexes.errors import UsageError
from ingest.conditions import Condition, prompt_template
from ingest.encoders.factory import make_encoder, remake_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.methods.generative import GenerativeEncoder
from ingest.encoders.options import EncoderOptions

CLOSE = 1e-5


def unit(rows: list[Any]) -> np.ndarray:
    vectors = np.array([np.asarray(row, dtype=np.float32) for row in rows])
    units: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return units


def formula(
    encoder: DiorEncoder, picture: Image.Image, condition: Condition, layer: int, token: int
) -> np.ndarray:
    """The published formula: positions from the attention mask, states of one layer and token.

    ``hidden_states[layer][0, token]`` of one forward pass over the chat template's text and the
    picture, through the processor as its files say.
    """
    model, processor = encoder._loaded.model, encoder._loaded.processor
    content = [{"type": "image"}, {"type": "text", "text": encoder.template.text(condition)}]
    turn = [{"role": "user", "content": content}]
    chat = processor.apply_chat_template(turn, add_generation_prompt=True)
    inputs = dict(processor(text=[chat], images=[picture], return_tensors="pt"))
    inputs["position_ids"] = inputs["attention_mask"].cumsum(-1) - 1
    with torch.inference_mode():
        states = model(**inputs, output_hidden_states=True).hidden_states
    state: np.ndarray = states[layer][0, token].float().numpy()
    return state


@pytest.mark.parametrize("tiny", ["qwen2_5_vl", "llava"], indirect=True)
@pytest.mark.parametrize(("layer", "token"), [(-1, -1), (-2, -1), (-4, -3), (2, 1), (-1, 0)])
def test_compat_is_the_published_formula(
    tiny: Tiny, layer: int, token: int, pictures: list[Image.Image]
) -> None:
    encoder = chosen(tiny.encoder, compat="reference", layer=layer, token=str(token))
    vectors = encoder.encode(pictures[1:3], CONDITIONS[:2])
    for row, picture in enumerate(pictures[1:3]):
        want = unit([formula(encoder, picture, c, layer, token) for c in CONDITIONS[:2]])
        assert furthest(vectors[row], want) < CLOSE


@pytest.mark.parametrize("tiny", ["llava", "qwen2_5_vl", "qwen3_5", "paligemma"], indirect=True)
@pytest.mark.parametrize(("layer", "token"), [(-2, -1), (-1, -3), (1, -2), (-1, 2)])
def test_any_layer_and_token(
    tiny: Tiny, layer: int, token: int, pictures: list[Image.Image]
) -> None:
    """Packed, continued and plain, against the model's own forward; the words stay."""
    encoder = chosen(tiny.encoder, layer=layer, token=token)  # type: ignore[arg-type]
    reading = encoder.embed(pictures[:1], CONDITIONS[:3])
    rows = []
    for condition in CONDITIONS[:3]:
        with torch.inference_mode():
            inputs = inputs_of(encoder, pictures[0], condition)
            states = encoder._loaded.model(**inputs, output_hidden_states=True).hidden_states
        rows.append(states[layer][0, token].float().numpy())
    assert furthest(reading.vectors[0], unit(rows)) < 2 * CLOSE
    if layer == -1:
        assert reading.words == tiny.encoder.embed(pictures[:1], CONDITIONS[:3]).words
    again = remake_encoder(encoder.spec)
    assert again.spec == encoder.spec


@pytest.mark.parametrize("tiny", ["llava"], indirect=True)
def test_layers_and_tokens_that_are_none(tiny: Tiny, pictures: list[Image.Image]) -> None:
    count = tiny.encoder.lvlm.model.config.get_text_config().num_hidden_layers
    assert chosen(tiny.encoder, layer=-count - 1).spec.settings["layer"] == 0
    with pytest.raises(UsageError, match=f"from -1 for the last to {-count - 1}"):
        chosen(tiny.encoder, layer=-count - 2)
    with pytest.raises(UsageError, match=r"--token is 5000, and the prompt has .* tokens"):
        chosen(tiny.encoder, token="5000").encode(pictures[:1], CONDITIONS[:1])
    with pytest.raises(UsageError, match=r"There is no --token 'all'.*number of a token"):
        EncoderOptions(token="all")
    with pytest.raises(UsageError, match="--compat reference reads one token"):
        EncoderOptions(token="mean", compat="reference")
    assert EncoderOptions(token="-1") == EncoderOptions()


@pytest.mark.parametrize("tiny", ["llava", "paligemma"], indirect=True)
def test_without_words(tiny: Tiny, pictures: list[Image.Image]) -> None:
    quiet = chosen(tiny.encoder, words=False)
    steps: list[int] = []
    hook = quiet.lvlm.model.get_output_embeddings().register_forward_hook(
        lambda *_: steps.append(1)
    )
    try:
        reading = quiet.embed(pictures[:1], CONDITIONS[:2])
    finally:
        hook.remove()
    assert furthest(reading.vectors, tiny.vectors[:1, :2]) < CLOSE
    assert reading.words == [["", ""]] and not reading.word_probabilities.any()
    assert len(steps) == (1 if quiet.lvlm.packs else 2)
    assert quiet.spec.settings["words"] is False
    assert "words" not in tiny.encoder.spec.settings
    assert remake_encoder(quiet.spec).spec == quiet.spec


# -- generative --------------------------------------------------------------------------------


def generated(encoder: GenerativeEncoder, picture: Image.Image, condition: Condition) -> str:
    """Prompt and answer of the model's own ``generate``, decoded together."""
    model, processor = encoder._loaded.model, encoder.processor
    content = [{"type": "image"}, {"type": "text", "text": encoder.template.text(condition)}]
    chat = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    inputs = dict(processor(text=[chat], images=[picture], return_tensors="pt"))
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == model.config.image_token_id).int()
    end = processor.tokenizer.eos_token_id
    with torch.inference_mode():
        whole = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=encoder.answer_tokens,
            eos_token_id=end,
            pad_token_id=end,
        )[0]
    return str(processor.tokenizer.decode(whole, skip_special_tokens=True))


@pytest.mark.parametrize("tokens", [None, 3])
def test_generative_compat_embeds_prompt_and_answer(
    qwen: DiorEncoder, tokens: int | None, pictures: list[Image.Image]
) -> None:
    options = EncoderOptions(compat="reference", answer_tokens=tokens)
    encoder = GenerativeEncoder(qwen._source, qwen._loaded, options=options)
    plain = GenerativeEncoder(
        qwen._source, qwen._loaded, options=EncoderOptions(answer_tokens=tokens)
    )
    reading = encoder.embed(pictures[:2], CONDITIONS[:2])
    for row, picture in enumerate(pictures[:2]):
        texts = [generated(encoder, picture, condition) for condition in CONDITIONS[:2]]
        assert all("this image in one word" in text for text in texts)
        want = encoder._sentences.encode_texts(texts)
        assert np.allclose(reading.vectors[row], want, atol=CLOSE)
    assert reading.words == plain.embed(pictures[:2], CONDITIONS[:2]).words
    assert encoder.spec.settings["answer_tokens"] == (tokens or 16)
    assert remake_encoder(encoder.spec).spec == encoder.spec


def test_drawn_answers_are_the_same_alone_and_in_a_batch(
    qwen: DiorEncoder, pictures: list[Image.Image]
) -> None:
    options = EncoderOptions(temperature=1.5, answer_tokens=8)
    encoder = GenerativeEncoder(qwen._source, qwen._loaded, options=options)
    words = encoder.embed(pictures[:3], CONDITIONS[:2]).words
    state = torch.get_rng_state()
    assert encoder.embed(pictures[2:3], CONDITIONS[1:2]).words == [[words[2][1]]]
    assert torch.equal(torch.get_rng_state(), state)
    greedy = EncoderOptions(answer_tokens=8)
    plain = GenerativeEncoder(qwen._source, qwen._loaded, options=greedy)
    assert plain.embed(pictures[:3], CONDITIONS[:2]).words != words
    for wrong in ({"temperature": -1.0}, {"answer_tokens": 0}, {"temperature": True}):
        with pytest.raises(UsageError, match=r"--(temperature|answer-tokens) is"):
            EncoderOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"--temperature 1\.0 does not apply to the method dior"):
        make_encoder(options=EncoderOptions(temperature=1.0))


# -- the prompt "depict" -----------------------------------------------------------------------


def test_depict_has_its_comma_and_old_galleries_keep_their_text(qwen_folder: Path) -> None:
    text = prompt_template("depict").text(Condition.parse("color"))
    assert text == 'Depict this image in one word, considering color: "'
    new = make_encoder(model=str(qwen_folder), prompt="depict")
    assert new.spec.settings["template"][0].count(",") == 1
    old = {
        **new.spec.settings,
        "template": [s.replace(",", "") for s in new.spec.settings["template"]],
    }
    from dataclasses import replace

    before = replace(new.spec, settings=old)
    kept = remake_encoder(before)
    assert kept.spec == before
    assert isinstance(kept, DiorEncoder)
    assert kept.template.text(Condition.parse("color")) == text.replace(",", "")
