"""``cies serve`` and ``cies mcp``."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from cies.cli.options import DeviceOption, GalleryOption
from cies.cli.settings import find_gallery


def serve(
    gallery: GalleryOption = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 for all of this machine's.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port; 0 for any free one.", min=0, max=65535)
    ] = 8008,
    token: Annotated[
        str, typer.Option(help="What clients must know; better set as CIES_TOKEN.")
    ] = "",
    public: Annotated[
        bool, typer.Option("--public", help="Let other machines search without a token.")
    ] = False,
    allow_host: Annotated[
        Optional[list[str]],
        typer.Option(help="A name that this server has for its clients; may be repeated."),
    ] = None,
    show_paths: Annotated[
        bool, typer.Option("--show-paths", help="Let answers contain the paths of this machine.")
    ] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    index: Annotated[
        str, typer.Option(help="The index to search with, as for `cies index --kind`.")
    ] = "auto",
    device: DeviceOption = "auto",
    edit: Annotated[
        bool,
        typer.Option("--edit", help="Let clients change collections and remove pictures."),
    ] = False,
    with_mcp: Annotated[
        bool, typer.Option("--mcp", help="Also answer assistants (MCP) at /mcp.")
    ] = False,
) -> None:
    """Search the gallery on a live page, and from other programs by HTTP.

    Example: cies serve -g photos.cies --open
    """
    from indexes.errors import UsageError

    try:
        from cies.server.run import ServerOptions, serve
    except ModuleNotFoundError as error:
        raise UsageError(
            f"`cies serve` needs the package {error.name}; run `pip install 'cies[serve]'`."
        ) from error
    serve(
        find_gallery(gallery),
        ServerOptions(
            host,
            port,
            token,
            public,
            tuple(allow_host or ()),
            show_paths,
            device,
            index,
            open_page,
            edit,
            with_mcp,
        ),
    )


def mcp(
    gallery: GalleryOption = None,
    index: Annotated[
        str, typer.Option(help="The index to search with, as for `cies index --kind`.")
    ] = "auto",
    device: DeviceOption = "auto",
) -> None:
    """Let an assistant search the gallery, by the Model Context Protocol on stdin and stdout.

    Example: cies mcp -g photos.cies
    """
    from indexes.errors import UsageError

    try:
        from cies.mcp.run import serve_stdio
    except ModuleNotFoundError as error:
        raise UsageError(
            f"`cies mcp` needs the package {error.name}; run `pip install 'cies[mcp]'`."
        ) from error
    serve_stdio(find_gallery(gallery), index, device)
