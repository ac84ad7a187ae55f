"""Files on other systems, by fsspec. The only module that imports it.

S3 and Google Cloud Storage are read by pyarrow, which is here anyway and takes its access from
where the stores' own tools do; fsspec gives it the face of all other systems.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, BinaryIO, Iterator
from urllib.parse import urlsplit

from indexes.errors import UsageError
from indexes.store.records import is_address
from ingest.read.images import MAX_BYTES, FileBytes, UnreadableImage
from ingest.sources.base import Found, Source, SourceOptions, looks_like_picture, unsupported
from ingest.sources.patterns import matches
from ingest.sources.values import Value

#: The beginnings of addresses that pyarrow reads, and its own word for them.
_ARROW = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}

#: How long a store that does not answer is asked again.
_RETRY_SECONDS = 10

#: Bytes fetched at once.
_STEP = 2**22

#: What object stores call the time of last change, or else something that changes with it.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_VERSIONS = ("ETag", "etag", "md5Hash", "checksum", "generation")


@lru_cache(maxsize=64)
def _filesystem(scheme: str, host: str, process: int) -> Any:
    import fsspec

    # Connections do not survive a fork, so every process has its own.
    if scheme in _ARROW:
        return _arrow_file_system(_ARROW[scheme], host)
    return fsspec.core.url_to_fs(f"{scheme}://{host}")[0]


def _arrow_file_system(scheme: str, bucket: str) -> Any:
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    class Store(ArrowFSWrapper):  # type: ignore[misc]
        """As fsspec wraps it, but for streams, in which archives must be able to seek."""

        def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
            return self.fs.open_input_file(self._strip_protocol(path))  # type: ignore[no-any-return]

        def ls(self, path: str, detail: bool = False, **more: Any) -> Any:
            if scheme != "gs":
                return super().ls(path, detail, **more)
            # Listed one folder deep, Google's folders that have no object of their own are left
            # out, which is all that were not made by hand.
            top = self._strip_protocol(path)
            found: dict[str, Any] = {}
            for entry in self.fs.get_file_info(fs.FileSelector(top, recursive=True)):
                name, slash, _ = entry.path.removeprefix(top + "/").partition("/")
                inner = {"name": f"{top}/{name}", "size": 0, "type": "directory"}
                found[name] = inner if slash else found.get(name) or self._make_entry(entry)
            return list(found.values()) if detail else [one["name"] for one in found.values()]

        def cat_file(self, path: str, start: int = 0, end: int = MAX_BYTES, **_: Any) -> bytes:
            # As a stream, since files of Google's that can seek keep all other threads waiting.
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

    # By address and not by class, since so the region of a bucket is found out. Google's own
    # library goes on for a quarter of an hour before it says that it was let in nowhere.
    more = f"?retry_limit_seconds={_RETRY_SECONDS}" if scheme == "gs" else ""
    return Store(fs.FileSystem.from_uri(f"{scheme}://{bucket}{more}")[0])


def file_system(address: str) -> Any:
    """The fsspec file system of an address.

    Raises:
        UsageError: if fsspec does not know it, a package for it is missing, or it holds a password.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise UsageError(f"{address} is no address: {error}; check it.") from error
    if "::" in address:
        raise UsageError(f"Chained addresses such as {address} are not read; unpack it first.")
    if parts.password is not None:
        raise UsageError(
            f"The address of {parts.hostname} holds a password, which a gallery would keep; "
            "give it by the environment, as the store's own tools take it."
        )
    if parts.scheme in _ARROW and not parts.netloc:
        raise UsageError(f"{address} names no bucket; give one, as in s3://bucket/photos.")
    try:
        return _filesystem(parts.scheme, parts.netloc, os.getpid())
    except ImportError as error:
        raise UsageError(
            f"Reading {parts.scheme}:// addresses needs a package; install it ({error})."
        ) from error
    except OSError as error:
        # Without a bucket, a network or access there is no file system to ask.
        raise UsageError(
            f"Cannot reach {parts.scheme}://{parts.netloc}: {_first_line(error)}; check the "
            "address, and the access that the store's own tools are given by the environment."
        ) from error
    except ValueError as error:
        raise UsageError(
            f"Addresses that begin with {parts.scheme}:// cannot be read ({error}); name a "
            "folder, or an s3:// or gs:// address."
        ) from error


def _call(address: str, verb: str, **more: Any) -> Any:
    """Ask a file system; stores raise errors of every kind, each of which is about this address."""
    system = file_system(address)
    try:
        return getattr(system, verb)(address, **more)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnreadableImage("vanished", "there is no such file") from error
    except Exception as error:
        raise UnreadableImage("unreadable", _first_line(error)) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def version_of(about: dict[str, Any]) -> int:
    """A number that changes when the file does: nanoseconds, or a digest of its version; else 0."""
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
            # To the microsecond: one listing may give a number and the next a date.
            return round(value * 1e6) * 1000
    for name in _VERSIONS:
        if about.get(name):
            digest = hashlib.sha256(str(about[name]).encode()).digest()
            return int.from_bytes(digest[:7], "big")
    return 0


