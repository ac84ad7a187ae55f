"""Files of a run: each is there whole or not at all, and damage is told."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.errors import CiesError


def damaged(path: Path) -> CiesError:
    """What to say of a file that cannot be read as it was written."""
    return CiesError(
        f"{path} is damaged or missing; delete it if it is there, and give the same "
        "`cies bench` command again, which makes what is missing."
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, and what is there is whole.

    Raises:
        CiesError: if the place cannot be written to.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
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
        CiesError: if it is damaged or missing.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path) from error
    if not isinstance(document, dict):
        raise damaged(path)
    return document


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays; the form, NumPy's npz, keeps a CRC-32 of each."""
    content = io.BytesIO()
    np.savez(content, **dict(arrays))  # type: ignore[arg-type]
    write_bytes(path, content.getvalue())


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read named arrays, checked against their checksums.

    Raises:
        CiesError: if the file is damaged or missing.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(path) from error
