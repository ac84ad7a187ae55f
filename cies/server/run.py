"""Runs the server of one gallery until it is interrupted."""

from __future__ import annotations

import ipaddress
import signal
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from cies.console import say
from cies.server.app import create_app
from cies.server.connections import MAX_CONNECTIONS, WatchedProtocol
from cies.server.gallery_service import GalleryService
from cies.server.guards import LOCAL_HOSTS, Access
from cies.server.running import announced, running_server
from indexes.errors import CiesError, UsageError
from ingest.read.images import MAX_BYTES

#: How many pictures may wait for the model before further ones are refused.
MAX_WAITING = 64

#: Seconds that running requests get when the server ends.
_GRACE = 10


@dataclass(frozen=True)
class ServerOptions:
    """The options of ``cies serve``.

    Attributes:
        host: the address to listen at.
        port: the port; 0 for any free one.
        token: what clients must know; empty if nothing.
        public: allow other machines without a token.
        allowed_hosts: further names of this server, for the Host header.
        show_paths: whether answers contain the paths of this machine.
        device: the device of the model.
        index: the index to search with.
        open_browser: whether to open the page.
        edit: whether clients may change collections and remove pictures.
        mcp: whether to answer assistants, by the Model Context Protocol.
    """

    host: str
    port: int
    token: str
    public: bool
    allowed_hosts: tuple[str, ...]
    show_paths: bool
    device: str
    index: str
    open_browser: bool
    edit: bool = False
    mcp: bool = False


def serve(
    gallery: Path,
    options: ServerOptions,
    prepare: Callable[[GalleryService], None] = lambda service: None,
) -> None:
    """Serve a gallery until Ctrl-C or SIGTERM.

    Args:
        gallery: the gallery's folder.
        options: how it is served.
        prepare: called before the first request, such as to add an encoder that is loaded.

    Raises:
        UsageError: if other machines could use it without a token and that is not allowed, or the
            token cannot be in a header.
        CiesError: if the address is in use.
        GalleryMissing: if there is no gallery.
    """
    local = _is_local(options.host)
    if not local and not options.token and not options.public:
        raise UsageError(
            f"--host {options.host} lets other machines search this gallery; add `--token TEXT`, "
            "or `--public` if everyone may."
        )
    if not options.token.isascii() or any(c.isspace() or c in '";,\\' for c in options.token):
        raise UsageError(
            "--token takes ASCII letters, digits and signs without spaces, quotes, commas, "
            "semicolons and backslashes; choose another one, such as `openssl rand -hex 24` prints."
        )
    listening = _listen(options.host, options.port)
    try:
        port = listening.getsockname()[1]
        service = GalleryService(
            str(gallery),
            options.device,
            options.index,
            options.show_paths,
            MAX_WAITING,
            options.edit,
        )
        prepare(service)
        own = running_server(gallery, options.host, port, options.index, options.device)
        access = Access(_hosts(options, local), options.token, MAX_BYTES, own.token)
        app = create_app(service, access)
        if options.mcp:
            _add_mcp(app, service)
        config = server_config(app)
        address = f"http://{_in_address(options.host)}:{port}/"
        say(f"Serving {gallery} at {address} (interface: {address}docs). Ctrl-C ends it.")
        if options.open_browser:
            webbrowser.open(address + (f"?token={options.token}" if options.token else ""))
        # Uvicorn ends in order at these signals, and then raises them again for the earlier
        # handlers.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        with announced(own):
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
    say("The server has ended.")


def _add_mcp(app: FastAPI, service: GalleryService) -> None:
    """Answer assistants, too.

    Raises:
        UsageError: if the extra is not installed.
    """
    try:
        from cies.mcp.run import add_mcp
    except ModuleNotFoundError as error:
        raise UsageError(
            f"`--mcp` needs the package {error.name}; run `pip install 'cies[mcp]'`."
        ) from error
    add_mcp(app, service)


def server_config(app: FastAPI) -> uvicorn.Config:
    """How an application is served.

    Args:
        app: from :func:`cies.server.app.create_app`.
    """
    return uvicorn.Config(
        app,
        http=WatchedProtocol,
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        log_level="warning",
        server_header=False,
        h11_max_incomplete_event_size=32 * 1024,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=15,
    )


def _is_local(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _hosts(options: ServerOptions, local: bool) -> frozenset[str]:
    """The allowed names in the Host header; none given means any, for a server with a token or a
    public one: a page that rebinds its name cannot know the token.
    """
    own = {name.lower() for name in options.allowed_hosts}
    if not local and not own:
        return frozenset()
    return frozenset({*LOCAL_HOSTS, options.host.lower(), *own})


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Raises:
        CiesError: if that is not possible.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host.strip("[]"), port))
        found.listen(128)
    except OSError as error:
        found.close()
        reason = (error.strerror or str(error)).lower()
        raise CiesError(
            f"Cannot listen at {host} port {port}: {reason}; choose another one with --port, or "
            "--port 0 for any free one."
        ) from error
    return found
