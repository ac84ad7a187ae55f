"""Commands that exchange vectors with other programs: import, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.options import (
    ByMethodOption,
    ForceOption,
    GalleryOption,
    JsonOption,
    condition_names,
)
from cies.cli.settings import find_gallery


def import_vectors(
    source: Annotated[
        str,
        typer.Argument(
            help="FILE.npy with --paths, FILE.parquet or .arrow, a folder of clip-retrieval, or a "
            "LanceDB table or database."
        ),
    ],
    gallery: GalleryOption = None,
    condition: Annotated[
        str,
        typer.Option("--condition", "-c", help="The condition that the vectors are stored under."),
    ] = "unconditional",
    name: Annotated[
        Optional[str],
        typer.Option(help="What made the vectors, such as my-clip; the file's name by default."),
    ] = None,
    paths: Annotated[
        Optional[Path],
        typer.Option(
            help="For FILE.npy: names the picture of each row, one path a line or a table."
        ),
    ] = None,
    table: Annotated[
        Optional[str], typer.Option(help="The table of a LanceDB database with several.")
    ] = None,
    image_column: Annotated[
        Optional[str], typer.Option(help="The column that names or contains the picture.")
    ] = None,
    vector_column: Annotated[
        Optional[str], typer.Option(help="The column that holds the vectors.")
    ] = None,
    word_column: Annotated[
        Optional[str],
        typer.Option(help="A column with a word for each picture, for facets; word by default."),
    ] = None,
    columns: Annotated[
        Optional[str],
        typer.Option(help="Your columns to store: NAME[:TYPE],...; all of them by default."),
    ] = None,
    root: Annotated[
        Optional[str],
        typer.Option(help="The folder that relative paths start from; the file's by default."),
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Read addresses, such as s3://, that rows name.")
    ] = False,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Read relative paths that leave --root.")
    ] = False,
    geometry: Annotated[
        Optional[str],
        typer.Option(
            help="raw, centred or standardised vectors, for a new gallery; raw by default."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit with code 3 if a picture failed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Store vectors that another program made, as a method of their own: imported.

    They are searched, grouped and measured like those of any method; new pictures cannot be
    queries, since there is no model. Run again, it adds what is new.

    Example: cies import clip.npy --paths clip.txt --name my-clip -g photos.cies
    """
    from cies.console import progress_bar
    from cies.exchange import import_vectors as store
    from cies.reports.exchange import print_import
    from ingest.sources.base import SourceOptions

    place = find_gallery(gallery)
    kept = None if columns is None else tuple(filter(None, columns.split(",")))
    with progress_bar("Importing") as progress:
        report = store(
            place,
            source,
            condition,
            name,
            paths=paths,
            table=table,
            vector_column=vector_column,
            word_column=word_column,
            geometry=geometry,
            source_options=SourceOptions(
                image_column=image_column,
                root=root,
                columns=kept,
                allow_remote=allow_remote,
                allow_outside=allow_outside,
            ),
            progress=progress,
        )
    print_import(place, report, as_json)
    if strict and report.failed:
        raise typer.Exit(3)


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
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="FILE.parquet, .npy or .csv; a folder with --clip-retrieval."
        ),
    ],
    clip_retrieval: Annotated[
        bool, typer.Option("--clip-retrieval", help="Write the folders that clip-retrieval reads.")
    ] = False,
    atlas: Annotated[
        bool,
        typer.Option("--atlas", help="Add x, y and neighbors, for embedding-atlas; .parquet only."),
    ] = False,
    datasets: Annotated[
        bool,
        typer.Option("--datasets", help="Add an image column of Hugging Face datasets; .parquet."),
    ] = False,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="With these two: a small JPEG of each picture.")
    ] = False,
    force: ForceOption = False,
    gallery: GalleryOption = None,
    method: ByMethodOption = None,
) -> None:
    """Write a condition's vectors, words and columns to a file for other tools.

    FILE.parquet has everything, FILE.csv everything but the vectors, FILE.npy the matrix alone,
    with the keys of its rows in FILE.keys.txt.

    Example: cies export -c color -o color.parquet
    """
    from cies.reports.exchange import run_export

    forms = {"--clip-retrieval": clip_retrieval, "--atlas": atlas, "--datasets": datasets}
    chosen = [name for name, given in forms.items() if given]
    run_export(find_gallery(gallery), condition, output, chosen, thumbnails, force, method)
