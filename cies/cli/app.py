"""The command line: assembles the commands, and turns errors into messages and exit codes.

Light to import: each command imports what it needs when it runs.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cies.cli.bench import bench
from cies.cli.browse import dupes, facets, make_gallery, outliers
from cies.cli.conditions import conditions
from cies.cli.config import config
from cies.cli.evaluate import demo, evaluate, world
from cies.cli.ingest import ingest
from cies.cli.maintenance import export, index, prune, repair, status, verify
from cies.cli.models import methods, models, train_composer
from cies.cli.search import search
from cies.cli.settings import default_map
from indexes.errors import CiesError

_CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="cies",
    help="Conditional image search: find the pictures that are alike in the respect you name.",
    epilog="Example: cies ingest photos -c color -c shape; cies search photos/mug.jpg -c color. "
    "Any option can be set permanently, in the environment or in cies.toml: cies config --all.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)
# Commands find the app, with the options of all commands, as the object of their context.
_CONTEXT["obj"] = app

_COMMANDS: dict[str, Callable[..., None]] = {
    "ingest": ingest,
    "search": search,
    "gallery": make_gallery,
    "facets": facets,
    "outliers": outliers,
    "dupes": dupes,
    "status": status,
    "index": index,
    "export": export,
    "verify": verify,
    "repair": repair,
    "prune": prune,
    "eval": evaluate,
    "methods": methods,
    "models": models,
    "train-composer": train_composer,
    "config": config,
    "world": world,
    "demo": demo,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(conditions, name="conditions")
app.add_typer(bench, name="bench", no_args_is_help=True)


def _version(wanted: bool) -> None:
    if wanted:
        from cies import __version__

        print(f"cies {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Conditional image search: find the pictures that are alike in the respect you name."""
    if context.invoked_subcommand not in (None, "config"):
        context.default_map = default_map(app, context.invoked_subcommand)


class _Interrupted(BaseException):
    """Raised by a signal. It is not a KeyboardInterrupt, which Typer handles itself."""


def _interrupt(number: int, frame: object) -> None:
    raise _Interrupted


def _catch_signals() -> None:
    """Let Ctrl-C, SIGTERM and a closed terminal end a command in order."""
    signal.signal(signal.SIGINT, _interrupt)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # nohup starts a process with SIGHUP ignored; leave it ignored.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)


def main() -> None:
    """Run a command; every expected failure is one sentence on stderr and an exit code."""
    _catch_signals()
    for stream in (sys.stdout, sys.stderr):
        # File names that are not UTF-8 are printed as their original bytes.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    try:
        app()
    except CiesError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except _Interrupted:
        print(
            "\nInterrupted. What was stored is kept; run the same command again to continue.",
            file=sys.stderr,
        )
        sys.exit(130)
    except BrokenPipeError:
        # The program that read our output has ended; without this, Python prints an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
