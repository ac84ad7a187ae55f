"""``cies conditions``: lists, removes and renames conditions; lists and edits their words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.options import DryRunOption, GalleryOption, JsonOption
from cies.cli.settings import find_gallery

conditions = typer.Typer(
    help="List, remove and rename the gallery's conditions; list and edit their words.",
    epilog="Example: cies conditions -g photos.cies; cies conditions words color",
)

OfMethodOption = Annotated[
    Optional[str],
    typer.Option(
        "--method",
        "-m",
        help="METHOD or METHOD:MODEL whose vectors are meant, as `cies conditions` lists them; all "
        "by default.",
    ),
]


@conditions.callback(invoke_without_command=True)
def list_conditions(
    context: typer.Context, gallery: GalleryOption = None, as_json: JsonOption = False
) -> None:
    """List the gallery's conditions.

    Example: cies conditions; cies conditions words color; cies conditions edit mood
    """
    if context.invoked_subcommand is not None:
        return
    from cies.reports.status import run_conditions

    run_conditions(find_gallery(gallery), as_json)


@conditions.command("words")
def words(
    context: typer.Context,
    name: Annotated[Optional[str], typer.Argument(help="A condition; all by default.")] = None,
    gallery: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the conditions that have a word list, or the words of one condition.

    Example: cies conditions words mood
    """
    from cies.reports.conditions import run_words

    given = _gallery(context, gallery)
    run_words(name, find_gallery(given), given is not None, as_json)


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
        typer.Option(
            "--from", help="A text file of words, separated by newlines or commas; - for stdin."
        ),
    ] = None,
    ask: Annotated[
        Optional[str], typer.Option(help="Let this model list the words: a hub id or a folder.")
    ] = None,
    template: Annotated[
        Optional[str], typer.Option(help='The sentence for a word: "a {word} mood".')
    ] = None,
    reset: Annotated[bool, typer.Option(help="Go back to the list that comes with CIES.")] = False,
    show: Annotated[bool, typer.Option(help="Only show the words.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Change the words of a condition in this gallery, in your editor or by an option.

    Example: cies conditions edit mood --words "happy, sad, calm, tense"
    """
    from cies.reports.conditions import WordListEdit, run_edit

    change = WordListEdit(words, from_file, ask, template, reset, show)
    run_edit(name, find_gallery(_gallery(context, gallery)), change, as_json)


@conditions.command("learn", context_settings={"ignore_unknown_options": True})
def learn(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of the new condition.")],
    examples: Annotated[
        Optional[list[str]],
        typer.Argument(
            help="--group [NAME:] PICTURE ... for each group of pictures that are alike.",
            metavar="[--group [NAME:] PICTURE ...]...",
        ),
    ] = None,
    from_file: Annotated[
        Optional[Path],
        typer.Option(
            "--from", help="A table of labels: a column file, and one whose values are groups."
        ),
    ] = None,
    column: Annotated[
        Optional[str], typer.Option(help="The column of that table, if it has several.")
    ] = None,
    folders: Annotated[
        Optional[Path], typer.Option(help="A folder; each of its subfolders is a group.")
    ] = None,
    like: Annotated[
        Optional[list[str]], typer.Option(help="A picture that is as wanted; may be repeated.")
    ] = None,
    dislike: Annotated[
        Optional[list[str]], typer.Option(help="A picture that is not; may be repeated.")
    ] = None,
    gallery: GalleryOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Learn a condition from examples, in seconds: groups of pictures that are alike in it.

    Two to twenty pictures a group are enough. It is computed from what the gallery stores, and is
    then a condition like any other. Learning it again with more examples replaces it.

    Example: cies conditions learn fit --group slim: a.jpg b.jpg c.jpg --group wide: d.jpg e.jpg
    """
    from cies.reports.learning import (
        groups_of_arguments,
        groups_of_folders,
        groups_of_table,
        run_learn,
    )
    from indexes.errors import UsageError

    place = find_gallery(_gallery(context, gallery))
    ways = [bool(examples), from_file is not None, folders is not None, bool(like)]
    if sum(ways) != 1:
        raise UsageError(
            "Show the examples in one way: by --group, --from labels.csv, --folders, or --like and "
            "--dislike."
        )
    if examples:
        groups = groups_of_arguments(examples)
    elif from_file is not None:
        groups = groups_of_table(from_file, column, place)
    elif folders is not None:
        groups = groups_of_folders(folders)
    else:
        groups = {"liked": list(like or ())}
    run_learn(place, name, groups, dislike or (), dry_run, as_json)


@conditions.command("remove")
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The condition, such as mood.")],
    gallery: GalleryOption = None,
    method: OfMethodOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a condition with its vectors from the gallery.

    Example: cies conditions remove mood
    """
    from cies.reports.conditions import run_remove

    run_remove(find_gallery(_gallery(context, gallery)), name, method, dry_run, as_json)


@conditions.command("rename")
def rename(
    context: typer.Context,
    old: Annotated[str, typer.Argument(help="The condition, such as mood.")],
    new: Annotated[str, typer.Argument(help="Its new name.")],
    gallery: GalleryOption = None,
    method: OfMethodOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rename a condition of the gallery; no vector changes.

    Example: cies conditions rename mood atmosphere
    """
    from cies.reports.conditions import run_rename

    run_rename(find_gallery(_gallery(context, gallery)), old, new, method, dry_run, as_json)


def _gallery(context: typer.Context, gallery: Path | None) -> Path | None:
    """The --gallery of this command, or of ``cies conditions -g GALLERY edit mood``."""
    if gallery is not None or context.parent is None:
        return gallery
    of_parent: Path | None = context.parent.params.get("gallery")
    return of_parent
