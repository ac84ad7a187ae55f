"""Models behind an OpenAI-compatible interface, against a server that runs transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.model_server import StandIn

import cies
from indexes.errors import GalleryMismatch, ModelError, UsageError
from ingest.conditions import Condition
from ingest.encoders.factory import make_encoder, remake_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.models.find import stored_name
from ingest.encoders.served import server as served_server

CONDITIONS = [Condition.parse(name) for name in ("color", "shape")]


@pytest.fixture
def standin(builtin: DiorEncoder, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(served_server, "PAUSE", 0.01)
    standin = StandIn(builtin.lvlm.model, builtin.processor, "tiny")
    with standin.running():
        yield standin


@pytest.fixture(scope="module")
def folder(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of the rendered world."""
    folder = tmp_path_factory.mktemp("served") / "pics"
    folder.mkdir()
    for path in sorted((world / "images").iterdir())[:6]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def pictures(folder: Path, count: int) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())[:count]]


def test_a_served_model_gives_the_vectors_and_words_of_the_loaded_one(
    standin: StandIn, builtin: DiorEncoder, folder: Path
) -> None:
    encoder = make_encoder("dior", standin.address)
    shown = pictures(folder, 4)
    found = encoder.embed(shown, CONDITIONS)
    expected = builtin.embed(shown, CONDITIONS)
    assert np.abs(found.vectors - expected.vectors).max() < 1e-5
    assert found.words == expected.words
    assert np.allclose(found.word_probabilities, expected.word_probabilities, atol=1e-4)
    assert encoder.dimension == builtin.dimension and "served at" in encoder.description
    assert standin.most_at_once > 1
    assert remake_encoder(encoder.spec).spec == encoder.spec


def test_the_states_of_all_tokens_do_too_and_then_there_are_no_words(
    standin: StandIn, builtin: DiorEncoder, folder: Path
) -> None:
    standin.paths = {"/v1/models", "/pooling"}
    encoder = make_encoder("dior", standin.address)
    found = encoder.embed(pictures(folder, 1), CONDITIONS)
    expected = builtin.embed(pictures(folder, 1), CONDITIONS, words=False)
    assert np.abs(found.vectors - expected.vectors).max() < 1e-5
    assert found.words == [["", ""]] and "no words" in encoder.description


def test_a_server_that_only_generates_answers(
    standin: StandIn, builtin: DiorEncoder, folder: Path
) -> None:
    standin.paths = {"/v1/models", "/v1/chat/completions"}
    with pytest.raises(ModelError, match="--runner pooling, or give --method generative"):
        make_encoder("dior", standin.address)
    encoder = make_encoder("generative", standin.address)
    found = encoder.embed(pictures(folder, 2), CONDITIONS)
    expected = make_encoder("generative").embed(pictures(folder, 2), CONDITIONS)
    assert found.words == expected.words
    assert np.allclose(found.vectors, expected.vectors, atol=1e-5)
    assert remake_encoder(encoder.spec).spec == encoder.spec
    with pytest.raises(UsageError, match="regional needs the model itself"):
        make_encoder("regional", standin.address)


