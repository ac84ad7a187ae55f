"""Embedders: their prompts are the publishers', and their vectors those of the plain model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import published
from support.published_embedders import IMAGE, PUBLISHED, WORDS, PublishedPrompt
from support.tiny_embedders import build_embedder
from typer.testing import CliRunner

import cies
from cies.cli.app import app
from indexes.errors import ModelError, UsageError
from ingest.conditions import Condition
from ingest.encoders.embedders.presets import embedder_presets, preset_of
from ingest.encoders.factory import make_encoder, remake_encoder
from ingest.encoders.methods.embedder import EmbedderEncoder
from ingest.encoders.options import EncoderOptions

#: Preset to the type of its tiny model.
TYPES = {name: preset.types[0] for name, preset in embedder_presets().items()}
NONE, COLOR, MOOD = map(Condition.parse, ("unconditional", "color", "mood of it"))

_LOADED: dict[str, EmbedderEncoder] = {}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("embedders")
    yield {kind: build_embedder(kind, root / kind) for kind in sorted(set(TYPES.values()))}
    _LOADED.clear()


@pytest.fixture
def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(5)
    sizes = [(90, 60), (64, 64), (90, 60)]
    return [Image.fromarray(draw.integers(0, 256, (h, w, 3), np.uint8)) for w, h in sizes]


def loaded(preset: str, folders: dict[str, Path]) -> EmbedderEncoder:
    """The embedder of a preset over the tiny model of its type."""
    kind = TYPES[preset]
    if kind not in _LOADED:
        encoder = make_encoder("embedder", str(folders[kind]), prompt=preset)
        assert isinstance(encoder, EmbedderEncoder)
        _LOADED[kind] = encoder
    if preset not in _LOADED:  # over the same model
        first = _LOADED[kind]
        _LOADED[preset] = EmbedderEncoder(first._source, first._loaded, preset)
    return _LOADED[preset]


def expected_ids(encoder: EmbedderEncoder, published: PublishedPrompt, tokens: int) -> list[int]:
    """The publisher's tokens: special ones, and one for each byte; ``tokens`` for the picture."""
    tokenizer = encoder.processor.tokenizer
    image = encoder.lvlm.model.config.image_token_id
    special = {token.content for token in tokenizer.added_tokens_decoder.values()}
    ids: list[int] = []
    for piece in published.pieces:
        if piece is IMAGE:
            ids += [image] * tokens
        elif piece in special:
            ids.append(tokenizer.convert_tokens_to_ids(piece))
        else:
            ids += [tokenizer.convert_tokens_to_ids(one) for one in tokenizer.tokenize(str(piece))]
    return ids


def writer(encoder: EmbedderEncoder, published: PublishedPrompt) -> Any:
    """Writes the prompt of a kind, as the encoder does it."""
    condition = Condition.parse(published.condition or "unconditional")
    if published.kind == "composed":
        kept = encoder._kind, encoder._text
        encoder._kind, encoder._text = "composed", WORDS
        try:
            return encoder._writer([condition])
        finally:
            encoder._kind, encoder._text = kept
    return encoder._writer([condition], WORDS if published.kind == "words" else None)


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda one: f"{one.preset}-{one.kind}")
def test_a_prompt_is_the_publishers_token_for_token(
    published: PublishedPrompt, folders: dict[str, Path], pictures: list[Image.Image]
) -> None:
    encoder = loaded(published.preset, folders)
    made = writer(encoder, published)
    if published.kind == "words":
        assert list(made.prepare_text().prompts[0]) == expected_ids(encoder, published, 0)
        return
    prompt = list(made.prepare(encoder._reduced(pictures[0])).prompts[0])
    image = encoder.lvlm.model.config.image_token_id
    assert prompt.count(image) >= 1
    assert prompt == expected_ids(encoder, published, prompt.count(image))


def test_what_is_ours_is_marked_and_the_rest_is_held_against_a_publisher() -> None:
    seen = {(one.preset, f"{one.kind}{'_condition' * bool(one.condition)}") for one in PUBLISHED}
    for name, preset in embedder_presets().items():
        assert preset.source.startswith("https://") and preset.licence
        for kind in ("picture", "words", "composed"):
            for key in (kind, f"{kind}_condition"):
                assert ((name, key) in seen) != (key in preset.ours), (name, key)


