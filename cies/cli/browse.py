"""The commands that look through a whole gallery: facets, gallery, outliers, dupes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.options import ByMethodOption, ConditionOption, GalleryOption, GoneOption, JsonOption

_QuietOption = Annotated[bool, typer.Option("-q", help="Print paths only.")]
_MergeOption = Annotated[
    float,
    typer.Option(help="Words are one if their pictures are less far apart; 0: by spelling.", min=0),
]


def facets(
    condition: ConditionOption,
    gallery: GalleryOption = None,
    method: ByMethodOption = None,
    merge_below: _MergeOption = 0.15,
    gone: GoneOption = False,
    as_json: JsonOption = False,
) -> None:
    """Count the model's words for the pictures, those that mean the same together.

    Example: cies facets -c color
    """
    from cies.cli.settings import find_gallery
    from cies.reports.browse import run_facets

    run_facets(find_gallery(gallery), condition, merge_below, gone, as_json, method)


def make_gallery(
    condition: Annotated[
        Optional[list[str]],
        typer.Option(
            "--condition", "-c", help="A respect to group by; may be repeated; all by default."
        ),
    ] = None,
    html: Annotated[
        Optional[Path], typer.Option(help="Write the pages into this folder, new or our own.")
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
        int, typer.Option(help="Least number of sure pictures of a group.", min=1)
    ] = 3,
    merge_below: _MergeOption = 0.15,
    gone: GoneOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put the pictures in groups by the model's words; with --html, as pages to browse.

    On the pages every picture is in one group: by its word, or where the model had none, was
    unsure, or used a rare one, by likeness. Nothing but that folder is changed.

    Example: cies gallery -c color -c shape --html pages
    """
    from cies.cli.settings import find_gallery
    from cies.reports.browse import Grouping, run_gallery

    chosen = Grouping(sure, smallest, merge_below)
    place, asked = find_gallery(gallery), condition or []
    run_gallery(place, asked, html, originals, chosen, gone, as_json, method)


def outliers(
    condition: ConditionOption,
    gallery: GalleryOption = None,
    method: ByMethodOption = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 20,
    neighbours: Annotated[
        int, typer.Option(help="Nearest pictures that each is compared with.", min=1)
    ] = 10,
    html: Annotated[Optional[Path], typer.Option(help="Write a page here.")] = None,
    gone: GoneOption = False,
    as_json: JsonOption = False,
    quiet: _QuietOption = False,
) -> None:
    """Find the pictures that fit nowhere: least like even their nearest neighbours.

    Example: cies outliers -c color -k 50 --html odd.html
    """
    from cies.cli.settings import find_gallery
    from cies.reports.browse import run_outliers

    place = find_gallery(gallery)
    run_outliers(place, condition, k, neighbours, html, gone, as_json, quiet, method)


def dupes(
    condition: Annotated[
        Optional[list[str]],
        typer.Option(
            "--condition", "-c", help="Must be alike in this; may be repeated; all by default."
        ),
    ] = None,
    gallery: GalleryOption = None,
    method: ByMethodOption = None,
    threshold: Annotated[
        float, typer.Option(help="Least cosine of two near-duplicates, under each condition.")
    ] = 0.98,
    as_json: JsonOption = False,
    quiet: _QuietOption = False,
) -> None:
    """List files that are the same, and pictures that nearly are; nothing is ever deleted.

    Example: cies dupes -q
    """
    from cies.cli.settings import find_gallery
    from cies.reports.duplicates import run_dupes

    run_dupes(find_gallery(gallery), condition or [], threshold, as_json, quiet, method)
