"""Tasks as files of a run folder: a run can be measured after its data were deleted."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.runs.files import damaged_file, write_bytes
from eval.tasks import BenchmarkSource, Crop, LabelTask, QueryTask, Task, TaskPart, TaskQuery

#: Names of attributes to their keys in files, where the two differ.
_STORED_NAMES = {"crops": "cuts", "rewordings": "otherwise"}


def task_to_json(task: Task) -> dict[str, Any]:
    """Return a task as JSON values; the inverse of :func:`task_from_json`."""
    document = {_STORED_NAMES.get(name, name): value for name, value in asdict(task).items()}
    for part in document.get("parts", ()):
        part["queries"] = [_query_to_json(query) for query in part["queries"]]
    document["images"] = {key: str(path) for key, path in task.images.items()}
    return {"kind": "labels" if isinstance(task, LabelTask) else "queries", **document}


def _query_to_json(values: Mapping[str, Any]) -> dict[str, Any]:
    # Left out where empty, because the digests of older runs were made without it.
    return {
        _STORED_NAMES.get(name, name): value
        for name, value in values.items()
        if name != "rewordings" or value
    }


def task_from_json(document: Mapping[str, Any]) -> Task:
    """Return the task that :func:`task_to_json` was given.

    Raises:
        KeyError, TypeError, ValueError: if the document is not a task.
    """
    values = dict(document)
    kind = values.pop("kind")
    values["source"] = BenchmarkSource(**values["source"])
    values["images"] = {key: Path(path) for key, path in values["images"].items()}
    for name in ("notes", "metrics"):
        values[name] = tuple(values[name])
    if kind == "labels":
        values["labels"] = {
            condition: {key: tuple(labels) for key, labels in by_picture.items()}
            for condition, by_picture in values["labels"].items()
        }
        for name in ("queries", "gallery"):
            values[name] = None if values[name] is None else tuple(values[name])
        return LabelTask(**values)
    values["parts"] = tuple(
        TaskPart(
            part["name"], tuple(map(_query_from_json, part["queries"])), tuple(part["gallery"])
        )
        for part in values["parts"]
    )
    values["crops"] = {
        key: Crop(tuple(crop["box"]), crop["square"]) for key, crop in values.pop("cuts").items()
    }
    return QueryTask(**values)


def _query_from_json(document: Mapping[str, Any]) -> TaskQuery:
    values = dict(document)
    values["rewordings"] = tuple(values.pop("otherwise", ()))
    for name in ("exclude", "group"):
        values[name] = tuple(values.get(name, ()))
    values["gallery"] = None if values["gallery"] is None else tuple(values["gallery"])
    return TaskQuery(**values)


def task_digest(task: Task) -> str:
    """Return the SHA-256 of a task's queries and right answers.

    The folder of the pictures, the notes, the annotation files and the source do not count.
    """
    document = task_to_json(task)
    document["images"] = sorted(task.images)
    for ignored in ("notes", "files", "source"):
        document.pop(ignored)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def save_task(path: Path, task: Task) -> None:
    """Write a task to a ``.json.gz`` file."""
    write_bytes(path, gzip.compress(json.dumps(task_to_json(task)).encode(), mtime=0))


def load_task(path: Path) -> Task:
    """Read a task that :func:`save_task` wrote.

    Raises:
        CiesError: if the file is damaged or missing.
    """
    try:
        return task_from_json(json.loads(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise damaged_file(path) from error
