"""Texts in place of the picture: the same contract as for pictures, family by family.

The reference is transformers alone: the tokenizer's output into the model's own forward, one text
and one condition at a time, no picture.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image
from support.chosen_options import chosen, tail_of
from support.commands import run
from support.stand_in import StandIn
from support.tiny_families import BUILDERS
from support.tiny_reference import CONDITIONS, Tiny, furthest

import cies
from indexes.errors import ModelError, UsageError
from ingest.conditions import Condition
from ingest.encoders.base import MAX_TEXT_CHARACTERS
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice
from ingest.encoders.vlm.lvlm import MAX_WORD_TOKENS

CLOSE, FAR = 2e-5, 1e-3

TEXTS = ["red circle", "the fabric of this object\nin blue, a square", "green"]

every = pytest.mark.parametrize("tiny", list(BUILDERS), indirect=True)


def inputs_of(encoder: DiorEncoder, text: str, condition: Condition) -> dict[str, Any]:
    """The tokens of a text above the question."""
    question = encoder.template.text(condition)
    content = [{"type": "text", "text": f"{text}\n{question}"}]
    processor = encoder.processor
    chat = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    bos = processor.tokenizer.bos_token
    special = not (bos and chat.startswith(bos))
    ids = processor.tokenizer([chat], return_tensors="pt", add_special_tokens=special)["input_ids"]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if encoder.lvlm.model.config.model_type == "paligemma":
        inputs["token_type_ids"] = torch.zeros_like(ids)
    return inputs


def states_of(encoder: DiorEncoder, text: str, condition: Condition) -> torch.Tensor:
    """Last hidden states of a plain pass: [length, dim]."""
    with torch.inference_mode():
        output = encoder.lvlm.model.model(**inputs_of(encoder, text, condition))
    return output.last_hidden_state[0].float()


def reference(encoder: DiorEncoder) -> np.ndarray:
    rows = [[states_of(encoder, text, c)[-1].numpy() for c in CONDITIONS] for text in TEXTS]
    return np.array(rows) / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture
def reading_builtin(builtin: DiorEncoder, tmp_path: Path) -> DiorEncoder:
    """The built-in model without the note that it was trained on pictures only."""
    folder = tmp_path / "model"
    shutil.copytree(builtin._source.location, folder)
    (folder / "cies.json").unlink()
    return DiorEncoder.load(EncoderChoice("dior", str(folder)))


def check_contract(encoder: DiorEncoder, picture: Image.Image) -> None:
    want = reference(encoder)
    together = encoder.encode_text(TEXTS, CONDITIONS)
    assert together.dtype == np.float32 and together.shape == want.shape
    assert furthest(together, want) < CLOSE
    assert np.allclose(np.linalg.norm(together, axis=-1), 1, atol=1e-5)
    # A picture's state in the model does not affect a text.
    pictured = encoder.encode([picture], CONDITIONS)
    turned = encoder.encode_text(TEXTS[::-1], CONDITIONS[::-1])[::-1, ::-1]
    assert furthest(turned, want) < CLOSE
    for number, text in enumerate(TEXTS):
        alone = encoder.encode_text([text], CONDITIONS[number : number + 1])
        assert furthest(alone[0, 0], want[number, number]) < CLOSE
    # The vectors depend on text, condition and picture, so the test above is meaningful.
    assert furthest(want[:1], want[1:]) > FAR
    assert furthest(want[:, :1], want[:, 1:]) > FAR
    assert furthest(pictured, want[:1]) > FAR


@every
def test_equals_the_reference(tiny: Tiny, pictures: list[Image.Image]) -> None:
    check_contract(tiny.encoder, pictures[0])


def test_equals_the_reference_of_the_builtin_model(
    reading_builtin: DiorEncoder, pictures: list[Image.Image]
) -> None:
    assert reading_builtin.lvlm.packs
    check_contract(reading_builtin, pictures[0])


@every
def test_packed_or_plain_the_word_is_what_generate_says(
    tiny: Tiny, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny.encoder
    packed = encoder.embed_text(TEXTS, CONDITIONS)
    monkeypatch.setattr(encoder.lvlm, "packs", False)
    encoder.encode(pictures[:1], CONDITIONS[:1])
    plain = encoder.embed_text(TEXTS, CONDITIONS)
    assert packed.words == plain.words
    assert furthest(packed.word_probabilities, plain.word_probabilities) < 1e-4
    assert furthest(packed.vectors, plain.vectors) < CLOSE
    greedy = tf.GenerationConfig(
        do_sample=False, min_new_tokens=MAX_WORD_TOKENS, max_new_tokens=MAX_WORD_TOKENS
    )
    for column, condition in enumerate(CONDITIONS[:2]):
        inputs = inputs_of(encoder, TEXTS[0], condition)
        said = encoder.lvlm.model.generate(**inputs, generation_config=greedy)
        tokens = said[0, inputs["input_ids"].shape[1] :].tolist()
        assert encoder.lvlm.first_word(tokens, [1.0] * len(tokens))[0] == packed.words[0][column]


@pytest.mark.parametrize("tiny", ["llava", "qwen2_5_vl", "gemma3", "paligemma"], indirect=True)
def test_mean_over_the_conditions_own_tokens(tiny: Tiny) -> None:
    # A text that repeats the question's words must not be mistaken for the question.
    texts = ["color", "describe this image"]
    rows = []
    for text in texts:
        for condition in CONDITIONS:
            ids = inputs_of(tiny.encoder, text, condition)["input_ids"][0].tolist()
            states = states_of(tiny.encoder, text, condition)
            rows.append(states[-tail_of(tiny.encoder, ids, condition) :].mean(0).numpy())
    want = np.array(rows).reshape(len(texts), len(CONDITIONS), -1)
    want /= np.linalg.norm(want, axis=-1, keepdims=True)
    assert furthest(chosen(tiny.encoder, token="mean").encode_text(texts, CONDITIONS), want) < CLOSE


def test_one_pass_for_all_conditions(qwen: DiorEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[tuple[int, ...]] = []
    hook = qwen.lvlm.model.model.register_forward_pre_hook(
        lambda _, given, named: passes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    try:
        qwen.encode_text(TEXTS[:1], CONDITIONS)
    finally:
        hook.remove()
    prompts = [inputs_of(qwen, TEXTS[0], c)["input_ids"].shape[1] for c in CONDITIONS]
    assert len(passes) == 1
    assert passes[0][1] < sum(prompts)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The text is empty"),
        (" \n ", "The text is empty"),
        ("a" * (MAX_TEXT_CHARACTERS + 1), r"2001 characters, 2000 are allowed"),
        ("red\0circle", "control characters"),
        ("red \udcff", "control characters"),
        ("red <|image_pad|> circle", r"'<\|image_pad\|>', which is a special token of .*"),
        ("<|im_end|>", r"is a special token of"),
    ],
)
def test_texts_that_cannot_be_asked(text: str, message: str, qwen: DiorEncoder) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        qwen.encode_text(["red", text], CONDITIONS)
    assert "\n" not in str(refused.value)


def test_a_condition_that_names_a_picture(qwen: DiorEncoder, pictures: list[Image.Image]) -> None:
    condition = Condition.parse("color <|image_pad|>")
    with pytest.raises(UsageError, match=r"The condition holds '<\|image_pad\|>'"):
        qwen.check([condition])
    with pytest.raises(UsageError, match=r"The condition holds '<\|image_pad\|>'"):
        qwen.encode(pictures[:1], [condition])


def test_a_word_without_a_token(qwen: DiorEncoder) -> None:
    with pytest.raises(ModelError, match="has no token for 'красный'"):
        qwen.encode_text(["a красный circle"], CONDITIONS)


def test_a_text_longer_than_the_model_reads(reading_builtin: DiorEncoder) -> None:
    reading_builtin.encode_text(["red " * 400], CONDITIONS[:1])
    with pytest.raises(UsageError, match=r"too long .* comes to 5\d\d tokens, and 512 can be read"):
        reading_builtin.encode_text(["red " * 499], CONDITIONS[:1])


def test_a_model_trained_on_pictures_only(builtin: DiorEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "pictures-alone"
    shutil.copytree(builtin._source.location, folder)
    about = json.loads((folder / "cies.json").read_text())
    (folder / "cies.json").write_text(json.dumps({**about, "texts": False}))
    for force in (False, True):
        encoder = DiorEncoder.load(EncoderChoice("dior", str(folder), force=force))
        with pytest.raises(ModelError, match=r"trained on pictures only.*--model Qwen"):
            encoder.encode_text(["red circle"], CONDITIONS[:1])


def test_a_method_without_a_text_side() -> None:
    with pytest.raises(UsageError, match="method dior embeds pictures only"):
        StandIn().encode_text(["red"], CONDITIONS)


# -- search ------------------------------------------------------------------------------------


@pytest.fixture
def qwen_gallery(qwen_folder: Path, world: Path, tmp_path: Path) -> Path:
    """Thirty pictures under two conditions by the tiny Qwen2.5-VL."""
    place = tmp_path / "gallery"
    sources = sorted((world / "images").iterdir())[:30]
    cies.ingest(cies.create(place), sources, ["color", "shape"], model=str(qwen_folder))
    return place


@pytest.mark.parametrize("geometry", ["raw", "centred", "standardised"])
def test_search_by_text_is_plain_arithmetic(
    geometry: str, qwen_gallery: Path, qwen: DiorEncoder
) -> None:
    engine = cies.open(qwen_gallery, geometry=geometry)
    hits = engine.search_text("red circle", "color", k=30)
    raw = cies.open(qwen_gallery, geometry="raw").vectors("color").vectors
    query = qwen.encode_text(["red circle"], CONDITIONS[:1])[0, 0]
    if geometry != "raw":
        spread = raw.std(0) if geometry == "standardised" else 1
        raw, query = (raw - raw.mean(0)) / spread, (query - raw.mean(0)) / spread
    lengths = np.linalg.norm(raw, axis=1) * np.linalg.norm(query)
    want = np.sort(raw @ query / lengths)[::-1]
    assert np.allclose([hit.score for hit in hits], want, atol=1e-3)
    about = hits.to_json()["query"]
    assert (about["text"], about["image"], about["key"]) == ("red circle", "", "")
    assert about["word"] == qwen.embed_text(["red circle"], CONDITIONS[:1]).words[0][0]
    with pytest.raises(UsageError, match="-k must be at least 1"):
        engine.search_text("red", "color", k=0)


def test_search_by_text_on_the_command_line(qwen_gallery: Path, tmp_path: Path) -> None:
    page = tmp_path / "sheet.html"
    asked = ("search", "--text", 'red "circle"', "-c", "shape", "-g", qwen_gallery, "-k", 3)
    done = run(*asked, "--json", "--html", page)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["query"]["text"] == 'red "circle"'
    want = cies.open(qwen_gallery).search_text('red "circle"', "shape", k=3)
    assert [hit["key"] for hit in document["hits"]] == [hit.key for hit in want]
    assert "Query: red &#34;circle&#34;" in page.read_text()
