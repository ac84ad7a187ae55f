"""WebDataset shards: tar files whose members with the same key are a picture and its labels.

Nothing is unpacked to disk; a picture is read from the tar file at its offset.
"""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Iterator

from indexes.errors import UsageError
from indexes.store.records import escaped, inside, is_address, stored_path, unescaped
from ingest.read.images import FileBytes, UnreadableImage, check_size, error_text, file_bytes
from ingest.sources.base import (
    Source,
    SourceFile,
    SourceOptions,
    has_picture_suffix,
    unsupported,
)
from ingest.sources.patterns import NameFilter
from ingest.sources.remote import open_binary, size_and_version
from ingest.sources.values import ColumnTypes, json_type, text_type

#: Suffixes of members that become one column each; the entries of a ``.json`` member become one
#: column each too.
_TEXT_SUFFIXES = (".txt", ".cls", ".text", ".caption", ".label")

#: Bytes of a longer member are not read as a column.
_MAX_TEXT = 2**20


@dataclass(frozen=True, slots=True)
class ShardReader:
    """Reads members of one tar file; a file's ``position`` is the offset of its bytes."""

    location: str

    def read(self, file: SourceFile) -> FileBytes:
        """See :meth:`ingest.sources.base.SourceFile.read`."""
        check_size(file.size)
        try:
            with open_binary(self.location) as stream:
                if size_and_version(self.location)[1] != file.mtime_ns:
                    raise UnreadableImage("changed", "the shard was changed while it was read")
                stream.seek(file.position)
                data = stream.read(file.size)
        except FileNotFoundError:
            raise UnreadableImage("vanished", "there is no such shard") from None
        except OSError as error:
            raise UnreadableImage("unreadable", error_text(error)) from None
        if len(data) != file.size:
            raise UnreadableImage("truncated", "the shard ends in the middle of the file")
        return file_bytes(data, file.mtime_ns)


@dataclass
class _Sample:
    """The members of one WebDataset key: pictures, and values by the user's column names.

    ``damage`` is why the shard cannot be read any further after this sample, or empty.
    """

    pictures: list[tarfile.TarInfo] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    damage: str = ""


