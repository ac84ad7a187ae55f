"""The residual geometry: vectors without the component along the unconditional vector."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import cies
from indexes.errors import GalleryError, GalleryMismatch, UnknownCondition, UsageError
from indexes.store.gallery import Gallery


def less_along(v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """What a projection along ``u`` leaves of ``v``, at unit length."""
    left = v - (v @ u) * u
    return left / np.linalg.norm(left)


@pytest.fixture(scope="module")
def gallery(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """Thirty pictures in a gallery that compares by residuals."""
    made = cies.create(tmp_path_factory.mktemp("residual") / "gallery", "residual")
    cies.ingest(made, sorted((world / "images").iterdir())[:30], ["color", "shape"])
    return made


def test_the_unconditional_vectors_come_with_it(gallery: Gallery) -> None:
    names = [table.name for table in gallery.conditions()]
    assert names == ["color", "shape", "unconditional"]
    sources = [gallery.absolute(record.path) for record in gallery.files()]
    again = cies.ingest(gallery, sources, ["unconditional"])
    assert again.embedded == 0 and again.conditions == names


def test_vectors_and_hits_are_plain_arithmetic(gallery: Gallery) -> None:
    raw, engine = cies.open(gallery.path, geometry="raw"), cies.open(gallery.path)
    plain = {name: raw.vectors(name) for name in ("color", "unconditional")}
    unconditional = dict(
        zip(plain["unconditional"].keys, plain["unconditional"].vectors, strict=True)
    )
    color = plain["color"]
    want = np.array(
        [
            less_along(v, unconditional[key])
            for key, v in zip(color.keys, color.vectors, strict=True)
        ]
    )
    got = engine.vectors("color")
    assert got.keys == color.keys
    assert np.abs(got.vectors - want).max() < 1e-5
    assert np.abs(got.vectors - color.vectors).max() > 1e-2
    hits = engine.search(color.keys[3], "color", k=29)
    cosines = want @ want[3]
    assert np.allclose([hit.score for hit in hits], np.sort(cosines)[::-1][1:], atol=1e-5)
    # What is taken away is itself compared as it is.
    own = engine.vectors("unconditional").vectors
    assert np.array_equal(own, plain["unconditional"].vectors)


def test_a_new_picture_is_moved_like_those_of_the_gallery(gallery: Gallery, tmp_path: Path) -> None:
    source = gallery.absolute(gallery.files()[4].path)
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(source.read_bytes() + b"\0")
    (hit,) = cies.open(gallery.path).search(copy, "color", k=1)
    assert hit.path == str(source) and hit.score > 0.999


def test_the_residual_geometry_needs_unconditional_vectors(
    gallery: Gallery, world: Path, tmp_path: Path
) -> None:
    sources = sorted((world / "images").iterdir())[:3]
    plain = cies.create(tmp_path / "plain")
    cies.ingest(plain, sources, ["color"])
    with pytest.raises(UnknownCondition, match=r"no condition 'unconditional'.*cies ingest"):
        cies.open(plain.path, geometry="residual").vectors("color")
    with pytest.raises(GalleryMismatch, match="compares vectors raw, not residual"):
        cies.create(plain.path, "residual")
    free = cies.create(tmp_path / "free", "residual")
    with pytest.raises(UsageError, match="no form without a condition"):
        cies.ingest(free, sources, ["color"], prompt="the {condition} of it")
    # A gallery that was stopped between two tables.
    torn = tmp_path / "torn"
    shutil.copytree(gallery.path, torn)
    store = Gallery.open(torn)
    unconditional = store.conditions()[2]
    keys = sorted(store.keys(unconditional))[:2]
    store._database.open(unconditional.table).delete(keys)
    with pytest.raises(GalleryError, match=r"2 pictures .* 'unconditional'.*`cies ingest`"):
        cies.open(torn).vectors("color")
