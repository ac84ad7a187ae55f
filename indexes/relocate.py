"""Changes the stored paths of files that were moved as a tree, without reading a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.store.places import container_location
from indexes.store.records import (
    FILES,
    LISTINGS,
    ROOT_OPTION,
    FileRecord,
    escaped,
    file_records,
    is_address,
    unescaped,
)
from indexes.store.writer import Writer

#: Records in one commit.
_RECORDS = 20_000


@dataclass(frozen=True)
class Relocation:
    """The files of a gallery that are under another path now.

    Attributes:
        old: the stored path of the tree before.
        new: its stored path now.
        files: number of files whose path changes.
        existing: how many of them exist at their new path.
        sources: sources whose name changes, old name to new name.
    """

    old: str
    new: str
    files: int
    existing: int
    sources: Mapping[str, str]


def find_relocation(gallery: Gallery, old: str, new: str) -> Relocation:
    """Find the files below a folder that was moved.

    Args:
        gallery: the gallery.
        old: the path of a folder or file before, absolute or from the current folder; the
            beginning of paths that a search prints; or an address.
        new: its path now.

    Raises:
        UsageError: if the gallery has nothing below ``old``, or ``new`` has none of its files.
    """
    target = _stored(gallery, new)
    paths = gallery.read("files", FILES).column("path").to_pylist()
    paths += gallery.read("listings", LISTINGS).column("source").unique().to_pylist()
    for start in _starts(gallery, old):
        sources = {
            name: moved
            for name in gallery.sources()
            if (moved := _moved(name, start, target)) is not None and moved != name
        }
        found = {path: _moved(path, start, target) for path in paths}
        moving = {path: to for path, to in found.items() if to is not None and to != path}
        if not moving and not sources:
            continue
        files = set(gallery.read("files", FILES).column("path").to_pylist()) & moving.keys()
        existing = sum(_exists(gallery, str(moving[path])) for path in files)
        if files and not existing:
            raise UsageError(
                f"None of the {len(files)} files below {old} is at {new} now; check both paths, "
                "and that the drive is plugged in."
            )
        return Relocation(start, target, len(files), existing, sources)
    raise UsageError(
        f"The gallery at {gallery.path} has nothing below {old}; `cies status` lists its sources, "
        "and `cies search` prints paths of its files. Paths below the gallery's own folder "
        "move with it."
    )


def relocate(gallery: Gallery, writer: Writer, relocation: Relocation) -> None:
    """Change the stored paths; all of it is on the disk on return.

    New records are written before the old ones are removed, so that a run that was interrupted is
    continued by the same command. A file that the gallery has at its new path already keeps that
    record.

    Args:
        gallery: the gallery.
        writer: the writer of the same gallery.
        relocation: made while ``writer`` was held.
    """
    start, target = relocation.old, relocation.new
    _move_sources(gallery, writer, relocation)
    _move_listings(gallery, writer, start, target)
    files = gallery.read("files", FILES)
    moving = files.filter(_below(files.column("path"), start))
    present = files.filter(pc.not_equal(files.column("status"), "gone"))
    existing = set(present.column("path").to_pylist())
    for first in range(0, moving.num_rows, _RECORDS):
        records = file_records(moving.slice(first, _RECORDS))
        new = {r.path: replace(r, path=str(_moved(r.path, start, target))) for r in records}
        moved = [r for old, r in new.items() if r.path != old and r.path not in existing]
        writer.put_files([_found_again(gallery, record) for record in moved])
        writer.forget_files([old for old, record in new.items() if old != record.path])
    writer.maintain(due_only=False)


def _found_again(gallery: Gallery, record: FileRecord) -> FileRecord:
    """The record of a file that was gone and is unchanged at its new path; others as they are."""
    if record.status != "gone" or not record.key or is_address(record.path):
        return record
    try:
        about = os.lstat(os.path.join(gallery.root, unescaped(record.path)))
    except OSError:
        return record
    if (about.st_size, about.st_mtime_ns) != (record.size, record.mtime_ns):
        return record
    return replace(record, status="done", reason="", gone_at=None)


def _move_listings(gallery: Gallery, writer: Writer, start: str, target: str) -> None:
    """Write the rows of the user's tables under their new paths, and name tables that moved."""
    rows = gallery.read("listings", LISTINGS)
    if not rows.num_rows:
        return
    known = set(rows.column("path").to_pylist())
    changed: list[dict[str, Any]] = []
    for row in rows.filter(
        pc.or_(_below(rows.column("path"), start), _below(rows.column("source"), start))
    ).to_pylist():
        path = _moved(row["path"], start, target) or row["path"]
        if path != row["path"] and path in known:
            continue
        source = _moved(row["source"], start, target) or row["source"]
        changed.append({**row, "path": path, "source": source})
    for first in range(0, len(changed), _RECORDS):
        part = changed[first : first + _RECORDS]
        writer.put_listings(pa.Table.from_pylist(part, schema=rows.schema))
    # Rows of files that the gallery does not have, such as of a table that was never read whole.
    files = set(gallery.read("files", FILES).column("path").to_pylist())
    paths = rows.column("path").to_pylist()
    rest = [p for p in paths if p not in files and _moved(p, start, target) not in (None, p)]
    writer.forget_files(rest)


