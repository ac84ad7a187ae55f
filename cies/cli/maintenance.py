"""Commands about a gallery itself: status, index, export, verify, repair, prune, remove ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.options import (
    ByMethodOption,
    DryRunOption,
    GalleryOption,
    JsonOption,
)
from cies.cli.settings import find_gallery


def status(
    gallery: GalleryOption = None,
    failed: Annotated[bool, typer.Option(help="List the files that could not be read.")] = False,
    gone: Annotated[bool, typer.Option("--gone", help="List the files that are gone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the gallery contains.

    Example: cies status -g photos.cies --failed
    """
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


def verify(gallery: GalleryOption = None, as_json: JsonOption = False) -> None:
    """Check every file, checksum, key and vector of the gallery; exit with 1 if it is damaged.

    Example: cies verify -g photos.cies
    """
    from cies.reports.maintenance import run_verify

    if not run_verify(find_gallery(gallery), as_json):
        raise typer.Exit(1)


def repair(
    gallery: GalleryOption = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove damage from the gallery, so that the next ingest embeds only what was damaged.

    Example: cies repair -g photos.cies --dry-run
    """
    from cies.reports.maintenance import run_repair

    run_repair(find_gallery(gallery), dry_run, as_json)


def prune(
    gallery: GalleryOption = None,
    source: Annotated[
        Optional[str], typer.Option(help="Also forget the missing files of this source.")
    ] = None,
    where: Annotated[
        Optional[str],
        typer.Option(help="Forget only gone files that match, as in \"gone_at < '2026-05'\"."),
    ] = None,
    dry_run: DryRunOption = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Lose even more than a tenth of the pictures.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget files that are gone, and pictures without any file, with their vectors.

    It also gives back the disk space of what was removed more than an hour ago.

    Example: cies prune --dry-run; cies prune --source old-photos; cies prune --where "year = 2019"
    """
    from cies.reports.maintenance import run_prune

    run_prune(find_gallery(gallery), source, dry_run, yes, as_json, where)


def remove(
    names: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="KEY|PATH...",
            help="Keys of pictures, paths of files, or folders for all files in them.",
        ),
    ] = None,
    gallery: GalleryOption = None,
    where: Annotated[
        Optional[str],
        typer.Option(help="Remove files that match this filter, as in \"sku = '00005'\"."),
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove files, and pictures without any other file, from the gallery.

    The picture files are not touched. A file that is still in one of the sources is added again
    by the next ingest.

    Example: cies remove photos/cat.jpg; cies remove photos/old --dry-run
    """
    from cies.reports.maintenance import run_remove

    run_remove(find_gallery(gallery), names or [], where, dry_run, as_json)


def relocate(
    old: Annotated[str, typer.Argument(help="The folder before, as the paths of hits begin.")],
    new: Annotated[str, typer.Argument(help="The folder now.")],
    gallery: GalleryOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tell the gallery that a folder was moved or renamed, or a drive mounted elsewhere.

    Paths change, and no picture is read. An ingest of the new folder finds moved files too, but
    reads each of them.

    Example: cies relocate /media/usb/photos ~/photos
    """
    from cies.reports.maintenance import run_relocate

    run_relocate(find_gallery(gallery), old, new, dry_run, as_json)


def merge(
    other: Annotated[Path, typer.Argument(help="The gallery to take from; it is not changed.")],
    gallery: GalleryOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add what another gallery has to this one, without embedding anything.

    It takes conditions by an encoder that this gallery has; a new gallery takes all. What differs
    is kept as it is here, and listed. Run it again after an interruption, or for what is new since.

    Example: cies merge laptop.cies -g all.cies
    """
    from cies.reports.maintenance import run_merge

    run_merge(find_gallery(gallery), other, dry_run, as_json)


columns = typer.Typer(
    help="List, remove and rename your columns in the gallery.",
    epilog="Example: cies columns -g photos.cies; cies columns rename prise price",
)


@columns.callback(invoke_without_command=True)
def columns_group(
    context: typer.Context, gallery: GalleryOption = None, as_json: JsonOption = False
) -> None:
    """List your columns in the gallery, with types and number of values.

    Example: cies columns; cies columns rename price price_eur; cies columns remove stock
    """
    if context.invoked_subcommand is None:
        _list_columns(gallery, as_json)


@columns.command("list")
def columns_list(
    context: typer.Context, gallery: GalleryOption = None, as_json: JsonOption = False
) -> None:
    """List your columns in the gallery, with types and number of values.

    Example: cies columns list -g photos.cies
    """
    _list_columns(_of_group(context, gallery), as_json)


@columns.command("remove")
def columns_remove(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="The columns.")],
    gallery: GalleryOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove columns with their values. Later ingests leave them out, until --columns names them.

    Example: cies columns remove stock supplier
    """
    from cies.reports.maintenance import run_remove_columns

    run_remove_columns(find_gallery(_of_group(context, gallery)), names, dry_run, as_json)


@columns.command("rename")
def columns_rename(
    context: typer.Context,
    old: Annotated[str, typer.Argument(help="The column.")],
    new: Annotated[str, typer.Argument(help="Its new name.")],
    gallery: GalleryOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rename a column. Later ingests store the same column of your table under the new name.

    Example: cies columns rename price price_eur
    """
    from cies.reports.maintenance import run_rename_column

    run_rename_column(find_gallery(_of_group(context, gallery)), old, new, dry_run, as_json)


def _list_columns(gallery: Path | None, as_json: bool) -> None:
    from cies.reports.status import run_columns

    run_columns(find_gallery(gallery), as_json)


def _of_group(context: typer.Context, gallery: Path | None) -> Path | None:
    """The --gallery of this command, or of ``cies columns -g GALLERY list``."""
    if gallery is not None or context.parent is None:
        return gallery
    of_parent: Path | None = context.parent.params.get("gallery")
    return of_parent
