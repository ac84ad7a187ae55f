"""The examples of docs/serve.md and the Dockerfile, as far as they run here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served import Served, served
from typer.testing import CliRunner

from cies.cli.app import app
from ingest.encoders.methods.dior import DiorEncoder

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(world_gallery: Path, builtin: DiorEncoder) -> Iterator[Served]:
    with served(world_gallery, builtin) as one:
        yield one


def block(kind: str, start: str) -> str:
    """The block of code of a language that has a text."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return next(str(text) for found, text in blocks if found == kind and start in text)


def here(code: str, server: Served) -> str:
    """An example for the gallery of the tests."""
    code = code.replace("localhost:8008", f"127.0.0.1:{server.port}")
    return code.replace("fabric", "shape").replace("price < 50", "width > 1")


def test_the_python_example_prints_hits(server: Served, world: Path, tmp_path: Path) -> None:
    shutil.copy(world / "images" / "00003.jpg", tmp_path / "mug.jpg")
    code = here(block("python", "def post"), server)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_the_curl_examples_print_documents(server: Served, world: Path, tmp_path: Path) -> None:
    shutil.copy(world / "images" / "00003.jpg", tmp_path / "mug.jpg")
    stream = here(block("", "curl -sN"), server).replace('"mood"', '"color"')
    code = here(block("", "key=$(curl"), server).replace("python3", sys.executable)
    done = subprocess.run(
        ["bash", "-ec", code + "\necho\necho ---\n" + stream],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    documents, events = done.stdout.split("---\n")
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(documents.rstrip()):
        document, at = decoder.raw_decode(documents, at)
        found.append(document)
        at += len(documents[at:]) - len(documents[at:].lstrip())
    assert found[0]["pictures"] == 60
    assert len(found[1]["hits"]) == 5 and len(found[2]["hits"]) == 20
    assert events.startswith("event: first\ndata: {") and "\nevent: answer\ndata: {" in events


def test_the_command_of_the_service_is_accepted() -> None:
    words = re.search(r"ExecStart=\S+/cies (.*)", PAGE)
    assert words is not None
    arguments = words[1].split()
    assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0


def test_the_dockerfile_copies_every_package_and_starts_the_server(server: Served) -> None:
    """There is no Docker here: its words are compared with the project, its check is run."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}
    assert {line.split()[0] for line in lines} <= known
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= copied
    assert all((ROOT / name).exists() for name in copied)
    extras = re.search(r"'\.\[(.*?)\]'", text)
    assert extras and set(extras[1].split(",")) <= set(project["project"]["optional-dependencies"])
    entry = json.loads(next(line for line in lines if line.startswith("ENTRYPOINT"))[10:])
    assert entry[0] in project["project"]["scripts"]
    assert CliRunner().invoke(app, [*entry[1:], "--help"]).exit_code == 0
    check = next(line for line in lines if line.startswith("HEALTHCHECK")).split('"')[1]
    command = [sys.executable, "-c", check.replace("8008", str(server.port))]
    assert subprocess.run(command, timeout=60).returncode == 0
    command = [sys.executable, "-c", check.replace("8008", "1")]
    assert subprocess.run(command, timeout=60, capture_output=True).returncode != 0
