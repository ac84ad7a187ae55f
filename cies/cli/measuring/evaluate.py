"""Commands that render and measure: eval, world, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.options import ByMethodOption, ForceOption, GalleryOption, GeometryOption, JsonOption
from cies.cli.settings import find_gallery


def evaluate(
    labels: Annotated[
        Optional[Path], typer.Option(help="A table: a column file, and a column for each label.")
    ] = None,
    collections: Annotated[
        Optional[list[str]],
        typer.Option(
            help="In place of a table: LABEL=NAME,NAME, the collections that are the values of a "
            "label; may be repeated."
        ),
    ] = None,
    place: Annotated[
        Optional[Path],
        typer.Argument(metavar="GALLERY", help="The gallery's folder, as with --gallery."),
    ] = None,
    gallery: GalleryOption = None,
    triplets: Annotated[
        Optional[Path],
        typer.Option(help="A table: pair, condition, query, positive, negative."),
    ] = None,
    exclude_same: Annotated[
        Optional[str],
        typer.Option(help="Leave out pictures with the query's value of this column."),
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Print all figures of every condition and label.")
    ] = False,
    geometry: GeometryOption = None,
    method: ByMethodOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure every condition by every label: P@1, recall@10, MAP@R, NMI, AMI, with chance levels.

    Example: cies eval demo/gallery --labels demo/world/labels.csv
    """
    from cies import api
    from cies.collections import labels_of
    from cies.console import print_json, say
    from cies.reports.evaluation import print_matrix, print_triplets, say_left_out
    from eval.labels import read_labels, read_triplets
    from eval.matrix import evaluate as evaluate_gallery
    from eval.matrix import evaluate_triplets
    from indexes.errors import UsageError

    if (labels is None) == (not collections):
        raise UsageError(
            "Give the labels in one way: --labels labels.csv, or --collections LABEL=NAME,NAME."
        )
    engine = api.open(
        find_gallery(place or gallery), geometry=geometry, method=method, follow=False
    )
    given = read_labels(labels) if labels else labels_of(engine.gallery, collections or ())
    matrix = evaluate_gallery(engine, given, exclude_same, pairs)
    scores = evaluate_triplets(engine, read_triplets(triplets), triplets) if triplets else []
    say_left_out(matrix)
    if triplets and not scores:
        say(f"No triplet of {triplets} is of pictures and a condition of the gallery.")
    if as_json:
        print_json({**matrix.to_json(), "triplets": [vars(score) for score in scores]})
    else:
        print_matrix(matrix, pairs)
        if scores:
            print_triplets(scores)


def world(
    folder: Annotated[Path, typer.Argument(help="The folder for images/ and labels.csv.")],
    pictures: Annotated[int, typer.Option("-n", help="Number of pictures.")] = 1500,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal pictures.")] = 0,
    size: Annotated[int, typer.Option(help="Side in pixels.", min=32, max=2048)] = 256,
    force: ForceOption = False,
) -> None:
    """Render labelled pictures whose factors are independent: a benchmark without any data.

    Example: cies world world -n 1000
    """
    from cies.console import say
    from eval.world.gallery import check_world_folder, write_world

    check_world_folder(folder, force)
    labels = write_world(folder, pictures, seed, size)
    say(f"{pictures} pictures and {labels} written.")


def demo(
    folder: Annotated[Path, typer.Option(help="The folder for everything; may be new.")] = Path(
        "demo"
    ),
    pictures: Annotated[int, typer.Option("-n", help="Number of pictures.", min=20)] = 600,
    photos: Annotated[
        Optional[Path],
        typer.Option(help="A folder of your own pictures, in place of rendered ones."),
    ] = None,
) -> None:
    """Render a gallery, embed it, search it and measure it: all of CIES in two minutes.

    With --photos, search your own pictures by the conditions by which they differ.

    Example: cies demo --photos ~/photos
    """
    if photos is not None:
        from cies.reports.demo import run_photo_demo

        run_photo_demo(folder, photos)
        return
    from cies.reports.demo import run_demo

    run_demo(folder, pictures)
