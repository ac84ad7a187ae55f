"""Training of the built-in models: its questions, its losses, and how it resumes."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.training.checkpoints import TrainingConfig
from eval.training.losses import Proxies, clip_loss, contrastive_loss, true_captions
from eval.training.model import make_clip_processor, make_tokenizer
from eval.training.optimizer import PRETRAINED_SHARE, Optimizer, decay_start, rate_at
from eval.training.pictures import UNKNOWN, draw_pictures, training_scenes, with_bars
from eval.training.questions import SENTENCE, QuestionPacker
from eval.training.train import TrainingRun
from eval.world.captions import caption, change, describe
from eval.world.factors import FACTORS, sample_scenes
from eval.world.render import RADIUS
from indexes.errors import ModelError
from ingest.conditions import prompt_templates


def test_captions_tell_the_truth() -> None:
    random = np.random.default_rng(0)
    for scene in sample_scenes(300, 8):
        said = caption(scene.labels, random)
        assert said.named and all(scene.labels[name] for name in said.named)
        for name in said.named - {"style", "stroke", "frame", "count"}:
            assert scene.labels[name] in said.text or name == "shape", said.text
        words = set(said.text.replace(",", "").split())
        for color in set(FACTORS["color"]) - {scene.labels["color"], scene.labels["background"]}:
            assert color not in words


def test_descriptions_are_of_one_length_and_of_known_words() -> None:
    tokenizer = make_tokenizer()
    random = np.random.default_rng(1)
    for scene in training_scenes(200, 9):
        tokens = tokenizer(describe(scene.labels), add_special_tokens=False)["input_ids"]
        assert len(tokens) + 1 == SENTENCE and tokenizer.unk_token_id not in tokens
        text = caption(scene.labels, random).text
        pieces = tokenizer.tokenize(text)
        assert not any(piece.startswith("##") for piece in pieces), text


def test_a_change_changes_one_thing() -> None:
    random = np.random.default_rng(2)
    scene = sample_scenes(1, 3)[0]
    for factor, values in FACTORS.items():
        asked = change(factor, values[-1], random)
        after = asked.applied(scene.labels)
        assert {name for name in after if after[name] != scene.labels[name]} <= {factor}
        assert after[factor] == values[-1]


def test_a_caption_is_true_of_all_pictures_it_fits() -> None:
    answers = torch.tensor([[0, 1], [0, 2], [3, 1]])
    named = torch.tensor([[True, False], [True, True], [False, True]])
    expected = [[True, True, False], [False, True, False], [True, False, True]]
    assert true_captions(answers, named).tolist() == expected


def test_contrastive_loss_against_its_formula() -> None:
    torch.manual_seed(0)
    states = torch.randn(6, 2, 5)
    answers = torch.tensor([[0, 1], [0, 2], [1, 1], [1, UNKNOWN], [2, 1], [0, 2]])
    marks = []
    for k in range(2):
        unit = [s / s.norm() for s in states[:, k].double()]
        own = answers[:, k].tolist()
        for i in range(6):
            others = [j for j in range(6) if j != i and own[j] != UNKNOWN]
            alike = [j for j in others if own[j] == own[i]]
            if own[i] == UNKNOWN or not alike:
                continue
            total = sum(math.exp(float(unit[i] @ unit[j]) / 0.1) for j in others)
            chances = [math.exp(float(unit[i] @ unit[j]) / 0.1) / total for j in alike]
            marks.append(-sum(math.log(chance) for chance in chances) / len(alike))
    assert float(contrastive_loss(states, answers)) == pytest.approx(
        sum(marks) / len(marks), rel=1e-5
    )


def test_proxies_against_their_formula() -> None:
    torch.manual_seed(0)
    proxies = Proxies(5, [3, 4])
    states = torch.randn(4, 3, 5)
    answers = torch.tensor([[0, 1, 2], [2, 2, UNKNOWN], [1, 0, UNKNOWN], [0, 3, UNKNOWN]])
    columns = [0, 1, 0]
    means = []
    for question, column in enumerate(columns):
        directions = [p.double() / p.double().norm() for p in proxies.heads[column].detach()]
        marks = []
        for state, answer in zip(states[:, question].double(), answers[:, question], strict=True):
            if answer != UNKNOWN:
                near = [math.exp(float(state @ d / state.norm()) / 0.1) for d in directions]
                marks.append(-math.log(near[answer] / sum(near)))
        means.append(sum(marks) / len(marks))
    found = float(proxies.loss(states, answers, columns).detach())
    assert found == pytest.approx(sum(means) / 3, rel=1e-5)


def test_pretrained_parameters_move_less() -> None:
    torch.manual_seed(0)
    module = torch.nn.ModuleDict({"old": torch.nn.Linear(4, 4), "new": torch.nn.Linear(4, 4)})
    module["new"].load_state_dict(module["old"].state_dict())
    before = {name: part.detach().clone() for name, part in module.named_parameters()}
    optimizer = Optimizer(module, 10, 0.01, 0.01, "old")
    given = torch.randn(8, 4)
    optimizer.step((module["old"](given) ** 2).sum() + (module["new"](given) ** 2).sum(), 0)
    moved = {
        name: float((part.detach() - before[name]).norm())
        for name, part in module.named_parameters()
    }
    for part in ("weight", "bias"):
        assert moved[f"old.{part}"] == pytest.approx(
            PRETRAINED_SHARE * moved[f"new.{part}"], rel=0.02
        )


def test_a_torch_without_muon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ModelError, match=r"needs torch 2\.9 or later.*pip install --upgrade torch"):
        Optimizer(torch.nn.Linear(2, 2), 10, 0.01, 0.01)


def test_clip_loss_is_least_when_captions_match() -> None:
    eye = torch.eye(4)
    scale = torch.tensor(50.0)
    right = clip_loss(eye, eye, scale, torch.eye(4, dtype=torch.bool))
    wrong = clip_loss(eye, eye.roll(1, 0), scale, torch.eye(4, dtype=torch.bool))
    assert float(right) < 1e-6 < 10 < float(wrong)


def test_a_longer_stage_resumes_as_if_planned() -> None:
    short, long = 1000, 3000
    level = decay_start(short)
    assert [rate_at(n, short) for n in range(level)] == [rate_at(n, long) for n in range(level)]
    assert rate_at(short - 1, short) == pytest.approx(0.02)
    falling = [rate_at(n, short) for n in range(level, short)]
    assert all(after < before for before, after in pairwise(falling))


def test_pictures_are_rendered_once(tmp_path: Path) -> None:
    ticks: list[int] = []
    first = draw_pictures(12, 5, 32, 1, tmp_path, ticks.append)
    stamp = (tmp_path / "pictures.npy").stat().st_mtime_ns
    again = draw_pictures(12, 5, 32, 1, tmp_path, ticks.append)
    assert (tmp_path / "pictures.npy").stat().st_mtime_ns == stamp
    assert np.array_equal(first.pixels, again.pixels)
    nameless = [scene.form > 0 for scene in first.scenes]
    shape = list(FACTORS).index("shape")
    assert [answer == UNKNOWN for answer in first.answers[:, shape]] == nameless
    assert sum(nameless) == 6 and (first.seen[nameless, shape] >= len(FACTORS["shape"])).all()


def test_pictures_of_other_formats_are_padded_as_the_processor_pads() -> None:
    random = np.random.default_rng(3)
    processor = TrainingRun(
        TrainingConfig(pictures=1), Path("nowhere"), print
    ).processor.image_processor
    photo = Image.fromarray(random.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    photo = photo.resize((128, 128), Image.Resampling.BICUBIC)
    square = processor(photo, return_tensors="pt")["pixel_values"]
    for upright, box, size in (
        (True, (16, 0, 112, 128), (64, 128)),
        (False, (0, 16, 128, 112), (128, 64)),
    ):
        given = processor(
            photo.crop(box).resize(size, Image.Resampling.BILINEAR), return_tensors="pt"
        )["pixel_values"]
        made = with_bars(square, 0.5, upright)
        assert made.shape == given.shape
        # They differ in how they were reduced, and in the mean color rounded to whole numbers.
        assert (made - given).abs().mean() < 0.03
        assert (made - square).abs().mean() > 0.3


def test_packed_questions_are_what_one_would_ask() -> None:
    processor = TrainingRun(TrainingConfig(pictures=1), Path("nowhere"), print).processor
    packer = QuestionPacker(processor, 64)
    template = prompt_templates()["describe"]
    asked = packer.about_picture(["color", ""], template, np.random.default_rng(0), "Say it.")
    tokens = processor.tokenizer.convert_ids_to_tokens(asked.ids)
    assert tokens.count("<image>") == 64 and len(asked.asked) == 2
    assert len(asked.sentence) == SENTENCE + 1
    # Each question ends where the answer begins.
    assert {tokens[i] for i in asked.asked} == {"<assistant>"}
    blind = asked.mask[0, 0] < 0
    assert not blind[asked.asked[0], : tokens.index("<image>")].any()
    assert blind[asked.asked[1], asked.asked[0]]


@pytest.mark.soak
def test_a_short_training_can_stop_and_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short training: both stages, a stop in between, and models that load."""
    from transformers import AutoModel, AutoModelForImageTextToText

    config = TrainingConfig(pictures=60, vision_steps=2, joint_steps=1, workers=1)
    said: list[str] = []
    TrainingRun(config, tmp_path, said.append).run()
    longer = TrainingRun(
        TrainingConfig(pictures=60, vision_steps=2, joint_steps=2, workers=1), tmp_path, said.append
    )
    longer.run()
    assert "vision resumes at step 2" in said
    again = TrainingRun(longer.config, tmp_path / "again", said.append)
    again.run()
    for part, other in ((longer.clip, again.clip), (longer.model, again.model)):
        states = zip(part.state_dict().items(), other.state_dict().values(), strict=True)
        # A second run on one machine gives the same models, to the bit.
        assert not [name for (name, one), two in states if not torch.equal(one, two)]
    folder = longer.save_models()
    lvlm = AutoModelForImageTextToText.from_pretrained(folder / "tiny-lvlm")
    clip = AutoModel.from_pretrained(folder / "tiny-clip")
    assert lvlm.config.model_type == "llava" and clip.config.model_type == "clip"
    texts = make_clip_processor()(text=["red heart"], return_tensors="pt")
    assert clip.get_text_features(**texts).pooler_output.shape == (1, 256)
    with pytest.raises(ValueError, match="another configuration"):
        TrainingRun(
            TrainingConfig(pictures=61, vision_steps=2, workers=1), tmp_path, said.append
        ).run()
    assert len(np.load(tmp_path / "pictures.npy")) == 60  # these are not overwritten
    # The same scenes, rendered in another way.
    monkeypatch.setattr("eval.world.render.RADIUS", {**RADIUS, "large": (0.2, 0.3)})
    with pytest.raises(ValueError, match="other pictures"):
        TrainingRun(config, tmp_path / "again", said.append).run()