def test_a_gallery_is_filled_searched_and_continued_after_the_server_died(
    standin: StandIn, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.fill.commit_queue.FIRST_BATCH", 2)
    monkeypatch.setattr("ingest.fill.commit_queue.BATCH", 2)
    given = {"conditions": ["color"], "model": standin.address}
    standin.dies_after = 4 + 2 * 2 * 2  # what it offers; two batches, each with words
    with pytest.raises(
        ModelError, match=r"server at http://127.* what was stored is kept"
    ) as caught:
        cies.ingest(tmp_path / "g", [folder], **given)
    assert len(str(caught.value)) < 300
    kept = len(cies.open(tmp_path / "g").stored("color").keys)
    assert 0 < kept < 6
    standin.dies_after = -1
    report = cies.ingest(tmp_path / "g", [folder], **given)
    assert report.embedded == 6 - kept
    g = cies.open(tmp_path / "g")
    assert [m.model for m in report.vector_sources] == [standin.address]
    Image.open(sorted(folder.iterdir())[0]).convert("RGB").save(tmp_path / "new.png")
    hits = g.search(tmp_path / "new.png", "color", k=1)
    assert hits[0].path == str(sorted(folder.iterdir())[0])
    standin.noise = 0.5
    with pytest.raises(GalleryMismatch, match="another vector for a test picture"):
        cies.open(tmp_path / "g").search(tmp_path / "new.png", "color", k=1)


def test_what_passes_is_tried_again_and_what_does_not_is_one_sentence(
    standin: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = make_encoder("dior", standin.address)
    shown = pictures(folder, 1)
    standin.faults = [503, 429, 500]
    assert encoder.encode(shown, CONDITIONS).shape == (1, 2, encoder.dimension)
    standin.faults = [500] * 50
    with pytest.raises(ModelError, match="refused with HTTP 500 and says: overloaded"):
        encoder.encode(shown, CONDITIONS)
    standin.faults = []
    standin.seconds = 1.0
    monkeypatch.setattr(served_server, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(served_server, "ATTEMPTS", 2)
    with pytest.raises(ModelError, match=r"gave no answer within 0\.1 s"):
        encoder.encode(shown, CONDITIONS)
    monkeypatch.setattr(served_server, "ANSWER_SECONDS", 30.0)
    standin.seconds, standin.cut = 0.0, 7
    with pytest.raises(ModelError, match="a vector of 7 numbers, and 192 before"):
        encoder.encode(shown, CONDITIONS)


def test_a_picture_that_the_server_refuses_is_left_out(
    standin: StandIn, folder: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (97, 50), "red").save(tmp_path / "wide.png")
    standin.refuses_width = 97
    report = cies.ingest(
        tmp_path / "g",
        [tmp_path / "wide.png", sorted(folder.iterdir())[0]],
        ["color"],
        model=standin.address,
    )
    assert report.embedded == 1
    [failed] = report.failed
    assert "the server refused it with HTTP 400: the picture is too wide" in failed.reason


def test_the_key_goes_to_the_server_and_nowhere_else(
    standin: StandIn, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-4f9a2c77"
    standin.keys = [f"Bearer {secret}"]
    with pytest.raises(
        ModelError, match=r"refused the key .HTTP 401; it is read from MODEL_API_KEY"
    ):
        make_encoder("dior", standin.address)
    monkeypatch.setenv("MODEL_API_KEY", secret)
    cies.ingest(tmp_path / "g", [sorted(folder.iterdir())[0]], ["color"], model=standin.address)
    for path in (tmp_path / "g").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()
    encoder = make_encoder("dior", standin.address)
    standin.faults = [500] * 50
    with pytest.raises(ModelError) as caught:
        encoder.encode(pictures(folder, 1), CONDITIONS)
    error: BaseException | None = caught.value
    while error is not None:
        assert secret not in str(error) + repr(vars(error))
        error = error.__cause__ or error.__context__
    monkeypatch.setenv("MODEL_API_KEY", "two words")
    with pytest.raises(UsageError, match="MODEL_API_KEY holds a space"):
        make_encoder("dior", standin.address)


def test_wrong_names_and_addresses_are_one_sentence(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = standin.address.partition("#")[0]
    with pytest.raises(ModelError, match=r"has no model 'other' \(it has: tiny\)"):
        make_encoder("dior", f"{url}#other")
    monkeypatch.setattr(served_server, "ATTEMPTS", 1)
    with pytest.raises(ModelError, match="cannot be reached"):
        make_encoder("dior", "openai:http://127.0.0.1:9/v1#tiny")
    for text in ("openai:tiny", "openai:http://h/v1", "openai:ftp://h/v1#m", "openai:#m"):
        with pytest.raises(UsageError, match="is named openai:URL#NAME"):
            stored_name(text)
    for text in ("openai:http://me:pw123@h/v1#m", "openai:http://h/v1?key=pw123#m"):
        with pytest.raises(UsageError, match="MODEL_API_KEY") as caught:
            stored_name(text)
        assert "pw123" not in str(caught.value)
    assert stored_name("openai:http://h:1#org/m") == "openai:http://h:1/v1#org/m"
    for option in ({"dtype": "float16"}, {"device": "cuda"}):
        with pytest.raises(UsageError, match="does not apply to a served model"):
            make_encoder("dior", standin.address, **option)
