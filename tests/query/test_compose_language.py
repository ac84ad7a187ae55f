"""What language models answer, well and badly: read, asked over HTTP, kept."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from PIL import Image

from indexes.errors import CiesError, ModelError, UsageError
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.vlm import generation
from ingest.encoders.vlm.generation import TextGenerator
from query.composers.answer_cache import cache_folder, cached_answer
from query.composers.caption_parsing import parse_caption
from query.composers.caption_writer import LvlmCaptionWriter
from query.composers.endpoint import KEY_VARIABLE, Endpoint

PICTURE = Image.new("RGB", (32, 32), "red")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("a green heart", "a green heart"),
        ("Edited Description: a clock: it shows 10:30", "a clock: it shows 10:30"),
        ("**Edited Description:** a green heart\n\nI changed it.", "a green heart"),
        ("Sure, here is the description:\n\n'a green heart'", "a green heart"),
        ('```json\n{"caption": "a green heart"}\n```', "a green heart"),
        ('Well: {"Edited Description": "a: b"} there', "a: b"),
        ("<think>no: yes</think>\nTarget caption: a green heart", "a green heart"),
        ("Image Content: x\nInstruction: y\nEdited Description:\na green heart", "a green heart"),
    ],
)
def test_a_sentence_is_found_in_its_wrapping(answer: str, sentence: str) -> None:
    found = parse_caption(answer, "in green", "a model")
    assert (found.text, found.note) == (sentence, "")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "  \n\n",
        "...",
        "I'm sorry, but I cannot help with that.",
        "As an AI language model, I do not see images.",
        "Edited Description: I can't describe this.",
        '{"caption": 7}',
        '{"caption": ',
        "[]",
        '{"caption": "I am unable to"}',
        "on on on on red on on on on on",
    ],
)
def test_no_sentence_falls_back_to_the_change_and_says_so(answer: str) -> None:
    found = parse_caption(answer, "in green", "a model")
    assert found.text == "in green" and found.note.startswith("a model ")
    assert found.note.count(". ") == 0


def test_objects_are_read_from_lists_and_lines() -> None:
    answer = {"caption": "a", "must": ["dog", 3, "dog", " "], "must not": "cat, None"}
    found = parse_caption(json.dumps(answer), "x", "a model")
    assert (found.must, found.must_not) == (("dog",), ("cat",))
    deep = '{"caption": ' + "[" * 50_000
    assert parse_caption(deep, "x", "a model").text == "x"
    assert len(parse_caption("word " * 5000, "x", "a model").text) <= 500


# -- over HTTP ---------------------------------------------------------------------------------


def chat(content: object) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


@contextmanager
def server(body: bytes, status: int = 200, wait: float = 0.0) -> Iterator[tuple[str, list[dict]]]:
    """An API that always gives the same answer, and what it was asked."""
    asked: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            question = json.loads(self.rfile.read(length))
            asked.append({"key": self.headers["Authorization"], "path": self.path, **question})
            time.sleep(wait)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1", asked
    finally:
        running.shutdown()
        running.server_close()


def test_an_endpoint_is_asked_with_the_key_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    with server(chat("a green heart")) as (url, asked):
        assert Endpoint(url, "some-model").answer("what?") == "a green heart"
    (question,) = asked
    assert question["path"] == "/v1/chat/completions" and question["key"] == "Bearer secret"
    assert question["messages"] == [{"role": "user", "content": "what?"}]
    assert question["model"] == "some-model" and question["temperature"] == 0


def test_parts_and_nothing_are_answers_too() -> None:
    with server(chat([{"type": "text", "text": "a "}, {"text": "heart"}])) as (url, _):
        assert Endpoint(url, "m").answer("?") == "a heart"
    with server(chat(None)) as (url, _):
        assert Endpoint(url, "m").answer("?") == ""


@pytest.mark.parametrize(
    ("body", "status", "wait", "words"),
    [
        (b"<html>", 200, 0.0, "another form"),
        (b'{"choices": []}', 200, 0.0, "another form"),
        (b"[" * 100_000, 200, 0.0, "another form"),
        (b"x" * (2**20 + 9), 200, 0.0, "another form"),
        (b"no", 500, 0.0, "HTTP 500"),
        (b"no", 401, 0.0, KEY_VARIABLE),
        (b"", 302, 0.0, "HTTP 302"),
        (chat("late"), 200, 0.6, "within 0.2 s"),
    ],
)
def test_an_endpoint_that_fails_is_one_sentence(
    body: bytes, status: int, wait: float, words: str
) -> None:
    with server(body, status, wait) as (url, _), pytest.raises(ModelError, match=words) as error:
        Endpoint(url, "m", 0.2 if wait else 5.0).answer("?")
    assert url in str(error.value) and "--rewriter" in str(error.value)


def test_an_endpoint_that_is_down_is_one_sentence() -> None:
    with pytest.raises(ModelError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:1/v1", "m", 2.0).answer("?")


@contextmanager
def raw_server(*parts: bytes, pause: float = 0.0) -> Iterator[str]:
    """A server that answers any request with these bytes, one after the other."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    for part in parts:
                        connection.sendall(part)
                        time.sleep(pause)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        listening.close()


