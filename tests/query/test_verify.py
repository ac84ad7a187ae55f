"""A model that sees the query and each of the best hits: prompts, probabilities, order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_embedders import build_embedder
from support.tiny_families import build
from support.tiny_parts import chat
from typer.testing import CliRunner

import cies
from cies.cli.app import app
from indexes.errors import ModelError, UsageError
from ingest.encoders.embedders.judge import Judge, JudgedQuery
from ingest.encoders.factory import make_encoder
from ingest.encoders.methods.dior import DiorEncoder
from query.composers.base import compose_settings

QUESTIONS = compose_settings()["prompts"]["general"]["verify"]
WORDS = "a {red} heart"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reranker, an LVLM, pictures, and a gallery of them by the built-in CLIP."""
    root = tmp_path_factory.mktemp("verify")
    model = build_embedder("qwen3_vl", root / "Qwen3-VL-Reranker-2B")
    (model / "chat_template.jinja").write_text(chat("<|vision_start|><|image_pad|><|vision_end|>"))
    shutil.copytree(model, root / "lvlm")
    (root / "in").mkdir()
    draw = np.random.default_rng(7)
    for number in range(7):
        wide = 64 + 32 * (number % 2)
        pixels = draw.integers(0, 256, (64, wide, 3), np.uint8)
        Image.fromarray(pixels).save(root / "in" / f"{number}.png")
    shutil.copy(root / "in" / "3.png", root / "in" / "7.png")
    cies.ingest(root / "g.cies", [root / "in"], [], method="clip")
    return root


def judge_of(model: Path) -> Judge:
    encoder = make_encoder("dior", str(model))
    assert isinstance(encoder, DiorEncoder)
    return Judge(encoder, QUESTIONS)


def opened(made: Path) -> list[Image.Image]:
    return [Image.open(made / "in" / f"{number}.png").convert("RGB") for number in range(7)]


