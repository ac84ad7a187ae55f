"""Options that several commands share, and those that say how sources are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.completion import condition_names

GalleryOption = Annotated[
    Optional[Path],
    typer.Option(
        "--gallery",
        "-g",
        help="The gallery's folder; a .cies here or above, else one in your data folder.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ConditionOption = Annotated[
    str,
    typer.Option(
        "--condition",
        "-c",
        help="The respect in which to be alike.",
        autocompletion=condition_names,
    ),
]
ByMethodOption = Annotated[
    Optional[str],
    typer.Option(
        "--method",
        "-m",
        help="Answered by METHOD or METHOD:MODEL: dior, generative, regional, clip, clay, crl, "
        "indirect; the gallery's main one by default.",
    ),
]
SourceArgument = Annotated[
    Optional[list[str]],
    typer.Argument(
        help="Folders, files, patterns, tables (CSV, JSONL, Parquet), tar shards, s3:// and "
        "other addresses, - for paths on stdin; none for all those ingested before."
    ),
]
IncludeOption = Annotated[
    Optional[list[str]], typer.Option(help="Take only files like this, such as '*.jpg'.")
]
ExcludeOption = Annotated[
    Optional[list[str]], typer.Option(help="Pass over files and folders like this.")
]
ImageColumnOption = Annotated[
    Optional[str], typer.Option(help="The column of tables that names or holds the picture.")
]
RootOption = Annotated[
    Optional[str], typer.Option(help="What a table's paths are relative to; its own folder.")
]
ColumnsOption = Annotated[
    Optional[str],
    typer.Option(help="Your columns to keep: NAME[:TYPE],...; all of them by default."),
]
NullOption = Annotated[
    bool, typer.Option("--null", "-0", help="Paths on stdin end in NUL, not newline.")
]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what could not be read before.")
]
PlanOption = Annotated[
    bool, typer.Option("--plan", help="Say what would be done and what it costs; do nothing.")
]
MissingSourceOption = Annotated[
    Optional[str], typer.Option(help="Forget what is not there any more of this source, too.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
YesOption = Annotated[
    bool, typer.Option("--yes", help="Forget even more than a tenth of the gallery.")
]
GoneOption = Annotated[
    bool, typer.Option("--gone", help="Find pictures, too, of which no file is left.")
]
ListGoneOption = Annotated[bool, typer.Option("--gone", help="List the files that are gone.")]
