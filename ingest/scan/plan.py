"""Decides what a run has to do: the one place that compares what is there with what is known.

Both a run and ``cies ingest --plan`` go by it. It reads folders, tables and the gallery, never a
picture, and writes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.store.records import FileRecord
from ingest.scan.known_files import KnownFiles, Rows
from ingest.sources.base import Found, Source
from ingest.sources.factory import Opened, found_at

#: Files compared at once.
_CHUNK = 8192

#: Told of files that a user's table lists, as they are found, and whether each was gone before.
Listed = Callable[[Source, Sequence[Found], Sequence[bool]], None]


@dataclass(frozen=True)
class Unreachable:
    """A source that gave nothing now and many files before; none of them is called gone.

    Attributes:
        name: of the source.
        files: how many the gallery knows from it.
        reason: for people.
    """

    name: str
    files: int
    reason: str


@dataclass
class Plan:
    """What there is to do.

    Attributes:
        found: files that the sources hold.
        new: of these, not known yet.
        changed: known under this path with other content, as size and time tell.
        retried: could not be read before, and are tried again.
        incomplete: pictures, of these sources or not, that lack a condition.
        unchanged: need nothing.
        returned: were gone and are back; they need nothing else.
        todo: the files to be read, of the four kinds before ``unchanged``.
        kept: paths of incomplete pictures with their keys: if one cannot be read now, what is
            known of it stays.
        settled: what to record without reading a file.
        failed: files that cannot be had or could not be read before and have not changed.
        failed_before: how many of these were known as such.
        outdated: paths that could not be read before and are not there any more.
        gone: rows of the pictures that were there at an earlier scan and are not now.
        gone_reasons: why, in the same order.
        out_of_reach: pictures that lack a condition and cannot be read now.
        unreachable: sources of which nothing is left.
    """

    found: int = 0
    new: int = 0
    changed: int = 0
    retried: int = 0
    incomplete: int = 0
    unchanged: int = 0
    returned: int = 0
    todo: list[Found] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    settled: list[FileRecord] = field(default_factory=list)
    failed: list[FileRecord] = field(default_factory=list)
    failed_before: int = 0
    outdated: list[str] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    gone_reasons: list[str] = field(default_factory=list)
    out_of_reach: int = 0
    unreachable: list[Unreachable] = field(default_factory=list)


class Planner:
    """Compares sources with a gallery."""

    def __init__(
        self,
        known: KnownFiles,
        needed: Callable[[str], object],
        root: Path,
        retry_failed: bool = False,
        listed: Listed | None = None,
    ):
        """Look at nothing yet.

        Args:
            known: the files the gallery has seen.
            needed: whether the picture of a content key lacks anything the gallery should have.
            root: its root, for stored paths.
            retry_failed: whether to read again what could not be read before.
            listed: told of the files of user's tables.
        """
        self.plan = Plan()
        self._known = known
        self._needed = needed
        self._root = root
        self._retry = retry_failed
        self._listed = listed
        self._seen: NDArray[np.bool_] = np.zeros(len(known), dtype=bool)
        self._lost: NDArray[np.bool_] = np.zeros(len(known), dtype=bool)
        self._fresh: set[str] = set()
        self._still_failed: list[int] = []

    def look(
        self, opened: Sequence[Opened], listed_by: Callable[[str], list[str]] | None = None
    ) -> Plan:
        """Scan all sources, then tell what is gone and what lacks a condition.

        Args:
            opened: the sources.
            listed_by: the paths that a source listed before.
        """
        scans = [self._scan(one.sources) for one in opened]
        self.plan.failed.extend(self._known.records(np.array(self._still_failed, np.int64)))
        for one, (count, vanished) in zip(opened, scans, strict=True):
            self._miss(one, count, vanished, listed_by)
        self._fill()
        return self.plan

    # -- what is there ---------------------------------------------------------------------

    def _scan(self, sources: Iterable[Source]) -> tuple[int, dict[int, str]]:
        """Compare all files; returns how many are there, and known ones that are named and not."""
        count = 0
        self._vanished: dict[int, str] = {}
        for source in sources:
            for chunk in _chunks(source.scan()):
                rows = self._known.rows([found.path for found in chunk])
                if self._listed is not None and (source.columns or source.lists):
                    self._tell(source, chunk, rows)
                count += sum(not found.status for found in chunk)
                self._compare(chunk, rows)
        return count, self._vanished

    def _tell(self, source: Source, chunk: Sequence[Found], rows: Rows) -> None:
        assert self._listed is not None
        usable = [number for number, found in enumerate(chunk) if found.values is not None]
        gone = [bool(rows[n] >= 0 and self._known.gone[rows[n]]) for n in usable]
        self._listed(source, [chunk[n] for n in usable], gone)

    def _compare(self, chunk: Sequence[Found], rows: Rows) -> None:
        at = np.maximum(rows, 0)
        keys: list[str] = [""] * len(chunk)
        if len(self._known):
            keys = self._known.keys(at)
        for found, row, key in zip(chunk, rows.tolist(), keys, strict=True):
            if row < 0:
                if found.path in self._fresh:
                    continue
                self._fresh.add(found.path)
            elif self._seen[row]:
                continue
            else:
                self._seen[row] = True
            self.plan.found += 1
            self._decide(found, row, key)

    def _decide(self, found: Found, row: int, key: str) -> None:
        plan, known = self.plan, self._known
        if found.status:
            self._not_had(found, row)
        elif row < 0:
            plan.new += 1
            plan.todo.append(found)
        elif not self._same(found, row):
            plan.changed += 1
            plan.todo.append(found)
        elif known.done[row] or (known.gone[row] and key):
            if self._needed(key):
                self._complete(found, key)
            elif known.gone[row]:
                plan.returned += 1
                size, mtime_ns = int(known.sizes[row]), int(known.mtimes[row])
                plan.settled.append(FileRecord(found.path, key, size, mtime_ns, "done"))
            else:
                plan.unchanged += 1
        elif self._retry or known.gone[row]:
            plan.retried += 1
            plan.todo.append(found)
        else:
            plan.failed_before += 1
            self._still_failed.append(row)

    def _same(self, found: Found, row: int) -> bool:
        """Whether size and time say that the content is what it was."""
        if not found.mtime_ns or found.mtime_ns != self._known.mtimes[row]:
            return False
        return not found.size or found.size == self._known.sizes[row]

    def _not_had(self, found: Found, row: int) -> None:
        plan, known = self.plan, self._known
        if found.status == "vanished" and row >= 0 and (known.done[row] or known.gone[row]):
            plan.found -= 1
            self._seen[row] = False
            if known.done[row]:
                self._vanished[row] = found.reason
            return
        record = FileRecord(found.path, "", found.size, found.mtime_ns, found.status, found.reason)
        plan.failed.append(record)
        if row >= 0 and known.records(np.array([row])) == [record]:
            plan.failed_before += 1
        else:
            plan.settled.append(record)

    # -- what is not there -----------------------------------------------------------------

    def _lose(self, row: int, reason: str) -> None:
        if self._lost[row]:
            return
        self._lost[row] = True
        if self._known.done[row]:
            self.plan.gone.append(row)
            self.plan.gone_reasons.append(reason)
        else:
            self.plan.outdated.extend(self._known.paths(np.array([row])))

    def _miss(
        self,
        one: Opened,
        count: int,
        vanished: dict[int, str],
        listed_by: Callable[[str], list[str]] | None,
    ) -> None:
        """Mark what a source held before and does not hold now, if it holds anything at all."""
        lost = {row: reason for row, reason in vanished.items() if not self._seen[row]}
        covered = set(lost)
        unseen = np.flatnonzero(~self._seen & ~self._known.gone & ~self._lost)
        for rows, paths in self._known.paths_in_chunks(unseen):
            for row, path in zip(rows.tolist(), paths, strict=True):
                for source in one.sources:
                    if source.covers(path):
                        covered.add(row)
                        lost[row] = lost.get(row) or (source.gone(path) if count else "")
                        break
        for source in one.sources:
            if source.lists and listed_by is not None:
                paths = listed_by(source.name)
                rows = self._known.rows(paths)
                for path, row in zip(paths, rows.tolist(), strict=True):
                    if row >= 0 and not self._seen[row] and not self._known.gone[row]:
                        covered.add(row)
                        lost[row] = lost.get(row) or (source.gone(path) if count else "")
        reason = next((source.reason for source in one.sources if source.reason), "")
        if not count:
            if covered or reason:
                nothing = Unreachable(one.name, len(covered), reason or "is empty")
                self.plan.unreachable.append(nothing)
            return
        for row, reason in lost.items():
            if reason:
                self._lose(row, reason)

    def gone_records(self) -> Iterator[list[FileRecord]]:
        """The known files that are gone, as they are to be recorded, some at a time."""
        now = int(time.time())
        reasons = dict(zip(self.plan.gone, self.plan.gone_reasons, strict=True))
        rows = np.array(sorted(reasons), dtype=np.int64)
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            by_path = dict(zip(self._known.paths(some), some.tolist(), strict=True))
            yield [
                replace(record, status="gone", reason=reasons[by_path[record.path]], gone_at=now)
                for record in self._known.records(some)
            ]

    # -- what lacks a condition ------------------------------------------------------------

    def _fill(self) -> None:
        """Pictures of other sources that lack a condition: it is filled for all the gallery."""
        rest = np.flatnonzero(self._known.done & ~self._seen & ~self._lost)
        for rows, paths in self._known.paths_in_chunks(rest):
            keys = self._known.keys(rows)
            for path, key in zip(paths, keys, strict=True):
                if not self._needed(key):
                    continue
                found = found_at(path, self._root)
                if found.status:
                    self.plan.out_of_reach += 1
                else:
                    self._complete(found, key)

    def _complete(self, found: Found, key: str) -> None:
        self.plan.incomplete += 1
        self.plan.todo.append(found)
        self.plan.kept[found.path] = key


def _chunks(found: Iterator[Found]) -> Iterator[list[Found]]:
    while chunk := list(islice(found, _CHUNK)):
        yield chunk
