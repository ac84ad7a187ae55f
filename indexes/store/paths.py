"""The files of each picture, without a Python object for each file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from indexes.store.frozen import ReadRows
from indexes.store.tables import Table

#: The columns that are read.
COLUMNS = ["path", "key", "status"]

#: Files up to which a dictionary is built at the first look-up.
_FEW = 10_000

#: Look-ups by a scan, a few milliseconds each with a million files, before it is built.
_SCANS = 64

#: Share of new files from which on they are no longer kept apart from the earlier ones.
_NEW = 0.1


class Paths(Mapping[str, list[str]]):
    """Content key to the files with this content: existing files in path order, then others."""

    def __init__(
        self,
        files: pa.Table,
        statuses: Sequence[str],
        before: Paths | None = None,
        read: ReadRows | None = None,
    ):
        """Take the record of files.

        Args:
            files: path, key and status of each file.
            statuses: the statuses to include, in the order in which files are returned.
            before: other files, whose dictionaries are used as they are.
            read: how far the record was read.
        """
        named = pc.and_(
            pc.is_in(files.column("status"), pa.array(statuses, pa.string())),
            pc.not_equal(files.column("key"), ""),
        )
        # Copying a million paths takes longer than checking them.
        self._files = files if pc.all(named).as_py() else files.filter(named)
        self._statuses = statuses
        self._before = before
        self._read = read
        self._scans = 0
        self._paths: dict[str, list[str]] | None = None
        self._keys: dict[str, str] | None = None

    def at(self, files: Table) -> Paths | None:
        """The files in a later state of the record; ``None`` if files were changed or removed.

        Args:
            files: the frozen table.
        """
        new = self._read.since(files, COLUMNS) if self._read is not None else None
        if new is None:
            return None
        rows, read = new[0].select(COLUMNS), new[1]
        if not rows.num_rows:
            return self
        # New files are few for a while; the earlier ones keep their dictionaries.
        before, added = self, rows
        if self._before is not None:
            before, added = self._before, pa.concat_tables([self._files, rows])
        if added.num_rows <= max(_FEW, _NEW * before._files.num_rows):
            return Paths(added, self._statuses, before, read)
        return Paths(pa.concat_tables([before._files, added]), self._statuses, None, read)

    def _all(self) -> dict[str, list[str]]:
        """The own files of each key, without the earlier ones."""
        if self._paths is None:
            found: dict[str, list[str]] = {}
            for wanted in self._statuses:
                rows = self._files.filter(pc.equal(self._files.column("status"), wanted))
                rows = rows.sort_by("path")
                pairs = zip(
                    rows.column("key").to_pylist(), rows.column("path").to_pylist(), strict=True
                )
                for key, path in pairs:
                    found.setdefault(key, []).append(path)
            self._paths = found
        return self._paths

    def _may_scan(self) -> bool:
        """Whether the next look-up is done by a scan."""
        self._scans += 1
        return self._files.num_rows > _FEW and self._scans <= _SCANS

    def _rows(self, key: str) -> pa.Table:
        """The rows of a key, those of earlier files included."""
        rows = self._files.filter(pc.equal(self._files.column("key"), pa.scalar(key, pa.string())))
        return rows if self._before is None else pa.concat_tables([self._before._rows(key), rows])

    def __getitem__(self, key: str) -> list[str]:
        if self._before is not None:
            own, earlier = self._all().get(key), self._before.get(key)
            if own is not None and earlier is not None:
                return Paths(self._rows(key), self._statuses)._all()[key]
            if own is None and earlier is None:
                raise KeyError(key)
            return own or earlier or []
        if self._paths is not None or not self._may_scan():
            return self._all()[key]
        return Paths(self._rows(key), self._statuses)._all()[key]

    def __iter__(self) -> Iterator[str]:
        if self._before is not None:
            yield from self._before
            yield from (key for key in self._all() if key not in self._before)
        else:
            yield from self._all()

    def __len__(self) -> int:
        if self._before is not None:
            return len(self._before) + sum(key not in self._before for key in self._all())
        if self._paths is not None:
            return len(self._paths)
        return int(pc.count_distinct(self._files.column("key")).as_py())

    def key_of(self, path: str) -> str | None:
        """The content key of a file by its stored path; ``None`` if there is no such file."""
        if self._before is not None:
            earlier = self._before.key_of(path)
            if earlier is not None:
                return earlier
        if self._keys is None:
            if self._may_scan():
                rows = pc.equal(self._files.column("path"), pa.scalar(path, pa.string()))
                found = self._files.filter(rows).column("key").to_pylist()
                return found[0] if found else None
            self._keys = {path: key for key, paths in self._all().items() for path in paths}
        return self._keys.get(path)


def paths_at(files: Table, statuses: Sequence[str], before: Paths | None = None) -> Paths:
    """The files in one state of their record.

    Args:
        files: the frozen table.
        statuses: as of :class:`Paths`.
        before: those of an earlier state with the same statuses, if there are any.
    """
    grown = before.at(files) if before is not None else None
    if grown is not None:
        return grown
    rows = files.read(COLUMNS, row_ids=True)
    return Paths(rows.select(COLUMNS), statuses, None, ReadRows.of(rows, files))
