"""Terminal output: data on stdout, messages and progress on stderr."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

if TYPE_CHECKING:
    from rich.table import Table

    from ingest.fill.pipeline import Progress

#: Height of a picture in terminal lines.
_PICTURE_LINES = 6

#: :func:`progress_if_large` shows progress from this many pictures on.
_MANY = 20_000


def say(line: str) -> None:
    """Print a line for people on stderr."""
    print(line, file=sys.stderr, flush=True)


def print_json(document: Any, indent: int | None = 2) -> None:
    """Print a JSON document on stdout, in ASCII so that any pipe accepts it."""
    print(json.dumps(document, indent=indent, allow_nan=False))


def print_document(document: Mapping[str, Any]) -> None:
    """Print a document of docs/json.md on stdout, with its ``schema_version`` added."""
    from query.hits import SCHEMA_VERSION

    print_json({"schema_version": SCHEMA_VERSION, **document})


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str = "",
    numbers: Sequence[str] = (),
) -> None:
    """Print a table on stdout: drawn on a terminal, tab-separated with a header in a pipe.

    Args:
        columns: the header.
        rows: cells as text; Rich markup in them is not interpreted.
        title: shown above the table on a terminal.
        numbers: names of the columns that are right-aligned.
    """
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            print("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    from rich.console import Console
    from rich.text import Text

    table = _header(columns, title, numbers)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _header(columns: Sequence[str], title: str, numbers: Sequence[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Titles hold the user's own names, which Rich must not read as markup.
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        header_style="bold",
        box=None,
    )
    for column in columns:
        table.add_column(
            Text(column), justify="right" if column in numbers else "left", overflow="fold"
        )
    return table


def terminal_pictures() -> tuple[Any, str]:
    """The textual-image class that draws pictures on this terminal, or why there is none.

    textual-image queries the terminal by escape sequences for Sixel or Kitty's protocol, and
    else uses colored half blocks.

    Returns:
        The class and an empty string, or ``None`` and the reason.
    """
    # The terminal's answers to queries arrive on stdin.
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        return None, "this is not a terminal; write a page with --html FILE"
    if os.environ.get("TERM", "dumb") == "dumb" or "NO_COLOR" in os.environ:
        return None, "this terminal shows no colors (TERM, NO_COLOR)"
    try:
        from textual_image.renderable import Image
    except ImportError:
        return None, "they need `pip install 'cies[terminal]'`"
    return Image, ""


def print_pictures(
    draw: Any,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    pictures: Sequence[bytes | None],
    title: str = "",
    numbers: Sequence[str] = (),
) -> None:
    """Print a table with a picture at the end of each row, on a terminal.

    Args:
        draw: the function from :func:`terminal_pictures`.
        columns: as for :func:`print_table`.
        rows: as for :func:`print_table`.
        pictures: a picture file's bytes for each row; ``None`` if it cannot be read.
        title: as for :func:`print_table`.
        numbers: as for :func:`print_table`.
    """
    from rich.console import Console
    from rich.text import Text

    table = _header([*columns, ""], title, numbers)
    for row, picture in zip(rows, pictures, strict=True):
        cell = Text("not readable now", style="dim")
        drawn = cell if picture is None else draw(io.BytesIO(picture), height=_PICTURE_LINES)
        table.add_row(*(Text(text) for text in row), drawn)
    Console().print(table)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[Progress], None]]:
    """Show progress with rate and remaining time; on an interrupt, say how much was stored.

    A terminal shows a bar, anything else a line every ten seconds.

    Args:
        what: the label, such as ``Embedding``.
    """
    embedded = 0
    try:
        with counter(what) as show:

            def report(state: Progress) -> None:
                nonlocal embedded
                embedded = max(embedded, state.embedded)
                show(state)

            yield report
    except Exception:
        raise
    except BaseException:
        say(f"\n{embedded} pictures of this run are stored.")
        raise


@contextmanager
def counter(what: str) -> Iterator[Callable[[Progress], None]]:
    """Show progress as :func:`progress_bar` does, for work that stores nothing."""
    if not sys.stderr.isatty():
        yield _progress_lines(what)
        return
    with _bar(what) as show:
        yield show


@contextmanager
def progress_if_large(what: str, pictures: int) -> Iterator[Callable[[int, int], None]]:
    """Show progress of work that takes long only with many pictures.

    Args:
        what: the label, such as ``Comparing``.
        pictures: number of pictures.

    Returns:
        A function that takes the number of finished items and the total.
    """
    if pictures < _MANY:
        yield lambda done, total: None
        return
    from ingest.fill.pipeline import Progress

    with counter(what) as show:
        yield lambda done, total: show(Progress(done, total, done, 0))


@contextmanager
def _bar(what: str) -> Iterator[Callable[[Progress], None]]:
    """Show progress as a bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
        console=Console(stderr=True),
        transient=True,
    )
    rate = _Rate()
    with bar:
        task = bar.add_task(what, total=None, rate="", failed="")
        stage = ""

        def show(state: Progress) -> None:
            nonlocal stage
            if state.stage != stage:
                # Each encoder has its own speed and remaining time.
                stage = state.stage
                bar.reset(task, description=f"{what} ({stage})")
            bar.update(
                task,
                completed=state.done,
                total=state.total,
                rate=rate.text(state),
                failed=f"{state.failed} unreadable" if state.failed else "",
            )

        yield show


class _Rate:
    """Pictures embedded per second since the first report of a stage."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._earlier = 0
        self._stage = ""

    def per_second(self, state: Progress) -> float:
        if state.stage != self._stage:
            self._started, self._stage = time.monotonic(), state.stage
            self._earlier = state.embedded
        return (state.embedded - self._earlier) / max(1e-9, time.monotonic() - self._started)

    def text(self, state: Progress) -> str:
        speed = self.per_second(state)
        return f"{speed:.1f} pictures/s" if speed > 0 else ""


def _progress_lines(what: str) -> Callable[[Progress], None]:
    """A function that prints progress as a line every ten seconds."""
    rate = _Rate()
    last = time.monotonic()

    def show(state: Progress) -> None:
        nonlocal last
        if time.monotonic() - last < 10:
            return
        last = time.monotonic()
        speed = rate.per_second(state)
        left = f", about {(state.total - state.done) / speed:.0f} s to go" if speed else ""
        stage = f" ({state.stage})" if state.stage else ""
        say(f"{what}{stage}: {state.done} of {state.total}, {speed:.1f} pictures/s{left}")

    return show
