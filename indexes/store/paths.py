"""The files of each picture, without a Python object for each file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

#: Files up to which a dictionary is built at the first look-up.
_FEW = 10_000

#: Look-ups by a scan, a few milliseconds each with a million files, before it is built.
_SCANS = 64


class Paths(Mapping[str, list[str]]):
    """Content key to the files with this content: existing files in path order, then others."""

    def __init__(self, files: pa.Table, statuses: list[str]):
        """Take the record of files.

        Args:
            files: path, key and status of each file.
            statuses: the statuses to include, in the order in which files are returned.
        """
        named = pc.and_(
            pc.is_in(files.column("status"), pa.array(statuses, pa.string())),
            pc.not_equal(files.column("key"), ""),
        )
        # Copying a million paths takes longer than checking them.
        self._files = files if pc.all(named).as_py() else files.filter(named)
        self._statuses = statuses
        self._scans = 0
        self._paths: dict[str, list[str]] | None = None
        self._keys: dict[str, str] | None = None

    def _all(self) -> dict[str, list[str]]:
        if self._paths is None:
            columns = (self._files.column(name).to_pylist() for name in ("path", "key", "status"))
            rows = sorted(zip(*columns, strict=True))
            found: dict[str, list[str]] = {}
            for wanted in self._statuses:
                for path, key, status in rows:
                    if status == wanted:
                        found.setdefault(key, []).append(path)
            self._paths = found
        return self._paths

    def _may_scan(self) -> bool:
        """Whether the next look-up is done by a scan."""
        self._scans += 1
        return self._files.num_rows > _FEW and self._scans <= _SCANS

    def __getitem__(self, key: str) -> list[str]:
        if self._paths is not None or not self._may_scan():
            return self._all()[key]
        rows = self._files.filter(pc.equal(self._files.column("key"), pa.scalar(key, pa.string())))
        return Paths(rows, self._statuses)._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def key_of(self, path: str) -> str | None:
        """The content key of a file by its stored path; ``None`` if there is no such file."""
        if self._keys is None:
            if self._may_scan():
                rows = pc.equal(self._files.column("path"), pa.scalar(path, pa.string()))
                found = self._files.filter(rows).column("key").to_pylist()
                return found[0] if found else None
            self._keys = {path: key for key, paths in self._all().items() for path in paths}
        return self._keys.get(path)
