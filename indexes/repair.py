"""Removes damage from a gallery, so that the next ingest restores exactly what was damaged.

Nothing is deleted: damaged files are moved into the gallery's folder ``quarantine``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indexes.errors import GalleryError
from indexes.store.database import Database
from indexes.store.locking import locked
from indexes.store.manifest import MANIFEST_COPY, Manifest, read_copy
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
from indexes.verify import (
    OPTIONAL_TABLES,
    OWN_TABLES,
    Finding,
    Progress,
    TableState,
    check_table,
    conditions_of,
    silent,
    verify,
)

_SCHEMAS = {
    "manifest": MANIFEST,
    "files": FILES,
    "images": IMAGES,
    "statistics": STATISTICS,
    "listings": LISTINGS,
}


@dataclass
class Repair:
    """What a repair did, or would do.

    Attributes:
        findings: the damage, from :func:`indexes.verify.verify`.
        steps: sentences for people, in order.
        embed_again: condition to content keys of pictures that the next ingest embeds.
        read_again: paths of files that the next ingest reads again, without embedding them.
    """

    findings: list[Finding]
    steps: list[str] = field(default_factory=list)
    embed_again: dict[str, list[str]] = field(default_factory=dict)
    read_again: list[str] = field(default_factory=list)


def repair(folder: Path, dry_run: bool = False, progress: Progress = silent) -> Repair:
    """Repair a gallery, under its writer's lock.

    Args:
        folder: the gallery's folder.
        dry_run: only report the damage.
        progress: called after every step of a check.

    Raises:
        GalleryMissing: if there is no gallery.
        GalleryLocked: if another process is writing to it.
        GalleryError: if it cannot be written to, or the manifest and its copy are both lost.
    """
    result = Repair(verify(folder, progress))
    if dry_run or not any(finding.damage for finding in result.findings):
        return result
    with locked(folder):
        repairer = _Repairer(folder, result, progress)
        conditions = conditions_of(repairer.repair_manifest())
        repairer.titles = titles(conditions.values())
        names = [name for name in OWN_TABLES if name != "manifest"]
        names += [name for name in OPTIONAL_TABLES if repairer.database.exists(name)]
        for name in (*names, *sorted(conditions)):
            repairer.repair_table(name, conditions.get(name))
        repairer.database = database = Database(folder)
        repairer.list_missing(conditions)
        repairer.forget_unknown_pictures()
        for name in ("manifest", *names, *conditions):
            database.open(name).compact()
    return result


class _Repairer:
    """The steps of one repair."""

    def __init__(self, folder: Path, result: Repair, progress: Progress):
        self.database = Database(folder)
        self.titles: Mapping[str, str] = {}
        self._result = result
        self._progress = progress

    def _check(self, name: str, condition: VectorTable | None) -> TableState:
        return check_table(self.database, name, condition, self._progress)

    def repair_manifest(self) -> Mapping[str, Any]:
        """Repair the manifest, which comes first, and return its entries."""
        self.repair_table("manifest", None)
        manifest = Manifest(self.database)
        entries = manifest.readable_entries()
        folder = self.database.folder
        lost = {k: v for k, v in read_copy(folder).items() if k not in entries}
        for key, value in lost.items():
            manifest.put_row(key, value)
            self._result.steps.append(
                f"Entry {key} of the manifest was taken from {MANIFEST_COPY}."
            )
        entries.update(lost)
        if "gallery" not in entries:
            raise GalleryError(
                f"The manifest of {folder} and its copy {MANIFEST_COPY} are both lost; restore "
                "one from a backup, or ingest the pictures into a new gallery with --gallery."
            )
        manifest.write_copy()
        return entries

    def repair_table(self, name: str, condition: VectorTable | None) -> None:
        """Remove damaged commits, files and rows of a table; create it if nothing is left."""
        database, steps = self.database, self._result.steps
        title = f"condition '{self.titles[name]}'" if condition else f"table {name}"
        folder = database.folder / f"{name}.lance"
        state = self._check(name, condition) if folder.is_dir() else None
        if state is not None:
            state = self._step_back(state, condition, title)
        if state is None:
            if folder.is_dir():
                database.quarantine(name, folder)
            database.ledger(name).clear()
            schema = vector_schema(condition.dimension) if condition else _SCHEMAS[name]
            database.ensure(name, schema)
            steps.append(f"The {title} could not be read at all and was created again, empty.")
            return
        if condition is None and state.bad_files:
            # Rows of these tables have no checksums, so that those of a damaged file may be wrong.
            for file in state.bad_files:
                if file.startswith("data/") and (folder / file).is_file():
                    database.quarantine(name, folder / file)
            # Lance caches what it has read of a file; a new connection reads the folder again.
            database = Database(database.folder)
            state = check_table(database, name, condition, self._progress)
        if state.bad_rows:
            database.open(name).delete_rows(state.bad_rows)
            step = f"{len(state.bad_rows)} damaged rows of {title} were dropped."
            if condition is not None and not condition.kept_up:
                step += " They are embedded again when a search needs them."
            steps.append(step)
        ledger = database.ledger(name)
        if state.bad_files or ledger.broken_lines:
            # All remaining rows could be read: the files are recorded as they are now.
            ledger.remove(state.bad_files)
            ledger.record_new()

    def _step_back(
        self, state: TableState, condition: VectorTable | None, title: str
    ) -> TableState | None:
        """Remove the newest manifests until the table opens; ``None`` if none is left."""
        steps = 0
        current: TableState | None = state
        while current is not None and not current.opens:
            manifests = self.database.manifests(state.name)
            if not manifests:
                return None
            self.database.quarantine(state.name, manifests[0])
            steps += 1
            current = self._check(state.name, condition) if manifests[1:] else None
        if steps and current is not None:
            self._result.steps.append(
                f"The {title} was taken {steps} commit{'s' if steps > 1 else ''} back, to the "
                "newest one that is whole."
            )
        return current

    def list_missing(self, conditions: Mapping[str, VectorTable]) -> None:
        """List the pictures that are recorded but not embedded, by condition."""
        rows = self.database.open("files").read(["key", "status"]).to_pylist()
        done = {row["key"] for row in rows if row["status"] == "done"}
        for name, table in conditions.items():
            if table.kept_up:
                keys = self.database.open(name).read(["key"]).column("key").to_pylist()
                if missing := done.difference(keys):
                    self._result.embed_again[self.titles[name]] = sorted(missing)

    def forget_unknown_pictures(self) -> None:
        """Delete records of files whose picture is in no table, so that they are read again."""
        files = self.database.open("files")
        images = set(self.database.open("images").read(["key"]).column("key").to_pylist())
        rows = files.read(["path", "key", "status"]).to_pylist()
        paths = [r["path"] for r in rows if r["status"] == "done" and r["key"] not in images]
        if paths:
            files.delete(paths)
            self._result.read_again += sorted(paths)
            self._result.steps.append(f"{len(paths)} files are read again by the next ingest.")
