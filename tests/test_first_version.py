"""Galleries that an earlier version of CIES wrote."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from kinds import fill, png, put
from test_incremental import engine, gone, versions

from indexes.attributes import attributes
from indexes.database import Database
from indexes.gallery import Gallery
from indexes.records import STATISTICS, vector_schema
from ingest.prune import find_gone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(20):
        put(tmp_path / "p" / f"{number:02}.png", png(number))
    return tmp_path / "p"


def old_gallery(place: Path, folder: Path) -> None:
    """As version 0.1.0 of format 1 wrote it: no orientation, no time of going, no listings."""
    names = sorted(folder.glob("*.png"))
    keys = [hashlib.sha256(path.read_bytes()).hexdigest() for path in names]
    text, number = pa.string(), pa.int64()
    files = pa.schema([("path", text), ("key", text), ("size", number), ("mtime_ns", number)])
    files = files.append(pa.field("status", text)).append(pa.field("reason", text))
    images = pa.schema([("key", text), ("width", pa.int32()), ("height", pa.int32())])
    images = images.append(pa.field("format", text)).append(pa.field("taken_at", pa.timestamp("s")))
    made_by = {"method": "dior", "model": "stand-in", "revision": "1", "phrase": "color"}
    made_by["settings"] = {"prompt": "describe", "dtype": "float32"}
    content = json.dumps(made_by, sort_keys=True)
    name = "c_" + hashlib.sha256(content.encode()).hexdigest()[:26]
    entry = {"name": "color", "dimension": 16, "made_by": made_by, "order": 0}
    manifest = [
        {"key": "gallery", "value": json.dumps({"format": 1, "geometry": "raw"})},
        {"key": f"condition:{name}", "value": json.dumps(entry)},
    ]
    rows = {
        "files": (
            files,
            [
                {
                    "path": f"{folder.name}/{path.name}",
                    "key": key,
                    "size": path.stat().st_size,
                    "mtime_ns": path.stat().st_mtime_ns,
                    "status": "done",
                    "reason": "",
                }
                for path, key in zip(names, keys, strict=True)
            ],
        ),
        "images": (
            images,
            [{"key": key, "width": 16, "height": 12, "format": "PNG"} for key in keys],
        ),
        "statistics": (STATISTICS, []),
        name: (
            vector_schema(16),
            [
                {
                    "key": key,
                    "vector": np.eye(16, dtype=np.float16)[row % 16],
                    "word": "red",
                    "word_probability": 0.5,
                    "checksum": 0,
                }
                for row, key in enumerate(keys)
            ],
        ),
        "manifest": (pa.schema([("key", text), ("value", text)]), manifest),
    }
    place.mkdir()
    database = Database(place)
    for table, (schema, content_) in rows.items():
        database.ensure(table, schema).upsert(pa.Table.from_pylist(content_, schema=schema))


def test_a_gallery_of_the_first_version_opens_and_grows(tmp_path: Path, folder: Path) -> None:
    old_gallery(tmp_path / "old", folder)
    gallery = Gallery.open(tmp_path / "old")
    before = versions(gallery)
    assert [image.orientation for image in gallery.images()] == [None] * 20
    assert {record.gone_at for record in gallery.files()} == {None}
    assert len(engine(gallery).search(folder / "05.png", "color", k=50)) == 19
    assert attributes(gallery).num_rows == 20 and gallery.sources() == {}
    assert find_gone(gallery).paths == []
    assert versions(gallery) == before  # reading changes nothing
    report, passes = fill(gallery, folder)
    assert (report.unchanged, passes) == (20, 0)
    (folder / "00.png").unlink()
    put(folder / "new.png", png(99))
    put(folder / "t.csv", "file,n\nnew.png,1\n")
    report, passes = fill(gallery, folder, folder / "t.csv")
    assert (report.gone, passes) == (1, 1)
    reopened = Gallery.open(tmp_path / "old")
    assert sorted({str(image.orientation) for image in reopened.images()}) == ["1", "None"]
    assert set(gone(reopened)) == {"p/00.png"}
    assert [row["n"] for row in attributes(reopened).to_pylist()].count(1) == 1
