"""Types of options that several commands share, and of the many options of ``cies search``."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Optional

import typer


def condition_names(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a condition's name in the shell, from the gallery that the command would use.

    The conditions are read from the plain copy of the gallery's manifest, which needs no library.
    If it cannot be read, none is offered.
    """
    from cies.cli.settings import default_map, find_gallery
    from indexes.errors import CiesError

    command = context.info_name or ""
    with suppress(CiesError, OSError, ValueError, TypeError, KeyError):
        given = context.params.get("gallery")
        given = given or default_map(context.obj, command).get(command, {}).get("gallery")
        copy = find_gallery(Path(given) if given else None) / "gallery.json"
        entries = json.loads(copy.read_text(encoding="utf-8"))
        found = [entry for key, entry in entries.items() if key.startswith("condition:")]
        names = [entry["name"] for entry in sorted(found, key=lambda entry: entry["order"])]
        return [name for name in names if name.startswith(incomplete)]
    return []


# -- several commands --------------------------------------------------------------------------

GalleryOption = Annotated[
    Optional[Path],
    typer.Option(
        "--gallery",
        "-g",
        help="The gallery's folder; by default a .cies here or above, else one in your data "
        "folder.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ConditionOption = Annotated[
    str,
    typer.Option(
        "--condition",
        "-c",
        help="The condition, such as color.",
        autocompletion=condition_names,
    ),
]
ByMethodOption = Annotated[
    Optional[str],
    typer.Option(
        "--method",
        "-m",
        help="METHOD or METHOD:MODEL that answers: dior, generative, regional, clip, clay, crl, "
        "indirect; the gallery's main one by default.",
    ),
]
GoneOption = Annotated[
    bool, typer.Option("--gone", help="Include pictures whose files are all gone.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
GeometryOption = Annotated[
    Optional[str],
    typer.Option(
        "--geometry",
        help="Compare vectors raw, centred, standardised or residual, not as the gallery does.",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:1 or mps; cuda:0,cuda:1 for a copy of the model on each.",
    ),
]

# -- cies search: how hits are shown -----------------------------------------------------------

SHOWN = "How it is shown"

JsonLinesOption = Annotated[
    bool, typer.Option("--jsonl", help="Print one line of JSON per hit.", rich_help_panel=SHOWN)
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print paths only.", rich_help_panel=SHOWN)
]
PrintNullOption = Annotated[
    bool,
    typer.Option(
        "--print0", "-0", help="Print paths that end in NUL, for xargs -0.", rich_help_panel=SHOWN
    ),
]
HtmlOption = Annotated[
    Optional[Path],
    typer.Option("--html", help="Write a contact sheet to this file.", rich_help_panel=SHOWN),
]
PicturesOption = Annotated[
    Optional[bool],
    typer.Option(
        "--pictures/--no-pictures",
        help="Show pictures in the table; by default on a terminal, with cies\\[terminal].",
        rich_help_panel=SHOWN,
    ),
]
CopyToOption = Annotated[
    Optional[Path],
    typer.Option(
        "--copy-to", help="Copy the hits into this folder, named by rank.", rich_help_panel=SHOWN
    ),
]
LinkToOption = Annotated[
    Optional[Path],
    typer.Option(
        "--link-to",
        help="Create links to the hits in this folder, named by rank.",
        rich_help_panel=SHOWN,
    ),
]

# -- cies search: a modification of the query --------------------------------------------------

_CHANGED = "Alike, but changed"

ModifyOption = Annotated[
    Optional[str],
    typer.Option(
        help="What is to be different, such as 'the same in green'; -c then names what to keep.",
        rich_help_panel=_CHANGED,
    ),
]
ComposerOption = Annotated[
    Optional[str],
    typer.Option(
        help="How picture and modification become one query; docs/compose.md describes all.",
        rich_help_panel=_CHANGED,
    ),
]
CaptionOption = Annotated[
    str,
    typer.Option(
        help="A caption of the wanted pictures, in place of the composer's own.",
        rich_help_panel=_CHANGED,
    ),
]
MustOption = Annotated[
    Optional[list[str]],
    typer.Option(help="An object that must be visible; '' for none.", rich_help_panel=_CHANGED),
]
MustNotOption = Annotated[
    Optional[list[str]],
    typer.Option(help="An object that must not be visible; '' for none.", rich_help_panel=_CHANGED),
]
WeightOption = Annotated[
    Optional[list[str]],
    typer.Option(help="A weight of the composer, such as alpha_i=1.2.", rich_help_panel=_CHANGED),
]
VerifyOption = Annotated[
    int,
    typer.Option(
        help="Ask an LVLM yes or no about this many of the best hits.",
        rich_help_panel=_CHANGED,
        min=0,
    ),
]
LvlmOption = Annotated[
    str,
    typer.Option(
        help="The LVLM that writes captions and verifies hits; the gallery's own by default, else "
        "the built-in one.",
        rich_help_panel=_CHANGED,
    ),
]
RewriterOption = Annotated[
    str,
    typer.Option(
        help="Address of an OpenAI-compatible API that rewrites captions; its key is in "
        "REWRITER_API_KEY.",
        rich_help_panel=_CHANGED,
    ),
]
RewriterModelOption = Annotated[
    str, typer.Option(help="The model of that API.", rich_help_panel=_CHANGED)
]
RewriterTimeoutOption = Annotated[
    float,
    typer.Option(help="Seconds to wait for an answer of that API.", rich_help_panel=_CHANGED),
]
