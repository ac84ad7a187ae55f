"""WebDataset shards: tar files whose members of one key are a picture and what is said of it.

Nothing is ever unpacked to disk; a picture is read out of the tar by its offset.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Iterator

from indexes.errors import UsageError
from indexes.store.records import escaped, inside, is_address, stored_path, unescaped
from ingest.read.images import MAX_BYTES, FileBytes, UnreadableImage
from ingest.sources.base import (
    Found,
    Source,
    SourceOptions,
    looks_like_picture,
    unsupported,
)
from ingest.sources.patterns import matches
from ingest.sources.remote import open_binary, size_and_version
from ingest.sources.values import Columns, Value, type_of_json, type_of_text

#: Members beside a picture that become columns; a JSON object gives one column an entry.
_TEXTS = (".txt", ".cls", ".text", ".caption", ".label")

#: A text longer than this is no column.
_MAX_TEXT = 2**20


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar file; ``where`` of what is found in it is the offset of its bytes."""

    location: str

    def read(self, found: Found) -> FileBytes:
        """See :meth:`ingest.sources.base.Found.read`."""
        if found.size == 0:
            raise UnreadableImage("empty", "the file is empty")
        if found.size > MAX_BYTES:
            raise UnreadableImage("too_large", f"larger than {MAX_BYTES // 2**20} MB")
        try:
            with open_binary(self.location) as stream:
                if size_and_version(self.location)[1] != found.mtime_ns:
                    raise UnreadableImage("changed", "the shard was changed while it was read")
                stream.seek(found.where)
                data = stream.read(found.size)
        except FileNotFoundError:
            raise UnreadableImage("vanished", "there is no such shard") from None
        except OSError as error:
            raise UnreadableImage("unreadable", (error.strerror or str(error)).lower()) from None
        if len(data) != found.size:
            raise UnreadableImage("truncated", "the shard ends in the middle of the file")
        return FileBytes(data, hashlib.sha256(data).hexdigest(), len(data), found.mtime_ns)


