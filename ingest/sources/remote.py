"""Files on remote systems, through fsspec. The only module that imports it.

S3 and Google Cloud Storage are read by pyarrow, which is installed anyway and finds credentials in
the same places as the stores' own tools; fsspec wraps it in the interface of all other systems.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Sequence
from urllib.parse import urlsplit

from indexes.deadline import within
from indexes.errors import UsageError
from indexes.store.records import is_address
from ingest.read.images import MAX_BYTES, FileBytes, UnreadableImage, check_size, file_bytes
from ingest.sources.base import (
    HIDDEN,
    HIDDEN_FOLDER,
    PATTERN,
    PATTERN_FOLDER,
    Source,
    SourceFile,
    SourceOptions,
    has_picture_suffix,
    unsupported,
)
from ingest.sources.patterns import NameFilter
from ingest.sources.values import Value

#: URL schemes that pyarrow reads, and pyarrow's names for them.
_ARROW = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}

#: Seconds during which requests to a store that does not answer are repeated.
_RETRY_SECONDS = 10

#: Stores that could not be reached, each with the message and until when they are not tried again,
#: so that a thousand addresses of one that is down cost one attempt.
_UNREACHABLE: dict[str, tuple[str, float]] = {}
_UNREACHABLE_SECONDS = 60

#: Seconds for a whole look-up or listing, and for reading a whole file or a part of an archive,
#: however slowly single bytes come.
_ASK_SECONDS = 60
_READ_SECONDS = 300

#: Bytes fetched in one request.
_STEP = 2**22

#: Keys under which object stores return the time of last change, or a version that changes with it.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_VERSIONS = ("ETag", "etag", "md5Hash", "checksum", "generation")


@lru_cache(maxsize=64)
def _filesystem(scheme: str, host: str, process: int) -> Any:
    import fsspec

    # Connections do not survive a fork, so every process opens its own.
    if scheme in _ARROW:
        return _arrow_file_system(_ARROW[scheme], host)
    return fsspec.core.url_to_fs(f"{scheme}://{host}")[0]


def _arrow_file_system(scheme: str, bucket: str) -> Any:
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    class ArrowStore(ArrowFSWrapper):  # type: ignore[misc]
        """fsspec's wrapper, with files that can seek (needed for archives) and faster reads."""

        def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
            return self.fs.open_input_file(self._strip_protocol(path))  # type: ignore[no-any-return]

        def ls(self, path: str, detail: bool = False, **more: Any) -> Any:
            if scheme != "gs":
                return super().ls(path, detail, **more)
            # A listing one folder deep omits Google's folders that have no object of their own,
            # which are all folders that were not created explicitly.
            top = self._strip_protocol(path)
            found: dict[str, Any] = {}
            for entry in self.fs.get_file_info(fs.FileSelector(top, recursive=True)):
                name, slash, _ = entry.path.removeprefix(top + "/").partition("/")
                inner = {"name": f"{top}/{name}", "size": 0, "type": "directory"}
                found[name] = inner if slash else found.get(name) or self._make_entry(entry)
            return list(found.values()) if detail else [one["name"] for one in found.values()]

        def cat_file(self, path: str, start: int = 0, end: int = MAX_BYTES, **_: Any) -> bytes:
            # As a stream, because seekable files of Google's block all other threads.
            with self.fs.open_input_stream(self._strip_protocol(path), compression=None) as stream:
                parts, left = [], end
                while left > 0 and (part := stream.read(min(left, _STEP))):
                    parts.append(part)
                    left -= len(part)
            return b"".join(parts)[start:]

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            host, slash, inner = path.rpartition("://")[2].partition("/")
            return f"{host.rpartition('@')[2]}{slash}{inner}".rstrip("/")

    # By address and not by class, because pyarrow then looks up the bucket's region. Google's
    # library otherwise retries for 15 minutes before it reports that access is denied.
    more = f"?retry_limit_seconds={_RETRY_SECONDS}" if scheme == "gs" else ""
    return ArrowStore(fs.FileSystem.from_uri(f"{scheme}://{bucket}{more}")[0])


