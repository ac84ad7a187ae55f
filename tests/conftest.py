"""Fixtures shared by all tests: no network, no user's files, real small models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
from PIL import Image
from support.shell import Shell, stand_in_shell
from support.stand_in_fill import paint

from eval.world.factors import sample_scenes
from eval.world.gallery import write_world
from eval.world.render import render
from indexes.store.gallery import Gallery
from ingest.conditions import Condition
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice
from ingest.fill.pipeline import ingest

if TYPE_CHECKING:
    from support.tiny_reference import Tiny


def pytest_addoption(parser: pytest.Parser) -> None:
    """``make soak`` runs the long forms."""
    parser.addoption("--soak", action="store_true", help="run the long forms of the tests")
    parser.addoption("--families", action="store_true", help="measure and write the family table")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that ``make soak`` alone runs."""
    if not config.getoption("--soak"):
        long = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in set(long)]


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether the long forms are wanted."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(autouse=True)
def own_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's gallery, environment and current folder out of every test."""
    for name in [name for name in os.environ if name.startswith("CIES_")]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user-data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user-config"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """An empty gallery; modules whose tests search one of their own have another by this name."""
    return Gallery.create(tmp_path / "gallery")


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """The command line in this process, with a stand-in in place of the built-in model."""
    yield from stand_in_shell(monkeypatch, capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of ten small pictures; some modules have another by this name."""
    for number in range(10):
        paint(tmp_path / "pictures" / f"{number}.png", number)
    return tmp_path / "pictures"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit after every four pictures."""
    monkeypatch.setattr("ingest.fill.commit_queue.BATCH", 4)
    monkeypatch.setattr("ingest.fill.commit_queue.COMMIT_SECONDS", 0.0)


@pytest.fixture(scope="session")
def builtin() -> DiorEncoder:
    """The built-in model."""
    return DiorEncoder.load(EncoderChoice("dior", "tiny-lvlm"))


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2.5-VL on disk."""
    from support.tiny_models import save_qwen2_5_vl

    return save_qwen2_5_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="session")
def qwen(qwen_folder: Path) -> DiorEncoder:
    """A tiny Qwen2.5-VL, loaded."""
    return DiorEncoder.load(EncoderChoice("dior", str(qwen_folder)))


@pytest.fixture
def tiny(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    pictures: list[Image.Image],
) -> Tiny:
    """The tiny model named by an indirect parameter, built once for all tests."""
    from support.tiny_reference import tiny_model

    return tiny_model(request.param, tmp_path_factory.mktemp(request.param), pictures)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Rendered pictures of several sizes and aspects."""
    sizes = [(96, 96), (140, 96), (96, 140), (200, 60), (112, 112), (96, 96)]
    return [
        render(scene, 160).resize(size)
        for scene, size in zip(sample_scenes(len(sizes), 4), sizes, strict=True)
    ]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered folder of 60 pictures: images/ and labels.csv."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, 60, seed=11, size=128, workers=1)
    return folder


@pytest.fixture(scope="session")
def world_gallery(
    world: Path, builtin: DiorEncoder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The rendered folder embedded under color and shape."""
    place = tmp_path_factory.mktemp("world-gallery") / "gallery"
    conditions = [Condition.parse(name) for name in ("color", "shape")]
    ingest(Gallery.create(place), [world / "images"], conditions, lambda spec: builtin)
    return place


@pytest.fixture
def random() -> np.random.Generator:
    """Seeded numbers."""
    return np.random.default_rng(0)
