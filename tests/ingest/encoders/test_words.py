"""Words of answers: whole, or marked where they are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf
from PIL import Image
from support.tiny_reference import CONDITIONS, Tiny, inputs_of

from ingest.encoders.vlm.lvlm import MAX_WORD_TOKENS, Lvlm
from ingest.encoders.vlm.words import CUT, find_word


@pytest.mark.parametrize(
    ("text", "word", "ends"),
    [
        (' "Red', "Red", False),
        (' "Red"', "Red", True),
        ("...", "", False),
        ("T-shirt and", "T-shirt", True),
        ("don’t.", "don’t", True),
        # Half of a character is not the end of a word.
        ("Z\ufffd", "Z", False),
        ("Zürich ", "Zürich", True),
        # Vowel signs, and accents written apart, belong to the word.
        ("हिन्दी में", "हिन्दी", True),
        ("cafe\u0301 au", "cafe\u0301", True),
        ("สีแดง", "สีแดง", False),
    ],
)
def test_first_word_of_a_text(text: str, word: str, ends: bool) -> None:
    found = find_word(text)
    assert (found.text, found.ends) == (word, ends)


class Speller:
    """A tokenizer in which a character is a token."""

    eos_token_id = 0

    def decode(self, tokens: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(chr(token) for token in tokens if token)


@pytest.fixture
def spelling(tiny: Tiny) -> Lvlm:
    """A model whose answers are spelled."""
    lvlm = Lvlm(tiny.encoder.lvlm.model, Speller())
    lvlm._stops = frozenset({0})
    return lvlm


@pytest.mark.parametrize("tiny", ["llava"], indirect=True)
@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("dog.", "dog"),
        ("dog\0", "dog"),
        ("dog", "dog" + CUT),
        ("      dog, black", "dog"),
        ("   hippopotam", "hippopotam" + CUT),
        ("............", CUT),
        ("...\0", ""),
    ],
)
def test_a_word_without_its_end_is_marked(spelling: Lvlm, answer: str, word: str) -> None:
    tokens = [ord(letter) for letter in answer]
    assert spelling.first_word(tokens, [1.0] * len(tokens))[0] == word
    padded = spelling.first_word([*tokens, -1, -1], [1.0] * (len(tokens) + 2))[0]
    assert padded == word


@pytest.mark.parametrize("tiny", ["llava", "llava_next-narrow"], indirect=True)
@pytest.mark.parametrize("ends", [True, False])
def test_words_of_many_tokens(tiny: Tiny, ends: bool, pictures: list[Image.Image]) -> None:
    """Packed and plain, a long word is read to its end; generation ends with the longest word."""
    encoder = tiny.encoder
    number = encoder.processor.tokenizer.convert_tokens_to_ids
    spelled = [number("z"), *(number(f"##{letter}") for letter in "abcdefghij")]
    spelled += [number(".") if ends else number("##a")] * 30
    said: list[int] = []

    def say(head: Any, states: Any, logits: torch.Tensor) -> torch.Tensor:
        said.append(spelled[len(said)])
        wanted = torch.full_like(logits, -100.0)
        wanted[..., said[-1]] = 100.0
        return wanted

    hook = encoder.lvlm.model.get_output_embeddings().register_forward_hook(say)
    try:
        reading = encoder.embed(pictures[:1], CONDITIONS[:1])
    finally:
        hook.remove()
    assert reading.words == [["zabcdefghij" if ends else "zabcdefghija" + CUT]]
    assert len(said) == MAX_WORD_TOKENS


@pytest.mark.parametrize("tiny", ["llava_next-narrow"], indirect=True)
def test_generation_ends_with_the_longest_word(
    tiny: Tiny, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain family generates as many tokens as its words need, and no more."""
    lengths: list[int] = []
    real = tiny.encoder.lvlm.model.generate

    def generate(**options: Any) -> Any:
        output = real(**options)
        lengths.append(len(output.logits))
        return output

    monkeypatch.setattr(tiny.encoder.lvlm.model, "generate", generate)
    words = tiny.encoder.embed(pictures[:1], CONDITIONS).words[0]
    tokenizer = tiny.encoder.processor.tokenizer
    for condition, length, word in zip(CONDITIONS, lengths, words, strict=True):
        inputs = inputs_of(tiny.encoder, pictures[0], condition)
        greedy = tf.GenerationConfig(do_sample=False, max_new_tokens=MAX_WORD_TOKENS)
        said = real(**inputs, generation_config=greedy)[0, inputs["input_ids"].shape[1] :]
        whole = find_word(tokenizer.decode(said, skip_special_tokens=True)).text
        assert word.removesuffix(CUT) == whole
        assert length <= len(said)
        shorter = find_word(tokenizer.decode(said[: length - 1], skip_special_tokens=True))
        assert length == 1 or not shorter.ends