def file_system(address: str) -> Any:
    """The fsspec file system of an address.

    Raises:
        UsageError: if fsspec does not know the scheme, a package for it is missing, the store
            cannot be reached, or the address contains a password.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise UsageError(f"{address} is not a valid address: {error}; check it.") from error
    if "::" in address:
        raise UsageError(f"Chained addresses such as {address} are not supported; unpack it first.")
    if parts.password is not None:
        raise UsageError(
            f"The address of {parts.hostname} contains a password, which the gallery would store; "
            "set it in the environment, as for the store's own tools."
        )
    if parts.scheme in _ARROW and not parts.netloc:
        raise UsageError(f"{address} names no bucket; give one, as in s3://bucket/photos.")
    store = f"{parts.scheme}://{parts.netloc}"
    failure, until = _UNREACHABLE.get(store, ("", 0.0))
    if time.monotonic() < until:
        raise UsageError(failure)
    try:
        return _filesystem(parts.scheme, parts.netloc, os.getpid())
    except ImportError as error:
        raise UsageError(
            f"Reading {parts.scheme}:// addresses needs a package; install it ({error})."
        ) from error
    except OSError as error:
        # pyarrow already contacts the store here: no network, bucket or access raises this.
        failure = (
            f"Cannot reach {store}: {first_line(error)}; check the address and the credentials in "
            "the environment."
        )
        _UNREACHABLE[store] = failure, time.monotonic() + _UNREACHABLE_SECONDS
        raise UsageError(failure) from error
    except ValueError as error:
        raise UsageError(
            f"Addresses that start with {parts.scheme}:// cannot be read ({error}); name a "
            "folder, or an s3:// or gs:// address."
        ) from error


def _call(address: str, verb: str, **more: Any) -> Any:
    """Call a method of an address's file system.

    Raises:
        UnreadableImage: for every error, because stores raise errors of all classes.
        UsageError: as :func:`file_system`.
    """
    seconds = _READ_SECONDS if verb == "cat_file" else _ASK_SECONDS
    try:
        return within(seconds, lambda: getattr(file_system(address), verb)(address, **more))
    except UsageError:
        raise
    except TimeoutError as error:
        raise UnreadableImage("unreadable", f"no answer within {seconds} s") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnreadableImage("vanished", "there is no such file") from error
    except Exception as error:
        raise UnreadableImage("unreadable", first_line(error)) from error


def first_line(error: Exception) -> str:
    """The first 200 characters of an error's message, or its class name if it has none."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def version_of(about: dict[str, Any]) -> int:
    """A number that changes with the file: nanoseconds, or a digest of its version; else 0.

    Args:
        about: what fsspec's ``info`` or ``ls`` returned for the file.
    """
    for name in _TIMES:
        value = about.get(name)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            value = aware.timestamp()
        if isinstance(value, (int, float)) and value:
            # To the microsecond, because one listing may return a number and the next a date.
            return round(value * 1e6) * 1000
    for name in _VERSIONS:
        if about.get(name):
            digest = hashlib.sha256(str(about[name]).encode()).digest()
            return int.from_bytes(digest[:7], "big")
    return 0


@dataclass(frozen=True, slots=True)
class RemoteReader:
    """Reads files of remote systems; a stored path is the whole address."""

    def read(self, file: SourceFile) -> FileBytes:
        """See :meth:`ingest.sources.base.SourceFile.read`."""
        if file.size:
            check_size(file.size)
        # One byte more than allowed reveals a file that is larger than the store reported.
        data = _call(file.path, "cat_file", start=0, end=MAX_BYTES + 1)
        return file_bytes(bytes(data), file.mtime_ns)


def remote_file(address: str, values: tuple[Value, ...] | None = None) -> SourceFile:
    """Look up one remote file.

    Args:
        address: the address of the file, which is also its stored path.
        values: the user's columns.
    """
    refused = unsupported(address, values)
    if refused:
        return refused
    try:
        about = _call(address, "info")
    except UnreadableImage as error:
        return SourceFile(address, status=error.status, reason=error.reason, values=values)
    except UsageError as error:
        # One address of many must not end a run.
        return SourceFile(address, status="unreadable", reason=str(error), values=values)
    size, version = int(about.get("size") or 0), version_of(about)
    return SourceFile(address, size, version, values=values, reader=RemoteReader())


def entry_type(address: str) -> str:
    """What an address refers to: ``file``, ``folder``, or empty if there is nothing.

    Raises:
        UsageError: if the store cannot be reached.
    """
    try:
        about = _call(address, "info")
    except UnreadableImage as error:
        if error.status == "vanished":
            return ""
        google = urlsplit(address).scheme in ("gs", "gcs")
        hint = " A public bucket is read as gs://anonymous@BUCKET." if google else ""
        raise UsageError(
            f"Cannot reach {address}: {error.reason}; check the address and the credentials in the "
            f"environment.{hint}"
        ) from error
    return "folder" if about.get("type") == "directory" else "file"