def _members(stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar, in order.

    Raises:
        tarfile.TarError: if it is damaged or cut short, which tarfile alone does not always detect.
    """
    with tarfile.open(fileobj=stream, mode="r:", errorlevel=1) as tar:
        # The members of a large shard need not stay in memory, so each is dropped at once.
        while (member := tar.next()) is not None:
            if member.isreg():
                yield member
            tar.members = []  # type: ignore[attr-defined]
        stream.seek(tar.offset)
        if stream.read(512).strip(b"\0") or stream.tell() - tar.offset < 512:
            raise tarfile.ReadError("the end mark is missing")


def _key_and_suffix(name: str) -> tuple[str, str]:
    """A member's name, split as WebDataset does: at the first dot of the last part."""
    folder, slash, last = name.rpartition("/")
    stem, dot, end = last.partition(".")
    return folder + slash + stem, dot + end.lower()


class TarShard(Source):
    """One WebDataset shard."""

    def __init__(self, location: str, root: Path, options: SourceOptions):
        """Read through the shard once to find its columns and their types.

        Raises:
            UsageError: if it is not a tar file, or compressed.
        """
        super().__init__(location if is_address(location) else stored_path(location, root))
        self._location = location if is_address(location) else os.path.abspath(location)
        self._filter = NameFilter(options.include, options.exclude)
        types = ColumnTypes(location, options.columns)
        for sample in self._samples():
            for name, value in sample.values.items():
                types.observe(name, _type_of_member(name, value))
        self.columns, self.column_names = types.resolve(types.observed)

    def _samples(self) -> Iterator[_Sample]:
        """The samples in order; ``complete`` is false afterwards if the shard is damaged."""
        self.complete = True
        sample = _Sample()
        current = None
        first = True
        try:
            with open_binary(self._location) as stream:
                for member in _members(stream):
                    first = False
                    name = member.name
                    if name.rpartition("/")[2].startswith(".") or name.startswith("__MACOSX/"):
                        continue
                    key, suffix = _key_and_suffix(name)
                    if key != current:
                        yield sample
                        sample = _Sample()
                    current = key
                    if has_picture_suffix(name):
                        sample.pictures.append(member)
                    elif suffix == ".json" or suffix in _TEXT_SUFFIXES:
                        sample.values |= self._member_values(stream, member, suffix)
        except (tarfile.TarError, EOFError) as error:
            if first:
                raise UsageError(
                    f"{self._location} is not an uncompressed tar file "
                    f"({str(error).splitlines()[0]}); unpack a compressed one with gunzip first."
                ) from error
            self.complete = False
            sample.damage = f"the shard is damaged or cut short ({error}); what came before is kept"
        except OSError as error:
            raise UsageError(
                f"Cannot read {self._location}: {error_text(error)}; check the path."
            ) from error
        yield sample

    def _member_values(
        self, stream: BinaryIO, member: tarfile.TarInfo, suffix: str
    ) -> dict[str, Any]:
        """The columns in one text or JSON member; none if it is too long or not a JSON object."""
        if member.size > _MAX_TEXT:
            return {}
        stream.seek(member.offset_data)
        data = stream.read(member.size)
        if suffix == ".json":
            try:
                values = json.loads(data)
            except (ValueError, RecursionError):
                return {}
            return values if isinstance(values, dict) else {}
        return {suffix[1:]: data.decode("utf-8", "replace").strip()}

    def scan(self) -> Iterator[SourceFile]:
        """The pictures, in the order of the shard."""
        reader = ShardReader(self._location)
        _, version = size_and_version(self._location)
        for sample in self._samples():
            values, wrong = None, ""
            try:
                values = self.typed_values(sample.values) if self.column_names else None
            except ValueError as error:
                wrong = str(error)
            for member in sample.pictures:
                if not self._filter.accepts(member.name):
                    continue
                path = f"{self.name}!/{escaped(member.name)}"
                if wrong:
                    yield SourceFile(path, status="bad_value", reason=wrong)
                    continue
                yield unsupported(path, values) or SourceFile(
                    path,
                    member.size,
                    version,
                    values=values,
                    reader=reader,
                    position=member.offset_data,
                )
            if sample.damage:
                yield SourceFile(self.name, status="damaged", reason=sample.damage)

    def covers(self, path: str) -> bool:
        """The shard itself, and its members that the patterns accept."""
        prefix = self.name + "!/"
        if path == self.name:
            return True
        return path.startswith(prefix) and self._filter.accepts(path.removeprefix(prefix))

    def reason_gone(self, path: str) -> str:
        """A member is gone if a complete shard does not contain it."""
        return super().reason_gone(path) if self.complete else ""


def _type_of_member(name: str, value: Any) -> str:
    return text_type(value) if name == "cls" and isinstance(value, str) else json_type(value)


@lru_cache(maxsize=8)
def _offsets(location: str, version: int) -> dict[str, tuple[int, int]]:
    """The offset and size of every member by name, for one version of a shard."""
    with open_binary(location) as stream:
        offsets: dict[str, tuple[int, int]] = {}
        try:
            for member in _members(stream):
                offsets.setdefault(member.name, (member.offset_data, member.size))
        except tarfile.TarError:
            pass  # What comes before the damage can still be read.
        return offsets


def shard_member(path: str, location: str) -> SourceFile:
    """Look up a picture of a shard.

    Args:
        path: its stored path.
        location: the location of the shard.
    """
    parts = inside(path)
    name = unescaped(parts[1]) if parts else ""
    try:
        _, version = size_and_version(location)
        member = _offsets(location, version).get(name)
    except FileNotFoundError:
        return SourceFile(path, status="vanished", reason="there is no such shard")
    except OSError as error:
        return SourceFile(path, status="unreadable", reason=error_text(error))
    if member is None:
        return SourceFile(path, status="vanished", reason="no longer in the shard")
    offset, size = member
    return SourceFile(path, size, version, reader=ShardReader(location), position=offset)
