"""Models that cannot be loaded: one sentence with the way out, in Python and in commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.tiny_models import save_qwen2_5_vl

from indexes.errors import ModelError, UsageError
from ingest.conditions import Condition
from ingest.encoders.models import loading
from ingest.encoders.models.find import ModelSource, find_model
from ingest.encoders.models.load_errors import explain
from ingest.encoders.models.loading import load_model

COMMIT = "a" * 40


def change(name: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return apply


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def cut(folder: Path, to: int = -500) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:to])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


BROKEN = {
    "half a config": (write("config.json", '{"model_type":'), r"config\.json is not valid JSON"),
    "no type": (write("config.json", "{}"), "names no model type"),
    "new type": (write("config.json", '{"model_type": "later"}'), "install a newer one"),
    "text only": (write("config.json", '{"model_type": "bert"}'), "'bert', which does not answer"),
    "wrong value": (
        change("config.json", '"num_hidden_layers": 4', '"num_hidden_layers": "four"'),
        "num_hidden_layers.* expected int",
    ),
    "other sizes": (
        change("config.json", '"intermediate_size": 128', '"intermediate_size": 130'),
        r"other sizes than its config\.json says",
    ),
    "cut weights": (cut, "cut short or damaged"),
    "cut header": (lambda folder: cut(folder, 5000), "cut short or damaged"),
    "no bytes": (lambda folder: cut(folder, 0), "cut short or damaged"),
    "pickle": (pickled, "no safetensors weights.*convert them"),
    "no eyes": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        r"without preprocessor_config\.json",
    ),
    "half a tokenizer": (write("tokenizer.json", "{"), r"tokenizer\.json is not valid JSON"),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_broken_folders(what: str, qwen_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(qwen_folder, folder)
    breaks, message = BROKEN[what]
    breaks(folder)
    with pytest.raises(ModelError, match=message) as refused:
        load_model(find_model(str(folder)))
    said = str(refused.value)
    assert said.endswith(".") and "\n" not in said and ". " not in said
    assert "name a" in said


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cies", "ingest", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **variables}, check=False
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "teal.png")
    return tmp_path / "teal.png"


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A hub cache with one commit of one model."""
    repository = tmp_path / "home" / "hub" / "models--someone--tiny"
    save_qwen2_5_vl(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return tmp_path / "home"


def test_hub_models_as_typed(hub: Path, picture: Path, tmp_path: Path) -> None:
    done = run(picture, "-g", tmp_path / "none", "-c", "color", "--model", "someone/tiny@nope",
               HF_HOME=str(hub))  # fmt: skip
    assert done.returncode == 5, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: Revision 'nope' of someone/tiny is not in the local cache")
    assert "Traceback" not in done.stderr and "Retrying" not in done.stderr
    done = run(
        picture, "-g", tmp_path / "g", "-c", "color", "--model", "someone/tiny", "--json",
        HF_HOME=str(hub),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The gallery stores the commit, so that the same version is loaded later.
    import cies

    assert cies.create(tmp_path / "g").conditions()[0].made_by["revision"] == COMMIT
    done = run(picture, "-g", tmp_path / "g", "-c", "shape", HF_HOME=str(hub))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("someone/other", "^someone/other is not in the local cache"),
        ("./nowhere", "^There is no model './nowhere': no such folder"),
    ],
)
def test_models_that_are_nowhere(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(find_model(model))


HUBS = """
from ingest.encoders.models.find import hub_answers
print(hub_answers("someone/model"))
"""


@pytest.mark.parametrize("answers", [True, False])
def test_a_hub_is_asked_once(answers: bool) -> None:
    """Without the retries of the hub's client, which wait 23 seconds for each file."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # answers 501 to HEAD
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    if not answers:
        server.shutdown()
        server.server_close()
    address = f"http://127.0.0.1:{server.server_port}"
    done = subprocess.run(
        [sys.executable, "-c", HUBS],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"},
        check=False,
        timeout=60,
    )
    if answers:
        server.shutdown()
        server.server_close()
    assert done.stdout.split() == [str(answers)], done.stderr
    assert "Retrying" not in done.stderr


NO_NETWORK = """
import socket, sys
def refuse(*a, **k): raise AssertionError("the network was asked")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
from ingest.encoders.models.find import find_model
from ingest.encoders.models.loading import load_model
print(load_model(find_model(sys.argv[1])).revision)
"""


def test_a_pinned_commit_in_the_cache_needs_no_network(hub: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, f"someone/tiny@{COMMIT}"],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HOME": str(hub), "HF_HUB_OFFLINE": "0"},
    )
    assert done.stdout.strip() == COMMIT, done.stderr
    assert "network was asked" not in done.stderr


@pytest.mark.parametrize(
    ("words", "revision", "said"),
    [
        ("nope is not a valid git identifier (branch name)", "nope", "has no revision 'nope'"),
        ("We couldn't connect to 'https://x'. Check the revision", None, "org/name is not in the"),
        ("You are trying to access a gated repo. Make sure", None, "accept them on its page"),
    ],
)
def test_what_the_hub_says(words: str, revision: str | None, said: str) -> None:
    found = explain(OSError(words), ModelSource("org/name", "org/name", revision, local=False))
    assert found is not None and said in found


def test_memory_at_loading(qwen_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Qwen2_5_VLForConditionalGeneration as Model

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Model, "to", full)
    with pytest.raises(ModelError, match=r"memory to load .*--dtype bfloat16"):
        load_model(find_model(str(qwen_folder)))


def test_errors_of_our_own_are_not_dressed_up(
    qwen_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what a library raises about the model's files is explained as a broken file."""

    def bug(*_: object) -> str:
        raise RuntimeError("a bug")

    monkeypatch.setattr(loading, "choose_dtype", bug)
    with pytest.raises(RuntimeError, match="a bug"):
        load_model(find_model(str(qwen_folder)))


@pytest.mark.parametrize("text", ["", "   ", "x" * 1000])
def test_conditions_that_are_none(text: str, picture: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Condition.parse(text)


def test_folders_as_typed(qwen_folder: Path, picture: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(qwen_folder, folder)
    cut(folder)
    done = run(picture, "-g", tmp_path / "g", "-c", "color", "--model", folder)
    assert done.returncode == 5
    assert done.stderr.strip().splitlines()[-1].startswith("Error: The weights of")
    assert "Traceback" not in done.stderr
    assert json.loads((folder / "config.json").read_text())["model_type"] == "qwen2_5_vl"
