"""Reads a benchmark's published files; an error is one sentence that names the file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from eval.protocols.value_types import ValueType, list_of, object_with
from eval.tasks import BenchmarkSource
from indexes.errors import DataError


@dataclass(frozen=True)
class Expected:
    """Counts and checksums of the published files; other counts are not checked.

    Attributes:
        counts: what is counted, such as ``pictures``, to its number.
        sha256: published file, such as ``annotations/val.json``, to its SHA-256.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)


class BenchmarkFolder:
    """A user's folder with the data of a benchmark.

    Attributes:
        protocol: name of the benchmark.
        source: where the data come from.
        folder: given by the user.
        expected: counts and checksums of the published data.
        partial: whether a subset is accepted.
        differs: whether something was not as published; :meth:`task_name` says so.
        notes: sentences for readers of results; readers of benchmarks add to them.
        files: annotation files read so far, to their SHA-256.
    """

    def __init__(
        self,
        protocol: str,
        source: BenchmarkSource,
        folder: Path,
        expected: Expected,
        partial: bool = False,
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

    def task_name(self, text: str | None = None) -> str:
        """Return ``text`` or the protocol's name, with ``-partial`` if something differs."""
        return (text or self.protocol) + ("-partial" if self.differs else "")

    def error(self, sentence: str, way_out: str = "") -> DataError:
        """Return an error that ends with where to get the data or read about their form."""
        note = f" ({self.source.note})" if self.source.note else ""
        where = "get the data at" if self.source.link.startswith("http") else "see"
        return DataError(f"{self.protocol}: {sentence}; {where} {self.source.link}{note}{way_out}.")

    def find(self, *paths: str) -> Path:
        """Return the first of some paths below the folder that exists.

        Lists in ``metadata`` and ``info_files`` may also be beside the folder or one level above,
        where the published code of DIOR has them (``metadata`` beside ``datasets/NAME``).

        Raises:
            DataError: if none exists, naming the first and the folder.
        """
        for path in paths:
            if (self.folder / path).exists():
                return self.folder / path
        above = self.folder.absolute().parents[:2]
        for path in (p for p in paths if p.startswith(("metadata/", "info_files/"))):
            for folder in above:
                if (folder / path).exists():
                    return folder / path
        raise self.error(f"{paths[0]} is not in {self.folder}")

    def flat_folder(self, *names: str) -> Path | None:
        """The folder of pictures without subfolders: one of some names, or the data folder itself.

        Names are looked for in the data folder and in its ``datasets``; ``None`` if no folder has
        pictures.
        """
        named = [self.folder / part / name for name in names for part in ("datasets", ".")]
        for folder in (*named, self.folder):
            if folder.is_dir() and any(
                path.suffix.lower() in (".jpg", ".jpeg", ".png") for path in folder.iterdir()
            ):
                return folder
        return None

    def path_below(self, root: Path, path: str, where: Path) -> Path:
        """Return the path of a picture that an annotation file names.

        Args:
            root: folder that the file's paths are relative to.
            path: as the file has it.
            where: the annotation file, for messages.

        Raises:
            DataError: if the path leads out of the root.
        """
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or not parts.parts:
            raise self.error(f"{where} names '{path}', which is not below {root}")
        return root / parts

    def id_of(self, path: Path) -> str:
        """Return a file's id: its path below the folder, with forward slashes.

        A file beside the folder or above it begins with ``../``.
        """
        if path.is_relative_to(self.folder):
            return path.relative_to(self.folder).as_posix()
        return PurePath(os.path.relpath(path, self.folder)).as_posix()

    def read(self, path: Path, published: str | None = None) -> str:
        """Read an annotation file and record its checksum.

        Args:
            path: the path of the file.
            published: its name in :attr:`Expected.sha256`; by default its path below the folder.

        Raises:
            DataError: if it cannot be read, is not UTF-8, or is not the published file.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self.error(f"cannot read {path}: {(error.strerror or '').lower()}") from error
        digest = hashlib.sha256(content).hexdigest()
        name = self.id_of(path)
        self.files[name] = digest
        known = self.expected.sha256.get(published or name)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.error(f"{path} is damaged: it is not text in UTF-8") from error
        if known == digest:
            self._as_published.add(path)
        elif known is not None:
            if path.suffix == ".json":
                self._parse(text, path)  # gives a better error if the file is cut short
            self._differs(
                f"{path} is not the published file (its SHA-256 begins {digest[:12]} in place "
                f"of {known[:12]})"
            )
        return text

    def _parse(self, text: str, path: Path) -> Any:
        def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found = dict(pairs)
            if len(found) < len(pairs) and path not in self._as_published:
                self.check_unique("name", (name for name, _ in pairs), path)
            return found

        try:
            return json.loads(text, object_pairs_hook=once)
        except json.JSONDecodeError as error:
            raise self.error(
                f"{path} is cut short or damaged (not JSON at line {error.lineno}, "
                f"column {error.colno})"
            ) from error

    def json(self, path: Path, value_type: ValueType, published: str | None = None) -> Any:
        """Read a JSON file whose content has a type.

        Raises:
            DataError: if it cannot be read, is cut short, is not the published file, or has
                another type.
        """
        found = self._parse(self.read(path, published), path)
        if not value_type.matches(found):
            raise self.error(f"{path} must be {value_type.singular}")
        return found

    def records(
        self, path: Path, fields: Mapping[str, ValueType], published: str | None = None
    ) -> list[dict[str, Any]]:
        """Read a JSON file that is a list of objects, each with some fields.

        Raises:
            DataError: as :meth:`json`, or naming the entry that lacks a field or has a value of
                another type.
        """
        found: list[dict[str, Any]] = self.json(path, list_of(object_with()), published)
        for number, entry in enumerate(found):
            for name, value_type in fields.items():
                if name not in entry:
                    raise self.error(f"{path}, entry {number} has no '{name}'")
                if not value_type.matches(entry[name]):
                    raise self.error(
                        f"{path}, entry {number}: '{name}' is {_short(entry[name])} in place of "
                        f"{value_type.singular}"
                    )
        return found

    def rows(
        self,
        path: Path,
        columns: Sequence[str],
        delimiter: str = ",",
        published: str | None = None,
    ) -> list[dict[str, str]]:
        """Read a CSV or TSV file that must have some columns.

        Raises:
            DataError: if it cannot be read, a column is missing, or a line has too few or too
                many values.
        """
        reader = csv.DictReader(io.StringIO(self.read(path, published)), delimiter=delimiter)
        try:
            present = reader.fieldnames or []
            for name in columns:
                if name not in present:
                    raise self.error(f"{path} has no column '{name}'")
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise self.error(
                        f"{path}, line {reader.line_num} does not have the {len(present)} values "
                        "of the first line"
                    )
                rows.append(row)
        except csv.Error as error:
            raise self.error(f"{path}, line {reader.line_num} is damaged ({error})") from error
        return rows

    def check_count(self, what: str, found: int, usual: int | None = None) -> None:
        """Compare a count with the published one; for an accepted subset a difference is noted.

        Args:
            what: what is counted.
            found: its number.
            usual: the expected number if none is published.

        Raises:
            DataError: if it differs and no subset is accepted.
        """
        wanted = self.expected.counts.get(what, usual)
        if wanted is not None and wanted != found:
            self._differs(f"{self.folder} has {found:,} {what} in place of {wanted:,}")

    def _differs(self, sentence: str) -> None:
        if not self.partial:
            raise self.error(sentence, ", or allow a partial set (`--partial`)")
        self.differs = True
        self.notes.append(f"Partial: {sentence}.")

    def check_unique(self, what: str, ids: Iterable[object], where: Path) -> None:
        """Check that no id is repeated.

        Raises:
            DataError: naming the first that is, even if a subset is accepted.
        """
        seen = set()
        for one in ids:
            if one in seen:
                raise self.error(f"{where} has the {what} {one} twice")
            seen.add(one)

    def existing_pictures(self, wanted: Mapping[str, Path]) -> dict[str, Path]:
        """Return the pictures whose files exist.

        Args:
            wanted: id to file.

        Raises:
            DataError: if one is missing and no subset is accepted, or if all are missing.
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
            raise self.error(f"{self.folder} has none of the pictures{which}")
        if missing:
            self._differs(
                f"the picture {missing[0]} is missing"
                + (f", and {len(missing) - 1:,} more" if len(missing) > 1 else "")
            )
        return found


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
