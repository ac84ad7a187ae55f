"""Chosen pictures embedded under a condition, stored or in memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.kinds import fill, png, put
from support.stand_in import StandIn

from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.conditions import Condition
from ingest.fill.pipeline import Progress
from ingest.fill.subset import SubsetEmbedder, embed_in_memory

MOOD = Condition.parse("mood")


@pytest.fixture
def filled(gallery: Gallery, tmp_path: Path) -> Gallery:
    for number in range(5):
        put(tmp_path / "p" / f"{number}.png", png(number))
    fill(gallery, tmp_path / "p")
    return gallery


def table() -> VectorTable:
    return VectorTable("mood", 16, StandIn().spec.made_by(MOOD), partial=True)


def test_in_memory_and_stored_vectors_are_the_same(filled: Gallery) -> None:
    keys = sorted(filled.paths())
    states: list[Progress] = []
    column = embed_in_memory(filled, StandIn(), table(), keys[::-1], filled.paths(), states.append)
    assert column.keys == keys and column.words == ["mood"] * 5
    assert states == [Progress(5, 5, 5, 0)]
    assert [t.name for t in filled.conditions()] == ["color"]
    with SubsetEmbedder(filled, StandIn().spec, MOOD, lambda spec: StandIn()) as embedder:
        assert embedder.embed(keys[:3]) == 3 and embedder.embed(keys) == 2
        stored = embedder.column()
    assert stored.keys == keys and np.allclose(stored.vectors, column.vectors, atol=1e-3)
    assert np.array_equal(filled.column(filled.conditions()[-1]).vectors, stored.vectors)


def test_pictures_are_decoded_in_other_processes(
    filled: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ingest.read.images.decode", "ingest.read.images._decode"):
        monkeypatch.setattr(name, lambda *_: pytest.fail("decoded in this process"))
    keys = sorted(filled.paths())
    assert embed_in_memory(filled, StandIn(), table(), keys, filled.paths()).keys == keys


def test_a_file_that_changed_is_read_from_its_copy(filled: Gallery, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "p" / "0.png", tmp_path / "p" / "copy.png")
    fill(filled, tmp_path / "p")
    put(tmp_path / "p" / "0.png", png(50))
    (tmp_path / "p" / "1.png").unlink()
    put(tmp_path / "p" / "2.png", "text")
    paths = filled.paths()
    states: list[Progress] = []
    column = embed_in_memory(filled, StandIn(), table(), list(paths), paths, states.append)
    lost = {paths[key][0] for key in set(paths) - set(column.keys)}
    assert lost == {"p/1.png", "p/2.png"} and states[-1] == Progress(5, 5, 3, 2)
    with SubsetEmbedder(filled, StandIn().spec, MOOD, lambda spec: StandIn()) as embedder:
        assert embedder.embed(sorted(paths)) == 3
        assert embedder.column().keys == column.keys


def test_nothing_is_embedded_without_keys(filled: Gallery) -> None:
    column = embed_in_memory(filled, StandIn(), table(), [], filled.paths())
    assert column.keys == [] and column.vectors.shape == (0, 16)
    with SubsetEmbedder(filled, StandIn().spec, MOOD, lambda spec: StandIn()) as embedder:
        assert embedder.embed([]) == 0 and embedder.column().vectors.shape == (0, 16)
