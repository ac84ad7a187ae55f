"""Galleries of before color profiles were applied keep their vectors and their reading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from support.encoded import encoded
from support.odd_pictures import PROPHOTO, in_prophoto, scene
from support.stand_in import StandIn
from support.stand_in_fill import fill

from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.conditions import Condition
from ingest.encoders.base import EncoderSpec
from ingest.fill.vector_sources import vector_sources
from ingest.read.pixels import PIXELS

COLOR = Condition.parse("color")
#: What the manifests of earlier versions contain.
OLD = {
    "method": "dior",
    "model": "stand-in",
    "revision": "1",
    "settings": {"prompt": "describe", "dtype": "float32"},
    "phrase": COLOR.phrase,
}


class Watching(StandIn):
    """Keeps the mean color of every picture that it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.colors: list[np.ndarray] = []

    def embed(self, images, conditions, words=True):  # type: ignore[no-untyped-def]
        self.colors += [np.asarray(image, float).mean((0, 1)) for image in images]
        return super().embed(images, conditions, words)


def mean(image: Image.Image) -> np.ndarray:
    return np.asarray(image, float).mean((0, 1))


def folder_of_one(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    picture = encoded(in_prophoto(scene()), "PNG", icc_profile=PROPHOTO)
    (folder / "wide.png").write_bytes(picture)
    return folder


def test_the_hash_of_a_table_knows_how_pictures_are_read() -> None:
    old = EncoderSpec.from_made_by(OLD)
    assert old.pixels == 1 and old.made_by(COLOR) == OLD
    new = StandIn().spec
    assert new.pixels == PIXELS and new == old
    assert new.made_by(COLOR) == OLD | {"pixels": PIXELS}
    assert EncoderSpec.from_made_by(new.made_by(COLOR)).pixels == PIXELS
    tables = {VectorTable("color", 8, one.made_by(COLOR)).table for one in (old, new)}
    assert len(tables) == 2 and VectorTable("color", 8, OLD).table in tables


def test_an_older_gallery_grows_as_it_was_filled(tmp_path: Path) -> None:
    folder = folder_of_one(tmp_path, "in")
    fresh, old = Watching(), Watching()
    report = fill(Gallery.create(tmp_path / "new.cies"), folder, "color", fresh)
    assert np.abs(fresh.colors[-1] - mean(scene())).max() < 2
    assert not any("earlier version" in note for note in report.notes)
    gallery = Gallery.create(tmp_path / "old.cies")
    with gallery.writer() as writer:
        writer.declare(VectorTable("color", old.dimension, OLD))
    # A new condition of the same encoder is read in the same way, too.
    report = fill(gallery, folder, "color shape", old)
    assert np.abs(old.colors[-1] - mean(in_prophoto(scene()))).max() < 1
    assert {table.made_by.get("pixels") for table in gallery.conditions()} == {None}
    assert [source.spec.pixels for source in vector_sources(gallery)] == [1]
    notes = [note for note in report.notes if "earlier version" in note]
    assert len(notes) == 1 and "new gallery" in notes[0]
    again = fill(gallery, folder, "color", old)
    assert not again.embedded and not again.notes


def test_specs_of_both_versions_say_what_is_gained() -> None:
    spec = StandIn().spec
    assert spec.outdated_pixels == ""
    assert "color profiles" in replace(spec, pixels=1).outdated_pixels
