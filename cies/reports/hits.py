"""How hits leave a command: printed for people or for programs, on a page, or as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cies.console import print_json, print_pictures, print_table, say, terminal_pictures
from cies.reports.copy_hits import gather
from indexes.errors import UsageError
from query.hits import SCHEMA_VERSION, Hits

COLUMNS = ["rank", "score", "percentile", "word", "path"]
NUMBERS = ["rank", "score", "percentile"]


@dataclass(frozen=True)
class Output:
    """What was chosen about the output of one command.

    Attributes:
        form: ``table``, ``json``, ``jsonl``, ``paths`` or ``paths0``.
        pictures: whether pictures are wanted in a table; ``None`` for where they can be shown.
        html: the contact sheet to write, if any.
        copy_to: the folder the hits are copied into, if any.
        link_to: the folder that gets links to the hits, if any.
    """

    form: str = "table"
    pictures: bool | None = None
    html: Path | None = None
    copy_to: Path | None = None
    link_to: Path | None = None


def chosen(
    as_json: bool = False,
    as_jsonl: bool = False,
    quiet: bool = False,
    print0: bool = False,
    pictures: bool | None = None,
    html: Path | None = None,
    copy_to: Path | None = None,
    link_to: Path | None = None,
) -> Output:
    """What some options mean together; to be asked before any work is done.

    Raises:
        UsageError: if they exclude one another.
    """
    if as_json + as_jsonl + (quiet or print0) > 1:
        raise UsageError(
            "--json, --jsonl and -q (or -0) exclude one another; give one of them (`cies config` "
            "says which are set for good)."
        )
    form = "json" if as_json else "jsonl" if as_jsonl else "paths0" if print0 else "paths"
    if not (as_json or as_jsonl or quiet or print0):
        form = "table"
    if pictures and form != "table":
        raise UsageError("--pictures shows them in a table; leave --json, --jsonl, -q and -0 out.")
    return Output(form, pictures, html, copy_to, link_to)


def show_hits(hits: Hits, output: Output) -> None:
    """Write the page and the files that were asked for, then print the hits.

    Raises:
        UsageError: if a folder cannot take the files.
        CiesError: if a page or a file cannot be written.
    """
    if output.html is not None:
        from cies.reports.status import write_sheet

        write_sheet(output.html, hits)
    for folder, link in ((output.copy_to, False), (output.link_to, True)):
        if folder is not None:
            gather(hits, folder, link)
    print_hits(hits, output.form, output.pictures)


def print_hits(hits: Hits, form: str, pictures: bool | None = None) -> None:
    """Hits on stdout.

    Args:
        hits: to be printed.
        form: see :class:`Output`.
        pictures: see :class:`Output`.
    """
    if form == "json":
        print_json(hits.to_json())
    elif form == "jsonl":
        for hit in hits:
            print_json({"schema_version": SCHEMA_VERSION, **vars(hit)}, indent=None)
    elif form in ("paths", "paths0"):
        end = "\0" if form == "paths0" else "\n"
        for hit in hits:
            print(hit.path, end=end)
    else:
        _print_table(hits, pictures)


def _why_none(hits: Hits) -> str:
    """Why nothing was found, as far as the question tells."""
    query = hits.query
    if query.where or query.exclude_same:
        way = f"--where {query.where!r}" if query.where else f"--exclude-same {query.exclude_same}"
        return f"No hits: no other picture passes {way}; loosen it to find more."
    if hits.notes:
        return "No hits."  # the notes say why
    return "No hits: there is no other picture in the gallery under this condition."


def _print_table(hits: Hits, pictures: bool | None) -> None:
    if not hits:
        say(_why_none(hits))
    rows = [
        [str(hit.rank), f"{hit.score:.4f}", f"{hit.percentile:.2f}", hit.word, hit.path]
        for hit in hits
    ]
    word = f" ({hits.query.word})" if hits.query.word else ""
    asked = hits.query.image or hits.query.text
    title = f"{asked}{word} under '{hits.query.condition}'"
    columns, numbers = COLUMNS, NUMBERS
    if any(hit.verified is not None for hit in hits):
        columns, numbers = [*COLUMNS, "verified"], [*NUMBERS, "verified"]
        sure = ["" if hit.verified is None else f"{hit.verified:.2f}" for hit in hits]
        rows = [[*row, yes] for row, yes in zip(rows, sure, strict=True)]
    shape = _terminal(pictures)
    if shape is None or not hits:
        print_table(columns, rows, title=title, numbers=numbers)
        return
    from query.explore.thumbnails import thumbnail

    shown = [thumbnail(hit.path, hit.key) for hit in hits]
    print_pictures(shape, columns, rows, shown, title=title, numbers=numbers)


def _terminal(pictures: bool | None) -> Any:
    """What draws pictures on this terminal, or ``None`` where they are not shown.

    Whoever asked for them by name is told why not; nobody else is.
    """
    if pictures is False:
        return None
    found, reason = terminal_pictures()
    if found is None and pictures:
        say(f"Without pictures: {reason}.")
    return found
