"""An encoder of one's own: an object with ``encode`` in place of a model's name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.kinds import png, put

import cies
from cies.reports.plan import make_plan
from indexes.errors import GalleryMismatch, UsageError
from indexes.store.gallery import Gallery
from ingest.conditions import Condition
from ingest.encoders.options import EncoderOptions
from ingest.fill.encoder_choice import choose_target
from ingest.fill.vector_sources import vector_sources
from ingest.sources.base import SourceOptions
from ingest.sources.factory import open_sources


class MeanColor:
    """Four numbers of a picture, weighed by the length of the condition."""

    name = "mean-color"
    dimension = 4
    revision = "3"

    def __init__(self) -> None:
        self.pictures = 0

    def encode(self, images: Sequence[Image.Image], conditions: Sequence[Condition]) -> np.ndarray:
        self.pictures += len(images)
        means = [np.asarray(image).mean(axis=(0, 1)) for image in images]
        return np.array([[[*mean, len(c.phrase)] for c in conditions] for mean in means], "f4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        put(tmp_path / "p" / f"{number}.png", png(number))
    return tmp_path / "p"


def test_its_vectors_are_stored_and_searched(gallery: Gallery, folder: Path) -> None:
    encoder = MeanColor()
    report = cies.ingest(gallery, [folder], ["color", "shape"], model=encoder)
    assert (report.embedded, encoder.pictures, report.conditions) == (6, 6, ["color", "shape"])
    (source,) = vector_sources(gallery)
    assert (source.spec.method, source.spec.revision) == ("mean-color", "3")
    assert source.spec.model.endswith("MeanColor") and source.spec.settings == {}
    with Image.open(folder / "2.png") as image:
        expected = encoder.encode([image.convert("RGB")], [Condition.parse("color")])[0, 0]
    opened = cies.open(gallery.path, model=MeanColor())
    found = {hit.path for hit in opened.search(folder / "2.png", "color", k=9)}
    assert found == {str(path) for path in folder.iterdir()} - {str(folder / "2.png")}
    column = gallery.column(source.tables[0])
    row = column.keys.index(hashlib.sha256(png(2)).hexdigest())
    assert np.allclose(column.vectors[row], expected / np.linalg.norm(expected), atol=1e-3)
    # A picture that is not in the gallery is embedded by the object that was passed.
    put(folder.parent / "new.png", png(70))
    hits = opened.search(folder.parent / "new.png", "shape", k=3)
    assert len(hits) == 3
    # Again, with a new picture: only that one is embedded, and a condition can be added.
    put(folder / "6.png", png(6))
    again = MeanColor()
    assert cies.ingest(gallery, [folder], model=again).embedded == again.pictures == 1
    again = MeanColor()
    cies.ingest(gallery, [], ["size"], model=again)
    assert again.pictures == 7 and [t.name for t in gallery.conditions()][-1] == "size"


def test_without_the_object_what_is_stored_is_found_and_the_rest_is_explained(
    gallery: Gallery, folder: Path
) -> None:
    cies.ingest(gallery, [folder], ["color"], model=MeanColor())
    opened = cies.open(gallery.path)
    assert len(opened.search(folder / "1.png", "color", k=2)) == 2
    put(folder.parent / "new.png", png(70))
    message = r"'mean-color'.* an encoder of your own, pass it again, as in cies\.open\("
    with pytest.raises(UsageError, match=message):
        opened.search(folder.parent / "new.png", "color")
    put(folder / "new.png", png(71))
    with pytest.raises(UsageError, match=message):
        cies.ingest(gallery, [folder])
    # A plan needs no encoder.
    groups = open_sources([str(folder)], SourceOptions(), gallery.root)
    document = make_plan(gallery, gallery.path, groups, [], choose_target(gallery))
    assert (document["pictures"], document["passes"]) == (1, None)
    # Nor does an ingest of nothing new.
    (folder / "new.png").unlink()
    assert cies.ingest(gallery, [folder]).unchanged == 6


def test_it_may_stand_beside_other_methods(gallery: Gallery, folder: Path) -> None:
    cies.ingest(gallery, [folder], method="clip")
    cies.ingest(gallery, [folder], ["color"], model=MeanColor())
    assert [source.spec.method for source in vector_sources(gallery)] == ["clip", "mean-color"]
    put(folder / "6.png", png(6))
    own = MeanColor()
    report = cies.ingest(gallery, [folder], model=own)
    assert (report.embedded, own.pictures) == (1, 1)
    assert sorted(r.method for r in report.vector_sources if r.embedded) == ["clip", "mean-color"]


def test_what_cannot_be_an_encoder_is_refused(gallery: Gallery, folder: Path) -> None:
    with pytest.raises(UsageError, match="is a class and not an encoder"):
        cies.ingest(gallery, [folder], ["color"], model=MeanColor)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has no method encode"):
        cies.ingest(gallery, [folder], ["color"], model=object())  # type: ignore[arg-type]
    for given in ({"prompt": "describe"}, {"dtype": "float16"}, {"options": EncoderOptions()}):
        with pytest.raises(UsageError, match="do not apply to an encoder of your own"):
            cies.ingest(gallery, [folder], ["color"], model=MeanColor(), **given)
    with pytest.raises(UsageError, match="No condition was named"):
        cies.ingest(gallery, [folder], model=MeanColor())
    cies.ingest(gallery, [folder], ["color"], model=MeanColor())

    class Changed(MeanColor):
        revision = "4"
        model = MeanColor.__module__ + ".MeanColor"

    with pytest.raises(GalleryMismatch, match="made in another way"):
        cies.ingest(gallery, [folder], ["color"], model=Changed())
