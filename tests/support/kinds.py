"""Writes real files of every kind of source, and ingests them with a stand-in."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet
from support.stand_in import StandIn

from indexes.store.attributes import attributes
from indexes.store.gallery import Gallery
from ingest.conditions import Condition
from ingest.fill.pipeline import IngestReport, ingest
from ingest.sources.base import SourceOptions
from ingest.sources.factory import file_at, stored_file

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(seed: int, exif: Image.Exif | None = None) -> bytes:
    """A small PNG picture, different for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def put(path: Path, data: bytes | str) -> Path:
    """Write a file and its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def fill(
    gallery: Gallery, *sources: object, names: str = "color", **more: Any
) -> tuple[IngestReport, int]:
    """Ingest with a stand-in; returns the report and the number of embedded pictures."""
    encoder = StandIn()
    options = SourceOptions(**{k: v for k, v in more.items() if k != "retry_failed"})
    conditions = [Condition.parse(name) for name in names.split()]
    texts = [str(source) for source in sources]
    retry = bool(more.get("retry_failed"))
    report = ingest(
        gallery, texts, conditions, lambda spec: encoder, source_options=options, retry_failed=retry
    )
    return report, encoder.pictures


def tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """Write an uncompressed tar file."""
    with tarfile.open(path, "w") as file:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            file.addfile(about, io.BytesIO(data))
    return path


def cells(seeds: Sequence[int], **columns: Sequence[object]) -> pa.Table:
    """A table as ``datasets`` stores it: pictures in structs, and other columns."""
    pictures = pa.array([{"bytes": png(seed), "path": None} for seed in seeds], IMAGE)
    return pa.table({"image": pictures, **columns})


def named(table: pa.Table, labels: Mapping[str, Sequence[str]]) -> pa.Table:
    """The table with class names, as ``datasets`` stores them in the schema."""
    features = {k: {"names": list(v), "_type": "ClassLabel"} for k, v in labels.items()}
    about = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": about})


def save_dataset(folder: Path, tables: Sequence[pa.Table]) -> Path:
    """Write what ``Dataset.save_to_disk`` writes: Arrow streams and their list in state.json."""
    folder.mkdir(parents=True)
    files = []
    for number, table in enumerate(tables):
        name = f"data-{number:05}-of-{len(tables):05}.arrow"
        with (
            pa.OSFile(str(folder / name), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as stream,
        ):
            stream.write_table(table, max_chunksize=2)
        files.append({"filename": name})
    put(folder / "state.json", json.dumps({"_data_files": files, "_split": "train"}))
    put(folder / "dataset_info.json", json.dumps({"features": {}}))
    return folder


def save_parquet(path: Path, table: pa.Table) -> Path:
    """Write a Parquet file with several row groups."""
    parquet.write_table(table, path, row_group_size=2)
    return path


def rows(gallery: Gallery) -> dict[str, dict[str, object]]:
    """The columns for filters of each file, by path."""
    return {row["path"]: row for row in attributes(gallery).to_pylist()}


def failures(gallery: Gallery) -> dict[str, str]:
    """The outcome code of each file that could not be read, by path."""
    return {r.path: r.status for r in gallery.files() if r.status not in ("done", "gone")}


def stored_bytes_are_those_of(gallery: Gallery, expected: dict[str, bytes]) -> None:
    """Assert that every path has the key of its bytes and can be read by its path alone."""
    keys = {path: key for key, paths in gallery.paths().items() for path in paths}
    assert set(keys) == set(expected)
    for path, data in expected.items():
        assert keys[path] == hashlib.sha256(data).hexdigest()
        assert file_at(gallery.location(path)).read().data == data
        again = pickle.loads(pickle.dumps(stored_file(path, gallery.root))).read()
        assert (again.data, again.key) == (data, keys[path])