def open_binary(location: str) -> BinaryIO:
    """Open a local or remote file for reading.

    Raises:
        OSError: if it cannot be opened.
        UsageError: as :func:`file_system`.
    """
    if not is_address(location):
        return open(location, "rb")
    try:
        stream = _call(location, "open", mode="rb")
    except UnreadableImage as error:
        raise OSError(error.reason) from error
    return io.BufferedReader(_TimedStream(stream))


class _TimedStream(io.RawIOBase):
    """A remote file whose every read ends within a time limit.

    It has a position of its own: some file systems open one file for all threads.
    """

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        start = self._position if whence == io.SEEK_CUR else 0
        end = whence == io.SEEK_END
        self._position = self._stream.seek(offset, whence) if end else start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read at most as many bytes as there is room for.

        Raises:
            TimeoutError: if they do not come in time.
        """

        def read() -> bytes:
            if self._stream.seekable():
                self._stream.seek(self._position)
            return self._stream.read(len(buffer))

        data = within(_READ_SECONDS, read)
        self._position += len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def size_and_version(location: str) -> tuple[int, int]:
    """Bytes and time of last change (nanoseconds, or a version) of a local or remote file.

    Raises:
        OSError: if it cannot be looked up.
    """
    if not is_address(location):
        about = os.stat(location)
        return about.st_size, about.st_mtime_ns
    file = remote_file(location)
    if file.status:
        raise OSError(file.reason)
    return file.size, file.mtime_ns or int(time.time())


def matching_addresses(pattern: str) -> list[str]:
    """The addresses that match a pattern with wildcards, in order.

    Raises:
        UsageError: as :func:`file_system`.
    """
    scheme = pattern.partition("://")[0]
    names = sorted(file_system(pattern).glob(pattern))
    return [f"{scheme}://{str(name).lstrip('/')}" for name in names]


class RemoteFolder(Source):
    """A remote folder with all its subfolders."""

    def __init__(self, address: str, root: Path, options: SourceOptions):
        """Connect to the store; stored paths are addresses, so ``root`` is not used.

        Raises:
            UsageError: as :func:`file_system`.
        """
        super().__init__(address.rstrip("/"))
        self._filter = NameFilter(options.include, options.exclude)
        self._system = file_system(address)

    def scan(self) -> Iterator[SourceFile]:
        """Walk the folder in name order."""
        self.complete = True
        self.left_out.clear()
        yield from self._walk(self.name, "")

    def _walk(self, address: str, below: str) -> Iterator[SourceFile]:
        try:
            listed = _call(address, "ls", detail=True)
        except UnreadableImage as error:
            self.complete = False
            yield SourceFile(address, status=error.status, reason=error.reason)
            return
        folder = str(self._system._strip_protocol(address)).rstrip("/")
        for about in sorted(listed, key=lambda entry: str(entry["name"])):
            path = str(about["name"]).rstrip("/")
            name = path.rpartition("/")[2]
            if path == folder or not name:
                continue  # Some stores list an object for the folder itself.
            if name.startswith("."):
                if about.get("type") == "directory":
                    self.left_out[HIDDEN_FOLDER] += 1
                else:
                    self.leave_out(name, HIDDEN)
                continue
            relative, inner = below + name, f"{address}/{name}"
            if about.get("type") == "directory":
                if not self._filter.excludes(relative + "/"):
                    yield from self._walk(inner, relative + "/")
                else:
                    self.left_out[PATTERN_FOLDER] += 1
            elif not has_picture_suffix(name) or not self._filter.accepts(relative):
                self.leave_out(name, PATTERN if has_picture_suffix(name) else "")
            else:
                size, version = int(about.get("size") or 0), version_of(about)
                yield unsupported(inner) or SourceFile(inner, size, version, reader=RemoteReader())

    def covers(self, path: str) -> bool:
        """Everything below the address that the patterns accept."""
        prefix = self.name + "/"
        return path.startswith(prefix) and self._filter.accepts(path.removeprefix(prefix))

    def reason_gone(self, path: str) -> str:
        """A file is gone if a complete listing does not contain it."""
        return "there is no such file" if self.complete else ""


class RemoteFileList(Source):
    """Remote files named one by one."""

    def __init__(self, name: str, addresses: Sequence[str]):
        super().__init__(name)
        self._addresses = addresses

    def scan(self) -> Iterator[SourceFile]:
        """The files in the order in which they were named."""
        return (remote_file(address) for address in self._addresses)
