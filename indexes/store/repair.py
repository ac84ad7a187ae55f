"""Takes damage out of a gallery, so that the next ingest makes anew exactly what was damaged.

Nothing is thrown away: files that are taken out lie in the gallery's ``quarantine``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping

from indexes.errors import GalleryError
from indexes.store.database import Database
from indexes.store.gallery import Gallery
from indexes.store.records import (
    FILES,
    IMAGES,
    LISTINGS,
    MANIFEST,
    STATISTICS,
    VectorTable,
    titles,
    vector_schema,
)
from indexes.store.verify import (
    OPTIONAL_TABLES,
    OWN_TABLES,
    Finding,
    Progress,
    TableState,
    conditions_of,
    look_at,
    read_copy,
    read_manifest,
    verify,
)
from indexes.store.writer import COPY, manifest_row, write_copy

_SCHEMAS = {
    "manifest": MANIFEST,
    "files": FILES,
    "images": IMAGES,
    "statistics": STATISTICS,
    "listings": LISTINGS,
}


def _silent(table: str, done: int, total: int) -> None:
    return None


@dataclass
class Repair:
    """What a repair did, or would do.

    Attributes:
        findings: the damage, from :func:`indexes.store.verify.verify`.
        steps: sentences for people, in order.
        embed_again: condition to content keys of pictures the next ingest embeds.
        read_again: paths of files that the next ingest reads again, without embedding them.
    """

    findings: list[Finding]
    steps: list[str] = field(default_factory=list)
    embed_again: dict[str, list[str]] = field(default_factory=dict)
    read_again: list[str] = field(default_factory=list)


def repair(folder: Path, dry_run: bool = False, progress: Progress = _silent) -> Repair:
    """Repair a gallery, under its writer's lock.

    Args:
        folder: the gallery's.
        dry_run: only say what is damaged.
        progress: as for :func:`indexes.store.verify.verify`.

    Raises:
        GalleryMissing: if there is no gallery.
        GalleryLocked: if another process is writing to it.
        GalleryError: if it cannot be written to, or the manifest and its copy are both lost.
    """
    done = Repair(verify(folder, COPY, progress))
    if dry_run or not any(finding.damage for finding in done.findings):
        return done
    database = Database(folder)
    with Gallery(folder, database).lock():
        manifest = _repair_manifest(database, done, progress)
        conditions = conditions_of(manifest)
        called = titles(conditions.values())
        optional = [name for name in OPTIONAL_TABLES if (folder / f"{name}.lance").is_dir()]
        others = [name for name in OWN_TABLES if name != "manifest"] + optional
        for name in (*others, *sorted(conditions)):
            own = conditions.get(name)
            _repair_table(database, name, own, done, progress, called.get(name, ""))
        database = Database(folder)
        done.embed_again = _missing(database, conditions)
        _forget_unknown_pictures(database, done)
        for name in ("manifest", *others, *conditions):
            database.open(name).compact()
    return done


def _repair_manifest(database: Database, done: Repair, progress: Progress) -> Mapping[str, Any]:
    """Put the manifest in order first, since it says what the others should hold."""
    _repair_table(database, "manifest", None, done, progress)
    entries = read_manifest(database)
    lost = {k: v for k, v in read_copy(database.folder, COPY).items() if k not in entries}
    table = database.open("manifest")
    for key, value in lost.items():
        table.upsert(manifest_row(key, value))
        done.steps.append(f"Entry {key} of the manifest was taken from {COPY}.")
    entries.update(lost)
    if "gallery" not in entries:
        raise GalleryError(
            f"The manifest of {database.folder} and its copy {COPY} are both lost; restore one "
            "from a backup, or ingest the pictures into a new gallery with --gallery."
        )
    write_copy(database)
    return entries


def _repair_table(
    database: Database,
    name: str,
    condition: VectorTable | None,
    done: Repair,
    progress: Progress,
    called: str = "",
) -> None:
    title = f"condition '{called}'" if condition else f"table {name}"
    folder = database.folder / f"{name}.lance"
    schema = _SCHEMAS[name] if condition is None else vector_schema(condition.dimension)
    state = look_at(database, name, condition, progress) if folder.is_dir() else None
    if state is not None:
        state = _step_back(database, state, condition, done, title, progress)
    if state is None:
        if folder.is_dir():
            database.set_aside(name, folder)
        database.ledger(name).drop_all()
        database.ensure(name, schema)
        done.steps.append(f"The {title} could not be read at all and was begun anew.")
        return
    if condition is None and state.bad_files:
        # Rows of these tables have no checksums: those in a damaged file are not to be trusted.
        for file in state.bad_files:
            if file.startswith("data/") and (folder / file).is_file():
                database.set_aside(name, folder / file)
        # Lance remembers what it has read of a file, so that a new connection must look.
        database = Database(database.folder)
        state = look_at(database, name, condition, progress)
    if state.bad_rows:
        database.open(name).delete_rows(state.bad_rows)
        again = " They are embedded again when a search needs them."
        partial = condition is not None and not condition.kept_up
        done.steps.append(
            f"{len(state.bad_rows)} damaged rows of {title} were dropped.{again if partial else ''}"
        )
    ledger = database.ledger(name)
    if state.bad_files or ledger.broken_lines:
        # What is left was read whole; from now on it counts as it is.
        ledger.drop(state.bad_files)
        ledger.enter_new()


def _step_back(
    database: Database,
    state: TableState,
    condition: VectorTable | None,
    done: Repair,
    title: str,
    progress: Progress,
) -> TableState | None:
    """Set newest manifests aside until the table opens; ``None`` if none is left."""
    steps = 0
    current: TableState | None = state
    while current is not None and not current.opens:
        manifests = database.manifests(state.name)
        if not manifests:
            current = None
            break
        database.set_aside(state.name, manifests[0])
        steps += 1
        current = look_at(database, state.name, condition, progress) if manifests[1:] else None
    if steps and current is not None:
        done.steps.append(
            f"The {title} was taken {steps} commit{'s' if steps > 1 else ''} back, to the newest "
            "one that is whole."
        )
    return current


def _missing(database: Database, conditions: Mapping[str, VectorTable]) -> dict[str, list[str]]:
    """Pictures that are recorded but not embedded, by condition."""
    rows = database.open("files").read(["key", "status"]).to_pylist()
    done = {row["key"] for row in rows if row["status"] == "done"}
    found = {}
    called = titles(conditions.values())
    for name, table in conditions.items():
        if not table.kept_up:
            continue
        have = set(database.open(name).read(["key"]).column("key").to_pylist())
        if done - have:
            found[called[name]] = sorted(done - have)
    return found


def _forget_unknown_pictures(database: Database, done: Repair) -> None:
    """Drop records of files whose picture is in no table, so that they are read again."""
    images = set(database.open("images").read(["key"]).column("key").to_pylist())
    rows = database.open("files").read(["path", "key", "status"]).to_pylist()
    paths = [r["path"] for r in rows if r["status"] == "done" and r["key"] not in images]
    if paths:
        database.open("files").delete(paths)
        done.read_again += sorted(paths)
        done.steps.append(f"{len(paths)} files are read again by the next ingest.")