@dataclass(frozen=True, slots=True)
class RemoteFiles:
    """The files of all other systems; a stored path is the whole address."""

    def read(self, found: Found) -> FileBytes:
        """See :meth:`ingest.sources.base.Found.read`."""
        if found.size > MAX_BYTES:
            raise UnreadableImage("too_large", f"larger than {MAX_BYTES // 2**20} MB")
        # One byte more than allowed tells a larger file, whatever the store said of its size.
        data = _call(found.path, "cat_file", start=0, end=MAX_BYTES + 1)
        if not data:
            raise UnreadableImage("empty", "the file is empty")
        if len(data) > MAX_BYTES:
            raise UnreadableImage("too_large", f"larger than {MAX_BYTES // 2**20} MB")
        key = hashlib.sha256(data).hexdigest()
        return FileBytes(bytes(data), key, len(data), found.mtime_ns)


def remote_file(address: str, values: tuple[Value, ...] | None = None) -> Found:
    """One file on another system, as it is now."""
    known = unsupported(address, values)
    if known:
        return known
    try:
        about = _call(address, "info")
    except UnreadableImage as error:
        return Found(address, status=error.status, reason=error.reason, values=values)
    size, version = int(about.get("size") or 0), version_of(about)
    return Found(address, size, version, values=values, place=RemoteFiles())


def kind_of(address: str) -> str:
    """What lies at an address: ``file``, ``directory``, or empty if nothing does.

    Raises:
        UsageError: if the store cannot be asked.
    """
    try:
        about = _call(address, "info")
    except UnreadableImage as error:
        if error.status == "vanished":
            return ""
        google = urlsplit(address).scheme in ("gs", "gcs")
        hint = " A public bucket is read as gs://anonymous@BUCKET." if google else ""
        raise UsageError(
            f"Cannot reach {address}: {error.reason}; check the address, and the access that the "
            f"store's own tools are given by the environment.{hint}"
        ) from error
    return "directory" if about.get("type") == "directory" else "file"


def open_binary(location: str) -> BinaryIO:
    """Open a local file or one on another system for reading.

    Raises:
        OSError: if it cannot be had.
        UsageError: as :func:`file_system`.
    """
    if not is_address(location):
        return open(location, "rb")
    try:
        stream = _call(location, "open", mode="rb")
    except UnreadableImage as error:
        raise OSError(error.reason) from error
    return io.BufferedReader(stream) if not hasattr(stream, "peek") else stream


def size_and_version(location: str) -> tuple[int, int]:
    """Bytes and time of last change (nanoseconds, or a version) of a file, local or not.

    Raises:
        OSError: if it cannot be had.
    """
    if not is_address(location):
        about = os.stat(location)
        return about.st_size, about.st_mtime_ns
    found = remote_file(location)
    if found.status:
        raise OSError(found.reason)
    return found.size, found.mtime_ns or int(time.time())


class RemoteFolder(Source):
    """All that lies below an address."""

    def __init__(self, address: str, options: SourceOptions):
        super().__init__(address.rstrip("/"))
        self._options = options
        self._system = file_system(address)

    def scan(self) -> Iterator[Found]:
        """Walk the address in name order."""
        self.complete = True
        yield from self._walk(self.name, "")

    def _walk(self, address: str, below: str) -> Iterator[Found]:
        try:
            listed = _call(address, "ls", detail=True)
        except UnreadableImage as error:
            self.complete = False
            yield Found(address, status=error.status, reason=error.reason)
            return
        include, exclude = self._options.include, self._options.exclude
        own = str(self._system._strip_protocol(address)).rstrip("/")
        for about in sorted(listed, key=lambda entry: str(entry["name"])):
            whole = str(about["name"]).rstrip("/")
            name = whole.rpartition("/")[2]
            if whole == own:
                continue  # the mark that some stores keep for the folder itself
            inner, inner_address = below + name, f"{address}/{name}"
            if name.startswith(".") or not name or (exclude and matches(inner, exclude)):
                continue
            if about.get("type") == "directory":
                yield from self._walk(inner_address, inner + "/")
            elif looks_like_picture(name) and (not include or matches(inner, include)):
                yield unsupported(inner_address) or Found(
                    inner_address,
                    int(about.get("size") or 0),
                    version_of(about),
                    place=RemoteFiles(),
                )

    def covers(self, path: str) -> bool:
        """Everything below the address that the patterns let through."""
        prefix = self.name + "/"
        if not path.startswith(prefix):
            return False
        inner = path.removeprefix(prefix)
        folders = inner.split("/")
        passed = ["/".join(folders[: n + 1]) for n in range(len(folders))]
        include, exclude = self._options.include, self._options.exclude
        return (not include or matches(inner, include)) and not any(
            matches(part, exclude) for part in passed
        )

    def gone(self, path: str) -> str:
        """What a complete listing does not hold is gone."""
        return "there is no such file" if self.complete else ""
