"""Helpers shared by tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.stand_in import StandIn

from indexes.store.gallery import Gallery
from ingest.conditions import Condition
from ingest.fill.pipeline import IngestReport, ingest


def fill(
    gallery: Gallery, folder: Path, names: str, encoder: StandIn, **more: object
) -> IngestReport:
    conditions = [Condition.parse(name) for name in names.split()]
    return ingest(gallery, [folder], conditions, lambda spec: encoder, **more)


def paint(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(10):
        paint(tmp_path / "pictures" / f"{number}.png", number)
    return tmp_path / "pictures"


def keys(gallery: Gallery) -> list[set[str]]:
    return [gallery.keys(table) for table in gallery.conditions()]
