"""Code that comes with a model runs only if the user typed the commit, and nothing ever asks."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.commands import run
from support.tiny_families import build
from support.tiny_reference import CONDITIONS

import cies
from indexes.errors import GalleryMismatch, ModelError, UsageError
from ingest.encoders.factory import make_encoder, normalized_options, remake_encoder
from ingest.encoders.models import pretrained, trust
from ingest.encoders.models.find import ModelSource, find_model
from ingest.encoders.options import EncoderOptions

ROOT = Path(__file__).parents[3]
PACKAGES = ("configs", "indexes", "ingest", "query", "eval", "cies")
COMMIT = "b" * 40

#: Calls by which a library reads a model's files, and where each may be.
LOADS = {
    "from_pretrained": "ingest/encoders/models/pretrained.py",
    "from_config": "ingest/encoders/models/pretrained.py",
    "create_model_from_pretrained": "ingest/encoders/models/pretrained.py",
    "create_model_and_transforms": "ingest/encoders/models/pretrained.py",
    "create_model": "ingest/encoders/models/pretrained.py",
    "get_tokenizer": "ingest/encoders/models/pretrained.py",
    "pipeline": "",
    "SentenceTransformer": "",
    "get_class_from_dynamic_module": "",
}


def calls(source: str) -> set[str]:
    """Names of the functions and methods that a module calls or passes on."""
    tree = ast.parse(source)
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return named | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_model_files_are_loaded_in_one_place() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith("eval/peers/"):
                continue  # What one would write without CIES; the product never imports it.
            source = path.read_text(encoding="utf-8")
            for load in calls(source) & LOADS.keys():
                assert name == LOADS[load], f"{name} uses {load}"
            assert "trust_remote_code=True" not in source, name
    # The test can fail, and the place is used.
    assert "from_pretrained" in calls("model = AutoModel.from_pretrained('x')")
    home = (ROOT / LOADS["from_pretrained"]).read_text(encoding="utf-8")
    assert "from_pretrained" in calls(home)


# -- folders with code --------------------------------------------------------------------------

CODE = """
import os
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

with open(os.environ["MARKER"], "a") as file:
    file.write(__name__ + chr(10))


class OwnConfig(LlavaConfig):
    model_type = "own_llava"


class OwnModel(LlavaForConditionalGeneration):
    config_class = OwnConfig


class OwnProcessor(LlavaProcessor):
    pass
"""


def add_code(folder: Path, model_type: str = "own_llava", prefix: str = "") -> Path:
    """Let a model folder name code of its own for everything that can have some."""
    (folder / "own.py").write_text(CODE)
    classes = {
        "config.json": {"AutoConfig": "OwnConfig", "AutoModelForImageTextToText": "OwnModel"},
        "processor_config.json": {"AutoProcessor": "OwnProcessor"},
    }
    for name, named in classes.items():
        content = json.loads((folder / name).read_text())
        content["auto_map"] = {kind: f"{prefix}own.{one}" for kind, one in named.items()}
        if name == "config.json":
            content["model_type"] = model_type
        (folder / name).write_text(json.dumps(content))
    return folder


def with_names_of_its_class(folder: Path) -> Path:
    """Name the weights as the class does; transformers maps other names for its own types only."""
    import safetensors.torch
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(folder)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "teal.png"
    Image.new("RGB", (64, 64), "teal").save(path)
    return path


class Shell:
    """Runs commands with "y" on stdin, and sees whether the model's code ran."""

    def __init__(self, folder: Path):
        self.marker = folder / "it-ran"
        self.home = folder / "home"

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        self.marker.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "cies", *map(str, arguments)],
            input="y\n" * 20,
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "MARKER": str(self.marker),
                "HF_HOME": str(self.home),
                "HF_HUB_OFFLINE": "1",
            },
        )
        assert "y/N" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_folder_with_code_neither_runs_nor_asks(
    shell: Shell, picture: Path, tmp_path: Path
) -> None:
    folder = build("llava", tmp_path / "model")
    gallery = cies.create(tmp_path / "g")
    cies.ingest(gallery, [picture], ["color"], model=str(folder))
    # The code comes later: the gallery still names the folder.
    add_code(folder)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(CODE)
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 64), "red").save(other)
    done = shell.run("search", other, "-g", gallery.path, "-c", "color")
    assert done.returncode == 4, done.stderr
    assert "whose files have changed" in done.stderr
    assert not shell.marker.exists()
    # A new gallery with that folder.
    done = shell.run("ingest", picture, "-g", tmp_path / "new", "-c", "color", "--model", folder)
    assert done.returncode == 5
    assert "needs Python code of its own" in done.stderr
    assert not shell.marker.exists()


