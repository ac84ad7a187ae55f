"""Commands that go through a whole gallery: facets, gallery, outliers, dupes; and collections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.options import (
    ByMethodOption,
    ConditionOption,
    CopyToOption,
    DryRunOption,
    ForceOption,
    GalleryOption,
    GoneOption,
    JsonOption,
    PrintNullOption,
)
from cies.cli.settings import find_gallery

_PathsOption = Annotated[bool, typer.Option("-q", help="Print paths only.")]
_MergeOption = Annotated[
    float,
    typer.Option(
        help="Merge words whose pictures are separated by less than this; 0 merges by spelling.",
        min=0,
    ),
]


def facets(
    condition: ConditionOption,
    gallery: GalleryOption = None,
    method: ByMethodOption = None,
    merge_below: _MergeOption = 0.15,
    gone: GoneOption = False,
    as_json: JsonOption = False,
) -> None:
    """Count the pictures of each of the model's words; words with one meaning are merged.

    Example: cies facets -c color
    """
    from cies.reports.browse.facets import run_facets

    run_facets(find_gallery(gallery), condition, merge_below, gone, as_json, method)


def make_gallery(
    condition: Annotated[
        Optional[list[str]],
        typer.Option(
            "--condition", "-c", help="Group by this condition; may be repeated; all by default."
        ),
    ] = None,
    html: Annotated[
        Optional[Path],
        typer.Option(help="Write pages into this folder: a new one, or one of earlier pages."),
    ] = None,
    gallery: GalleryOption = None,
    method: ByMethodOption = None,
    originals: Annotated[
        bool, typer.Option("--originals", help="Let the pictures link to their files.")
    ] = False,
    sure: Annotated[
        float, typer.Option(help="Least probability of a word that is sure.", min=0, max=1)
    ] = 0.5,
    smallest: Annotated[
        int, typer.Option(help="Least number of pictures with a sure word in a group.", min=1)
    ] = 3,
    merge_below: _MergeOption = 0.15,
    gone: GoneOption = False,
    as_json: JsonOption = False,
) -> None:
    """Group the pictures by the model's words; with --html, write pages to browse.

    Every picture is in one group: by its word, or by likeness if the word is missing, not sure, or
    rare. Only the folder of the pages is written to.

    Example: cies gallery -c color -c shape --html pages
    """
    from cies.reports.browse.gallery import GroupingOptions, run_gallery

    run_gallery(
        find_gallery(gallery),
        condition or [],
        html,
        originals,
        GroupingOptions(sure, smallest, merge_below),
        gone,
        as_json,
        method,
    )


def outliers(
    condition: ConditionOption,
    gallery: GalleryOption = None,
    method: ByMethodOption = None,
    k: Annotated[int, typer.Option("-k", help="Number of outliers.")] = 20,
    neighbours: Annotated[
        int, typer.Option(help="Nearest pictures that each is compared with.", min=1)
    ] = 10,
    html: Annotated[Optional[Path], typer.Option(help="Write a page to this file.")] = None,
    force: ForceOption = False,
    gone: GoneOption = False,
    as_json: JsonOption = False,
    quiet: _PathsOption = False,
) -> None:
    """Find the pictures that are least like even their nearest neighbours.

    Example: cies outliers -c color -k 50 --html odd.html
    """
    from cies.reports.browse.outliers import run_outliers
    from indexes.outputs import check_output

    if html is not None:
        check_output(html, force)
    place = find_gallery(gallery)
    run_outliers(place, condition, k, neighbours, html, gone, as_json, quiet, method)


def dupes(
    condition: Annotated[
        Optional[list[str]],
        typer.Option(
            "--condition",
            "-c",
            help="Near-duplicates are alike under it; may be repeated; all by default.",
        ),
    ] = None,
    gallery: GalleryOption = None,
    method: ByMethodOption = None,
    threshold: Annotated[
        float, typer.Option(help="Least cosine of two near-duplicates, under each condition.")
    ] = 0.98,
    as_json: JsonOption = False,
    quiet: _PathsOption = False,
) -> None:
    """List files with equal bytes, and near-duplicate pictures; nothing is ever deleted.

    Example: cies dupes -q
    """
    from cies.reports.browse.dupes import run_dupes

    run_dupes(find_gallery(gallery), condition or [], threshold, as_json, quiet, method)


collections = typer.Typer(
    help="List, fill, export and remove collections: named lists of pictures.",
    no_args_is_help=True,
)

_CollectionArgument = Annotated[str, typer.Argument(help="The collection, such as sofas.")]


@collections.command("list")
def list_collections(gallery: GalleryOption = None, as_json: JsonOption = False) -> None:
    """List the gallery's collections.

    Example: cies collections list
    """
    from cies.reports.browse.collections import run_list

    run_list(find_gallery(gallery), as_json)


@collections.command("add")
def add_to_collection(
    name: _CollectionArgument,
    pictures: Annotated[
        Optional[list[str]],
        typer.Argument(
            help="Paths or keys of pictures of the gallery, @NAME for another collection, or - "
            "for paths on stdin."
        ),
    ] = None,
    where: Annotated[
        Optional[str], typer.Option(help="All pictures that pass a filter, as of `cies search`.")
    ] = None,
    gallery: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add pictures to a collection; a new one is made by its first picture.

    Example: cies search mug.jpg -c shape -q | cies collections add mugs -
    """
    from cies.reports.browse.collections import run_add

    run_add(find_gallery(gallery), name, pictures or [], where, as_json)


@collections.command("remove")
def remove_collection(
    name: _CollectionArgument,
    pictures: Annotated[
        Optional[list[str]],
        typer.Argument(help="Pictures to take out, as for `add`; without any, the whole list."),
    ] = None,
    gallery: GalleryOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take pictures out of a collection, or remove it; the pictures stay in the gallery.

    Example: cies collections remove mugs photos/blurred.jpg
    """
    from cies.reports.browse.collections import run_remove

    run_remove(find_gallery(gallery), name, pictures or [], dry_run, as_json)


@collections.command("export")
def export_collection(
    name: _CollectionArgument,
    csv: Annotated[
        Optional[Path], typer.Option("--csv", help="Write key and path to this file.")
    ] = None,
    copy_to: CopyToOption = None,
    print0: PrintNullOption = False,
    force: ForceOption = False,
    gallery: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the paths of a collection, write them to a CSV file, or copy the files.

    Example: cies collections export mugs --copy-to mugs
    """
    from cies.reports.browse.collections import run_export

    run_export(find_gallery(gallery), name, csv, copy_to, print0, force, as_json)
