"""Looks for damage in a gallery, changes nothing, and needs no lock.

Every file is compared with the checksum it had when it was synced; every row of a condition with
its own; keys, dimensions and lengths are checked; and the tables are compared with one another.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np
import pyarrow as pa

from indexes.errors import GalleryError, GalleryMissing
from indexes.search.caches import damaged_caches
from indexes.search.vectors import checksums, vector_checksums
from indexes.store.database import Database
from indexes.store.records import VectorTable, titles
from indexes.store.tables import Table

#: The tables every gallery has, beside one a condition.
OWN_TABLES = ("manifest", "files", "images", "statistics")

#: Made when it is first needed.
OPTIONAL_TABLES = ("listings",)

#: Rows looked at in one piece; damage is then found to the row.
_ROWS = 4096

#: A stored vector is of unit length within this much, fp16 rounding included.
_TOLERANCE = 5e-3

_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        table: name of the table, or empty for the gallery as a whole.
        what: a code: ``unreadable``, ``file``, ``rows``, ``lost``, ``orphan`` or ``note``.
        text: one sentence for people.
        damage: whether something is lost or wrong; otherwise it is only said.
        keys: of the damaged rows, where they are known.
    """

    table: str
    what: str
    text: str
    damage: bool = True
    keys: tuple[str, ...] = ()


@dataclass
class TableState:
    """What a look at one table showed.

    Attributes:
        name: the table's.
        rows: how many it holds.
        keys: first column of the rows that are in order.
        bad_rows: ``_rowid`` of rows that are damaged or there twice, with their keys where known.
        bad_files: files that are not what they were, to what is wrong with them.
        opens: whether Lance can open it.
        reason: why not.
    """

    name: str
    rows: int = 0
    keys: list[str] = field(default_factory=list)
    bad_rows: dict[int, str] = field(default_factory=dict)
    bad_files: Mapping[str, str] = field(default_factory=dict)
    opens: bool = True
    reason: str = ""


Progress = Callable[[str, int, int], None]


def _silent(table: str, done: int, total: int) -> None:
    return None


def look_at(
    database: Database, name: str, condition: VectorTable | None, progress: Progress = _silent
) -> TableState:
    """Check every file and every row of a table.

    Args:
        database: the gallery's.
        name: the table's.
        condition: what it should hold, for a vector table.
        progress: told the table, the rows looked at, and how many there are.
    """
    state = TableState(name)
    state.bad_files = database.ledger(name).damaged()
    empty = [path.name for path in database.manifests(name) if path.stat().st_size == 0]
    if empty:
        state.opens, state.reason = False, f"{empty[0]} is empty"
        return state
    try:
        table = database.open(name)
        state.rows = len(table)
        if state.rows and table.schema.names:
            table.part(0, 1, [])
    except GalleryError as error:
        cause = error.__cause__ or error
        state.opens, state.reason = False, str(cause).splitlines()[0][:200]
        return state
    if condition is not None:
        found = _dimension(table)
        if found != condition.dimension:
            state.opens = False
            state.reason = f"its vectors have {found} numbers instead of {condition.dimension}"
            return state
    seen: set[str] = set()
    for start in range(0, state.rows, _ROWS):
        count = min(_ROWS, state.rows - start)
        _look_at_rows(table, start, count, condition, state, seen)
        progress(name, start + count, state.rows)
    return state


def _dimension(table: Table) -> int:
    kind = table.schema.field("vector").type
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else 0


def _look_at_rows(
    table: Table,
    start: int,
    count: int,
    condition: VectorTable | None,
    state: TableState,
    seen: set[str],
) -> None:
    """Check some rows; if they cannot be read together, find out which of them cannot."""
    try:
        part = table.part(start, count)
        numbers = part.column("_rowid").to_pylist()
        keys = part.column(0).to_pylist()
        wrong = _wrong_rows(part, condition)
    except GalleryError:
        for first, length, hopeless in _pieces(table, start, count):
            if hopeless:
                state.bad_rows.update(dict.fromkeys(_numbers(table, first, length), ""))
            else:
                _look_at_rows(table, first, length, condition, state, seen)
        return
    for number, key, bad in zip(numbers, keys, wrong, strict=True):
        if bad or key is None or key in seen:
            state.bad_rows[number] = key or ""
        else:
            seen.add(key)
            state.keys.append(key)


