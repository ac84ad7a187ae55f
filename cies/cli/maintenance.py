"""Commands about a gallery itself: status, index, export, verify, repair, prune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.options import (
    ByMethodOption,
    DryRunOption,
    GalleryOption,
    JsonOption,
    condition_names,
)
from cies.cli.settings import find_gallery


def status(
    gallery: GalleryOption = None,
    failed: Annotated[bool, typer.Option(help="List the files that could not be read.")] = False,
    gone: Annotated[bool, typer.Option("--gone", help="List the files that are gone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the gallery contains."""
    from cies.reports.status import run_status

    run_status(find_gallery(gallery), failed, gone, as_json)


def index(
    gallery: GalleryOption = None,
    condition: Annotated[
        Optional[list[str]],
        typer.Option(
            "--condition", "-c", help="Of this condition; may be repeated; all by default."
        ),
    ] = None,
    kind: Annotated[
        Optional[str],
        typer.Option(
            help="Build and choose: auto, exact, faiss, ivf, hnsw, pq, lance, gpu, or a FAISS "
            "factory string; without it, the indexes are only listed."
        ),
    ] = None,
    method: ByMethodOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build and choose a search index, or list the indexes with their recall.

    Example: cies index -g photos.cies -c color --kind hnsw
    """
    from cies.reports.index import run_index

    run_index(find_gallery(gallery), condition or [], kind, as_json, method)


def export(
    condition: Annotated[
        list[str],
        typer.Option(
            "--condition",
            "-c",
            help="The condition whose vectors are written.",
            autocompletion=condition_names,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.parquet, .npy or .csv.")],
    gallery: GalleryOption = None,
    method: ByMethodOption = None,
) -> None:
    """Write a condition's vectors, words and columns to a file for other tools.

    FILE.parquet has everything, FILE.csv everything but the vectors, FILE.npy the matrix alone,
    with the keys of its rows in FILE.keys.txt.

    Example: cies export -c color -o color.parquet
    """
    from cies import api
    from cies.console import say
    from indexes.errors import UsageError
    from query.explore.export import export as write

    if len(condition) > 1:
        raise UsageError(
            f"A file takes one condition, and here are {len(condition)}; run `cies export` once "
            "for each, with a file of its own."
        )
    rows = write(api.open(find_gallery(gallery), method=method), condition[0], output)
    say(f"{rows} rows written to {output}.")


def verify(gallery: GalleryOption = None, as_json: JsonOption = False) -> None:
    """Check every file, checksum, key and vector of the gallery; exit with 1 if it is damaged."""
    from cies.reports.maintenance import run_verify

    if not run_verify(find_gallery(gallery), as_json):
        raise typer.Exit(1)


def repair(
    gallery: GalleryOption = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove damage from the gallery, so that the next ingest embeds only what was damaged."""
    from cies.reports.maintenance import run_repair

    run_repair(find_gallery(gallery), dry_run, as_json)


def prune(
    gallery: GalleryOption = None,
    source: Annotated[
        Optional[str], typer.Option(help="Also forget the missing files of this source.")
    ] = None,
    dry_run: DryRunOption = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Forget even more than a tenth of the gallery.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget files that are gone, and pictures without any file, with their vectors."""
    from cies.reports.maintenance import run_prune

    run_prune(find_gallery(gallery), source, dry_run, yes, as_json)
