"""Atomic file I/O for run folders; damaged files raise CiesError."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.environment import versions
from indexes.errors import CiesError, UsageError
from indexes.files import write_atomic


def damaged_file(path: Path) -> CiesError:
    """Return the error for a file that is missing or has another content than was written."""
    return CiesError(
        f"{path} is damaged or missing; delete it if it is there, and run the same `cies bench` "
        "command again, which creates missing files."
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; its folder is created if needed.

    Raises:
        CiesError: if the file cannot be written.
    """
    try:
        write_atomic(path, content)
    except OSError as error:
        raise CiesError(
            f"Cannot write {path}: {(error.strerror or str(error)).lower()}; choose another run "
            "folder with -o."
        ) from error


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document."""
    write_bytes(path, json.dumps(document, indent=1).encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON document.

    Raises:
        CiesError: if the file is damaged or missing.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged_file(path) from error
    if not isinstance(document, dict):
        raise damaged_file(path)
    return document


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as NumPy's npz, which stores a CRC-32 of each."""
    content = io.BytesIO()
    np.savez(content, **dict(arrays))  # type: ignore[arg-type]
    write_bytes(path, content.getvalue())


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read named arrays and check their checksums.

    Raises:
        CiesError: if the file is damaged or missing.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged_file(path) from error


def check_versions(folder: Path, before: Mapping[str, str]) -> None:
    """Check that a folder is continued with the library versions it was started with.

    Args:
        folder: the folder that holds unfinished work.
        before: library name to the version that the work was started with.

    Raises:
        UsageError: naming the first library whose version differs.
    """
    for name, version in versions().items():
        if before.get(name, version) != version:
            raise UsageError(
                f"{folder} was started with {name} {before[name]}, and {version} is installed; "
                "continue with that version, or choose another run folder with -o."
            )
