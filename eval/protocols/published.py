"""Reads a benchmark's files as published, and says in one sentence what is wrong with them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from eval.protocols.kinds import Kind, having, several
from eval.tasks import Source
from indexes.errors import DataError


@dataclass(frozen=True)
class Expected:
    """What the published files hold; a count that is not named here is not checked.

    Attributes:
        counts: what is counted, such as ``pictures``, to how many there are.
        sha256: file as published, such as ``annotations/val.json``, to its SHA-256.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)


class Published:
    """A benchmark's folder on this disk.

    Attributes:
        protocol: its name.
        source: where the data come from.
        folder: given by the user.
        expected: what there must be.
        partial: whether a subset will do.
        differs: whether something was not as published; :meth:`name` says so.
        notes: what a reader of results must know; loaders add to it.
        files: annotation files read so far, to their SHA-256.
    """

    def __init__(
        self, protocol: str, source: Source, folder: Path, expected: Expected, partial: bool = False
    ) -> None:
        self.protocol = protocol
        self.source = source
        self.folder = folder
        self.expected = expected
        self.partial = partial
        self.differs = False
        self.notes: list[str] = []
        self.files: dict[str, str] = {}
        self._as_published: set[Path] = set()

    def name(self, text: str | None = None) -> str:
        """The task's name: ``text`` or the protocol's, with ``-partial`` if something differs."""
        return (text or self.protocol) + ("-partial" if self.differs else "")

    def wrong(self, sentence: str, way_out: str = "") -> DataError:
        """An error that ends with where the data are to be had, or what they must look like."""
        note = f" ({self.source.note})" if self.source.note else ""
        where = "get the data at" if self.source.link.startswith("http") else "see"
        return DataError(f"{self.protocol}: {sentence}; {where} {self.source.link}{note}{way_out}.")

    def find(self, *paths: str) -> Path:
        """The first of some places below the folder that exists.

        Raises:
            DataError: if there is none, naming the first and the folder.
        """
        for path in paths:
            if (self.folder / path).exists():
                return self.folder / path
        raise self.wrong(f"{paths[0]} is not in {self.folder}")

    def place(self, root: Path, path: str, where: Path) -> Path:
        """A picture's place below a root, as an annotation file names it.

        Raises:
            DataError: if it leads out of the root.
        """
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or not parts.parts:
            raise self.wrong(f"{where} names '{path}', which is not below {root}")
        return root / parts

    def id_of(self, path: Path) -> str:
        """A file's id: its path below the folder, with forward slashes."""
        return path.relative_to(self.folder).as_posix()

    def read(self, path: Path, published: str | None = None) -> str:
        """Read an annotation file and note its checksum.

        Args:
            path: below the folder.
            published: its name in :attr:`Expected.sha256`; by default its path below the folder.

        Raises:
            DataError: if it cannot be read, is not UTF-8, or is not the one published.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self.wrong(f"cannot read {path}: {(error.strerror or '').lower()}") from error
        digest = hashlib.sha256(content).hexdigest()
        name = self.id_of(path)
        self.files[name] = digest
        known = self.expected.sha256.get(published or name)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.wrong(f"{path} is damaged: it is not text in UTF-8") from error
        if known == digest:
            self._as_published.add(path)
        elif known is not None:
            if path.suffix == ".json":
                self._parse(text, path)  # says more, if the file is cut short
            self._differs(
                f"{path} is not the published file (its SHA-256 begins {digest[:12]} in place "
                f"of {known[:12]})"
            )
        return text

    def _parse(self, text: str, path: Path) -> Any:
        def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found = dict(pairs)
            if len(found) < len(pairs) and path not in self._as_published:
                self.unique("name", (name for name, _ in pairs), path)
            return found

        try:
            return json.loads(text, object_pairs_hook=once)
        except json.JSONDecodeError as error:
            raise self.wrong(
                f"{path} is cut short or damaged (not JSON at line {error.lineno}, "
                f"column {error.colno})"
            ) from error

    def json(self, path: Path, kind: Kind, published: str | None = None) -> Any:
        """Read a JSON file that is one value of a kind.

        Raises:
            DataError: if it cannot be read, is cut short, is not the one published, or is of
                another kind.
        """
        found = self._parse(self.read(path, published), path)
        if not kind.fits(found):
            raise self.wrong(f"{path} must be {kind.words}")
        return found

    def records(
        self, path: Path, fields: Mapping[str, Kind], published: str | None = None
    ) -> list[dict[str, Any]]:
        """Read a JSON file that is a list of objects, each with some fields.

        Raises:
            DataError: as :meth:`json`, or naming the entry that lacks a field or has another
                kind of value in it.
        """
        found: list[dict[str, Any]] = self.json(path, several(having()), published)
        for number, entry in enumerate(found):
            for name, kind in fields.items():
                if name not in entry:
                    raise self.wrong(f"{path}, entry {number} has no '{name}'")
                if not kind.fits(entry[name]):
                    raise self.wrong(
                        f"{path}, entry {number}: '{name}' is {_short(entry[name])} in place of "
                        f"{kind.words}"
                    )
        return found

    def rows(
        self,
        path: Path,
        columns: Sequence[str],
        delimiter: str = ",",
        published: str | None = None,
    ) -> list[dict[str, str]]:
        """Read a CSV or TSV file that has some columns.

        Raises:
            DataError: if it cannot be read, lacks a column, or a line has too few or many values.
        """
        reader = csv.DictReader(io.StringIO(self.read(path, published)), delimiter=delimiter)
        try:
            there = reader.fieldnames or []
            for name in columns:
                if name not in there:
                    raise self.wrong(f"{path} has no column '{name}'")
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise self.wrong(
                        f"{path}, line {reader.line_num} has not the {len(there)} values of the "
                        "first line"
                    )
                rows.append(row)
        except csv.Error as error:
            raise self.wrong(f"{path}, line {reader.line_num} is damaged ({error})") from error
        return rows

    def count(self, what: str, found: int, usual: int | None = None) -> None:
        """Compare a count with the published one; a subset may have fewer, and it is noted.

        Args:
            what: is counted.
            found: how many.
            usual: how many there must be where nothing is published.

        Raises:
            DataError: if it differs, and a subset will not do.
        """
        wanted = self.expected.counts.get(what, usual)
        if wanted is not None and wanted != found:
            self._differs(f"{self.folder} has {found:,} {what} in place of {wanted:,}")

    def _differs(self, sentence: str) -> None:
        if not self.partial:
            raise self.wrong(sentence, ", or allow a partial set (`--partial`)")
        self.differs = True
        self.notes.append(f"Partial: {sentence}.")

    def unique(self, what: str, ids: Iterable[object], where: Path) -> None:
        """Check that no id stands twice.

        Raises:
            DataError: naming the first that does, even if a subset will do.
        """
        seen = set()
        for one in ids:
            if one in seen:
                raise self.wrong(f"{where} has the {what} {one} twice")
            seen.add(one)

    def pictures(self, wanted: Mapping[str, Path]) -> dict[str, Path]:
        """Those pictures whose files exist.

        Raises:
            DataError: if one is missing and a subset will not do, or if none is there.
        """
        listed: dict[Path, set[str]] = {}
        missing: list[Path] = []
        found: dict[str, Path] = {}
        for key, path in wanted.items():
            if path.parent not in listed:
                listed[path.parent] = set()
                if path.parent.is_dir():
                    listed[path.parent] = {entry.name for entry in path.parent.iterdir()}
            if path.name in listed[path.parent]:
                found[key] = path
            else:
                missing.append(path)
        if not found:
            which = f": {missing[0]} is missing, and all others are" if missing else ""
            raise self.wrong(f"{self.folder} has none of the pictures{which}")
        if missing:
            self._differs(
                f"the picture {missing[0]} is missing"
                + (f", and {len(missing) - 1:,} more" if len(missing) > 1 else "")
            )
        return found


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
