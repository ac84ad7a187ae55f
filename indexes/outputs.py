"""Outputs never replace what CIES did not make."""

from __future__ import annotations

import re
from pathlib import Path

from indexes.errors import UsageError

#: Bytes at the start of a file that are looked at.
_START = 4096

#: What the first bytes of our files are, by suffix; other suffixes are TREC files.
_MARKS = {
    ".html": re.compile(rb'(?s).*<meta name="generator" content="CIES'),
    ".md": re.compile(rb"(?s)(<!-- Written by `cies |# [^\n]*\n\nWritten by `cies )"),
    ".csv": re.compile(rb'"?key"?,"?path"?,"?word"?,"?word_probability"?'),
    ".json": re.compile(rb'\{\s*"(schema_version"|version": "rc2"|\d+": ?\[\s*\d)'),
    ".txt": re.compile(rb"[0-9a-f]{64}\n"),
    "": re.compile(rb"\S+ (Q0|0) \S+ \d"),
}

_EXPORTED = ["key", "path", "vector", "word", "word_probability"]


def made_by_cies(path: Path) -> bool:
    """Whether an existing file looks like one that CIES wrote; an empty file counts as one.

    Raises:
        OSError: if it cannot be read.
    """
    if path.stat().st_size == 0:
        return True
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        try:
            return list(parquet.read_schema(path).names[: len(_EXPORTED)]) == _EXPORTED
        except pa.ArrowException:
            return False
    if path.suffix == ".npy":
        # An export writes the keys of the rows beside the matrix.
        keys = path.with_suffix(".keys.txt")
        return keys.is_file() and made_by_cies(keys)
    with path.open("rb") as file:
        start = file.read(_START)
    return _MARKS.get(path.suffix, _MARKS[""]).match(start) is not None


def check_output(path: Path, force: bool = False) -> None:
    """Refuse to replace a file that CIES did not make; call it before any work is done.

    Args:
        path: the file to write. One that does not exist, is empty, or is a device or pipe is
            always right.
        force: allow it.

    Raises:
        UsageError: if it is a folder, or a file that CIES did not make.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it.")
    if force or not path.is_file():
        return
    try:
        ours = made_by_cies(path)
    except OSError:
        ours = False
    if not ours:
        raise UsageError(
            f"{path} exists, and CIES did not make it; give another name, or add --force to "
            "replace it."
        )
