"""What people see. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Sequence

from ingest.pipeline import Progress


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
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", header_style="bold", box=None)
    for column in columns:
        table.add_column(
            Text(column), justify="right" if column in numbers else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[Progress], None]]:
    """Progress with rate and time to go: a bar on a terminal, a line now and then elsewhere.

    Args:
        what: shown before it.
    """
    with _stored_so_far() as count:
        if not sys.stderr.isatty():
            yield _both(count, _progress_lines(what))
            return
        with _bar(what) as show:
            yield _both(count, show)


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
    last = Progress(0, 0, 0, 0)

    def count(state: Progress) -> None:
        nonlocal last
        last = state

    try:
        yield count
    except Exception:
        raise
    except BaseException:
        say(f"\n{last.embedded} pictures of this run are stored.")
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

        def show(state: Progress) -> None:
            bar.update(
                task,
                completed=state.done,
                total=state.total,
                rate=rate.text(state),
                failed=f"{state.failed} unreadable" if state.failed else "",
            )

        yield show


class _Rate:
    """Pictures embedded a second since the first report."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def per_second(self, state: Progress) -> float:
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
        say(f"{what}: {state.done} of {state.total}, {speed:.1f} pictures/s{left}")

    return show
