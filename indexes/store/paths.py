"""Which file holds which picture, without a Python object for each of a million."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

#: Files up to which a dictionary is made at once.
_FEW = 10_000

#: Questions answered by a scan, a few milliseconds each in a million, before one is made.
_SCANS = 64


class Paths(Mapping[str, list[str]]):
    """Content key to the files that hold it: those that are there in path order, then others."""

    def __init__(self, files: pa.Table, statuses: list[str]):
        """Take the record of files.

        Args:
            files: path, key, status; a row a file.
            statuses: those that count, in the order they are told in.
        """
        named = pc.and_(
            pc.is_in(files.column("status"), pa.array(statuses, pa.string())),
            pc.not_equal(files.column("key"), ""),
        )
        # Copying a million names costs more than looking at them.
        self._files = files if pc.all(named).as_py() else files.filter(named)
        self._statuses = statuses
        self._asked = 0
        self._whole: dict[str, list[str]] | None = None
        self._keys: dict[str, str] | None = None

    def _all(self) -> dict[str, list[str]]:
        if self._whole is None:
            columns = (self._files.column(name).to_pylist() for name in ("path", "key", "status"))
            rows = sorted(zip(*columns, strict=True))
            found: dict[str, list[str]] = {}
            for wanted in self._statuses:
                for path, key, status in rows:
                    if status == wanted:
                        found.setdefault(key, []).append(path)
            self._whole = found
        return self._whole

    def _scans(self) -> bool:
        """Whether the next question is answered by a scan."""
        self._asked += 1
        few = self._files.num_rows <= _FEW
        return not few and self._asked <= _SCANS

    def __getitem__(self, key: str) -> list[str]:
        if self._whole is not None or not self._scans():
            return self._all()[key]
        own = self._files.filter(pc.equal(self._files.column("key"), pa.scalar(key, pa.string())))
        found = Paths(own, self._statuses)._all()
        return found[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def key_of(self, path: str) -> str | None:
        """The picture that a file holds, by its stored path; ``None`` if there is no such file."""
        if self._keys is None:
            if self._scans():
                rows = pc.equal(self._files.column("path"), pa.scalar(path, pa.string()))
                found = self._files.filter(rows).column("key").to_pylist()
                return found[0] if found else None
            self._keys = {path: key for key, paths in self._all().items() for path in paths}
        return self._keys.get(path)