def _members(stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar, in order.

    Raises:
        tarfile.TarError: if it is damaged or cut short, which tarfile alone does not always say.
    """
    with tarfile.open(fileobj=stream, mode="r:", errorlevel=1) as tar:
        # A shard of a million members need not stay in memory, so each is forgotten at once.
        while (member := tar.next()) is not None:
            if member.isreg():
                yield member
            tar.members = []  # type: ignore[attr-defined]
        stream.seek(tar.offset)
        if stream.read(512).strip(b"\0") or stream.tell() - tar.offset < 512:
            raise tarfile.ReadError("the end mark is missing")


def _key_and_suffix(name: str) -> tuple[str, str]:
    """WebDataset's split: at the first dot of the last part."""
    folder, slash, last = name.rpartition("/")
    stem, dot, end = last.partition(".")
    return folder + slash + stem, dot + end.lower()


class TarShard(Source):
    """One WebDataset shard."""

    def __init__(self, location: str, root: Path, options: SourceOptions):
        """Look through the shard once, for the columns beside the pictures.

        Raises:
            UsageError: if it is no tar file, or compressed.
        """
        super().__init__(location if is_address(location) else stored_path(location, root))
        self._location = location if is_address(location) else os.path.abspath(location)
        self._options = options
        known = Columns(location, options.columns)
        for _, values in self._samples():
            for name, value in values.items():
                known.see(name, _type_of_member(name, value))
        self.columns, self.names = known.settle(known.seen)

    def _samples(self) -> Iterator[tuple[list[Found | tarfile.TarInfo], dict[str, Any]]]:
        """The pictures of every key, and what is said of them."""
        self.complete = True
        pictures: list[Found | tarfile.TarInfo] = []
        values: dict[str, Any] = {}
        current = None
        first = True
        try:
            with open_binary(self._location) as stream:
                for member in _members(stream):
                    first = False
                    name = member.name
                    last = name.rpartition("/")[2]
                    if last.startswith(".") or member.name.startswith("__MACOSX/"):
                        continue
                    key, suffix = _key_and_suffix(name)
                    if key != current and (pictures or values):
                        yield pictures, values
                        pictures, values = [], {}
                    current = key
                    if looks_like_picture(name):
                        pictures.append(member)
                    elif suffix == ".json" or suffix in _TEXTS:
                        values |= self._said(stream, member, suffix)
        except (tarfile.TarError, EOFError) as error:
            if first:
                raise UsageError(
                    f"{self._location} is no plain tar file ({str(error).splitlines()[0]}); "
                    "a compressed one must be unpacked with gunzip first."
                ) from error
            self.complete = False
            reason = f"the shard is damaged or cut short ({error}); what came before is kept"
            if pictures or values:
                yield pictures, values
            yield [Found(self.name, status="damaged", reason=reason)], {}
            return
        except OSError as error:
            raise UsageError(
                f"Cannot read {self._location}: {(error.strerror or str(error)).lower()}; "
                "check the path."
            ) from error
        if pictures or values:
            yield pictures, values

    def _said(self, stream: BinaryIO, member: tarfile.TarInfo, suffix: str) -> dict[str, Any]:
        if member.size > _MAX_TEXT:
            return {}
        stream.seek(member.offset_data)
        data = stream.read(member.size)
        if suffix == ".json":
            try:
                said = json.loads(data)
            except (ValueError, RecursionError):
                return {}
            return said if isinstance(said, dict) else {}
        return {suffix[1:]: data.decode("utf-8", "replace").strip()}

    def scan(self) -> Iterator[Found]:
        """The pictures, in the order of the shard."""
        place = Shard(self._location)
        _, version = size_and_version(self._location)
        include, exclude = self._options.include, self._options.exclude
        for pictures, said in self._samples():
            values, wrong = None, ""
            try:
                values = self.own_values(said) if self.names else None
            except ValueError as error:
                wrong = str(error)
            for member in pictures:
                if isinstance(member, Found):
                    yield member
                    continue
                name = member.name
                if matches(name, exclude) or (include and not matches(name, include)):
                    continue
                path = f"{self.name}!/{escaped(name)}"
                if wrong:
                    yield Found(path, status="bad_value", reason=wrong)
                    continue
                yield unsupported(path, values) or Found(
                    path,
                    member.size,
                    version,
                    values=values,
                    place=place,
                    where=member.offset_data,
                )

    def covers(self, path: str) -> bool:
        """The shard, and its members that the patterns let through."""
        if path == self.name:
            return True
        if not path.startswith(self.name + "!/"):
            return False
        name = path.removeprefix(self.name + "!/")
        include, exclude = self._options.include, self._options.exclude
        return not matches(name, exclude) and (not include or matches(name, include))

    def gone(self, path: str) -> str:
        """What a whole shard does not hold is gone."""
        return super().gone(path) if self.complete else ""


def _type_of_member(name: str, value: Any) -> str:
    return type_of_text(value) if name == "cls" and isinstance(value, str) else type_of_json(value)


@lru_cache(maxsize=8)
def _offsets(location: str, version: int) -> dict[str, tuple[int, int]]:
    with open_binary(location) as stream:
        found: dict[str, tuple[int, int]] = {}
        try:
            for member in _members(stream):
                found.setdefault(member.name, (member.offset_data, member.size))
        except tarfile.TarError:
            pass  # what came before the damage can still be read
        return found


def member_at(path: str, location: str, values: tuple[Value, ...] | None = None) -> Found:
    """A picture of a shard by its stored path.

    Args:
        path: the stored path.
        location: of the shard.
        values: the user's columns.
    """
    parts = inside(path)
    name = unescaped(parts[1]) if parts else ""
    try:
        _, version = size_and_version(location)
        where = _offsets(location, version).get(name)
    except FileNotFoundError:
        return Found(path, status="vanished", reason="there is no such shard")
    except OSError as error:
        return Found(path, status="unreadable", reason=(error.strerror or str(error)).lower())
    if where is None:
        return Found(path, status="vanished", reason="no longer in the shard")
    offset, size = where
    return Found(path, size, version, values=values, place=Shard(location), where=offset)
