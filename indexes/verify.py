"""Checks a gallery for damage. Changes nothing, and needs no lock.

Every file is compared with the checksum it had when it was synced, and every row of a condition
with its own checksum. Keys, dimensions and lengths are checked, and the tables are compared with
one another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from indexes.documents import ConditionEntry, DamagedDocument, checked
from indexes.errors import GalleryDamaged, GalleryError, GalleryMissing
from indexes.search.caches import damaged_caches
from indexes.store.database import Database
from indexes.store.lance import quiet
from indexes.store.manifest import Manifest
from indexes.store.manifest_copy import MANIFEST_COPY, ManifestCopy, read_copy
from indexes.store.records import VectorTable, titles
from indexes.store.tables import Table
from indexes.store.verified import is_referenced
from indexes.vectors import checksums, vector_checksums

#: The tables of every gallery, without those of the conditions.
OWN_TABLES = ("manifest", "files", "images", "statistics")

#: Tables that are created when they are first needed.
OPTIONAL_TABLES = ("listings",)

#: Rows checked at once; where they cannot be read together, single damaged rows are found.
_ROWS = 4096

#: Largest difference of a stored vector's length from 1, float16 rounding included.
_TOLERANCE = 5e-3

_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Finding:
    """A problem or a remark of a check.

    Attributes:
        table: name of the table, or empty for the gallery as a whole.
        what: a code: ``unreadable``, ``file``, ``rows``, ``lost``, ``orphan`` or ``note``.
        text: one sentence for people.
        damage: whether data are lost or wrong; otherwise this is a remark.
        keys: keys of the damaged rows, where they are known.
    """

    table: str
    what: str
    text: str
    damage: bool = True
    keys: tuple[str, ...] = ()


@dataclass
class TableState:
    """The result of checking one table.

    Attributes:
        name: the table's name.
        rows: number of rows.
        keys: first column of the undamaged rows.
        bad_rows: ``_rowid`` of damaged and repeated rows, with their keys where known.
        bad_files: damaged files, with a description of the damage.
        opens: whether the table can be opened.
        reason: why it cannot be opened.
        ledger: what is wrong with the list of its checksums; empty if nothing is.
    """

    name: str
    rows: int = 0
    keys: list[str] = field(default_factory=list)
    bad_rows: dict[int, str] = field(default_factory=dict)
    bad_files: Mapping[str, str] = field(default_factory=dict)
    opens: bool = True
    reason: str = ""
    ledger: str = ""

    @property
    def is_damaged(self) -> bool:
        """Whether anything is wrong with the table."""
        return bool(self.bad_files or self.bad_rows or self.ledger or not self.opens)


#: Called with the name of a table, the number of rows that are checked, and that of all its rows.
Progress = Callable[[str, int, int], None]


def silent(table: str, done: int, total: int) -> None:
    """A :data:`Progress` that does nothing."""


def check_table(
    database: Database, name: str, condition: VectorTable | None, progress: Progress = silent
) -> TableState:
    """Check every file and every row of a table.

    Args:
        database: the database of the gallery.
        name: the table's name.
        condition: its entry in the manifest, for a vector table.
        progress: called after every step.
    """
    state = TableState(name)
    state.ledger = database.ledger_damage(name) or ""
    state.bad_files = database.ledger(name).damaged()
    state.reason = _newest_damage(database, name, state)
    if state.reason:
        state.opens = False
        return state
    try:
        with quiet() if state.bad_files else nullcontext():
            table = database.open(name)
            state.rows = len(table)
            if state.rows and table.schema.names:
                table.read_slice(0, 1, [])
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
        with quiet() if state.bad_files else nullcontext():
            _check_rows(table, start, count, condition, state, seen)
        progress(name, start + count, state.rows)
    return state


def _newest_damage(database: Database, name: str, state: TableState) -> str:
    """Why the newest version of a table must not be opened; empty if it may be.

    A damaged manifest may describe other rows, and with damaged deletions, deleted rows come back.
    """
    manifests = database.manifests(name)
    if not manifests:
        return "it has no version"
    empty = [path.name for path in manifests if path.stat().st_size == 0]
    if empty:
        return f"{empty[0]} is empty"
    newest = f"_versions/{manifests[0].name}"
    if newest in state.bad_files:
        return f"its newest version {state.bad_files[newest]}"
    if state.bad_files:
        content = manifests[0].read_bytes()
        for file, damage in state.bad_files.items():
            if file.startswith("_deletions/") and is_referenced(file, content):
                return f"the list of its deleted rows {damage}"
    return ""


def _dimension(table: Table) -> int:
    kind = table.schema.field("vector").type
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else 0


def _check_rows(
    table: Table,
    start: int,
    count: int,
    condition: VectorTable | None,
    state: TableState,
    seen: set[str],
) -> None:
    """Check rows; where they cannot be read together, find out which of them cannot be read."""
    try:
        rows = table.read_slice(start, count)
        row_ids = rows.column("_rowid").to_pylist()
        keys = rows.column(0).to_pylist()
        damaged = _damaged_rows(rows, condition)
    except GalleryError:
        for first, length, unreadable in _pieces(table, start, count):
            if unreadable:
                state.bad_rows.update(dict.fromkeys(_row_ids(table, first, length), ""))
            else:
                _check_rows(table, first, length, condition, state, seen)
        return
    for row_id, key, bad in zip(row_ids, keys, damaged, strict=True):
        if bad or key is None or key in seen:
            state.bad_rows[row_id] = key or ""
        else:
            seen.add(key)
            state.keys.append(key)


def _row_ids(table: Table, start: int, count: int) -> list[int]:
    """``_rowid`` of rows; it can be read even if the file of the rows is missing."""
    row_ids: list[int] = table.read_slice(start, count, []).column("_rowid").to_pylist()
    return row_ids


def _pieces(table: Table, start: int, count: int) -> list[tuple[int, int, bool]]:
    """Split rows that cannot be read together: start, length, and whether to give the piece up.

    Rows of one file, which share the upper half of their row id, stay together. A piece of one
    file whose first, middle and last row cannot be read is given up; any other is halved.
    """
    files = [row_id >> 32 for row_id in _row_ids(table, start, count)]
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
        table.read_slice(row, 1)
    except GalleryError:
        return False
    return True


def _damaged_rows(rows: pa.Table, condition: VectorTable | None) -> list[bool]:
    """For each row, whether its content differs from what was written."""
    count = rows.num_rows
    if condition is None:
        # These rows have no checksum of their own, only their file has.
        return [False] * count
    stored = rows.column("vector").combine_chunks()
    flat = np.asarray(stored.flatten().to_numpy(zero_copy_only=False), dtype=np.float16)
    if len(flat) != count * condition.dimension:
        return [True] * count
    half = flat.reshape(count, condition.dimension)
    keys = [key or "" for key in rows.column("key").to_pylist()]
    words = [word or "" for word in rows.column("word").to_pylist()]
    probabilities = (
        rows.column("word_probability").to_numpy(zero_copy_only=False).astype(np.float32)
    )
    recorded = rows.column("checksum").to_numpy(zero_copy_only=False)
    # The first galleries have checksums of the vectors alone.
    intact = (recorded == checksums(half, keys, words, probabilities)) | (
        recorded == vector_checksums(half)
    )
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(half.astype(np.float32), axis=1)
    unit = np.isfinite(lengths) & (np.abs(lengths - 1) <= _TOLERANCE)
    named = np.array([_KEY.fullmatch(key) is not None for key in keys])
    damaged: list[bool] = (~(intact & unit & named)).tolist()
    return damaged


def conditions_of(manifest: Mapping[str, Any]) -> dict[str, VectorTable]:
    """The vector tables among the manifest's entries, by name of the table."""
    found = {}
    for key, entry in manifest.items():
        if key.startswith("condition:"):
            with suppress(DamagedDocument):
                checked(entry, ConditionEntry)
                found[key.partition(":")[2]] = VectorTable.from_entry(entry)
    return found


