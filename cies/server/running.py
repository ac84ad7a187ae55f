"""How commands of the same user find a running server of a gallery, and ask it.

A server writes a file into the user's cache folder, readable by the user only: where it listens,
and a random token. A command proves nothing to others by it: the server must first show that it
knows the token (an HMAC of a number that the command draws), so that a program that got the port of
a server that was killed learns nothing. Any doubt means that there is no server.

This module needs the standard library only, so that a command that asks a server starts quickly.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import platform
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from cies import __version__

#: Addresses that only commands of the same user may ask.
LOCAL_PATHS = "/local/"
LOCAL_HELLO = "/local/hello"
LOCAL_SEARCH = "/local/search"

#: Seconds in which a server must prove that it knows the token, and in which it must send
#: something while it works on an answer.
_HELLO_SECONDS, _ANSWER_SECONDS = 2.0, 30.0

#: The longest file, and the longest line of an answer, that are read.
_MAX_FILE, _MAX_LINE = 4096, 256 * 2**20


@dataclass(frozen=True)
class RunningServer:
    """A server as its file describes it.

    Attributes:
        gallery: the gallery's folder, without symbolic links.
        host: where this machine reaches it.
        port: its port.
        pid: its process.
        machine: the name of its machine; the folder may be on a shared drive.
        version: of CIES; another one may answer differently.
        index: the index it searches with.
        device: the device of its model.
        token: what a command must know.
    """

    gallery: str
    host: str
    port: int
    pid: int
    machine: str
    version: str
    index: str
    device: str
    token: str


def running_server(gallery: Path, host: str, port: int, index: str, device: str) -> RunningServer:
    """The server that is this process, with a new token.

    Args:
        gallery: the gallery's folder.
        host: the address it listens at.
        port: the port.
        index: the index it searches with.
        device: the device of its model.
    """
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    place = os.path.realpath(gallery)
    token = secrets.token_urlsafe(32)
    here = platform.node()
    return RunningServer(place, reached, port, os.getpid(), here, __version__, index, device, token)


@contextmanager
def announced(server: RunningServer) -> Iterator[None]:
    """Let commands of the same user find the server in a ``with`` block.

    Where the file cannot be written, no command finds it.
    """
    path = _file(server.gallery)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(path.parent.lstat()):
            path.parent.chmod(0o700)
        part = path.with_name(f"{path.name}.{server.pid}")
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(server), file)
        part.replace(path)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            # Another server of this gallery may have started since.
            if _read(path) == server:
                path.unlink()


def find_server(gallery: Path, index: str = "auto", device: str = "auto") -> RunningServer | None:
    """The running server of a gallery that would give the answers of this process.

    Args:
        gallery: the gallery's folder.
        index: the index to search with.
        device: the device of the model.

    Returns:
        ``None`` if there is none, or none that proves to be the one of the file.
    """
    place = os.path.realpath(gallery)
    try:
        server = _read(_file(place))
    except OSError:
        return None
    if server is None or server.gallery != place:
        return None
    if (server.machine, server.version) != (platform.node(), __version__):
        return None
    if server.index != index or device not in ("auto", server.device):
        return None
    return server if _is_alive(server.pid) and _knows_token(server) else None


def ask_server(
    server: RunningServer,
    question: Mapping[str, Any],
    progress: Callable[[Mapping[str, Any]], None] = lambda state: None,
) -> str | None:
    """A running server's answer to a search.

    Args:
        server: from :func:`find_server`.
        question: ``typed``, a :class:`cies.typed_search.TypedSearch`, and its ``pictures``.
        progress: called with the progress of long searches.

    Returns:
        The line that :func:`query.hits_wire.from_wire` reads; ``None`` if the server refuses the
        question or does not answer. The caller then searches itself, and gets the error if the
        question is wrong.
    """
    body = json.dumps(question).encode("ascii")
    head = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    try:
        with closing(HTTPConnection(server.host, server.port, timeout=_ANSWER_SECONDS)) as link:
            link.request("POST", LOCAL_SEARCH, body, head)
            answer = link.getresponse()
            if answer.status != 200:
                return None
            for event, line in read_events(answer):
                if event != "progress":
                    return line if event == "answer" else None
                progress(json.loads(line))
    except (OSError, HTTPException, ValueError):
        return None
    return None


def read_events(answer: HTTPResponse) -> Iterator[tuple[str, str]]:
    """The events of a stream, each with its line, as they come.

    Raises:
        ValueError: if it is not text.
        OSError: if the connection ends.
    """
    event = ""
    while line := answer.readline(_MAX_LINE):
        name, _, value = line.decode("utf-8").rstrip("\r\n").partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            yield event, value


def proof(token: str, number: str) -> str:
    """What only one who knows the token can answer to a number."""
    return hmac.new(token.encode(), number.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _file(place: str) -> Path:
    """The file of the server of a gallery."""
    import platformdirs

    name = hashlib.sha256(os.fsencode(place)).hexdigest()[:32]
    folder = Path(platformdirs.user_cache_dir("cies", appauthor=False)) / "servers"
    return folder / f"{name}.json"


def _read(path: Path) -> RunningServer | None:
    """A server's file; ``None`` if another user can write or read it, or it is not complete.

    Raises:
        OSError: if it cannot be read.
    """
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, os.O_RDONLY | flags)
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or not _is_private(about):
            return None
        data = file.read(_MAX_FILE)
    try:
        found = json.loads(data)
        server = RunningServer(**found)
    except (ValueError, TypeError, RecursionError):
        return None
    kinds = {name: int if name in ("port", "pid") else str for name in asdict(server)}
    right = all(type(getattr(server, name)) is kind for name, kind in kinds.items())
    return server if right and server.token else None


def _is_private(about: os.stat_result) -> bool:
    """Whether only this user can use a file, as far as the system says so."""
    if os.name != "posix":
        return True
    return about.st_uid == os.geteuid() and not about.st_mode & 0o077


def _is_alive(pid: int) -> bool:
    """Whether a process may be running."""
    if pid <= 0 or os.name != "posix":
        return pid > 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _knows_token(server: RunningServer) -> bool:
    """Whether who listens at the port knows the token; it is not sent."""
    number = secrets.token_hex(16)
    try:
        with closing(HTTPConnection(server.host, server.port, timeout=_HELLO_SECONDS)) as link:
            link.request("GET", f"{LOCAL_HELLO}?number={number}")
            answer = link.getresponse()
            given = answer.read(_MAX_FILE).decode("ascii", "replace").strip()
    except (OSError, HTTPException, ValueError):
        return False
    return answer.status == 200 and hmac.compare_digest(given, proof(server.token, number))
