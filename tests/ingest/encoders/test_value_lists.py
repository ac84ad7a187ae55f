"""Values listed by a model: how answers are parsed, and what the model is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from indexes.errors import ModelError
from ingest.encoders.models.find import find_model
from ingest.encoders.models.loading import load_model
from ingest.encoders.vlm.value_lists import WANTED, LvlmWordLister, parse_values

MOODS = ["happy", "sad", "calm", "tense", "eerie", "cozy", "dark", "playful", "dreamy"]

ANSWERS = {
    "commas": "happy, sad, calm, tense, eerie, cozy, dark, playful, dreamy",
    "a full stop": "Happy, sad, calm, tense, eerie, cozy, dark, playful, and dreamy.",
    "numbers": "\n".join(f"{n}. {mood.title()}" for n, mood in enumerate(MOODS, 1)),
    "numbers in a line": " ".join(f"{n}) {mood}" for n, mood in enumerate(MOODS, 1)),
    "bullets": "Here are some values:\n\n" + "\n".join(f"- **{mood}**" for mood in MOODS),
    "explained": "\n".join(f"* {mood.title()}: a {mood} feeling of some kind" for mood in MOODS),
    "dashes": "\n".join(f"{mood} - what feels {mood}" for mood in MOODS),
    "brackets": ", ".join(f"{mood} (as such)" for mood in MOODS),
    "twice": ", ".join([*MOODS, "HAPPY", "Sad"]),
    "talk around": "Sure! Here are 40 values: " + ", ".join(MOODS) + "\n\nLet me know if you need "
    "more, or other ones, of any kind.",
    "thinking": "<think>The user, it seems, wants moods, so: fear, joy</think>" + ", ".join(MOODS),
    "groups": "Good: happy, calm, cozy, playful, dreamy\nBad: sad, tense, eerie, dark",
    "quotes": ", ".join(f'"{mood}"' for mood in MOODS),
    "semicolons": "; ".join(MOODS),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_answers_of_every_form_give_the_same_values(answer: str) -> None:
    assert sorted(value.lower() for value in parse_values(answer)) == sorted(MOODS)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I'm sorry, but I can't help with that.",
        "I cannot list these, since, as far as I know, a picture has no mood of its own.",
        "The mood of a picture is what it makes us feel when we look at it for some time.",
        "<think>The moods are happy, sad, calm, tense, eerie, cozy, dark, playful",
        "happy, happy, Happy, HAPPY, happy, happy, happy, happy, happy, happy",
    ],
)
def test_what_is_no_list_is_refused_by_name(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = LvlmWordLister("org/model")
    monkeypatch.setattr(LvlmWordLister, "answer", lambda self, condition: (answer, True))
    with pytest.raises(ModelError, match=r"org/model did not list values of 'mood'.*edit"):
        listing("mood")


def test_a_value_that_was_cut_off_is_left_out() -> None:
    assert parse_values("happy, sad, cal", complete=False) == ["happy", "sad"]
    assert parse_values("1. happy\n2. sad\n3. cal", complete=False) == ["happy", "sad"]


def test_the_built_in_model_says_that_it_lists_nothing() -> None:
    with pytest.raises(ModelError, match=r"tiny-lvlm says one word .*`cies conditions edit"):
        LvlmWordLister("tiny-lvlm")("mood")


def test_only_what_the_model_adds_is_its_answer(qwen_folder: Path) -> None:
    answer, whole = LvlmWordLister(str(qwen_folder), max_tokens=12).answer("mood")
    loaded = load_model(find_model(str(qwen_folder)))
    tokenizer = loaded.processor.tokenizer
    turn = [
        {
            "role": "user",
            "content": [
                {
                    "type": "text",
                    "text": f"List about {WANTED} different values that the mood of a picture, or "
                    "of what it shows, can have.\nAnswer with the values alone, each one to three "
                    "words, separated by commas.",
                }
            ],
        }
    ]
    chat = loaded.processor.apply_chat_template(turn, add_generation_prompt=True)
    ids = tokenizer(chat, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        for _ in range(12):
            logits = loaded.model(input_ids=ids, mm_token_type_ids=torch.zeros_like(ids)).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    asked = len(tokenizer(chat, add_special_tokens=False)["input_ids"])
    assert answer == tokenizer.decode(ids[0, asked:], skip_special_tokens=True)
    assert not whole
    assert "mood" not in answer
