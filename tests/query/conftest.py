"""Fixtures of the tests of search: a gallery that every composer can search."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.galleries import draw_edits

import cies
from indexes.store.gallery import Gallery
from ingest.conditions import Condition
from ingest.encoders.methods.dior import DiorEncoder
from ingest.fill.pipeline import ingest

EDIT_CONDITIONS = ("color", "shape", "background")


@pytest.fixture(scope="session")
def edits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of each color, shape and background, named by them."""
    folder = tmp_path_factory.mktemp("edits") / "pictures"
    draw_edits(folder)
    return folder


@pytest.fixture(scope="session")
def edits_gallery(edits_folder: Path, builtin: DiorEncoder) -> Path:
    """These pictures by dior, clip and captions. Tests must not change it."""
    gallery = Gallery.create(edits_folder.parent / "gallery")
    conditions = [Condition.parse(name) for name in EDIT_CONDITIONS]
    ingest(gallery, [edits_folder], conditions, lambda spec: builtin)
    for method in ("clip", "captions"):
        cies.ingest(gallery, method=method)
    return gallery.path
