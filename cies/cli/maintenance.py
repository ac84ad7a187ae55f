"""The commands that keep a gallery sound: forget, verify, repair."""

from __future__ import annotations

from typing import Annotated

import typer

from cies.cli.options import DryRunOption, GalleryOption, JsonOption, MissingSourceOption, YesOption


def prune(
    gallery: GalleryOption = None,
    source: MissingSourceOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Forget the files that are gone, and pictures of which none is left, with their vectors."""
    from cies.cli.settings import find_gallery
    from cies.reports.prune import run_prune

    run_prune(find_gallery(gallery), source, dry_run, yes, as_json)


def verify(gallery: GalleryOption = None, as_json: JsonOption = False) -> None:
    """Check every file, checksum, key and vector of the gallery; leaves with 1 if damaged."""
    from cies.cli.settings import find_gallery
    from cies.reports.maintenance import run_verify

    if not run_verify(find_gallery(gallery), as_json):
        raise typer.Exit(1)


def repair(
    gallery: GalleryOption = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take damage out of the gallery, so that the next ingest makes anew just that."""
    from cies.cli.settings import find_gallery
    from cies.reports.maintenance import run_repair

    run_repair(find_gallery(gallery), dry_run, as_json)