def test_a_known_type_with_code_is_loaded_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = add_code(build("llava", tmp_path / "model"), "llava")
    monkeypatch.setenv("MARKER", str(tmp_path / "it-ran"))
    monkeypatch.setattr("builtins.input", asked)
    encoder = make_encoder("dior", str(folder))
    assert encoder.encode([Image.new("RGB", (64, 64))], CONDITIONS[:1]).shape == (1, 1, 48)
    assert not (tmp_path / "it-ran").exists()


def test_code_of_a_commit_runs_if_it_is_typed(shell: Shell, picture: Path, tmp_path: Path) -> None:
    snapshot = shell.home / "hub" / "models--someone--own" / "snapshots" / COMMIT
    add_code(with_names_of_its_class(build("llava", snapshot)))
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(COMMIT)
    gallery, model = tmp_path / "g", "someone/own"
    ingest = ("ingest", picture, "-g", gallery, "-c", "color", "--model", model)
    done = shell.run(*ingest, "--trust-remote-code", f"{model}@{COMMIT}")
    assert done.returncode == 0, done.stderr
    assert shell.marker.exists()
    # The gallery does not remember it.
    Image.new("RGB", (64, 64), "red").save(tmp_path / "other.png")
    search = ("search", tmp_path / "other.png", "-g", gallery, "-c", "color")
    done = shell.run(*search)
    assert done.returncode == 5 and "--trust-remote-code" in done.stderr
    assert not shell.marker.exists()


def test_code_of_another_repository_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody named the commit of that one."""
    folder = add_code(build("llava", tmp_path / "model"), prefix="someone/else--")
    monkeypatch.setattr(trust, "_trusted", {"someone/own": COMMIT})
    monkeypatch.setattr(pretrained, "model_file", lambda source, name: folder / name)
    monkeypatch.setattr(pretrained, "_CODE_FILES", ("config.json", "processor_config.json"))
    with pytest.raises(ModelError, match="names code of someone/else"):
        pretrained.load_config(find_model(f"someone/own@{COMMIT}"))


def asked(*_: object) -> str:
    raise AssertionError("the terminal was asked")


def test_trust_is_for_one_commit_of_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_trusted", {})
    trust.trust_remote_code(f"someone/own@{COMMIT}")
    named = ModelSource("someone/own", "someone/own", None, local=False)
    assert trust.pinned(named).revision == COMMIT and not trust.is_trusted(named)
    for source, trusted in (
        (trust.pinned(named), True),
        (find_model(f"someone/own@{COMMIT}"), True),
        (find_model(f"someone/own@{'c' * 40}"), False),
        (find_model(f"someone/other@{COMMIT}"), False),
        (find_model("tiny-lvlm"), False),
    ):
        assert trust.is_trusted(source) == trusted


@pytest.mark.parametrize(
    "given",
    ["own", "someone/own", "someone/own@main", f"someone/own@{COMMIT[:12]}", "./x@" + COMMIT],
)
def test_only_a_whole_commit_can_be_trusted(given: str) -> None:
    with pytest.raises(UsageError, match="ORG/NAME@COMMIT"):
        trust.trust_remote_code(given)


def test_trust_is_typed_each_time(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cies.toml").write_text(f'[search]\ntrust-remote-code = ["a/b@{COMMIT}"]\n')
    monkeypatch.chdir(tmp_path)
    done = run("search", picture, "-c", "color")
    assert done.returncode == 2 and "must be typed each time" in done.stderr


def test_a_library_in_between_cannot_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """open_clip, for one, loads tokenizers of transformers and leaves ``trust_remote_code`` out."""
    import transformers

    folder = add_code(build("llava", tmp_path / "model"))
    monkeypatch.setenv("MARKER", str(tmp_path / "it-ran"))

    monkeypatch.setattr("builtins.input", asked)
    source = ModelSource(str(folder), str(folder), None, local=True)
    with (
        pytest.raises(ModelError, match="needs Python code of its own"),
        pretrained.library_call(source),
    ):
        transformers.AutoConfig.from_pretrained(str(folder))
    assert not (tmp_path / "it-ran").exists()


def test_the_folder_is_compared_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build("llava", tmp_path / "model")
    spec = make_encoder("dior", str(folder)).spec
    config = folder / "config.json"
    config.write_text(config.read_text() + "\n")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a file of the changed model was loaded")

    monkeypatch.setattr(pretrained, "load_pretrained", never)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", never)
    with pytest.raises(GalleryMismatch, match="whose files have changed"):
        remake_encoder(spec)
    with pytest.raises(GalleryMismatch, match="whose files have changed"):
        normalized_options(EncoderOptions(layer=1), spec)


def test_built_in_models_are_compared_too() -> None:
    spec = make_encoder("clip", "tiny-clip").spec
    assert find_model("tiny-clip").builtin
    with pytest.raises(GalleryMismatch, match="tiny-clip"):
        remake_encoder(type(spec)(spec.method, spec.model, "0" * 16, spec.settings))
