"""``cies index``: what makes searches fast, built, chosen or shown."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from cies.cli.options import ByMethodOption, GalleryOption, JsonOption

KindOption = Annotated[
    Optional[str],
    typer.Option(
        help="Build and choose: auto, exact, faiss, ivf, hnsw, pq, lance, gpu, or a FAISS "
        "factory string; none only shows."
    ),
]


def index(
    gallery: GalleryOption = None,
    condition: Annotated[
        Optional[list[str]],
        typer.Option("--condition", "-c", help="Of this condition; all of them by default."),
    ] = None,
    kind: KindOption = None,
    method: ByMethodOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build the index that searches go through, or show those there are, with their recall.

    Example: cies index -g photos.cies -c color --kind hnsw
    """
    from cies.cli.settings import find_gallery
    from cies.reports.index import run_index

    run_index(find_gallery(gallery), condition or [], kind, as_json, method)