def verify(folder: Path, progress: Progress = silent) -> list[Finding]:
    """Check a gallery.

    Args:
        folder: the gallery's folder.
        progress: called after every step.

    Returns:
        Damage and remarks; an empty list if all is well.

    Raises:
        GalleryMissing: if there is no gallery.
    """
    if not (folder / "manifest.lance").is_dir() and not (folder / MANIFEST_COPY).is_file():
        raise GalleryMissing(f"There is no gallery at {folder}; check --gallery.")
    database = Database(folder, verified=False)
    existing = database.names()
    copy, findings = _check_copy(folder)
    states: dict[str, TableState] = {}
    entries: dict[str, Any] = dict(copy.entries) if copy is not None else {}
    if "manifest" in existing:
        states["manifest"] = state = check_table(database, "manifest", None, progress)
        findings += _findings_of(state, "Table manifest")
        if state.opens and not (state.bad_files and copy is not None):
            stored, others = Manifest(database).readable_entries()
            findings += _compare_manifest(stored, others, copy)
            entries |= stored
    else:
        findings.append(Finding("manifest", "lost", "Table manifest is missing."))
    conditions = conditions_of(entries)
    for name in (*OWN_TABLES, *OPTIONAL_TABLES, *sorted(conditions)):
        title = _title(name, conditions)
        if name == "manifest":
            continue
        if name in existing:
            states[name] = check_table(database, name, conditions.get(name), progress)
            findings += _findings_of(states[name], title)
        elif name not in OPTIONAL_TABLES:
            findings.append(Finding(name, "lost", f"{title} is missing."))
    for name in sorted(existing - {*OWN_TABLES, *conditions}):
        if name.startswith("c_"):
            text = f"Table {name} belongs to no condition of the manifest."
            findings.append(Finding(name, "orphan", text, damage=False))
    findings += _compare_tables(database, states, conditions)
    for name, damage in damaged_caches(folder / "indexes"):
        text = f"A cache is damaged and is replaced when it is needed: {damage}."
        findings.append(Finding(name, "note", text, damage=False))
    return findings


