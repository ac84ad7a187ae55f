"""The command line: assembles the commands, and turns errors into messages and exit codes.

Light to import: each command imports what it needs when it runs.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cies.cli.browse import collections, dupes, facets, make_gallery, outliers
from cies.cli.command_tree import name_values
from cies.cli.conditions import conditions
from cies.cli.config import config
from cies.cli.exchange import export, import_vectors
from cies.cli.ingest import ingest
from cies.cli.maintenance import (
    columns,
    index,
    merge,
    prune,
    relocate,
    remove,
    repair,
    status,
    verify,
)
from cies.cli.measuring.bench import bench
from cies.cli.measuring.evaluate import demo, evaluate, world
from cies.cli.models import methods, models, train_composer
from cies.cli.search import search
from cies.cli.serve import mcp, serve
from cies.cli.settings import default_map
from cies.console import say
from cies.streams import OutputError, ReaderGoneError, close_output, discard_output, open_streams
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

#: Headings of `cies --help`, with their commands.
_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Every day": {
        "ingest": ingest,
        "search": search,
        "status": status,
        "gallery": make_gallery,
        "facets": facets,
        "outliers": outliers,
        "dupes": dupes,
        "import": import_vectors,
        "export": export,
        "serve": serve,
        "mcp": mcp,
    },
    "The gallery": {
        "verify": verify,
        "repair": repair,
        "prune": prune,
        "remove": remove,
        "relocate": relocate,
        "merge": merge,
        "index": index,
    },
    "Models and settings": {
        "methods": methods,
        "models": models,
        "train-composer": train_composer,
        "config": config,
    },
    "Measuring": {"eval": evaluate, "world": world, "demo": demo},
}
for _panel, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(conditions, name="conditions", rich_help_panel="The gallery")
app.add_typer(columns, name="columns", rich_help_panel="The gallery")
app.add_typer(collections, name="collections", rich_help_panel="The gallery")
app.add_typer(bench, name="bench", no_args_is_help=True, rich_help_panel="Measuring")
name_values(app)


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
    open_streams()
    _catch_signals()
    sys.exit(close_output(_exit_code()))


def _exit_code() -> int:
    """Run a command; returns its exit code."""
    try:
        app()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except CiesError as error:
        if isinstance(error, OutputError):
            discard_output()
        say(f"Error: {error}")
        return error.exit_code
    except _Interrupted:
        print(file=sys.stderr)
        say("Interrupted. What was stored is kept; run the same command again to continue.")
        return 130
    except ReaderGoneError:
        discard_output()
    except UnicodeEncodeError as error:
        # Only where the system's encoding is not UTF-8 can a file name be impossible to express.
        say(
            f"Error: a file name cannot be expressed in this system's encoding, {error.encoding}; "
            "set LC_ALL=C.UTF-8 or PYTHONUTF8=1."
        )
        return 1
    return 0
