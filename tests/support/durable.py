"""Helpers shared by tests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from PIL import Image
from support.stand_in import StandIn

from indexes.store.gallery import Gallery
from indexes.verify import verify
from ingest.encoders.base import Embeddings


def sound(gallery: Gallery) -> None:
    """What is claimed is there, once, and nothing is damaged."""
    claimed = set(gallery.paths())
    for table in gallery.conditions():
        column = gallery.column(table)
        assert len(column.keys) == len(set(column.keys))
        assert claimed <= set(column.keys)
    assert [f.text for f in verify(gallery.path) if f.damage] == []


class Slow(StandIn):
    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def embed(
        self, images: Sequence[Image.Image], conditions: Any, words: bool = True
    ) -> Embeddings:
        time.sleep(self.seconds * len(images))
        return super().embed(images, conditions, words)