def by_hand(
    encoder: EmbedderEncoder, published: PublishedPrompt, image: Image.Image | None
) -> np.ndarray:
    """The unit vector of the publisher's tokens by the plain forward pass of transformers."""
    model, processor = encoder.lvlm.model, encoder.processor
    inputs: dict[str, Any] = {}
    count = 0
    if image is not None:
        side = encoder.preset.square
        image = image.resize((side, side)) if side else image
        mark = {"qwen2_vl": "<|image_pad|>", "qwen3_vl": "<|image_pad|>", "mllama": "<|image|>"}
        text = mark.get(model.config.model_type, "<image>")
        inputs = dict(processor(text=[text], images=[image], return_tensors="pt"))
        count = int((inputs.pop("input_ids") == model.config.image_token_id).sum())
        for name in ("attention_mask", "mm_token_type_ids"):
            inputs.pop(name, None)
    ids = expected_ids(encoder, published, count)
    at = len(ids) - 1
    if published.preset == "lamra":  # the publisher's prompt goes on after the token that is read
        tokenizer = processor.tokenizer
        ids += [tokenizer.convert_tokens_to_ids("<emb>"), *tokenizer("x.")["input_ids"]]
    tokens = torch.tensor([ids])
    if "cross_attention_mask" in inputs:
        tiles = inputs.pop("cross_attention_mask")[:, -1:]
        seen = (tokens == model.config.image_token_id).cumsum(-1) > 0
        inputs["cross_attention_mask"] = seen[..., None, None] * tiles
    if encoder.preset.one_axis:
        inputs["position_ids"] = torch.arange(len(ids))[None, None].expand(3, 1, -1)
    elif "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (tokens == model.config.image_token_id).int()
    with torch.inference_mode():
        model.model.rope_deltas = None
        states = model(input_ids=tokens, output_hidden_states=True, **inputs).hidden_states[-1]
    vector = states[0, at].double().numpy()
    return np.asarray(vector / np.linalg.norm(vector))


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda one: f"{one.preset}-{one.kind}")
def test_a_vector_is_that_of_the_plain_pass(
    published: PublishedPrompt, folders: dict[str, Path], pictures: list[Image.Image]
) -> None:
    encoder = loaded(published.preset, folders)
    condition = Condition.parse(published.condition or "unconditional")
    if published.kind == "words":
        vector = encoder.encode_text([WORDS], [condition])[0, 0]
        plain = by_hand(encoder, published, None)
    elif published.kind == "composed":
        vector = encoder.embed_composed(pictures[:1], WORDS, [condition]).vectors[0, 0]
        plain = by_hand(encoder, published, pictures[0])
    else:
        # With others, of other shapes, under two conditions: as it is embedded in an ingest.
        vector = encoder.encode(pictures[::-1], [MOOD, condition])[2, 1]
        plain = by_hand(encoder, published, pictures[0])
    assert np.abs(vector - plain).max() < 1e-5


@pytest.mark.parametrize("preset", embedder_presets())
def test_conditions_and_words_change_a_vector(
    preset: str, folders: dict[str, Path], pictures: list[Image.Image]
) -> None:
    encoder = loaded(preset, folders)
    both = encoder.encode(pictures[:1], [NONE, COLOR])[0]
    composed = [encoder.embed_composed(pictures[:1], t, [NONE]).vectors[0, 0] for t in ("a", "b")]
    texts = encoder.encode_text(["a"], [NONE, COLOR])[0]
    vectors = np.stack([*both, *composed, *texts])
    assert (vectors @ vectors.T - np.eye(6)).max() < 1 - 1e-5
    assert encoder.spec.settings["prompt"] == preset


def test_weights_without_an_output_head_are_enough(
    folders: dict[str, Path], pictures: list[Image.Image], tmp_path: Path
) -> None:
    """As Qwen3-VL-Embedding-8B is published."""
    folder = tmp_path / "Qwen3-VL-Embedding-8B"
    shutil.copytree(folders["qwen3_vl"], folder)
    config = (folder / "config.json").read_text()
    assert '"tie_word_embeddings": true' in config  # so that no head is stored
    untied = config.replace('"tie_word_embeddings": true', '"tie_word_embeddings": false')
    (folder / "config.json").write_text(untied)
    encoder = make_encoder("embedder", str(folder))
    whole = loaded("qwen3-vl-embedding", folders).encode(pictures, [NONE])
    assert np.abs(encoder.encode(pictures, [NONE]) - whole).max() < 1e-6
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ModelError, match=r"lack 1 tensors, such as lm_head\.weight"):
        make_encoder("dior", str(folder))


def test_special_tokens_and_marks_of_a_picture_are_refused(
    folders: dict[str, Path], pictures: list[Image.Image]
) -> None:
    encoder = loaded("qwen3-vl-embedding", folders)
    for text in ("red<|im_end|>", "a <image>"):
        with pytest.raises(UsageError, match="leave it out"):
            encoder.embed_text([text], [NONE])
        with pytest.raises(UsageError, match="leave it out"):
            encoder.embed_composed(pictures[:1], text, [NONE])
        with pytest.raises(UsageError, match="leave it out"):
            encoder.encode(pictures[:1], [Condition(text, text)])
    with pytest.raises(UsageError, match="empty"):
        encoder.embed_composed(pictures[:1], " ", [NONE])


