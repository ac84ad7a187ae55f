"""Removes damage from a gallery, so that the next ingest restores exactly what was damaged.

Nothing is deleted: damaged files are moved into the gallery's folder ``quarantine``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indexes.documents import LedgerGuard
from indexes.errors import GalleryDamaged, GalleryError
from indexes.store.database import Database
from indexes.store.lance import write_no_deletions
from indexes.store.locking import locked
from indexes.store.manifest import Manifest
from indexes.store.manifest_copy import MANIFEST_COPY, ManifestCopy, read_copy
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

#: Where a table's rows are, below its folder.
_DATA = "data/"

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
        # Lance caches what it has read of a file; a new connection reads the folder again.
        repairer.database = database = Database(folder, verified=False)
        repairer.list_missing(conditions)
        repairer.forget_unknown_pictures()
        for name in ("manifest", *names, *conditions):
            database.open(name).compact()
        # Last, because it guards the ledgers as they are now.
        Manifest(database).write_copy()
    return result


class _Repairer:
    """The steps of one repair."""

    def __init__(self, folder: Path, result: Repair, progress: Progress):
        self.database = Database(folder, verified=False)
        self.titles: Mapping[str, str] = {}
        self._result = result
        self._progress = progress
        self._copy: ManifestCopy | None = None
        with suppress(GalleryDamaged):
            self._copy = read_copy(folder)

    def _check(self, name: str, condition: VectorTable | None) -> TableState:
        # Lance caches what it has read of a file; a new connection reads the folder again.
        self.database = Database(self.database.folder, verified=False)
        return check_table(self.database, name, condition, self._progress)

    def repair_manifest(self) -> Mapping[str, Any]:
        """Repair the manifest, which comes first, and return its entries."""
        self.repair_table("manifest", None)
        manifest = Manifest(self.database)
        entries, others = manifest.readable_entries()
        copied = self._copy.entries if self._copy is not None else {}
        if others:
            self.database.open("manifest").delete(others)
        lost = {k: v for k, v in copied.items() if k not in entries}
        for key, value in lost.items():
            manifest.put_row(key, value)
            self._result.steps.append(
                f"Entry {key} of the manifest was taken from {MANIFEST_COPY}."
            )
        entries.update(lost)
        folder = self.database.folder
        if "gallery" not in entries:
            raise GalleryError(
                f"The manifest of {folder} and its copy {MANIFEST_COPY} are both lost; restore "
                "one from a backup, or ingest the pictures into a new gallery with --gallery."
            )
        if self._copy is None:
            self._result.steps.append(f"{MANIFEST_COPY} was written again from the manifest.")
        return entries

    def repair_table(self, name: str, condition: VectorTable | None) -> None:
        """Remove damaged commits, files and rows of a table; create it if nothing is left."""
        title = f"condition '{self.titles[name]}'" if condition else f"table {name}"
        folder = self.database.folder / f"{name}.lance"
        state = self._check(name, condition) if folder.is_dir() else None
        if state is not None and state.ledger:
            state = self._restore_ledger(state, condition, title)
        if state is not None and condition is not None and not state.opens:
            state = self._without_deletions(state, condition, title)
        if state is not None:
            state = self._step_back(state, condition, title)
        if state is None:
            self._create_again(name, condition, title)
            return
        if state.bad_files and condition is None:
            # Rows of these tables have no checksums, so that those of a damaged file may be wrong.
            self._quarantine_files(state)
            state = self._check(name, condition)
        if state.bad_rows:
            self.database.open(name).delete_rows(state.bad_rows)
            step = f"{len(state.bad_rows)} damaged rows of {title} were dropped."
            if condition is not None and condition.imported:
                step += " Import them again with `cies import`."
            elif condition is not None and not condition.kept_up:
                step += " They are embedded again when a search needs them."
            self._result.steps.append(step)
        if state.bad_files:
            if condition is not None and any(file.startswith(_DATA) for file in state.bad_files):
                # Every remaining row was checked, and is written into undamaged files.
                self.database.open(name).rewrite()
            self._quarantine_files(state)
            self.database.ledger(name).remove(state.bad_files)

    def _guard(self, name: str) -> LedgerGuard | None:
        return self._copy.guards.get(name) if self._copy is not None else None

    def _quarantine_files(self, state: TableState) -> None:
        for file in state.bad_files:
            path = self.database.folder / f"{state.name}.lance" / file
            if path.is_file():
                self.database.quarantine(state.name, path)

    def _create_again(self, name: str, condition: VectorTable | None, title: str) -> None:
        folder = self.database.folder / f"{name}.lance"
        if folder.is_dir():
            self.database.quarantine(name, folder)
        self.database.ledger(name).clear(self._guard(name))
        self.database = Database(self.database.folder, verified=False)
        schema = vector_schema(condition.dimension) if condition else _SCHEMAS[name]
        self.database.ensure(name, schema)
        self._result.steps.append(
            f"The {title} could not be read at all and was created again, empty."
        )

    def _restore_ledger(
        self, state: TableState, condition: VectorTable | None, title: str
    ) -> TableState | None:
        """Restore a damaged list of checksums; ``None`` if the table's files cannot be proven to
        be those that were recorded.
        """
        name, steps = state.name, self._result.steps
        guard = self._guard(name)
        ledger = self.database.ledger(name)
        if guard is not None and ledger.restore(guard):
            steps.append(f"The list of checksums of {title} was restored.")
            return self._check(name, condition)
        if condition is not None:
            # Each row has a checksum of its own.
            proven = state.opens
        else:
            proven = name == "manifest" and state.opens and self._is_as_copied()
        if not proven:
            return None
        ledger.clear(guard)
        ledger.record_new()
        steps.append(f"The list of checksums of {title} was written again after a check of it.")
        return self._check(name, condition)

    def _is_as_copied(self) -> bool:
        """Whether the table manifest has the entries of its copy."""
        entries, others = Manifest(self.database).readable_entries()
        return not others and self._copy is not None and entries == dict(self._copy.entries)

    def _without_deletions(
        self, state: TableState, condition: VectorTable, title: str
    ) -> TableState:
        """Replace damaged lists of deleted rows of a condition by empty ones.

        Rows that come back are earlier versions of rows with the same key, of which one is kept,
        or vectors of pictures that have no file, which no search returns. Going back to an earlier
        commit would lose rows, and with an old list, all of them.
        """
        lists = [file for file in state.bad_files if file.startswith("_deletions/")]
        for file in lists:
            path = self.database.folder / f"{state.name}.lance" / file
            if path.is_file():
                self.database.quarantine(state.name, path)
            write_no_deletions(path)
        if not lists:
            return state
        ledger = self.database.ledger(state.name)
        ledger.remove(lists)
        ledger.record_new(lists)
        # The manifest counts the deleted rows, so that the rows are written under another one.
        with suppress(GalleryError):
            self.database.open(state.name).rewrite()
        self._result.steps.append(f"A damaged list of deleted rows of {title} was emptied.")
        return self._check(state.name, condition)

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
            self.database.ledger(state.name).remove([f"_versions/{manifests[0].name}"])
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