def published_score(judge: Judge, user: list[Any]) -> float:
    """The publisher's score: the sigmoid of the last state times the difference of two rows of
    the output head, after the publisher's tokens.
    """
    encoder = judge._encoder
    model, tokenizer = encoder.lvlm.model, encoder.processor.tokenizer
    number = tokenizer.convert_tokens_to_ids
    shown = [piece for piece in user if isinstance(piece, Image.Image)]
    seen = dict(encoder.processor.image_processor(images=shown, return_tensors="pt"))
    counts = iter((seen["image_grid_thw"].prod(1) // 4).tolist())
    system = (
        "system\nJudge whether the Document meets the requirements based on the Query and the "
        'Instruct provided. Note that the answer can only be "yes" or "no".'
    )
    pieces = ["<|im_start|>", system, "<|im_end|>", "\n", "<|im_start|>", "user\n", *user]
    pieces += ["<|im_end|>", "\n", "<|im_start|>", "assistant\n"]
    ids: list[int] = []
    for piece in pieces:
        if isinstance(piece, Image.Image):
            middle = [number("<|image_pad|>")] * int(next(counts))
            ids += [number("<|vision_start|>"), *middle, number("<|vision_end|>")]
        elif piece in ("<|im_start|>", "<|im_end|>"):
            ids.append(number(piece))
        else:
            ids += tokenizer(piece)["input_ids"]
    tokens = torch.tensor([ids])
    kinds = (tokens == model.config.image_token_id).int()
    head = model.lm_head.weight
    with torch.inference_mode():
        model.model.rope_deltas = None
        state = model.model(input_ids=tokens, mm_token_type_ids=kinds, **seen).last_hidden_state
        return float(torch.sigmoid(state[0, -1] @ (head[number("yes")] - head[number("no")])))


def test_a_reranker_scores_as_its_publisher(made: Path) -> None:
    judge = judge_of(made / "Qwen3-VL-Reranker-2B")
    first, *others = opened(made)
    change = "Given an image, find a similar everyday image with the described changes:"
    search = "Given a search query, retrieve relevant candidates that answer the query."
    alike = "Given an image, retrieve images that are like it in color and shape."
    asked = [
        (JudgedQuery(first, WORDS), [f"<Instruct>: {change}<Query>:", first, WORDS]),
        (JudgedQuery(None, WORDS), [f"<Instruct>: {search}<Query>:", WORDS]),
        (JudgedQuery(first, "", ("color", "shape")), [f"<Instruct>: {alike}<Query>:", first]),
    ]
    for query, before in asked:
        found = judge.judge(query, others).yes
        plain = [published_score(judge, [*before, "\n<Document>:", one]) for one in others]
        assert np.abs(found - plain).max() < 1e-5 and np.ptp(plain) > 1e-4


def test_any_lvlm_sees_both_pictures_in_its_own_template(made: Path) -> None:
    judge = judge_of(made / "lvlm")
    first, second, third = opened(made)[:3]
    query = JudgedQuery(first, "in red", ("color",))
    prompt, has_query = judge._prompt(query)
    assert has_query and prompt.count("<|image_pad|>") == 2
    assert "after this change: in red? Answer with yes or no." in prompt
    assert prompt.index("<|image_pad|>") < prompt.index("candidate:") < prompt.index("in red")
    together = judge.judge(query, [second, third]).yes
    alone = [judge.judge(query, [one]).yes[0] for one in (second, third)]
    assert np.abs(together - alone).max() < 1e-6
    # The query, the candidate, their order and the words all matter.
    other = judge.judge(JudgedQuery(second, "in red"), [first]).yes[0]
    words = judge.judge(JudgedQuery(first, "in blue"), [second]).yes[0]
    assert len({round(float(value), 6) for value in (*together, other, words)}) == 4
    prompt, has_query = judge._prompt(JudgedQuery(None, WORDS))
    assert not has_query and prompt.count("<|image_pad|>") == 1 and WORDS in prompt
    with pytest.raises(UsageError, match="special token"):
        judge.judge(JudgedQuery(first, "red<|im_end|>"), [second])


@pytest.mark.parametrize(
    "kind",
    [
        "smolvlm",
        "qwen2_5_vl",
        pytest.param("llava", marks=pytest.mark.soak),
        pytest.param("idefics3", marks=pytest.mark.soak),
    ],
)
def test_two_pictures_are_read_as_transformers_reads_them(
    kind: str, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    encoder = make_encoder("dior", str(build(kind, tmp_path / kind)))
    assert isinstance(encoder, DiorEncoder)
    from ingest.encoders.vlm.generation import TextGenerator

    generator, tokenizer = TextGenerator(encoder), encoder.processor.tokenizer
    text = encoder.chat.render_mixed(["red", None, "green", None, "blue circle"])
    pair = [pictures[0], pictures[1]]
    found = generator.yes_of_pictures(text, [pair, pair[::-1]], ("red", "blue"))
    assert abs(found.yes[0] - found.yes[1]) > 1e-7
    model, image = encoder.lvlm.model, encoder.lvlm.model.config.image_token_id
    whole, _ = _by_transformers(encoder, text, pair)
    tokens = whole.pop("input_ids")
    assert tokens[0].tolist().count(image) % 2 == 0
    if kind == "qwen2_5_vl":
        whole["mm_token_type_ids"] = (tokens == image).int()
    with torch.inference_mode():
        chances = model(input_ids=tokens, **whole).logits[0, -1].softmax(-1)
    red, blue = (float(chances[tokenizer.convert_tokens_to_ids(one)]) for one in ("red", "blue"))
    assert found.yes[0] == pytest.approx(red / (red + blue), abs=1e-5)


def _by_transformers(
    encoder: DiorEncoder, text: str, pair: list[Image.Image]
) -> tuple[dict[str, Any], int]:
    """Inputs of two pictures: each one's tokens by itself, put together by hand."""
    processor, image = encoder.processor, encoder.lvlm.model.config.image_token_id
    from ingest.encoders.vlm.processors import untiled

    options = {"return_tensors": "pt", **untiled(processor)}
    mark = next(m for m in ("<|image_pad|>", "<image>") if m in text)
    around = text.split(mark)
    assert len(around) == 3
    ids: list[int] = []
    features: list[dict[str, Any]] = []
    for number, picture in enumerate(pair):
        alone = dict(processor(text=[mark], images=[picture], add_special_tokens=False, **options))
        own = alone.pop("input_ids")[0].tolist()
        features.append({n: v for n, v in alone.items() if "mask" not in n and "type" not in n})
        ids += processor.tokenizer(around[number], add_special_tokens=False)["input_ids"]
        ids += own
    ids += processor.tokenizer(around[2], add_special_tokens=False)["input_ids"]
    bos = processor.tokenizer.bos_token_id
    joined = {}
    for name in features[0]:
        axis = 1 if features[0][name].ndim == 5 else 0
        joined[name] = torch.cat([one[name] for one in features], axis)
    return {"input_ids": torch.tensor([ids]), **joined}, bos or image


def test_the_best_hits_are_put_in_the_order_of_the_probabilities(made: Path) -> None:
    g = cies.open(made / "g.cies")
    model = str(made / "Qwen3-VL-Reranker-2B")
    picture = made / "in" / "0.png"
    plain = g.search(picture, "unconditional", k=9)
    hits = g.search(picture, "unconditional", k=5, verify=4, lvlm=model)
    assert len(hits) == 5 and hits[4].key == plain[4].key and hits[4].verified is None
    assert {hit.key for hit in hits[:4]} == {hit.key for hit in plain[:4]}
    assert hits.query.reranked == 4 and hits.query.reranked_by == model
    assert any("4 hits were compared with the query by" in note for note in hits.notes)
    judge = judge_of(Path(model))
    asked = JudgedQuery(Image.open(picture).convert("RGB"), "", ("unconditional",))
    for hit in hits[:4]:
        alone = judge.judge(asked, [Image.open(hit.path).convert("RGB")]).yes[0]
        assert hit.verified == pytest.approx(alone, abs=1e-5)
    votes = [hit.verified for hit in hits[:4]]
    assert votes == sorted(votes, reverse=True)
    # A reranker named for --rerank is the same; so it is after a change and with words.
    again = g.search(picture, "unconditional", k=5, rerank=4, rerank_model=model)
    assert [hit.key for hit in again] == [hit.key for hit in hits]
    for options in ({"verify": 3, "lvlm": model}, {"rerank": 3, "rerank_model": model}):
        changed = g.search(picture, modify="in red", composer="sum", k=3, **options)
        assert all(hit.verified is not None for hit in changed) and len(changed) == 3
    words = g.search_text("red heart", "unconditional", k=2, verify=2, lvlm=model)
    assert [hit.verified is not None for hit in words] == [True, True]


def test_equally_probable_hits_keep_their_order(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingest.encoders.vlm.generation import YesProbabilities

    def even(self: Judge, query: JudgedQuery, candidates: list[Image.Image]) -> YesProbabilities:
        noise = np.linspace(0, 1e-8, len(candidates))
        return YesProbabilities(0.5 + noise, np.ones(len(candidates)))

    monkeypatch.setattr(Judge, "judge", even)
    g = cies.open(made / "g.cies")
    picture = made / "in" / "1.png"
    plain = g.search(picture, "unconditional", k=6)
    model = str(made / "lvlm")
    hits = g.search(picture, "unconditional", k=6, verify=6, lvlm=model)
    assert [hit.key for hit in hits] == [hit.key for hit in plain]


def test_the_command_says_the_cost_before(made: Path) -> None:
    asked = ["search", str(made / "in" / "0.png"), "-g", str(made / "g.cies"), "--jsonl"]
    asked += ["-c", "unconditional", "--verify", "2", "-k", "3"]
    asked += ["--lvlm", str(made / "Qwen3-VL-Reranker-2B")]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 0 and [hit["verified"] is None for hit in hits] == [False, False, True]
    assert "Reranker-2B will look at up to 2 of the best hits, one after the other: 4 pictures" in (
        done.stderr
    )


def test_what_does_not_go_together_is_refused(made: Path) -> None:
    g = cies.open(made / "g.cies")
    picture = made / "in" / "0.png"
    with pytest.raises(ModelError, match="not trained to answer yes or no"):
        g.search(picture, "unconditional", verify=3, lvlm="tiny-lvlm")
    with pytest.raises(UsageError, match="--sort"):
        g.search(picture, "unconditional", verify=3, sort="path")
    with pytest.raises(UsageError, match="one picture"):
        g.search([picture, made / "in" / "1.png"], "unconditional", verify=3)
    with pytest.raises(UsageError, match="at how many, such as --rerank 20"):
        g.search(picture, "unconditional", rerank_model=str(made / "Qwen3-VL-Reranker-2B"))
    with pytest.raises(UsageError, match="--offset"):
        g.search(picture, "unconditional", verify=3, offset=0)
