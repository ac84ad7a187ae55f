"""Runs the MCP server of a gallery over stdio, or as a part of ``cies serve``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from mcp.server.transport_security import TransportSecuritySettings

from cies.mcp.tools import make_mcp_server
from cies.server.gallery_service import GalleryService

#: The address of the MCP server in an HTTP server.
MCP_PATH = "/mcp"

#: How many pictures may wait for the model.
_MAX_WAITING = 64


def serve_stdio(gallery: Path, index: str, device: str) -> None:
    """Answer one assistant on stdin and stdout until it closes them.

    Args:
        gallery: the gallery's folder.
        index: the index to search with.
        device: the device of the model.

    Raises:
        GalleryMissing: if there is no gallery.
    """
    service = GalleryService(str(gallery), device, index, True, _MAX_WAITING)
    try:
        make_mcp_server(service).run("stdio")
    finally:
        service.close()


def add_mcp(app: FastAPI, service: GalleryService) -> None:
    """Add the MCP server of a gallery to its HTTP server, below the same guard.

    Args:
        app: from :func:`cies.server.app.create_app`.
        service: the open gallery.
    """
    server = make_mcp_server(service)
    # The guard of the application checks Host and Origin.
    trusting = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    inner = server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        json_response=True,
        stateless_http=True,
        transport_security=trusting,
    )
    app.router.routes.extend(inner.routes)
    outer = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(started: FastAPI) -> AsyncIterator[None]:
        async with outer(started), server.session_manager.run():
            yield

    app.router.lifespan_context = lifespan
