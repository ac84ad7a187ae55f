"""``cies conditions``: those of a gallery, and the words that views are worked out from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.options import GalleryOption, JsonOption

conditions = typer.Typer(help="List the gallery's conditions; show and edit their words.")


@conditions.callback(invoke_without_command=True)
def list_conditions(
    context: typer.Context, gallery: GalleryOption = None, as_json: JsonOption = False
) -> None:
    """List the gallery's conditions.

    Example: cies conditions; cies conditions words color; cies conditions edit mood
    """
    if context.invoked_subcommand is not None:
        return
    from cies.cli.settings import find_gallery
    from cies.console import print_json
    from cies.reports.status import gallery_status, print_conditions
    from indexes.store.gallery import Gallery

    document = gallery_status(Gallery.open(find_gallery(gallery)))
    if as_json:
        kept = ("schema_version", "gallery", "conditions")
        print_json({name: document[name] for name in kept})
    else:
        print_conditions(document)


@conditions.command("words")
def words(
    context: typer.Context,
    name: Annotated[Optional[str], typer.Argument(help="A condition; none for all.")] = None,
    gallery: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the conditions whose words are known, or show the words of one.

    Example: cies conditions words mood
    """
    from cies.reports.word_lists import run_words

    run_words(name, _gallery(context, gallery), as_json)


@conditions.command("edit")
def edit(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The condition, such as mood.")],
    gallery: GalleryOption = None,
    words: Annotated[
        Optional[str], typer.Option(help='The words, as in "happy, sad, calm".')
    ] = None,
    from_file: Annotated[
        Optional[str],
        typer.Option("--from", help="A text file of words, by lines or commas; - for stdin."),
    ] = None,
    ask: Annotated[
        Optional[str],
        typer.Option(help="Have this model list the words: a hub id or a folder."),
    ] = None,
    template: Annotated[
        Optional[str], typer.Option(help='The sentence about a word: "a {word} mood".')
    ] = None,
    reset: Annotated[bool, typer.Option(help="Go back to the list that comes with CIES.")] = False,
    show: Annotated[bool, typer.Option(help="Only show the words.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Change the words of a condition in this gallery: in your editor, or by an option.

    Example: cies conditions edit mood --words "happy, sad, calm, tense"
    """
    from cies.cli.settings import find_gallery
    from cies.reports.word_lists import Change, run_edit

    change = Change(words, from_file, ask, template, reset, show)
    run_edit(name, find_gallery(_gallery(context, gallery)), change, as_json)


def _gallery(context: typer.Context, gallery: Path | None) -> Path | None:
    """As given here, or before the inner command: ``cies conditions -g GALLERY edit mood``."""
    if gallery is not None or context.parent is None:
        return gallery
    above: Path | None = context.parent.params.get("gallery")
    return above
