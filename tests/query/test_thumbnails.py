"""Thumbnails for the pages: small, kept by content, lost without harm."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from support.encoded import encoded, ramp

from ingest.read.images import read_bytes
from query.explore.thumbnails import prune_thumbnails, thumbnail, thumbnail_folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(encoded(ramp(1200, 900), "JPEG"))
    return tmp_path / "a.jpg"


def test_a_thumbnail_is_kept_by_content(picture: Path, tmp_path: Path) -> None:
    key = read_bytes(picture).key
    made = thumbnail(picture, key)
    assert made is not None
    assert Image.open(io.BytesIO(made)).size == (176, 132) and len(made) < 20_000
    picture.unlink()
    # Its file is gone, or lies elsewhere: it is still shown.
    assert thumbnail(picture, key) == thumbnail(tmp_path / "elsewhere.jpg", key) == made
    (kept,) = thumbnail_folder().rglob("*.jpg")
    assert kept.is_relative_to(tmp_path / "user-cache")
    kept.write_bytes(made[:100])
    assert thumbnail(picture, key) is None


def test_a_changed_file_is_not_kept_under_the_old_key(picture: Path) -> None:
    key = read_bytes(picture).key
    picture.write_bytes(encoded(ramp(90, 60), "PNG"))
    assert thumbnail(picture, key) is not None
    assert list(thumbnail_folder().rglob("*.jpg")) == []


def test_a_cache_that_cannot_be_written_does_no_harm(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert thumbnail(picture, read_bytes(picture).key) is not None
    prune_thumbnails()


def test_the_oldest_go_first(tmp_path: Path) -> None:
    keys = []
    for width in (300, 301, 302):
        path = tmp_path / f"{width}.png"
        path.write_bytes(encoded(ramp(width, 200), "PNG"))
        keys.append(read_bytes(path).key)
        thumbnail(path, keys[-1])
    size = sum(path.stat().st_size for path in thumbnail_folder().rglob("*.jpg"))
    prune_thumbnails(size - 1)
    assert {path.stem for path in thumbnail_folder().rglob("*.jpg")} == set(keys[1:])
