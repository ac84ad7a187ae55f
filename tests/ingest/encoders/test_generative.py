"""Generative: answers against the model's own generate, never the prompt; sentence encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_duals import save_siglip
from support.tiny_models import make_tokenizer

from indexes.errors import ModelError
from indexes.vectors import unit
from ingest.conditions import Condition
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.dual.sentences import load_sentences
from ingest.encoders.factory import make_encoder, remake_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.methods.generative import GenerativeEncoder
from ingest.encoders.options import EncoderOptions

CONDITIONS = [Condition.parse(name) for name in ("color", "shape", "unconditional")]


@pytest.fixture(scope="module")
def generative(builtin: DiorEncoder) -> GenerativeEncoder:
    return GenerativeEncoder(builtin._source, builtin._loaded)


def answers_by_generate(encoder: DiorEncoder, image: Image.Image) -> list[str]:
    """The model's own greedy answer to each prompt, decoded without the prompt."""
    model, processor = encoder._loaded.model, encoder.processor
    stop = processor.tokenizer.eos_token_id
    answers = []
    for condition in CONDITIONS:
        content = [{"type": "image"}, {"type": "text", "text": encoder.template.text(condition)}]
        chat = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        bos = processor.tokenizer.bos_token
        inputs = processor(
            text=[chat],
            images=[image],
            return_tensors="pt",
            add_special_tokens=not (bos and chat.startswith(bos)),
        )
        if model.config.model_type == "qwen2_5_vl":  # or it counts positions along one axis
            marks = inputs["input_ids"] == model.config.image_token_id
            inputs = {**inputs, "mm_token_type_ids": marks.int()}
        with torch.inference_mode():
            whole = model.generate(
                **inputs, max_new_tokens=16, do_sample=False, eos_token_id=stop, pad_token_id=stop
            )
        said = whole[0, inputs["input_ids"].shape[1] :]
        text = processor.tokenizer.decode(said, skip_special_tokens=True)
        answers.append(" ".join(text.split()).strip(" .\"'"))
    return answers


def test_answers_are_what_follows_the_prompt(
    generative: GenerativeEncoder, pictures: list[Image.Image]
) -> None:
    reading = generative.embed(pictures, CONDITIONS)
    wanted = [answers_by_generate(generative, picture) for picture in pictures]
    assert reading.words == wanted
    clip = DualEncoder.load("tiny-clip")
    for k in range(len(CONDITIONS)):
        texts = clip.encode_texts([row[k] for row in wanted])
        assert np.allclose(reading.vectors[:, k], texts, atol=1e-5)
    # Words or not, batched or alone, the vectors are the same.
    assert np.array_equal(generative.encode(pictures, CONDITIONS), reading.vectors)
    alone = generative.encode(pictures[1:2], CONDITIONS[:1])
    assert np.allclose(alone[0, 0], reading.vectors[1, 0], atol=1e-5)
    assert (reading.word_probabilities > 0).all() and (reading.word_probabilities <= 1).all()
    # A text is described as a picture is.
    assert generative.embed_text(["red heart"], CONDITIONS[:2]).words == [["red", "heart"]]


def test_long_answers_of_an_untrained_model(qwen: DiorEncoder, pictures: list[Image.Image]) -> None:
    encoder = GenerativeEncoder(qwen._source, qwen._loaded)
    reading = encoder.embed(pictures[:2], CONDITIONS)
    wanted = [answers_by_generate(encoder, picture) for picture in pictures[:2]]
    assert reading.words == wanted
    assert max(len(answer.split()) for row in wanted for answer in row) > 3


def test_a_word_of_the_prompt_is_never_embedded(
    builtin: DiorEncoder, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = GenerativeEncoder(builtin._source, builtin._loaded)
    embedded: list[str] = []
    encode = encoder._sentences.encode_texts

    def heard(texts: Any) -> Any:
        embedded.extend(texts)
        return encode(texts)

    monkeypatch.setattr(encoder._sentences, "encode_texts", heard)
    names = ("color", "shape", "background", "size", "count", "style")
    conditions = [Condition.parse(name) for name in (*names, "unconditional")]
    encoder.embed(pictures, conditions)
    encoder.embed_text(["small striped fish"], conditions[:-1])
    prompt = {
        word.strip(':".,').lower()
        for condition in conditions
        for word in encoder.template.text(condition).split()
    }
    assert {"describe", "image", "color", "regarding"} <= prompt and embedded
    assert "one" in prompt  # which is a count, and may be said
    assert not {word.lower() for answer in embedded for word in answer.split()} & (prompt - {"one"})
    # Control: the whole output of generate contains the prompt.
    writer = encoder._writer(conditions[:1])
    ids = writer.prepare(pictures[0]).prompts[0]
    assert "describe" in encoder.processor.tokenizer.decode(ids).lower()


def test_conditions_share_the_work_on_a_picture(
    builtin: DiorEncoder, pictures: list[Image.Image]
) -> None:
    encoder = GenerativeEncoder(builtin._source, builtin._loaded)
    looked: list[int] = []
    vision = encoder._loaded.model.model.vision_tower
    ear = vision.register_forward_hook(lambda *_: looked.append(1))
    try:
        encoder.embed(pictures[:1], CONDITIONS)
    finally:
        ear.remove()
    assert len(looked) == 1


def save_sentences(
    folder: Path, pooling: dict[str, Any], dense: bool = False, below: str = ""
) -> tuple[Any, Any]:
    """A tiny BERT as sentence-transformers writes one; returns it and its tokenizer."""
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    place = folder / below
    place.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(["<unk>", "<pad>"], "", pad_token="<pad>", model_max_length=12)
    torch.manual_seed(1)
    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2}
    model = BertModel(
        BertConfig(vocab_size=len(tokenizer), num_attention_heads=4, initializer_range=0.3, **sizes)
    ).eval()
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    (place / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 8, "do_lower_case": True})
    )
    parts = [("Transformer", below), ("Pooling", "1_Pooling")]
    if dense:
        parts.append(("Dense", "2_Dense"))
        (folder / "2_Dense").mkdir()
        torch.manual_seed(2)
        save_file({"linear.weight": torch.randn(10, 24)}, folder / "2_Dense/model.safetensors")
        (folder / "2_Dense/config.json").write_text(
            json.dumps(
                {
                    "in_features": 24,
                    "out_features": 10,
                    "bias": False,
                    "activation_function": "torch.nn.modules.activation.Tanh",
                }
            )
        )
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(parts)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return model, tokenizer


