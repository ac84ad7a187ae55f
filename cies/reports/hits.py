"""``cies search``: prints hits, shows pictures, writes a page, copies or links the files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cies.console import (
    print_json,
    print_paths,
    print_pictures,
    print_table,
    say,
    terminal_pictures,
)
from indexes.errors import CiesError, UsageError
from indexes.outputs import check_output
from query.hits import SCHEMA_VERSION, Hit, Hits

COLUMNS = ["rank", "score", "percentile", "word", "path"]
NUMBERS = ["rank", "score", "percentile"]

#: Files not copied or linked that are named one by one; the rest are counted.
_MAX_NAMED = 5


@dataclass(frozen=True)
class HitsOutput:
    """How the hits of one search are output.

    Attributes:
        form: ``table``, ``json``, ``jsonl``, ``paths`` or ``paths0``.
        pictures: whether a table shows pictures; ``None`` if the terminal can.
        html: the contact sheet to write, if any.
        copy_to: the folder to copy the hits into, if any.
        link_to: the folder to create links to the hits in, if any.
    """

    form: str = "table"
    pictures: bool | None = None
    html: Path | None = None
    copy_to: Path | None = None
    link_to: Path | None = None


def choose_output(
    as_json: bool = False,
    as_jsonl: bool = False,
    quiet: bool = False,
    print0: bool = False,
    pictures: bool | None = None,
    html: Path | None = None,
    copy_to: Path | None = None,
    link_to: Path | None = None,
    force: bool = False,
) -> HitsOutput:
    """Combine the output options; call it before the search, so that errors come first.

    Raises:
        UsageError: if some options exclude one another, or the page would replace a file that
            CIES did not make, and ``force`` is not given.
    """
    if as_json + as_jsonl + (quiet or print0) > 1:
        raise UsageError(
            "--json, --jsonl and -q (or -0) exclude one another; give one of them (`cies config` "
            "shows which are set permanently)."
        )
    if html is not None:
        check_output(html, force)
    form = "json" if as_json else "jsonl" if as_jsonl else "paths0" if print0 else "paths"
    if not (as_json or as_jsonl or quiet or print0):
        form = "table"
    if pictures and form != "table":
        raise UsageError("--pictures shows them in a table; leave --json, --jsonl, -q and -0 out.")
    return HitsOutput(form, pictures, html, copy_to, link_to)


def show_hits(hits: Hits, output: HitsOutput, columns: bool = False) -> None:
    """Write the page and the files that were asked for, then print the hits.

    Args:
        hits: the hits.
        output: how they are shown.
        columns: whether a table and a page show the columns that the hits carry.

    Raises:
        UsageError: if a folder already has one of the files.
        CiesError: if a page or a file cannot be written.
    """
    if output.html is not None:
        _write_contact_sheet(output.html, hits, columns)
    if output.copy_to is not None:
        copy_hits(hits, output.copy_to)
    if output.link_to is not None:
        copy_hits(hits, output.link_to, link=True)
    print_hits(hits, output.form, output.pictures, columns)


def print_hits(hits: Hits, form: str, pictures: bool | None = None, columns: bool = False) -> None:
    """Print hits on stdout.

    Args:
        hits: the hits.
        form: see :class:`HitsOutput`.
        pictures: see :class:`HitsOutput`.
        columns: whether a table shows the columns that the hits carry.
    """
    if form == "json":
        print_json(hits.to_json())
    elif form == "jsonl":
        for hit in hits:
            print_json({"schema_version": SCHEMA_VERSION, **hit.to_json()}, indent=None)
    elif form in ("paths", "paths0"):
        print_paths((hit.path for hit in hits), null=form == "paths0")
    else:
        _print_table(hits, pictures, columns)


def _why_none(hits: Hits) -> str:
    """A sentence on why nothing was found, as far as the query shows."""
    query = hits.query
    if query.where or query.exclude_same:
        option = (
            f"--where {query.where!r}" if query.where else f"--exclude-same {query.exclude_same}"
        )
        return f"No hits: no other picture passes {option}; loosen it to find more."
    if hits.notes:
        return "No hits."  # the notes say why
    return "No hits: there is no other picture in the gallery under this condition."


def _print_table(hits: Hits, pictures: bool | None, shown_columns: bool) -> None:
    if not hits:
        say(_why_none(hits))
    query = hits.query
    word = f" ({query.word})" if query.word else ""
    title = f"{query.image or query.text}{word} under '{query.condition}'"
    rows = [
        [str(hit.rank), f"{hit.score:.4f}", f"{hit.percentile:.2f}", hit.word, hit.path]
        for hit in hits
    ]
    columns, numbers = COLUMNS, NUMBERS
    if any(hit.verified is not None for hit in hits):
        columns, numbers = [*COLUMNS, "verified"], [*NUMBERS, "verified"]
        for row, hit in zip(rows, hits, strict=True):
            row.append("" if hit.verified is None else f"{hit.verified:.2f}")
    if shown_columns:
        names = hits.column_names
        columns = [*columns, *names]
        for row, hit in zip(rows, hits, strict=True):
            row.extend(hit.column_text(name) for name in names)
    draw = _picture_class(pictures)
    if draw is None or not hits:
        print_table(columns, rows, title=title, numbers=numbers)
        return
    from query.explore.thumbnails import thumbnail

    shown = [thumbnail(hit.path, hit.key) for hit in hits]
    print_pictures(draw, columns, rows, shown, title=title, numbers=numbers)


def _picture_class(pictures: bool | None) -> Any:
    """The class that draws pictures on this terminal, or ``None`` if they are not shown.

    The reason is printed only if the user asked for pictures.
    """
    if pictures is False:
        return None
    found, reason = terminal_pictures()
    if found is None and pictures:
        say(f"Without pictures: {reason}.")
    return found


def _write_contact_sheet(path: Path, hits: Hits, columns: bool) -> None:
    from cies.html.contact_sheet import SheetRow, write_sheet

    image, condition = hits.query.image, hits.query.condition
    title, subtitle = f"Alike in {condition}", f"Query: {image or hits.query.text}"
    if hits.query.composed:
        from query.composers.base import Interpretation

        title = f"{image}, but: {hits.query.composed['modification']}"
        subtitle = "; ".join(Interpretation(**hits.query.composed).lines())
    rows = [SheetRow(condition, f"{len(hits)} nearest", hits)]
    shown = image if Path(image).is_file() else ""
    names = hits.column_names if columns else []
    write_sheet(path, title, subtitle, shown, rows, names)
    say(f"Contact sheet written to {path}.")


def copy_hits(hits: Hits, folder: Path, link: bool = False) -> int:
    """Copy the hits into a folder, or link to them there; returns the number of files.

    The files are named by rank (``01-mug.jpg``), and none is overwritten. Hits in archives or at
    addresses are copied, and cannot be linked to. Hits that cannot be copied or linked are
    named on stderr.

    Args:
        hits: the hits.
        folder: created if it does not exist.
        link: create symbolic links.

    Raises:
        UsageError: if the folder already has one of these names; then nothing is written.
        CiesError: if the folder cannot be written to.
    """
    option = "--link-to" if link else "--copy-to"
    digits = len(str(len(hits)))
    names = {hit.rank: f"{hit.rank:0{digits}}-{_file_name(hit.path)}" for hit in hits}
    existing = [name for name in names.values() if os.path.lexists(folder / name)]
    if existing:
        raise UsageError(
            f"{folder} has a file {existing[0]} already, and nothing is overwritten; name an empty "
            f"or new folder with {option}."
        )
    failures: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for hit in hits:
            target = folder / names[hit.rank]
            reason = _link(hit, target) if link else _copy(hit, target)
            if reason:
                failures.append(f"{hit.path}: {reason}")
    except OSError as error:
        raise CiesError(
            f"Cannot write to {folder}: {(error.strerror or str(error)).lower()}; choose another "
            f"folder with {option}."
        ) from error
    for line in failures[:_MAX_NAMED]:
        say(f"left out: {line}")
    if len(failures) > _MAX_NAMED:
        say(f"... and {len(failures) - _MAX_NAMED} more.")
    done = len(hits) - len(failures)
    say(f"{done} {'links made' if link else 'files copied'} in {folder}.")
    return done


def _file_name(path: str) -> str:
    """The name of a file, archive member or address, in characters that any system allows."""
    from indexes.store.records import inside

    archived = inside(path)
    name = PurePosixPath(archived[1] if archived else path.replace(os.sep, "/")).name
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name)[-150:] or "picture"


def _link(hit: Hit, target: Path) -> str:
    """Create a link to a hit; returns the reason if that is impossible."""
    from indexes.store.records import inside, is_address

    if is_address(hit.path) or inside(hit.path):
        place = "at an address" if is_address(hit.path) else "in an archive"
        return f"it is {place}, and a link cannot point there; use --copy-to"
    if not Path(hit.path).is_file():
        return "the file does not exist any more"
    target.symlink_to(Path(hit.path).absolute())
    return ""


def _copy(hit: Hit, target: Path) -> str:
    """Copy a hit; returns the reason if it cannot be read."""
    from ingest.read.images import UnreadableImage
    from ingest.sources.factory import file_at

    try:
        data = file_at(hit.path).read().data
    except UnreadableImage as error:
        return error.reason
    except UsageError as error:
        return str(error).rstrip(".")
    with target.open("xb") as file:
        file.write(data)
    return ""