def test_the_time_limit_counts_for_the_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    body = chat("late" * 50)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body)
    in_the_body = [head + b"\r\n", *(bytes([byte]) for byte in body)]
    in_the_head = [bytes([byte]) for byte in head * 9]
    for parts in (in_the_body, in_the_head):
        with raw_server(*parts, pause=0.05) as url:
            began = time.monotonic()
            with pytest.raises(ModelError, match=r"no answer within 0\.4 s"):
                Endpoint(url, "m", 0.4).answer("?")
            assert time.monotonic() - began < 1.5

    # A name that is looked up for ever.
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"no answer within 0\.3 s"):
        Endpoint("http://somewhere.invalid/v1", "m", 0.3).answer("?")
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_one_sentence_without_the_key(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret")
    with raw_server(answer) as url, pytest.raises(ModelError, match="The rewriter at") as caught:
        Endpoint(url, "m", 3.0).answer("?")
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["sk-\nsecret", "sk-\r\nX: secret", "sk- secret", "sk-\u00e9secret"]
)
def test_a_key_that_no_header_can_hold_is_refused_unseen(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(UsageError, match=KEY_VARIABLE) as caught:
        Endpoint("http://127.0.0.1:1/v1", "m", 2.0).answer("?")
    assert "secret" not in str(caught.value) and caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "model", "seconds"),
    [
        ("localhost:8000", "m", 1.0),
        ("file:///etc/passwd", "m", 1.0),
        ("http://user:word@host/v1", "m", 1.0),
        ("http://host:port/v1", "m", 1.0),
        ("http://host/v1\r\nX: y", "m", 1.0),
        ("http://[host/v1", "m", 1.0),
        ("http://host/v1", "", 1.0),
        ("http://host/v1", "m", 0.0),
    ],
)
def test_what_is_no_endpoint_is_refused(url: str, model: str, seconds: float) -> None:
    with pytest.raises(UsageError):
        Endpoint(url, model, seconds)


# -- kept --------------------------------------------------------------------------------------


def test_an_answer_is_kept_under_all_that_decides_it() -> None:
    calls: list[int] = []

    def ask() -> str:
        calls.append(1)
        return f"answer {len(calls)}"

    about = {"model": "m", "question": "a?"}
    assert cached_answer(about, PICTURE, ask) == "answer 1"
    assert cached_answer(about, PICTURE.copy(), ask) == "answer 1"
    others = [
        ({**about, "question": "a ?"}, PICTURE),
        ({**about, "model": "n"}, PICTURE),
        (about, Image.new("RGB", (32, 32), "blue")),
        (about, PICTURE.resize((16, 64))),
        (about, None),
    ]
    assert len({cached_answer(what, image, ask) for what, image in others}) == 5
    for path in cache_folder().rglob("*.json"):
        path.write_text('{"question": "another", "answer": "wrong"}')
    assert cached_answer(about, PICTURE, ask) == "answer 7"


def test_nothing_is_not_kept_and_a_cache_that_cannot_be_written_to_is_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cached_answer({"model": "m"}, None, lambda: " ") == " "
    assert cached_answer({"model": "m"}, None, lambda: "now") == "now"
    (tmp_path / "file").touch()
    monkeypatch.setattr(
        "query.composers.answer_cache.cache_folder", lambda: tmp_path / "file" / "below"
    )
    assert cached_answer({"model": "m"}, None, lambda: "again") == "again"


# -- speaking ----------------------------------------------------------------------------------