@pytest.mark.parametrize(
    ("pooling", "dense", "below"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, True, ""),
        ({"pooling_mode_cls_token": True}, False, "0_Transformer"),
        ({"pooling_mode_lasttoken": True}, False, ""),
        ({"pooling_mode": "max"}, False, ""),
    ],
)
def test_sentence_models_are_what_their_files_say(
    pooling: dict[str, Any], dense: bool, below: str, tmp_path: Path
) -> None:
    model, tokenizer = save_sentences(tmp_path / "sentences", pooling, dense, below)
    texts = ["red circle", "X", "the shape of the object is a green square regarding place"]
    wanted = []
    for text in texts:  # one at a time, so that nothing is padded
        ids = tokenizer(text.lower())["input_ids"][:8]
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        vector = {
            "pooling_mode_mean_tokens": states.mean(0),
            "pooling_mode_cls_token": states[0],
            "pooling_mode_lasttoken": states[-1],
            "pooling_mode": states.max(0).values,
        }[next(iter(pooling))]
        if dense:
            torch.manual_seed(2)
            vector = torch.tanh(torch.randn(10, 24) @ vector)
        wanted.append(vector.numpy())
    found = load_sentences(str(tmp_path / "sentences"))
    assert np.allclose(found.encode_texts(texts), unit(np.stack(wanted)), atol=1e-5)
    assert found.dimension == len(wanted[0])


def test_any_sentence_encoder_may_be_named(
    tmp_path: Path, pictures: list[Image.Image], generative: GenerativeEncoder
) -> None:
    save_sentences(tmp_path / "sentences", {"pooling_mode_mean_tokens": True}, dense=True)
    options = EncoderOptions(sentences=str(tmp_path / "sentences"), max_side=96)
    encoder = make_encoder("generative", options=options)
    reading = encoder.embed(pictures[:2], CONDITIONS[:1])
    assert reading.vectors.shape == (2, 1, 10) and encoder.dimension == 10
    again = remake_encoder(encoder.spec)
    assert again.spec == encoder.spec
    assert np.array_equal(again.encode(pictures[:2], CONDITIONS[:1]), reading.vectors)
    # The revision depends on the layers in all subfolders.
    revision = encoder.spec.settings["sentences_revision"]
    weights = tmp_path / "sentences/2_Dense/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert load_sentences(options.sentences).revision != revision
    # The text tower of a dual encoder can be used too.
    save_siglip(tmp_path / "siglip")
    assert load_sentences(str(tmp_path / "siglip")).dimension == 32
    assert generative.spec.settings["sentences"] == "tiny-clip"


def test_sentence_encoders_that_are_not_known(tmp_path: Path) -> None:
    folder = tmp_path / "sentences"
    save_sentences(folder, {"pooling_mode_weightedmean_tokens": True})
    with pytest.raises(ModelError, match="pools by weightedmean, and only cls, mean"):
        load_sentences(str(folder))
    module = {"path": "", "type": "sentence_transformers.models.CLIPModel"}
    (folder / "modules.json").write_text(json.dumps([module]))
    with pytest.raises(ModelError, match="is made of CLIPModel, and only Transformer"):
        load_sentences(str(folder))
    with pytest.raises(ModelError, match="does not embed pictures and texts in one"):
        make_encoder("generative", options=EncoderOptions(sentences="tiny-lvlm"))


def test_sentence_encoders_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    commit = "a" * 40
    for name in ("sentences", "siglip"):
        kept = cache / f"models--some--{name}"
        (kept / "refs").mkdir(parents=True)
        (kept / "refs/main").write_text(commit)
        if name == "siglip":
            save_siglip(kept / "snapshots" / commit)
        else:
            save_sentences(
                kept / "snapshots" / commit, {"pooling_mode_mean_tokens": True}, True, "0_T"
            )
    found = load_sentences("some/sentences")
    local = load_sentences(str(cache / "models--some--sentences/snapshots" / commit))
    assert np.array_equal(found.encode_texts(["red"]), local.encode_texts(["red"]))
    assert (found.source.name, found.revision) == ("some/sentences", commit)
    # A dual encoder of the hub that may or may not have a modules.json.
    assert load_sentences("some/siglip").revision == commit
    encoder = make_encoder("generative", options=EncoderOptions(sentences="some/sentences"))
    assert encoder.spec.settings["sentences_revision"] == commit
    assert remake_encoder(encoder.spec).spec == encoder.spec
    with pytest.raises(ModelError, match="some/none is not in the local cache"):
        load_sentences("some/none")