def _check_copy(folder: Path) -> tuple[ManifestCopy | None, list[Finding]]:
    """Check the copy of the manifest; ``None`` if it is damaged or missing."""
    try:
        copy = read_copy(folder)
    except GalleryDamaged as error:
        reason = str(error).partition("; ")[0]
        return None, [Finding("manifest", "file", f"{reason}.")]
    # A gallery of the first version has neither the copy nor checksums.
    if copy is None and (folder / "checksums").is_dir():
        text = f"File {MANIFEST_COPY}, the copy of the manifest, is missing."
        return None, [Finding("manifest", "file", text)]
    return copy, []


def _compare_manifest(
    stored: Mapping[str, Any], others: Sequence[str], copy: ManifestCopy | None
) -> list[Finding]:
    """Compare the entries of the manifest's table with its copy.

    Args:
        stored: the undamaged entries of the table.
        others: keys of the damaged entries.
        copy: the copy.
    """
    found = [
        Finding("manifest", "lost", f"The entry {key!r} of the manifest is damaged.")
        for key in others
    ]
    copied = copy.entries if copy is not None else {}
    for key in sorted(copied.keys() - stored.keys() - set(others)):
        found.append(Finding("manifest", "lost", f"The manifest has lost its entry {key}."))
    return found


def _title(name: str, conditions: Mapping[str, VectorTable]) -> str:
    called = titles(conditions.values()).get(name)
    return f"Table {name} (condition '{called}')" if called else f"Table {name}"


def _findings_of(state: TableState, title: str) -> list[Finding]:
    found = []
    if state.ledger:
        text = f"{title}: its list of checksums checksums/{state.name}.txt {state.ledger}."
        found.append(Finding(state.name, "file", text))
    if not state.opens:
        found.append(Finding(state.name, "unreadable", f"{title} cannot be read: {state.reason}."))
    for file, damage in sorted(state.bad_files.items()):
        found.append(Finding(state.name, "file", f"{title}: file {file} {damage}."))
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


def _compare_tables(
    database: Database,
    states: Mapping[str, TableState],
    conditions: Mapping[str, VectorTable],
) -> list[Finding]:
    """Compare the pictures of all tables with the record of files."""
    if "files" not in states or not states["files"].opens or states["files"].bad_files:
        return []
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
    names = titles(conditions.values())
    for name, table in conditions.items():
        if name not in states or not states[name].opens:
            continue
        embedded = set(states[name].keys)
        missing, orphans = done - embedded, embedded - done
        # A condition that is not filled yet, or partial on purpose, lacks pictures undamaged.
        if missing and table.kept_up:
            text = (
                f"{len(missing)} pictures are not embedded under '{names[name]}'; ingest does it."
            )
            found.append(Finding(name, "note", text, damage=False))
        if orphans:
            text = f"{len(orphans)} pictures under '{names[name]}' are in no file any more."
            found.append(Finding(name, "note", text, damage=False))
    return found
