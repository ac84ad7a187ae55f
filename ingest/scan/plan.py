"""Plans an ingest: compares the files of the sources with those in the gallery.

Both an ingest and ``cies ingest --plan`` use this plan. Planning reads folders, tables and the
gallery, and writes nothing. It reads no picture.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.store.records import FileRecord
from ingest.scan.known_files import KnownFiles, RowNumbers
from ingest.sources.base import Source, SourceFile
from ingest.sources.factory import SourceGroup, stored_file

#: Files compared at once.
_CHUNK = 8192

#: Called with files of a user's table, and whether each was gone before.
OnListed = Callable[[Source, Sequence[SourceFile], Sequence[bool]], None]

#: Returns the paths that a source named at an earlier scan.
ListedBy = Callable[[str], list[str]]


@dataclass(frozen=True)
class UnreachableSource:
    """A source that has files in the gallery and none now; none of them counts as gone.

    Attributes:
        name: the name of the source.
        files: how many files the gallery has from it.
        reason: the reason for people.
    """

    name: str
    files: int
    reason: str


@dataclass
class IngestPlan:
    """What an ingest has to do.

    Attributes:
        found: files in the sources.
        new: of these, files that the gallery does not have.
        changed: files whose size or time differs from the gallery's.
        retried: files that could not be read before and are tried again.
        incomplete: pictures that lack a condition, in these sources or in others.
        unchanged: files that need nothing.
        returned: files that were gone, exist again, and need nothing else.
        todo: the files to read: those counted by ``new``, ``changed``, ``retried`` and
            ``incomplete``.
        kept: paths of incomplete pictures to their keys; if such a file cannot be read now, its
            record in the gallery stays.
        settled: records to store without reading a file.
        failed: files that cannot be read, or could not be read before and have not changed.
        failed_before: how many of ``failed`` the gallery has already recorded.
        outdated: paths that could not be read before and do not exist any more.
        gone: rows of pictures that existed at an earlier scan and do not exist now.
        gone_reasons: why, in the same order.
        out_of_reach: pictures that lack a condition and cannot be read now.
        unreachable: sources that have no file any more.
    """

    found: int = 0
    new: int = 0
    changed: int = 0
    retried: int = 0
    incomplete: int = 0
    unchanged: int = 0
    returned: int = 0
    todo: list[SourceFile] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    settled: list[FileRecord] = field(default_factory=list)
    failed: list[FileRecord] = field(default_factory=list)
    failed_before: int = 0
    outdated: list[str] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    gone_reasons: list[str] = field(default_factory=list)
    out_of_reach: int = 0
    unreachable: list[UnreachableSource] = field(default_factory=list)


@dataclass
class _GroupScan:
    """The scan of one source group: files that exist, and rows of named files that do not."""

    group: SourceGroup
    existing: int = 0
    vanished: dict[int, str] = field(default_factory=dict)


class Planner:
    """Compares sources with a gallery.

    Attributes:
        plan: the plan as far as it is made.
    """

    def __init__(
        self,
        known: KnownFiles,
        needed: Callable[[str], object],
        root: Path,
        retry_failed: bool = False,
        on_listed: OnListed | None = None,
    ):
        """Store the arguments; nothing is scanned yet.

        Args:
            known: the files in the gallery.
            needed: whether the picture of a content key lacks a condition or its image record.
            root: the gallery's root, for stored paths.
            retry_failed: whether to read files again that could not be read before.
            on_listed: called with the files of user's tables.
        """
        self.plan = IngestPlan()
        self._known = known
        self._needed = needed
        self._root = root
        self._retry = retry_failed
        self._on_listed = on_listed
        self._seen: NDArray[np.bool_] = np.zeros(len(known), dtype=bool)
        self._lost: NDArray[np.bool_] = np.zeros(len(known), dtype=bool)
        self._new_paths: set[str] = set()
        self._still_failed: list[int] = []

    def scan(self, groups: Sequence[SourceGroup], listed_by: ListedBy | None = None) -> IngestPlan:
        """Scan all sources, then find files that are gone and pictures that lack a condition.

        Args:
            groups: the sources.
            listed_by: the paths that a source named before; ``None`` if no source is a table.
        """
        scans = [self._scan(group) for group in groups]
        self.plan.failed.extend(self._known.records(np.array(self._still_failed, np.int64)))
        for scan in scans:
            self._find_gone(scan, listed_by)
        self._find_incomplete()
        return self.plan

    # -- files that exist ------------------------------------------------------------------

    def _scan(self, group: SourceGroup) -> _GroupScan:
        scan = _GroupScan(group)
        for source in group.sources:
            for chunk in _chunks(source.scan()):
                rows = self._known.rows([file.path for file in chunk])
                if self._on_listed is not None and (source.columns or source.owns_named_files):
                    self._report_listed(self._on_listed, source, chunk, rows)
                scan.existing += sum(not file.status for file in chunk)
                self._compare(chunk, rows, scan.vanished)
        return scan

    def _report_listed(
        self, on_listed: OnListed, source: Source, chunk: Sequence[SourceFile], rows: RowNumbers
    ) -> None:
        usable = [number for number, file in enumerate(chunk) if file.values is not None]
        gone = [bool(rows[n] >= 0 and self._known.gone[rows[n]]) for n in usable]
        on_listed(source, [chunk[n] for n in usable], gone)

    def _compare(
        self, chunk: Sequence[SourceFile], rows: RowNumbers, vanished: dict[int, str]
    ) -> None:
        """Plan some files; each path counts once.

        Args:
            chunk: the files.
            rows: their rows among the known files, -1 if not known.
            vanished: gets the rows and reasons of known files that are named and do not exist.
        """
        keys = self._known.keys(np.maximum(rows, 0)) if len(self._known) else [""] * len(chunk)
        for file, row, key in zip(chunk, rows.tolist(), keys, strict=True):
            if row < 0:
                if file.path in self._new_paths:
                    continue
                self._new_paths.add(file.path)
            elif self._seen[row]:
                continue
            else:
                self._seen[row] = True
            self.plan.found += 1
            if file.status:
                self._plan_unusable(file, row, vanished)
            else:
                self._plan_file(file, row, key)

    def _plan_file(self, file: SourceFile, row: int, key: str) -> None:
        plan, known = self.plan, self._known
        if row < 0:
            plan.new += 1
            plan.todo.append(file)
        elif not self._is_unchanged(file, row):
            plan.changed += 1
            plan.todo.append(file)
        elif known.done[row] or (known.gone[row] and key):
            if self._needed(key):
                self._complete(file, key)
            elif known.gone[row]:
                plan.returned += 1
                size, mtime_ns = int(known.sizes[row]), int(known.mtimes[row])
                plan.settled.append(FileRecord(file.path, key, size, mtime_ns, "done"))
            else:
                plan.unchanged += 1
        elif self._retry or known.gone[row]:
            plan.retried += 1
            plan.todo.append(file)
        else:
            plan.failed_before += 1
            self._still_failed.append(row)

    def _is_unchanged(self, file: SourceFile, row: int) -> bool:
        """Whether size and time are those of the known file."""
        if not file.mtime_ns or file.mtime_ns != self._known.mtimes[row]:
            return False
        return not file.size or file.size == self._known.sizes[row]

    def _plan_unusable(self, file: SourceFile, row: int, vanished: dict[int, str]) -> None:
        plan, known = self.plan, self._known
        if file.status == "vanished" and row >= 0 and (known.done[row] or known.gone[row]):
            plan.found -= 1
            self._seen[row] = False
            if known.done[row]:
                vanished[row] = file.reason
            return
        record = FileRecord(file.path, "", file.size, file.mtime_ns, file.status, file.reason)
        plan.failed.append(record)
        if row >= 0 and known.records(np.array([row])) == [record]:
            plan.failed_before += 1
        else:
            plan.settled.append(record)

    # -- files that are gone ---------------------------------------------------------------

    def _find_gone(self, scan: _GroupScan, listed_by: ListedBy | None) -> None:
        """Mark known files of a source group that were not listed, if it has any file now."""
        sources, known = scan.group.sources, self._known
        lost = {row: reason for row, reason in scan.vanished.items() if not self._seen[row]}
        covered = set(lost)

        def lose(source: Source, row: int, path: str) -> None:
            covered.add(row)
            lost[row] = lost.get(row) or (source.reason_gone(path) if scan.existing else "")

        unseen = np.flatnonzero(~self._seen & ~known.gone & ~self._lost)
        for rows, paths in known.paths_in_chunks(unseen):
            for row, path in zip(rows.tolist(), paths, strict=True):
                covering = next((source for source in sources if source.covers(path)), None)
                if covering is not None:
                    lose(covering, row, path)
        for source in sources:
            if source.owns_named_files and listed_by is not None:
                paths = listed_by(source.name)
                for path, row in zip(paths, known.rows(paths).tolist(), strict=True):
                    if row >= 0 and not self._seen[row] and not known.gone[row]:
                        lose(source, row, path)
        if scan.existing:
            for row, reason in lost.items():
                if reason:
                    self._mark_lost(row, reason)
            return
        reason = next((source.reason for source in sources if source.reason), "")
        if covered or reason:
            self.plan.unreachable.append(
                UnreachableSource(scan.group.name, len(covered), reason or "is empty")
            )

    def _mark_lost(self, row: int, reason: str) -> None:
        if self._lost[row]:
            return
        self._lost[row] = True
        if self._known.done[row]:
            self.plan.gone.append(row)
            self.plan.gone_reasons.append(reason)
        else:
            self.plan.outdated.extend(self._known.paths(np.array([row])))

    def gone_records(self) -> Iterator[list[FileRecord]]:
        """The new records of the known files that are gone, in chunks."""
        now = int(time.time())
        reasons = dict(zip(self.plan.gone, self.plan.gone_reasons, strict=True))
        for rows, paths in self._known.paths_in_chunks(np.array(sorted(reasons), dtype=np.int64)):
            by_path = dict(zip(paths, rows.tolist(), strict=True))
            yield [
                replace(record, status="gone", reason=reasons[by_path[record.path]], gone_at=now)
                for record in self._known.records(rows)
            ]

    def seen(self, paths: Sequence[str]) -> list[bool]:
        """Whether the sources have listed these paths."""
        rows = self._known.rows(paths).tolist()
        return [
            bool(self._seen[row]) if row >= 0 else path in self._new_paths
            for row, path in zip(rows, paths, strict=True)
        ]

    # -- pictures that lack a condition ----------------------------------------------------

    def _find_incomplete(self) -> None:
        """Add pictures outside these sources: a condition is completed for the whole gallery."""
        rest = np.flatnonzero(self._known.done & ~self._seen & ~self._lost)
        for rows, paths in self._known.paths_in_chunks(rest):
            for path, key in zip(paths, self._known.keys(rows), strict=True):
                if not self._needed(key):
                    continue
                file = stored_file(path, self._root)
                if file.status:
                    self.plan.out_of_reach += 1
                else:
                    self._complete(file, key)

    def _complete(self, file: SourceFile, key: str) -> None:
        self.plan.incomplete += 1
        self.plan.todo.append(file)
        self.plan.kept[file.path] = key


def _chunks(files: Iterator[SourceFile]) -> Iterator[list[SourceFile]]:
    while chunk := list(islice(files, _CHUNK)):
        yield chunk