def test_the_built_in_model_describes_and_imagines(
    builtin: DiorEncoder, pictures: list[Image.Image]
) -> None:
    generator = TextGenerator(builtin)
    together = generator.generate(pictures, "Describe this image in one sentence.")
    alone = [
        generator.generate([one], "Describe this image in one sentence.")[0] for one in pictures
    ]
    assert together == alone and all(len(said.split()) == 10 for said in together)
    writer = LvlmCaptionWriter(generator)
    found = writer.reasoned(pictures[0], "make it green")
    assert " green " in found.text and found.note == ""
    with pytest.raises(ModelError, match="not trained to answer yes or no"):
        generator.yes_probabilities(pictures[:1], "Is it red?")
    with pytest.raises(UsageError, match="<image>"):
        writer.changed(pictures[0], "<image>")
    with pytest.raises(ModelError, match="no token"):
        writer.changed(pictures[0], "x" * 490)
    with pytest.raises(UsageError, match="too long"):
        writer.changed(pictures[0], "red " * 500)


def test_votes_are_the_models_own_probabilities(
    qwen: DiorEncoder, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = TextGenerator(qwen)
    with pytest.raises(ModelError):
        generator.yes_probabilities(pictures[:1], "circle?")  # it has no such words
    monkeypatch.setattr(generation, "_YES", ("red", "green"))
    monkeypatch.setattr(generation, "_NO", ("blue",))
    votes = generator.yes_probabilities(pictures[:3], "describe the color")
    tokenizer = qwen.processor.tokenizer
    red, green, blue = tokenizer.convert_tokens_to_ids(["red", "green", "blue"])
    turn = [{"type": "image"}, {"type": "text", "text": "describe the color"}]
    chat_text = qwen.processor.apply_chat_template(
        [{"role": "user", "content": turn}], add_generation_prompt=True
    )
    for picture, yes, mass in zip(pictures, votes.yes, votes.mass, strict=False):
        given = qwen.processor(text=[chat_text], images=[picture], return_tensors="pt")
        with torch.inference_mode():
            kinds = (given["input_ids"] == qwen.lvlm.model.config.image_token_id).int()
            logits = qwen.lvlm.model(**{**given, "mm_token_type_ids": kinds}).logits[0, -1].float()
        chances = logits.softmax(-1)
        assert mass == pytest.approx(float(chances[[red, green, blue]].sum()), rel=1e-3)
        assert yes * mass == pytest.approx(float(chances[[red, green]].sum()), rel=1e-3)


def test_an_endpoint_rewrites_what_an_lvlm_saw(
    builtin: DiorEncoder, pictures: list[Image.Image]
) -> None:
    with server(chat('Edited Description: "a green heart: large"')) as (url, asked):
        writer = LvlmCaptionWriter(TextGenerator(builtin), Endpoint(url, "big"))
        found = [writer.changed(pictures[0], "make it green") for _ in range(2)]
        answer = json.dumps({"caption": "x y", "must": ["a"], "must_not": ["b"]})
    assert [one.text for one in found] == ["a green heart: large"] * 2
    (question,) = asked  # the second time it was kept
    seen = TextGenerator(builtin).generate(pictures[:1], "Describe this image in one sentence.")[0]
    text = question["messages"][0]["content"]
    assert f"Image Content: {seen}\nInstruction: make it green" in text
    with server(chat(answer)) as (url, _):
        reasoned = LvlmCaptionWriter(TextGenerator(builtin), Endpoint(url, "big")).reasoned(
            pictures[0], "x"
        )
    assert (reasoned.text, reasoned.must, reasoned.must_not) == ("x y", ("a",), ("b",))
    with server(chat("I'm sorry, I cannot.")) as (url, _):
        refused = LvlmCaptionWriter(TextGenerator(builtin), Endpoint(url, "big")).changed(
            pictures[0], "x"
        )
    assert refused.text == "x" and "big refused" in refused.note
    with pytest.raises(CiesError):
        LvlmCaptionWriter(TextGenerator(builtin), Endpoint("http://127.0.0.1:1", "m", 1)).changed(
            PICTURE, "y"
        )


def test_a_text_is_cut_where_the_clip_stops_reading() -> None:
    dual = DualEncoder.load("tiny-clip")
    short, long = "a red heart", "red " * 80 + "heart"
    assert dual.truncate(short) == short
    assert dual.truncate(f"a \U0001f642 heart {'x' * 200}") == "a heart"
    assert dual.truncate("\U0001f642") == ""
    read = dual.truncate(long)
    assert long.startswith(read) and len(read.split()) < 48
    assert (dual.encode_texts([read]) == dual.encode_texts([long])).all()
