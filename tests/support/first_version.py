"""Helpers shared by tests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from indexes.store.database import Database
from indexes.store.records import STATISTICS, vector_schema


def old_gallery(place: Path, folder: Path) -> None:
    """As version 0.1.0 of format 1 wrote it: no orientation, no time of going, no listings."""
    names = sorted(folder.glob("*.png"))
    keys = [hashlib.sha256(path.read_bytes()).hexdigest() for path in names]
    text, number = pa.string(), pa.int64()
    files = pa.schema([("path", text), ("key", text), ("size", number), ("mtime_ns", number)])
    files = files.append(pa.field("status", text)).append(pa.field("reason", text))
    images = pa.schema([("key", text), ("width", pa.int32()), ("height", pa.int32())])
    images = images.append(pa.field("format", text)).append(pa.field("taken_at", pa.timestamp("s")))
    made_by: dict[str, object] = {
        "method": "dior",
        "model": "stand-in",
        "revision": "1",
        "phrase": "color",
    }
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