def _move_sources(gallery: Gallery, writer: Writer, relocation: Relocation) -> None:
    """Rename remembered sources, and the folders that the paths of their tables start from."""
    start, target = relocation.old, relocation.new
    for name, entry in gallery.sources().items():
        new_name = relocation.sources.get(name, name)
        root = entry.get(ROOT_OPTION)
        moved = _moved(root, start, target) if isinstance(root, str) else None
        new_entry = {**entry, **({ROOT_OPTION: moved} if moved else {})}
        if (new_name, new_entry) == (name, entry):
            continue
        if new_name not in gallery.sources() or new_name == name:
            columns = gallery.source_columns().get(name, ())
            writer.put_source(new_name, new_entry, columns)
        if new_name != name:
            writer.forget_source(name)


def _stored(gallery: Gallery, path: str) -> str:
    if is_address(path):
        return path.rstrip("/")
    return gallery.stored(os.path.normpath(Path(path).expanduser()))


def _starts(gallery: Gallery, old: str) -> list[str]:
    """The stored paths that a path as typed may mean."""
    starts = [_stored(gallery, old)]
    if not is_address(old):
        absolute = str(Path(os.path.normpath(Path(old).expanduser().absolute())))
        for root in gallery.earlier_roots():
            # Before the gallery was moved, this path was relative.
            if absolute == str(root) or absolute.startswith(f"{root}/"):
                starts.append(escaped(os.path.relpath(absolute, root)))
        starts.append(escaped(old.rstrip("/") or old))
    return list(dict.fromkeys(starts))


def _below(paths: pa.ChunkedArray, start: str) -> pa.ChunkedArray:
    """Which paths are a path, or below or inside it."""
    if start == ".":
        return pc.invert(pc.match_substring_regex(paths, r"^/|^[A-Za-z][A-Za-z0-9+.-]+://"))
    prefix = start.rstrip("/")
    below = pc.or_(pc.starts_with(paths, f"{prefix}/"), pc.starts_with(paths, f"{prefix}!/"))
    return pc.or_(below, pc.equal(paths, start))


def _moved(path: str, start: str, target: str) -> str | None:
    """A stored path below ``start``, as it is below ``target``; ``None`` for any other path."""
    if start == ".":
        if path.startswith("/") or is_address(path):
            return None
        rest = "" if path == "." else f"/{path}"
    elif path == start:
        rest = ""
    elif path.startswith((start.rstrip("/") + "/", start + "!/")):
        rest = path[len(start.rstrip("/")) :]
    else:
        return None
    if target == "." and rest:
        return rest.removeprefix("/")
    return target.rstrip("/") + rest if rest else target


def _exists(gallery: Gallery, path: str) -> bool:
    if is_address(path):
        return True
    return os.path.lexists(container_location(os.path.join(gallery.root, unescaped(path))))
