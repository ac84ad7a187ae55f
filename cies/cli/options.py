"""Types of options that several commands share, and of the many options of ``cies search``."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from ingest.encoders.options import EncoderOptions


def condition_names(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a condition's name in the shell, from the gallery that the command would use.

    The conditions are read from the plain copy of the gallery's manifest, which needs no library.
    If it cannot be read, none is offered.
    """
    from cies.cli.settings import default_map, find_gallery
    from indexes.errors import CiesError

    command = context.info_name or ""
    with suppress(CiesError, OSError, ValueError, TypeError, KeyError, AttributeError):
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
        "--condition", "-c", help="The condition, such as color.", autocompletion=condition_names
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
        help="auto, cpu, cuda, cuda:1 or mps; cuda:0,cuda:1 for a copy of the model on each."
    ),
]


def _trust(context: typer.Context, given: list[str] | None) -> list[str] | None:
    """Allow the code of the named models to run in this process, if the user typed them.

    Raises:
        UsageError: if a value comes from a file or the environment, or is no commit of a model.
    """
    if given:
        from indexes.errors import UsageError
        from ingest.encoders.models.trust import trust_remote_code

        source = context.get_parameter_source("trust_remote_code")
        if source is None or source.name != "COMMANDLINE":
            raise UsageError(
                "--trust-remote-code must be typed each time; remove it from cies.toml and from "
                "the environment."
            )
        for model in given:
            trust_remote_code(model)
    return given


TrustOption = Annotated[
    Optional[list[str]],
    typer.Option(
        "--trust-remote-code",
        metavar="ID@COMMIT",
        callback=_trust,
        help="Let the Python code of this commit of a hub model run, after you have read it; "
        "never remembered.",
    ),
]

# -- cies search: how hits are shown -----------------------------------------------------------

#: An option under the heading "How it is shown".
shown = partial(typer.Option, rich_help_panel="How it is shown")

JsonLinesOption = Annotated[bool, shown("--jsonl", help="Print one line of JSON per hit.")]
QuietOption = Annotated[bool, shown("--quiet", "-q", help="Print paths only.")]
PrintNullOption = Annotated[
    bool, shown("--print0", "-0", help="Print paths that end in NUL, for xargs -0.")
]
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Replace an existing file even if CIES did not make it."),
]
ReplaceOption = Annotated[
    bool, shown("--force", help="Let --html replace a file that CIES did not make.")
]
HtmlOption = Annotated[Optional[Path], shown("--html", help="Write a contact sheet to this file.")]
PicturesOption = Annotated[
    Optional[bool],
    shown(
        "--pictures/--no-pictures",
        help="Show pictures in the table; by default on a terminal, with cies\\[terminal].",
    ),
]
CopyToOption = Annotated[
    Optional[Path], shown("--copy-to", help="Copy the hits into this folder, named by rank.")
]
LinkToOption = Annotated[
    Optional[Path],
    shown("--link-to", help="Create links to the hits in this folder, named by rank."),
]

# -- cies search: a modification of the query --------------------------------------------------

_changed = partial(typer.Option, rich_help_panel="Alike, but changed")

ModifyOption = Annotated[
    Optional[str],
    _changed(
        help="What is to be different, such as 'the same in green'; -c then names what to keep."
    ),
]
ComposerOption = Annotated[
    Optional[str],
    _changed(help="How picture and modification become one query; docs/compose.md describes all."),
]
CaptionOption = Annotated[
    str, _changed(help="A caption of the wanted pictures, in place of the composer's own.")
]
MustOption = Annotated[
    Optional[list[str]], _changed(help="An object that must be visible; '' for none.")
]
MustNotOption = Annotated[
    Optional[list[str]], _changed(help="An object that must not be visible; '' for none.")
]
WeightOption = Annotated[
    Optional[list[str]], _changed(help="A weight of the composer, such as alpha_i=1.2.")
]
VerifyOption = Annotated[
    int,
    _changed(
        help="Show an LVLM the query and this many of the best hits; its yes or no orders them.",
        min=0,
    ),
]
LvlmOption = Annotated[
    str,
    _changed(
        help="The LVLM that writes captions and verifies hits; the gallery's own by default, else "
        "the built-in one."
    ),
]
RewriterOption = Annotated[
    str,
    _changed(
        help="Address of an OpenAI-compatible API that rewrites captions; its key is in "
        "REWRITER_API_KEY."
    ),
]
RewriterModelOption = Annotated[str, _changed(help="The model of that API.")]
RewriterTimeoutOption = Annotated[
    float, _changed(help="Seconds to wait for an answer of that API.")
]


def encoder_options(**given: int | float | str | None) -> EncoderOptions | None:
    """The options of an encoder that were given, or ``None`` if none was."""
    from ingest.encoders.options import EncoderOptions

    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return EncoderOptions(**chosen) if chosen else None
