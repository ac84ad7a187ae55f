"""Terminal output: data on stdout, messages and progress on stderr."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Mapping, Sequence

from indexes.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ingest.fill.pipeline import Progress

#: Height of a picture in terminal lines.
_PICTURE_LINES = 6

#: :func:`progress_if_large` shows progress from this many pictures on.
_MANY = 20_000


def say(line: str) -> None:
    """Print a line for people on stderr, with control characters in names escaped."""
    print(printable(line), file=sys.stderr, flush=True)


def print_line(line: str) -> None:
    """Print a line of data on stdout, with control characters in names escaped."""
    print(printable(line))


def print_paths(paths: Iterable[str], null: bool = False) -> None:
    """Print paths on stdout.

    Args:
        paths: the paths.
        null: end each path in NUL, and write it exactly as the file system has it; otherwise each
            is a line, with control characters escaped.
    """
    if not null:
        for path in paths:
            print_line(path)
        return
    encoding = sys.stdout.encoding or "utf-8"
    for path in paths:
        try:
            data = os.fsencode(path)
        except UnicodeEncodeError:  # the file system's encoding does not have the name
            data = path.encode("utf-8", "surrogateescape")
        # The stream writes bytes that its encoding does not have as they are.
        print(data.decode(encoding, "surrogateescape"), end="\0")


def first_today(name: str) -> bool:
    """Whether this is the first call with this name today, on this machine.

    Where the cache folder cannot be written, every call is the first.
    """
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("cies", appauthor=False)) / "said"
    mark = folder / f"{name}.txt"
    today = time.strftime("%Y-%m-%d")
    try:
        if mark.is_file() and mark.read_text(encoding="ascii", errors="replace") == today:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(today, encoding="ascii")
    except OSError:
        pass
    return True


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
            print("\t".join(map(printable, row)))
        return
    from rich.text import Text

    table = _header(columns, title, numbers)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    _terminal().print(table)


def _terminal() -> Console:
    """Rich's console on stdout, also on a terminal that says it has no size."""
    from rich.console import Console

    console = Console()
    if console.width < 1:
        console.width = 80
    return console


def _header(columns: Sequence[str], title: str, numbers: Sequence[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Titles hold the user's own names, which Rich must not read as markup.
    table = Table(
        title=Text(printable(title)) if title else None,
        title_justify="left",
        header_style="bold",
        box=None,
    )
    for column in columns:
        table.add_column(
            Text(printable(column)),
            justify="right" if column in numbers else "left",
            overflow="fold",
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
    size = os.get_terminal_size(sys.stdout.fileno())
    if not (size.columns and size.lines):
        return None, "this terminal says that it has no size"
    import logging

    # The library logs with a traceback that a terminal does not answer, and then assumes sizes.
    logging.getLogger("textual_image").setLevel(logging.CRITICAL)
    try:
        from textual_image.renderable import Image
    except ImportError:
        return None, "they need `pip install 'cies[terminal]'`"
    except (ArithmeticError, ValueError, OSError, RuntimeError, LookupError) as error:
        # The library asks the terminal when it is imported, and parses its answers.
        return None, f"this terminal's answers are not understood ({type(error).__name__})"
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
    from rich.text import Text

    table = _header([*columns, ""], title, numbers)
    for row, picture in zip(rows, pictures, strict=True):
        cell = Text("not readable now", style="dim")
        drawn = cell if picture is None else draw(io.BytesIO(picture), height=_PICTURE_LINES)
        table.add_row(*(Text(printable(text)) for text in row), drawn)
    try:
        _terminal().print(table)
    except (ArithmeticError, ValueError, OSError, RuntimeError):
        # The library divides by sizes that the terminal reports. Nothing was printed yet.
        print_table(columns, rows, title, numbers)


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
        print(file=sys.stderr)
        say(f"{embedded} pictures of this run are stored.")
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