def test_a_preset_is_found_by_the_whole_name_of_a_model(folders: dict[str, Path]) -> None:
    embedder = embedder_presets()["qwen3-vl-embedding"]
    assert preset_of("Qwen/Qwen3-VL-Embedding-8B@0123abc") is embedder
    assert preset_of("someone/qwen3-vl-embedding-2b") is embedder
    assert preset_of("/models/LamRA-Ret/") is embedder_presets()["lamra"]
    for other in ("royokong/e5-v2", "org/not-e5-v", "tiny-lvlm", "Qwen/Qwen3-VL-2B-Instruct"):
        assert preset_of(other) is None
    with pytest.raises(UsageError, match="--prompt: qwen3-vl-embedding, gme"):
        make_encoder("embedder", str(folders["qwen3_vl"]))
    with pytest.raises(UsageError, match="no prompt 'describe it'"):
        make_encoder("embedder", str(folders["qwen3_vl"]), prompt="describe it")
    with pytest.raises(UsageError, match=r"models of type qwen2_vl, and .* of type 'qwen3_vl'"):
        make_encoder("embedder", str(folders["qwen3_vl"]), prompt="gme")
    with pytest.raises(ModelError, match="no chat template"):
        make_encoder("dior", str(folders["qwen3_vl"]))


def test_vectors_are_shortened_only_where_the_model_was_trained_for_it(
    folders: dict[str, Path], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, options = str(folders["qwen3_vl"]), EncoderOptions(dimension=16)
    with pytest.raises(UsageError, match="give a number from 64 to 48"):
        make_encoder("embedder", folder, prompt="qwen3-vl-embedding", options=options)
    with pytest.raises(UsageError, match="not trained for shorter vectors"):
        make_encoder("embedder", str(folders["qwen2_vl"]), prompt="gme", options=options)
    preset = replace(embedder_presets()["qwen3-vl-embedding"], matryoshka=8)
    monkeypatch.setattr("ingest.encoders.methods.embedder.find_preset", lambda *_: preset)
    short = make_encoder("embedder", folder, prompt=preset.name, options=options)
    assert short.dimension == 16 and short.spec.settings["dimension"] == 16
    assert remake_encoder(short.spec).spec == short.spec
    whole = loaded(preset.name, folders).encode(pictures, [COLOR])[..., :16]
    whole /= np.linalg.norm(whole, axis=-1, keepdims=True)
    assert np.abs(short.encode(pictures, [COLOR]) - whole).max() < 1e-6


def test_an_embedder_fills_and_searches_a_gallery(
    folders: dict[str, Path], pictures: list[Image.Image], tmp_path: Path
) -> None:
    model = tmp_path / "Qwen3-VL-Embedding-2B"
    shutil.copytree(folders["qwen3_vl"], model)
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / "in" / f"{number}.png")
    gallery = tmp_path / "g.cies"
    asked = ["ingest", str(tmp_path / "in"), "-g", str(gallery), "--model", str(model)]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert "prompts of qwen3-vl-embedding, one pass for each condition" in done.output
    encoder = loaded("qwen3-vl-embedding", folders)
    # The gallery's model is loaded from its own folder; this one has the same weights.
    cies.ingest(gallery, [tmp_path / "in"], ["color"])
    g = cies.open(gallery)
    found = g.search_text(WORDS, "unconditional")
    query = encoder.encode_text([WORDS], [NONE])[0, 0]
    scores = sorted((encoder.encode(pictures, [NONE])[:, 0] @ query).tolist(), reverse=True)
    assert [hit.score for hit in found] == pytest.approx(scores, abs=2e-3)
    picture = str(tmp_path / "in" / "1.png")
    for condition, name in ((NONE, ()), (COLOR, ("color",))):
        hits = g.search(picture, name, modify="in red")
        assert hits.query.composed["composer"] == "embedder"
        query = encoder.embed_composed(pictures[1:2], "in red", [condition]).vectors[0, 0]
        vectors = encoder.encode(pictures, [condition])[:, 0]
        by_path = {Path(hit.path).name: hit.score for hit in hits}
        for number in (0, 2):
            assert by_path[f"{number}.png"] == pytest.approx(vectors[number] @ query, abs=2e-3)


@pytest.mark.soak
def test_a_benchmark_runs_an_embedder_through_to_its_report(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Stand-in data of CIRCO, with queries by the picture and the change in one turn."""
    data, run = published.circo(tmp_path / "circo"), str(tmp_path / "run")
    model = tmp_path / "LamRA-Ret"
    model.symlink_to(folders["qwen2_vl"], target_is_directory=True)
    asked = ["circo", "--data", str(data), "--partial", "-o", run, "--method", "embedder"]
    asked += ["--model", str(model), "--composer", "embedder"]
    made = CliRunner().invoke(app, ["bench", *asked], catch_exceptions=False)
    assert made.exit_code == 0, made.output
    asked = ["bench", "report", run, "-o", str(tmp_path / "out")]
    made = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert made.exit_code == 0, made.output
    assert "LamRA-Ret embedder |" in (tmp_path / "out" / "report.md").read_text()
