"""Options that say how hits leave a command. What they do is in :mod:`cies.reports.hits`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

_SHOWN = "How it is shown"

JsonLinesOption = Annotated[
    bool, typer.Option("--jsonl", help="Print one JSON line a hit.", rich_help_panel=_SHOWN)
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print paths only.", rich_help_panel=_SHOWN)
]
PrintNullOption = Annotated[
    bool,
    typer.Option(
        "--print0", "-0", help="Print paths that end in NUL, for xargs -0.", rich_help_panel=_SHOWN
    ),
]
HtmlOption = Annotated[
    Optional[Path],
    typer.Option("--html", help="Write a contact sheet here.", rich_help_panel=_SHOWN),
]
PicturesOption = Annotated[
    Optional[bool],
    typer.Option(
        "--pictures/--no-pictures",
        help="Show pictures in the table; by default on a terminal, with cies\\[terminal].",
        rich_help_panel=_SHOWN,
    ),
]
CopyToOption = Annotated[
    Optional[Path],
    typer.Option(
        "--copy-to", help="Copy the hits into this folder, by rank.", rich_help_panel=_SHOWN
    ),
]
LinkToOption = Annotated[
    Optional[Path],
    typer.Option(
        "--link-to", help="Link to the hits from this folder, by rank.", rich_help_panel=_SHOWN
    ),
]
