"""Tasks as files of a run folder, so that a run can be measured long after its data are gone."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.runs.files import damaged, write_bytes
from eval.tasks import Cut, LabelTask, Part, Query, QueryTask, Source, Task


def to_json(task: Task) -> dict[str, Any]:
    """A task as JSON values; the inverse of :func:`from_json`."""
    document = asdict(task)
    for part in document.get("parts", ()):
        for query in part["queries"]:
            if not query["otherwise"]:  # as it was before there were any, so that digests hold
                del query["otherwise"]
    document["images"] = {key: str(path) for key, path in task.images.items()}
    return {"kind": "labels" if isinstance(task, LabelTask) else "queries", **document}


def from_json(document: Mapping[str, Any]) -> Task:
    """A task from what :func:`to_json` made.

    Raises:
        KeyError, TypeError, ValueError: if it is something else.
    """
    values = dict(document)
    kind = values.pop("kind")
    values["source"] = Source(**values["source"])
    values["images"] = {key: Path(path) for key, path in values["images"].items()}
    for name in ("notes", "metrics"):
        values[name] = tuple(values[name])
    if kind == "labels":
        values["labels"] = {
            condition: {key: tuple(found) for key, found in of.items()}
            for condition, of in values["labels"].items()
        }
        for name in ("queries", "gallery"):
            values[name] = None if values[name] is None else tuple(values[name])
        return LabelTask(**values)
    values["parts"] = tuple(
        Part(part["name"], tuple(_query(q) for q in part["queries"]), tuple(part["gallery"]))
        for part in values["parts"]
    )
    values["cuts"] = {
        key: Cut(tuple(cut["box"]), cut["square"]) for key, cut in values["cuts"].items()
    }
    return QueryTask(**values)


def _query(document: Mapping[str, Any]) -> Query:
    values = dict(document)
    for name in ("exclude", "group", "otherwise"):
        values[name] = tuple(values.get(name, ()))
    values["gallery"] = None if values["gallery"] is None else tuple(values["gallery"])
    return Query(**values)


def digest_of(task: Task) -> str:
    """SHA-256 of what a task asks; where its pictures lie does not count."""
    document = to_json(task)
    document["images"] = sorted(task.images)
    for beside in ("notes", "files", "source"):
        document.pop(beside)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def save_task(path: Path, task: Task) -> None:
    """Write a task to a ``.json.gz`` file."""
    write_bytes(path, gzip.compress(json.dumps(to_json(task)).encode(), mtime=0))


def load_task(path: Path) -> Task:
    """Read a task that :func:`save_task` wrote.

    Raises:
        CiesError: if the file is damaged or gone.
    """
    try:
        return from_json(json.loads(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise damaged(path) from error
