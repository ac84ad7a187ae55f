"""Options that say how hits leave a command. What they do is in :mod:`cies.output`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

JsonLinesOption = Annotated[bool, typer.Option("--jsonl", help="Print one JSON line a hit.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print paths only.")]
PrintNullOption = Annotated[
    bool, typer.Option("--print0", "-0", help="Print paths that end in NUL, for xargs -0.")
]
HtmlOption = Annotated[Optional[Path], typer.Option("--html", help="Write a contact sheet here.")]
PicturesOption = Annotated[
    Optional[bool],
    typer.Option(
        "--pictures/--no-pictures",
        help="Show pictures in the table; by default on a terminal, with cies\\[terminal].",
    ),
]
CopyToOption = Annotated[
    Optional[Path], typer.Option("--copy-to", help="Copy the hits into this folder, by rank.")
]
LinkToOption = Annotated[
    Optional[Path], typer.Option("--link-to", help="Link to the hits from this folder, by rank.")
]
