"""Textual inversion: the text tower, the optimisation, the networks, their training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_duals import save_align, save_siglip
from torch.nn import functional

from eval.bench.inversion import as_markdown, measure
from eval.training.inversion import captions
from eval.world.factors import sample_scenes
from eval.world.render import render
from indexes.errors import ModelError, UsageError
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.inversion.encoder import OPTIMISED, Inversion
from ingest.encoders.inversion.losses import contrastive_loss, masked_runs
from ingest.encoders.inversion.networks import (
    NETWORKS,
    card_path,
    load_network,
    shipped_folder,
    user_folder,
)
from ingest.encoders.inversion.oti import OtiPlan, invert
from ingest.encoders.inversion.phrases import CONCEPT, Phrases
from ingest.encoders.inversion.pseudo_words import PseudoWords
from ingest.encoders.inversion.training import Trainer, TrainingPlan

PLAN = TrainingPlan(steps=12, batch=16, hidden=16, oti_steps=6, oti_batch=16, seed=3)


@pytest.fixture(scope="module")
def dual() -> DualEncoder:
    return DualEncoder.load("tiny-clip")


@pytest.fixture(scope="module")
def words(dual: DualEncoder) -> PseudoWords:
    return PseudoWords(dual)


@pytest.fixture(scope="module")
def phrases(words: PseudoWords) -> Phrases:
    return Phrases.of(words)


@pytest.fixture(scope="module")
def seen(dual: DualEncoder) -> np.ndarray:
    """Base vectors of 40 rendered pictures."""
    return dual.encode_images([render(scene, 96) for scene in sample_scenes(40, 5)])


# -- the tower -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a picture of $", "$", "$, but red", "a red $ on gray", "2$$ x"])
def test_a_words_own_embedding_gives_the_plain_text(words: PseudoWords, text: str) -> None:
    names = ["heart", "star", "car"]
    found = words.encode(words.sentences([text]), words.word_embeddings(names))
    # The slot is separated by spaces from letters and digits next to it.
    before, _, after = text.partition("$")
    before += " " if before[-1:].isalnum() else ""
    plain = words.dual.encode_texts([f"{before}{name}{after}" for name in names])
    assert np.allclose(found.numpy(), plain, rtol=0, atol=1e-6)


def test_several_sentences_of_several_lengths_keep_their_places(words: PseudoWords) -> None:
    texts = ["a red $", "a picture of a small $, on a gray background", "$"]
    found = words.encode(words.sentences(texts), words.word_embeddings(["heart", "star", "car"]))
    plain = ["a red heart", "a picture of a small star, on a gray background", "car"]
    assert np.allclose(found.numpy(), words.dual.encode_texts(plain), atol=1e-6)


@pytest.mark.parametrize("save", [save_siglip, save_align])
def test_other_families_are_read_exactly_or_refused(save: Any, tmp_path: Path) -> None:
    dual = DualEncoder.load(str(save(tmp_path / "model")), "float32")
    try:
        words = PseudoWords(dual)
    except ModelError as error:
        assert "no pseudo-words" in str(error) and "--composer" in str(error)
        assert save is not save_siglip
        return
    found = words.encode(words.sentences(["a $ of it"]), words.word_embeddings(["b"]))
    assert np.allclose(found.numpy(), dual.encode_texts(["a b of it"]), atol=1e-6)


def test_another_thread_reads_plain_texts_meanwhile(words: PseudoWords) -> None:
    from concurrent.futures import ThreadPoolExecutor

    plain = words.dual.encode_texts(["a red heart"])
    token = words.word_embeddings(["star"])
    sentence = words.sentences(["a picture of $"])
    want = words.encode(sentence, token)
    with ThreadPoolExecutor(2) as pool:
        mine = [pool.submit(words.encode, sentence, token) for _ in range(40)]
        theirs = [pool.submit(words.dual.encode_texts, ["a red heart"]) for _ in range(40)]
        assert all(torch.equal(one.result(), want) for one in mine)
        assert all(np.array_equal(one.result(), plain) for one in theirs)


def test_gradients_are_those_of_differences(words: PseudoWords, seen: np.ndarray) -> None:
    picture = torch.from_numpy(seen[0])
    sentence = words.sentences(["a picture of $, on gray"])
    token = words.word_embeddings(["heart"]).requires_grad_(True)
    (words.encode(sentence, token)[0] @ picture).backward()
    way = functional.normalize(torch.randn(token.shape, generator=torch.Generator().manual_seed(1)))
    step = 1e-2
    with torch.no_grad():
        ends = [words.encode(sentence, token + sign * step * way)[0] @ picture for sign in (1, -1)]
    slope = float(ends[0] - ends[1]) / (2 * step)
    assert slope == pytest.approx(float((token.grad * way).sum()), rel=0.02, abs=1e-4)
    assert all(weight.grad is None for weight in words.dual.towers.model.parameters())


def test_a_place_that_is_not_read_or_not_there_is_refused(words: PseudoWords) -> None:
    with pytest.raises(UsageError, match="has no \\$"):
        words.sentences(["a picture"])
    with pytest.raises(UsageError, match="fewer words"):
        words.sentences(["red " * 60 + "$"])


# -- what is said --------------------------------------------------------------------------------


def test_phrases_hold_words_that_the_model_has_whole(words: PseudoWords, phrases: Phrases) -> None:
    assert {"heart", "car"} <= set(phrases.concepts) and "backpack" not in phrases.concepts
    said = {phrases.draw(np.random.default_rng(n)) for n in range(60)}
    assert len(said) > 30
    assert all(one.count(CONCEPT) == 1 and one.count("{") == 1 for one in said)
    assert max(words.token_counts(phrases.concepts)) == 1


def test_a_model_without_our_words_is_refused(tmp_path: Path) -> None:
    words = PseudoWords(DualEncoder.load(str(save_siglip(tmp_path / "model")), "float32"))
    seen = np.eye(32, words.dual.dimension, dtype=np.float32)
    for composer in ("searle", "palavra"):
        with pytest.raises(ModelError, match="none of the words of CIES as single tokens"):
            Trainer(composer, words, PLAN, tmp_path / "work").train(seen, {}, tmp_path)
    place, _ = Trainer("pic2word", words, PLAN, tmp_path / "work").train(seen, {}, tmp_path)
    assert place.is_file()


def test_runs_of_naming_words_are_replaced_one_at_a_time() -> None:
    assert masked_runs("a picture of two red hearts on gray") == [
        "a $ of two red hearts on gray",
        "a picture of $ on gray",
        "a picture of two red hearts on $",
    ]
    assert masked_runs("small, red") == ["$, red", "small, $"]
    assert masked_runs("of the") == []


def test_the_contrast_is_clips() -> None:
    draw = torch.Generator().manual_seed(2)
    first, second = (functional.normalize(torch.randn(5, 7, generator=draw)) for _ in range(2))
    cosines = (4 * first @ second.T).double().numpy()
    rows = cosines - np.log(np.exp(cosines).sum(1, keepdims=True))
    columns = cosines - np.log(np.exp(cosines).sum(0, keepdims=True))
    expected = -(np.trace(rows) + np.trace(columns)) / 10
    assert float(contrastive_loss(first, second, 4)) == pytest.approx(expected, rel=1e-5)


# -- optimisation --------------------------------------------------------------------------------


def test_optimised_words_find_their_pictures(
    words: PseudoWords, phrases: Phrases, seen: np.ndarray
) -> None:
    plan = OtiPlan(steps=60, average=0.9)
    found = invert(words, phrases, seen[:10], plan)
    assert found.losses[-10:].mean() < 0.75 * found.losses[:10].mean()
    cosines = Inversion(words).encode(phrases.single, found.tokens) @ seen.T
    assert (cosines.argmax(1) == np.arange(10)).mean() >= 0.9


def test_a_picture_gets_the_same_word_in_a_batch_and_alone(
    words: PseudoWords, phrases: Phrases, seen: np.ndarray
) -> None:
    plan = OtiPlan(steps=8)
    batch = invert(words, phrases, seen[:4], plan).tokens
    alone = invert(words, phrases, seen[2:3], plan).tokens
    assert np.allclose(batch[2], alone[0], atol=1e-4)
    assert not np.allclose(batch[1], batch[2], atol=1e-2)


# -- networks ------------------------------------------------------------------------------------


def examples(composer: str, seen: np.ndarray) -> Any:
    return captions(40) if composer == "lincir" else seen


@pytest.mark.parametrize("composer", NETWORKS)
def test_a_run_that_was_stopped_makes_the_same_network(
    composer: str,
    words: PseudoWords,
    seen: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Trainer, "CHECKPOINT_STEPS", 4)
    given = examples(composer, seen)
    stages: list[tuple[str, int]] = []

    def stop(stage: str, done: int, total: int, loss: float) -> None:
        stages.append((stage, done))
        # Interrupted in the second batch of pictures, and between two checkpoints.
        stops = ("tokens", 16 * 6 + 16 * 4), ("network", 7)
        if (stage, done) in stops and stages.count((stage, done)) == 1:
            raise KeyboardInterrupt

    whole, _ = Trainer(composer, words, PLAN, tmp_path / "a").train(given, {}, tmp_path / "whole")
    stopped = Trainer(composer, words, PLAN, tmp_path / "b", stop)
    for _ in range(2 if composer == "searle" else 1):
        with pytest.raises(KeyboardInterrupt):
            stopped.train(given, {}, tmp_path / "parts")
        assert not (tmp_path / "parts").exists()
    parts, network = stopped.train(given, {}, tmp_path / "parts")
    assert [done for stage, done in stages if stage == "network"] == [*range(1, 8), *range(5, 13)]
    for ending in (".json", ".safetensors"):
        assert whole.with_suffix(ending).read_bytes() == parts.with_suffix(ending).read_bytes()
    assert list((tmp_path / "b").iterdir()) == []
    other = Trainer(composer, words, TrainingPlan(**{**vars(PLAN), "seed": 4}), tmp_path / "c")
    assert not np.allclose(
        other.train(given, {}, tmp_path / "o")[1].tokens(seen), network.tokens(seen)
    )


def test_losses_fall(words: PseudoWords, seen: np.ndarray, tmp_path: Path) -> None:
    for composer in ("searle", "pic2word"):
        losses: list[float] = []

        def told(stage: str, done: int, total: int, loss: float, kept: Any = losses) -> None:
            if stage == "network":
                kept.append(loss)

        plan = TrainingPlan(**{**vars(PLAN), "steps": 40, "hidden": 64})
        Trainer(composer, words, plan, tmp_path / composer, told).train(seen, {}, tmp_path)
        assert losses[-1] < losses[0], composer


def test_texts_told_again_are_nearer_after_training(words: PseudoWords, tmp_path: Path) -> None:
    texts = captions(40)
    own = words.dual.encode_texts(texts)
    near = []
    for steps in (1, 40):
        plan = TrainingPlan(**{**vars(PLAN), "steps": steps, "hidden": 64, "rate": 5e-3})
        _, network = Trainer("lincir", words, plan, tmp_path).train(texts, {}, tmp_path)
        again = Inversion(words).encode("a picture of $", network.tokens(own))
        near.append(float(np.mean(np.sum(again * own, axis=1))))
    assert near[1] > near[0] + 0.1


def test_shipped_networks_are_those_of_the_shipped_clip(
    dual: DualEncoder, words: PseudoWords, seen: np.ndarray
) -> None:
    size = 0
    for composer in NETWORKS:
        (place,) = (shipped_folder() / composer).glob("*.json")
        card = json.loads(place.read_text())
        way = "make them again with `python -m eval.training.inversion FOLDER`"
        assert (card["model"], card["revision"]) == ("tiny-clip", dual.revision), way
        size += place.with_suffix(".safetensors").stat().st_size
        network = load_network(composer, words)
        assert network.tokens(seen).shape == (len(seen), words.width)
    assert size < 2e6


def test_networks_of_other_models_and_damaged_ones_are_refused(
    words: PseudoWords, seen: np.ndarray, tmp_path: Path
) -> None:
    place, _ = Trainer("pic2word", words, PLAN, tmp_path / "w").train(seen, {})
    assert place == card_path("pic2word", words.revision) and place.is_relative_to(user_folder())
    mine = load_network("pic2word", words)
    assert mine.card.hidden == 16  # the user's own before the one that is shipped
    shutil.copytree(shipped_folder().parent / "tiny-clip", tmp_path / "other")
    readme = tmp_path / "other" / "config.json"
    readme.write_text(readme.read_text() + "\n")
    other = PseudoWords(DualEncoder.load(str(tmp_path / "other"), "float32"))
    with pytest.raises(
        ModelError, match=r"no network of pic2word for .*other.*tiny-clip.*train.*--images"
    ):
        load_network("pic2word", other)
    copied = card_path("pic2word", other.revision)
    for ending in (".json", ".safetensors"):
        shutil.copy(place.with_suffix(ending), copied.with_suffix(ending))
    with pytest.raises(ModelError, match="was trained for tiny-clip of revision"):
        load_network("pic2word", other)
    place.with_suffix(".safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="damaged"):
        load_network("pic2word", words)
    place.write_text("{}")
    with pytest.raises(ModelError, match="damaged"):
        load_network("pic2word", words)


def test_too_little_to_train_on_is_refused(
    words: PseudoWords, seen: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="trained on 16 pictures or more; these are only 3"):
        Trainer("searle", words, PLAN, tmp_path).train(seen[:3], {})
    with pytest.raises(UsageError, match="Only 1 of the texts"):
        Trainer("lincir", words, PLAN, tmp_path).train(["of the", "red"] * 20, {})
    with pytest.raises(UsageError, match="no network of 'sum'"):
        Trainer("sum", words, PLAN, tmp_path)


# -- the benchmark -------------------------------------------------------------------------------


def test_the_benchmark_of_words_counts_what_it_says(dual: DualEncoder) -> None:
    found = {one.composer: one for one in measure("tiny-clip", 30, 4711, 3, ["pic2word", "searle"])}
    scenes = [render(scene, 160) for scene in sample_scenes(30, 4711)]
    base = dual.encode_images(scenes)
    inversion = Inversion.of(dual)
    tokens = inversion.tokens("pic2word", base)
    cosines = inversion.encode("a picture of $", tokens) @ base.T
    assert found["pic2word"].first == pytest.approx((cosines.argmax(1) == np.arange(30)).mean())
    assert all(one.query_ms > 0 and one.loss_first is None for one in found.values())
    assert as_markdown(list(found.values())).count("\n") == 3
    assert OPTIMISED not in found