def _numbers(table: Table, start: int, count: int) -> list[int]:
    """``_rowid`` of some rows, which can be had even where their file is gone."""
    numbers: list[int] = table.part(start, count, []).column("_rowid").to_pylist()
    return numbers


def _pieces(table: Table, start: int, count: int) -> list[tuple[int, int, bool]]:
    """Split rows that cannot be read together: start, length, and whether it is hopeless.

    Rows of one file, which share the upper half of their number, stay together. A piece of one
    file whose first, middle and last row cannot be read is hopeless; any other is halved.
    """
    files = [number >> 32 for number in _numbers(table, start, count)]
    ends = [n for n in range(1, len(files)) if files[n] != files[n - 1]]
    if ends:
        edges = [0, *ends, len(files)]
        runs = pairwise(edges)
        return [(start + begin, end - begin, False) for begin, end in runs]
    if not any(_readable(table, start + n) for n in {0, count // 2, count - 1}):
        return [(start, count, True)]
    half = count // 2
    return [(start, half, False), (start + half, count - half, False)]


def _readable(table: Table, row: int) -> bool:
    try:
        table.part(row, 1)
    except GalleryError:
        return False
    return True


def _wrong_rows(part: pa.Table, condition: VectorTable | None) -> list[bool]:
    """Which rows hold what was never written."""
    if condition is None:
        # That they could be read is all that can be said; their file has a checksum.
        return [False] * part.num_rows
    count = part.num_rows
    stored = part.column("vector").combine_chunks()
    flat = np.asarray(stored.flatten().to_numpy(zero_copy_only=False), dtype=np.float16)
    if len(flat) != count * condition.dimension:
        return [True] * count
    half = flat.reshape(count, condition.dimension)
    keys = [key or "" for key in part.column("key").to_pylist()]
    words = [word or "" for word in part.column("word").to_pylist()]
    sure = part.column("word_probability").to_numpy(zero_copy_only=False).astype(np.float32)
    kept = part.column("checksum").to_numpy(zero_copy_only=False)
    # Galleries of the first days summed up the vector alone.
    intact = (kept == checksums(half, keys, words, sure)) | (kept == vector_checksums(half))
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(half.astype(np.float32), axis=1)
    unit = np.isfinite(lengths) & (np.abs(lengths - 1) <= _TOLERANCE)
    named = np.array([_KEY.fullmatch(key) is not None for key in keys])
    wrong: list[bool] = (~(intact & unit & named)).tolist()
    return wrong


def conditions_of(manifest: Mapping[str, Any]) -> dict[str, VectorTable]:
    """Vector tables by name, from the manifest's entries."""
    found = {}
    for key, entry in manifest.items():
        if key.startswith("condition:"):
            found[key.partition(":")[2]] = VectorTable.from_entry(entry)
    return found


def read_manifest(database: Database) -> dict[str, Any]:
    """The manifest's entries; those that are no JSON are left out.

    Raises:
        GalleryError: if the table cannot be read.
    """
    entries: dict[str, Any] = {}
    for row in database.open("manifest").read().to_pylist():
        try:
            entries[row["key"]] = json.loads(row["value"])
        except (ValueError, TypeError):
            continue
    return entries


def read_copy(folder: Path, name: str) -> dict[str, Any]:
    """The manifest's second copy; empty if there is none or it is damaged."""
    try:
        document = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def verify(folder: Path, copy: str, progress: Progress = _silent) -> list[Finding]:
    """Check a gallery.

    Args:
        folder: the gallery's.
        copy: name of the manifest's second copy.
        progress: told the table, the rows looked at, and how many there are.

    Returns:
        What is not in order; nothing if all is well.

    Raises:
        GalleryMissing: if there is no gallery.
    """
    if not (folder / "manifest.lance").is_dir() and not (folder / copy).is_file():
        raise GalleryMissing(f"There is no gallery at {folder}; check --gallery.")
    database = Database(folder)
    findings: list[Finding] = []
    there = {path.stem for path in folder.glob("*.lance")}
    try:
        manifest = read_manifest(database) if "manifest" in there else {}
    except GalleryError:
        manifest = {}
    second = read_copy(folder, copy)
    for key in sorted(second.keys() - manifest.keys()):
        findings.append(Finding("manifest", "lost", f"The manifest has lost its entry {key}."))
    conditions = conditions_of({**second, **manifest})
    states = {}
    for name in (*OWN_TABLES, *OPTIONAL_TABLES, *sorted(conditions)):
        if name not in there and name in OPTIONAL_TABLES:
            continue
        if name not in there:
            title = _title(name, conditions)
            findings.append(Finding(name, "lost", f"{title} is not there."))
            continue
        states[name] = look_at(database, name, conditions.get(name), progress)
        findings += _of_state(states[name], _title(name, conditions))
    for name in sorted(there - {*OWN_TABLES, *conditions}):
        if name.startswith("c_"):
            text = f"Table {name} belongs to no condition of the manifest."
            findings.append(Finding(name, "orphan", text, damage=False))
    findings += _across(database, states, conditions)
    for name, wrong in damaged_caches(folder / "indexes"):
        text = f"A cache is damaged and is made anew when it is needed: {wrong}."
        findings.append(Finding(name, "note", text, damage=False))
    return findings


def _title(name: str, conditions: Mapping[str, VectorTable]) -> str:
    called = titles(conditions.values()).get(name)
    return f"Table {name} (condition '{called}')" if called else f"Table {name}"


def _of_state(state: TableState, title: str) -> list[Finding]:
    found = []
    if not state.opens:
        found.append(Finding(state.name, "unreadable", f"{title} cannot be read: {state.reason}."))
    for file, wrong in sorted(state.bad_files.items()):
        found.append(Finding(state.name, "file", f"{title}: file {file} {wrong}."))
    if state.bad_rows:
        named = [key for key in state.bad_rows.values() if key][:3]
        which = f" ({', '.join(named)}{' ...' if len(state.bad_rows) > len(named) else ''})"
        found.append(
            Finding(
                state.name,
                "rows",
                f"{title}: {len(state.bad_rows)} of {state.rows} rows are damaged"
                f"{which if named else ''}.",
                keys=tuple(key for key in state.bad_rows.values() if key),
            )
        )
    return found


def _across(
    database: Database,
    states: Mapping[str, TableState],
    conditions: Mapping[str, VectorTable],
) -> list[Finding]:
    """What the tables say of one another."""
    try:
        rows = database.open("files").read(["key", "status"])
    except GalleryError:
        return []
    pairs = zip(rows.column("key").to_pylist(), rows.column("status").to_pylist(), strict=True)
    done = {key for key, status in pairs if status == "done"}
    found = []
    if "images" in states and states["images"].opens:
        images = set(states["images"].keys)
        if done - images:
            text = f"{len(done - images)} pictures have no entry in table images."
            found.append(Finding("images", "lost", text))
    called = titles(conditions.values())
    for name, table in conditions.items():
        if name not in states or not states[name].opens:
            continue
        embedded = set(states[name].keys)
        lost, orphans = done - embedded, embedded - done
        # A condition that was added and not filled yet lacks pictures without any damage, and one
        # that is partial is meant to.
        if lost and table.kept_up:
            text = f"{len(lost)} pictures are not embedded under '{called[name]}'; ingest does it."
            found.append(Finding(name, "note", text, damage=False))
        if orphans:
            text = f"{len(orphans)} pictures under '{called[name]}' are in no file any more."
            found.append(Finding(name, "note", text, damage=False))
    return found
