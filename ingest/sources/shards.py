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
    HIDDEN,
    PATTERN,
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

#: Bytes that are searched at once for a header; a multiple of 512.
_SEARCHED = 2**20

#: Bytes of the longest header, such as a list of attributes, that is read.
_MAX_HEADER = 2**24


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
    """The members of one WebDataset key.

    Attributes:
        pictures: the pictures, each name once.
        values: values by the user's column names.
        unused: failures of members that are not used: name, outcome code and reason.
        texts: the names of the members with values.
        damage: what is wrong with the shard, after its last sample; else empty.
    """

    pictures: list[tarfile.TarInfo] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    unused: list[tuple[str, str, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    damage: str = ""
    _names: set[str] = field(default_factory=set)

    def takes(self, member: tarfile.TarInfo) -> bool:
        """Whether a member is the first of its name; if not, that is noted."""
        if member.name not in self._names:
            self._names.add(member.name)
            return True
        reason = f"the shard contains {member.name} more than once; the first counts"
        name = f"{member.name} (at byte {member.offset_data})"
        self.unused.append((name, "repeated", reason))
        return False


class _HeaderStream:
    """A tar file as tarfile reads it, which asks for as many bytes as a header claims."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Read some bytes.

        Raises:
            tarfile.ReadError: if more are asked for than any header has.
        """
        if size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header claims to have {size:,} bytes")
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        """Set the position.

        Raises:
            tarfile.ReadError: if no file is as long as a header claims.
        """
        try:
            return self._stream.seek(position)
        except (OSError, OverflowError, ValueError) as error:
            raise tarfile.ReadError(f"a header claims that {position:,} bytes follow") from error

    def tell(self) -> int:
        """The position."""
        return self._stream.tell()


def _members(stream: BinaryIO, damage: list[str] | None = None) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar and the links to files, in order.

    After a damaged place, and after an end mark that more tar files follow, reading goes on at the
    next header.

    Args:
        stream: the tar file; it may be moved between two members.
        damage: gets the description of every damaged place.

    Raises:
        tarfile.TarError: if no member of it can be found, or it is damaged at all and ``damage`` is
            not given.
    """
    start: int | None = 0
    while start is not None:
        data = end = begin = start
        stream.seek(begin)
        try:
            headers: Any = _HeaderStream(stream)
            with tarfile.open(fileobj=headers, mode="r:", errorlevel=1) as tar:
                # The members of a large shard need not stay in memory; each is dropped at once.
                while (member := tar.next()) is not None:
                    data, end = member.offset_data, tar.offset
                    if member.isreg() or member.issym() or member.islnk():
                        yield member
                    tar.members = []  # type: ignore[attr-defined]
                start = _after_end_mark(stream, tar.offset)
        except tarfile.TarError as error:
            if damage is None or (end == 0 and _next_header(stream, begin + 512) is None):
                raise
            # If a header claims more bytes than there are, its member's data are searched.
            place = data if end > stream.seek(0, os.SEEK_END) else end
            if not damage or place != begin:  # The search may find the header that failed.
                damage.append(f"{str(error).splitlines()[0]}, near byte {place:,}")
            start = _next_header(stream, place if place > begin else place + 512)


def _after_end_mark(stream: BinaryIO, offset: int) -> int | None:
    """The offset of another tar file after the end of one; ``None`` if nothing follows.

    Raises:
        tarfile.ReadError: if the end mark is missing, or something else follows it.
    """
    stream.seek(offset)
    if stream.read(512) != bytes(512):
        raise tarfile.ReadError("the end mark is missing")
    at = offset + 512
    while block := stream.read(_SEARCHED):
        if block.strip(b"\0"):
            place = at + (len(block) - len(block.lstrip(b"\0"))) // 512 * 512
            if _next_header(stream, place) != place:
                raise tarfile.ReadError("something else follows the end mark")
            return place
        at += len(block)
    return None


def _next_header(stream: BinaryIO, offset: int) -> int | None:
    """The offset of the first valid header at a multiple of 512 bytes from an offset on."""
    at = offset
    stream.seek(at)
    while data := stream.read(_SEARCHED):
        for place in range(0, len(data), 512):
            block = data[place : place + 512]
            if block[257:262] != b"ustar":
                continue
            try:
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError:
                continue
            return at + place
        at += len(data)
    return None


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
        self._scattered = False
        types = ColumnTypes(location, options.columns)
        for sample in self._samples():
            for name, value in sample.values.items():
                types.observe(name, _type_of_member(name, value))
        self.columns, self.column_names = types.resolve(types.observed)

    def _samples(self) -> Iterator[_Sample]:
        """The samples in order; ``complete`` is false afterwards if the shard is damaged.

        The members of a sample usually stand together, so that one sample is in memory at a time.
        In a shard where they do not, all samples are read before the first is returned.
        """
        if self._scattered:
            samples: dict[str, _Sample] = {}
            for _ in self._read_samples(samples):
                pass
            yield from samples.values()
            return
        seen: set[str] = set()
        for key, sample in self._read_samples():
            self._scattered = self._scattered or key in seen
            seen.add(key)
            yield sample

    def _read_samples(
        self, samples: dict[str, _Sample] | None = None
    ) -> Iterator[tuple[str, _Sample]]:
        """Samples with their keys, whenever the key changes from one member to the next.

        Args:
            samples: collects the samples by key; a key that comes again continues its sample.
        """
        self.complete = True
        self.left_out.clear()
        sample = _Sample()
        current = ""
        first = True
        damage: list[str] = []
        try:
            with open_binary(self._location) as stream:
                for member in _members(stream, damage):
                    first = False
                    name = member.name
                    if name.rpartition("/")[2].startswith(".") or name.startswith("__MACOSX/"):
                        self.leave_out(name, HIDDEN)
                        continue
                    key, suffix = _key_and_suffix(name)
                    if key != current:
                        yield current, sample
                        sample = (
                            _Sample() if samples is None else samples.setdefault(key, _Sample())
                        )
                    current = key
                    if not member.isreg():
                        if has_picture_suffix(name):
                            reason = f"a link to {member.linkname}, which counts if it is here"
                            sample.unused.append((name, "link", reason))
                    elif has_picture_suffix(name):
                        if sample.takes(member):
                            sample.pictures.append(member)
                    elif suffix == ".json" or suffix in _TEXT_SUFFIXES:
                        if sample.takes(member):
                            sample.texts.append(name)
                            self._add_values(sample, stream, member, suffix)
                    else:
                        self.leave_out(name)
        except (tarfile.TarError, EOFError) as error:
            if first:
                raise UsageError(
                    f"{self._location} is not an uncompressed tar file "
                    f"({str(error).splitlines()[0]}); unpack a compressed one with gunzip first."
                ) from error
            damage.append(str(error).splitlines()[0])
        except OSError as error:
            raise UsageError(
                f"Cannot read {self._location}: {error_text(error)}; check the path."
            ) from error
        if damage:
            self.complete = False
            if samples is not None:
                sample = samples.setdefault(current, sample)
            more = f" and {len(damage) - 1} more places" if len(damage) > 1 else ""
            sample.damage = (
                f"the shard is damaged or cut short ({damage[0]}{more}); what can be found is kept"
            )
        yield current, sample

    def _add_values(
        self, sample: _Sample, stream: BinaryIO, member: tarfile.TarInfo, suffix: str
    ) -> None:
        """Add the columns in one text or JSON member, or note why it has none."""
        if member.size > _MAX_TEXT:
            reason = f"larger than {_MAX_TEXT // 2**20} MB, so it is not read as columns"
            sample.unused.append((member.name, "bad_row", reason))
            return
        stream.seek(member.offset_data)
        data = stream.read(member.size)
        if suffix != ".json":
            sample.values[suffix[1:]] = data.decode("utf-8", "replace").strip()
            return
        try:
            values = json.loads(data)
        except (ValueError, RecursionError) as error:
            sample.unused.append((member.name, "bad_row", f"not JSON: {error}"))
            return
        if isinstance(values, dict):
            sample.values |= values
        else:
            sample.unused.append((member.name, "bad_row", "a JSON object is expected"))

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
                    self.leave_out(member.name, PATTERN)
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
            for name in () if sample.pictures else sample.texts:
                self.leave_out(name)  # Its values belong to no picture.
            for name, status, reason in sample.unused:
                yield SourceFile(f"{self.name}!/{escaped(name)}", status=status, reason=reason)
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
            for member in filter(tarfile.TarInfo.isreg, _members(stream, [])):
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
