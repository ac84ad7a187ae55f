"""Regional: five questions in one pass against each alone, and the best of five cosines."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from indexes.search.multi_vector import best_of_parts, joined, split
from indexes.vectors import unit
from ingest.conditions import Condition
from ingest.encoders.factory import remake_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.methods.regional import RegionalEncoder
from ingest.encoders.options import EncoderOptions
from ingest.encoders.vlm import lvlm

CONDITIONS = [Condition.parse(name) for name in ("color", "unconditional")]
QUESTIONS = (
    'Describe this image in one word regarding {condition}: "',
    'Describe the left-upper corner of this image in one word regarding {condition}: "',
    'Describe the left-lower corner of this image in one word regarding {condition}: "',
    'Describe the right-upper corner of this image in one word regarding {condition}: "',
    'Describe the right-lower corner of this image in one word regarding {condition}: "',
)


def test_five_prompts_of_one_pass(qwen: DiorEncoder, pictures: list[Image.Image]) -> None:
    encoder = RegionalEncoder(qwen._source, qwen._loaded)
    looked: list[int] = []
    passes: list[int] = []
    ears = [
        qwen._loaded.model.model.visual.register_forward_hook(lambda *_: looked.append(1)),
        qwen._loaded.model.model.language_model.register_forward_hook(lambda *_: passes.append(1)),
    ]
    try:
        rows = encoder.encode(pictures[:1], CONDITIONS)
    finally:
        for ear in ears:
            ear.remove()
    assert len(looked) == len(passes) == 1
    reading = encoder.embed(pictures, CONDITIONS)
    assert reading.vectors.shape == (len(pictures), 2, encoder.dimension) == (6, 2, 5 * 64)
    assert np.allclose(rows[0], reading.vectors[0], atol=1e-5)
    assert np.allclose(np.linalg.norm(reading.vectors, axis=-1), 1, atol=1e-5)
    # Each part is DIOR's vector for that question alone; the word is that of the whole picture.
    parts = split(reading.vectors[:, 0], 5)
    for place, question in enumerate(QUESTIONS):
        alone = DiorEncoder(qwen._source, qwen._loaded, prompt=question).embed(
            pictures, CONDITIONS[:1]
        )
        assert np.allclose(parts[:, place], alone.vectors[:, 0], atol=1e-4)
        if place == 0:
            assert [row[0] for row in reading.words] == [row[0] for row in alone.words]
    whole = qwen.encode(pictures, CONDITIONS)
    assert np.allclose(split(reading.vectors[:, 1], 5)[:, 0], whole[:, 1], atol=1e-4)
    assert np.abs(parts[:, 1] - parts[:, 0]).max() > 0.01
    assert encoder.spec.settings["parts"] == 5 and encoder.spec.method == "regional"


def test_prompts_in_several_passes_say_the_same(
    builtin: DiorEncoder, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = RegionalEncoder(builtin._source, builtin._loaded)
    asked = [Condition.parse(name) for name in ("color", "shape", "background")]
    whole = encoder.embed(pictures[:2], asked)
    monkeypatch.setattr(lvlm, "prompts_per_pass", lambda prompts, dimension: 4)
    divided = encoder.embed(pictures[:2], asked)
    np.testing.assert_allclose(divided.vectors, whole.vectors, atol=1e-5)
    assert divided.words == whole.words
    np.testing.assert_allclose(divided.word_probabilities, whole.word_probabilities, atol=1e-4)


def test_texts_and_options(builtin: DiorEncoder, pictures: list[Image.Image]) -> None:
    encoder = RegionalEncoder(builtin._source, builtin._loaded)
    rows = encoder.encode_text(["red heart"], CONDITIONS[:1])
    text = builtin.encode_text(["red heart"], CONDITIONS[:1])[:, 0]
    assert np.allclose(split(rows[:, 0], 5), text[:, None], atol=1e-5)
    # The best of five, for one text or for pictures.
    gallery = encoder.encode(pictures, CONDITIONS[:1])[:, 0]
    best = best_of_parts(text, gallery)
    assert np.allclose(best, (split(gallery, 5) @ text[0]).max(1), atol=1e-5)
    assert remake_encoder(encoder.spec).spec == encoder.spec
    mean = RegionalEncoder(builtin._source, builtin._loaded, options=EncoderOptions(token="mean"))
    assert mean.encode(pictures[:1], CONDITIONS).shape == (1, 2, encoder.dimension)


def test_best_of_parts_by_loops() -> None:
    random = np.random.default_rng(0)
    parts = unit(random.normal(size=(35, 6))).reshape(7, 5, 6)
    queries = unit(random.normal(size=(3, 6)))
    rows = joined(parts)
    assert rows.shape == (7, 30) and np.allclose(np.linalg.norm(rows, axis=1), 1)
    assert np.allclose(split(rows, 5), parts, atol=1e-6)
    found = best_of_parts(queries, rows)
    for q in range(3):
        for n in range(7):
            wanted = max(float(queries[q] @ parts[n, p]) for p in range(5))
            assert found[q, n] == pytest.approx(wanted, abs=1e-6)
    assert found.dtype == np.float32
    assert np.allclose(best_of_parts(queries, rows.astype(np.float16)), found, atol=2e-3)
    # A picture query uses its first part, and finds itself.
    asked = split(rows, 5)[:, 0]
    assert np.allclose(best_of_parts(asked, rows).diagonal(), 1, atol=1e-5)
    # The dot product of two rows is the mean cosine of their parts.
    assert np.allclose(rows @ rows.T, np.einsum("apd,bpd->ab", parts, parts) / 5, atol=1e-6)
    with pytest.raises(ValueError, match="no 4 parts"):
        best_of_parts(queries, rows, 4)
    with pytest.raises(ValueError, match="no 7 parts"):
        split(rows, 7)


def test_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    rows = joined(unit(random.normal(size=(55, 4))).reshape(11, 5, 4))
    queries = unit(random.normal(size=(2, 4)))
    whole = best_of_parts(queries, rows)
    monkeypatch.setattr("indexes.search.multi_vector._BLOCK", 60)
    assert np.allclose(best_of_parts(queries, rows), whole)
