"""Galleries filled by a stand-in encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support.stand_in import StandIn

from indexes.store.gallery import Gallery
from ingest.conditions import Condition
from ingest.fill.pipeline import IngestEvents, IngestReport, Progress, ingest


def fill(
    gallery: Gallery,
    folder: Path,
    names: str,
    encoder: StandIn,
    progress: Callable[[Progress], None] = lambda state: None,
    **more: Any,
) -> IngestReport:
    """Ingest a folder with a stand-in under conditions whose names are separated by spaces."""
    conditions = [Condition.parse(name) for name in names.split()]
    events = IngestEvents(progress)
    return ingest(gallery, [folder], conditions, lambda spec: encoder, events=events, **more)


def paint(path: Path, seed: int) -> Path:
    """Save a picture of 20 x 20 random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def keys(gallery: Gallery) -> list[set[str]]:
    """The content keys in each table."""
    return [gallery.keys(table) for table in gallery.conditions()]
