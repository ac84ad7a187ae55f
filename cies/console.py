"""What people see. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence

if TYPE_CHECKING:
    from rich.table import Table

    from ingest.fill.pipeline import Progress

#: Lines of the terminal that a picture takes.
_PICTURE_LINES = 6


def say(line: str) -> None:
    """A line for people, on stderr."""
    print(line, file=sys.stderr, flush=True)


def print_json(document: Any, indent: int | None = 2) -> None:
    """A JSON document on stdout, in plain ASCII so that any pipe takes it."""
    print(json.dumps(document, indent=indent, allow_nan=False))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str = "",
    numbers: Sequence[str] = (),
) -> None:
    """A table on stdout: drawn on a terminal, tab-separated with a header in a pipe.

    Args:
        columns: the header.
        rows: cells as text; on a terminal Rich markup is not interpreted.
        title: shown above it on a terminal.
        numbers: the columns set flush right.
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

    # Names are the users' own, which Rich would else read as its markup.
    shown = Text(title) if title else None
    table = Table(title=shown, title_justify="left", header_style="bold", box=None)
    for column in columns:
        table.add_column(
            Text(column), justify="right" if column in numbers else "left", overflow="fold"
        )
    return table


def terminal_pictures() -> tuple[Any, str]:
    """What draws a picture on this terminal (a class of textual-image), else why there is none.

    The terminal is asked by escape sequences what it can show: Sixel, Kitty's protocol, or
    colored half characters.
    """
    # The terminal answers where a user's typing comes from.
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        return None, "this is no terminal; write a page with --html FILE"
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
    """A table with a picture at the end of each row, on a terminal.

    Args:
        draw: from :func:`terminal_pictures`.
        columns: as for :func:`print_table`.
        rows: as for :func:`print_table`.
        pictures: a file's bytes for each row, or ``None`` for what cannot be read.
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
    """Progress with rate and time to go: a bar on a terminal, a line now and then elsewhere.

    Args:
        what: shown before it.
    """
    with _stored_so_far() as count, counter(what) as show:
        yield _both(count, show)


@contextmanager
def counter(what: str) -> Iterator[Callable[[Progress], None]]:
    """As :func:`progress_bar`, for work that stores nothing."""
    if not sys.stderr.isatty():
        yield _progress_lines(what)
        return
    with _bar(what) as show:
        yield show


def _both(
    one: Callable[[Progress], None], other: Callable[[Progress], None]
) -> Callable[[Progress], None]:
    def tell(state: Progress) -> None:
        one(state)
        other(state)

    return tell


@contextmanager
def _stored_so_far() -> Iterator[Callable[[Progress], None]]:
    """Say what is kept when Ctrl-C or the like ends the work."""
    embedded = 0

    def count(state: Progress) -> None:
        nonlocal embedded
        embedded = max(embedded, state.embedded)

    try:
        yield count
    except Exception:
        raise
    except BaseException:
        say(f"\n{embedded} pictures of this run are stored.")
        raise


@contextmanager
def _bar(what: str) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal."""
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
                # The next encoder has a speed of its own, and a time to go of its own.
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
    """Pictures embedded a second since the first report of a stage."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._stage = ""

    def per_second(self, state: Progress) -> float:
        if state.stage != self._stage:
            self._started, self._stage = time.monotonic(), state.stage
        return state.embedded / max(1e-9, time.monotonic() - self._started)

    def text(self, state: Progress) -> str:
        return f"{self.per_second(state):.1f} pictures/s" if state.embedded else ""


def _progress_lines(what: str) -> Callable[[Progress], None]:
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
