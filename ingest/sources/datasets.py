"""Folders written by ``Dataset.save_to_disk`` and ``DatasetDict.save_to_disk``."""

from __future__ import annotations

import json
import os
from pathlib import Path

from indexes.errors import UsageError
from ingest.sources.base import Source, SourceOptions
from ingest.sources.cells import CellTable


def is_dataset(folder: str) -> bool:
    """Whether a local folder was written by the ``datasets`` library."""
    names = ("state.json", "dataset_dict.json")
    return any(os.path.isfile(os.path.join(folder, name)) for name in names)


def open_dataset(folder: str, root: Path, options: SourceOptions) -> list[Source]:
    """One source for each Arrow file of a dataset, in all splits.

    Raises:
        UsageError: if a file that the dataset lists is missing or cannot be read.
    """
    splits = _json_list(os.path.join(folder, "dataset_dict.json"), "splits")
    if splits is not None:
        return [
            source
            for split in splits
            for source in open_dataset(os.path.join(folder, str(split)), root, options)
        ]
    listed = _json_list(os.path.join(folder, "state.json"), "_data_files")
    if listed is None:
        raise UsageError(
            f"The dataset in {folder} is not whole: state.json is missing; save it again."
        )
    sources: list[Source] = []
    for entry in listed:
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or os.path.basename(name) != name:
            raise UsageError(
                f"The dataset in {folder} is damaged: state.json names no files; save it again."
            )
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise UsageError(
                f"The dataset in {folder} is not whole: {name} is missing; save it again."
            )
        sources.append(CellTable(path, root, options))
    return sources


def _json_list(path: str, name: str) -> list[object] | None:
    """A list in a JSON object; ``None`` if there is no such file."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))[name]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged ({error}); save the dataset again.") from error
    if not isinstance(value, list):
        raise UsageError(f"{path} is damaged ('{name}' is not a list); save the dataset again.")
    return value
