"""Options by their commands' own signatures, their settings, and ``cies config``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from cies.cli.options import JsonOption
from cies.cli.settings import (
    PREFIX,
    Option,
    Setting,
    environment,
    places,
    read_files,
    settings,
    unknown_variables,
)


def commands(app: typer.Typer, above: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command's words and function, those of groups as ``bench embed``."""
    for one in app.registered_commands:
        if one.callback is not None:
            yield f"{above} {one.name or one.callback.__name__}".strip(), one.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            # A group that does something by itself is a command, too.
            own = group.typer_instance.registered_callback
            if own is not None and own.callback is not None:
                yield f"{above} {group.name}".strip(), own.callback
            yield from commands(group.typer_instance, f"{above} {group.name}".strip())


def options(command: str, function: Callable[..., Any]) -> list[Option]:
    """The options of a command; its arguments are not among them."""
    hints = get_type_hints(function, include_extras=True)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind, about = _parts(hints[name])
        if about is None or parameter.annotation is inspect.Parameter.empty:
            continue
        # In an annotation, what stands first in Option(...) is a name too.
        names = [one for one in (about.default, *(about.param_decls or ())) if isinstance(one, str)]
        words = [word.split("/")[0] for word in names]
        long = [word for word in words if word.startswith("--")]
        key = (long or words or [name.replace("_", "-")])[0].lstrip("-")
        default = None if parameter.default is inspect.Parameter.empty else parameter.default
        found.append(Option(command, key, name, kind, default, about.min, about.max))
    return found


def _parts(hint: Any) -> tuple[type, Any]:
    """A parameter's kind, and what Typer was told if it is an option."""
    about = None
    while get_origin(hint) is not None and get_origin(hint) is not list:
        if get_origin(hint) is Annotated:
            about = hint.__metadata__[0]
            hint = hint.__origin__
        else:  # Optional
            hint = next(one for one in get_args(hint) if one is not type(None))
    kind = list if get_origin(hint) is list else hint
    return kind, about if isinstance(about, type(typer.Option())) else None


def every_option(app: typer.Typer) -> list[Option]:
    """The options of all commands."""
    return [one for command, function in commands(app) for one in options(command, function)]


def defaults(app: typer.Typer, invoked: str) -> dict[str, Any]:
    """Values set for good, as Typer takes them: nested by the words of commands.

    Args:
        app: with all commands.
        invoked: the first word of the command that was called.

    Raises:
        UsageError: naming the variable or the file and key, if something is wrong.
    """
    variables = environment()
    asked = any(name.startswith(PREFIX) for name in variables)
    if not asked and not any(path.is_file() for path in places()):
        return {}
    known = every_option(app)
    nested: dict[str, Any] = {}
    mine = [option for option in known if option.command.split()[0] == invoked]
    for setting in settings(mine, read_files(known), variables):
        if setting.origin != "default":
            inner = nested
            for word in setting.option.command.split():
                inner = inner.setdefault(word, {})
            inner[setting.option.parameter] = _for_typer(setting.value)
    return nested


def _for_typer(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def config(
    everything: Annotated[
        bool, typer.Option("--all", help="List every option, not only those that are set.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is set for good, and where: in the environment or in cies.toml.

    Example: CIES_K=20 cies config
    """
    from cies.cli.app import app
    from cies.console import print_json, print_table, say
    from query.hits import SCHEMA_VERSION

    known = every_option(app)
    files = read_files(known)
    found = settings(known, files, environment())
    unknown = unknown_variables(known, environment())
    if as_json:
        read = {file.path for file in files}
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "files": [{"path": str(p), "read": p in read} for p in places()],
                "settings": [_document(setting) for setting in found],
                "unknown_variables": unknown,
            }
        )
        return
    for path in places():
        say(f"{path}: {'read' if path.is_file() else 'not there'}")
    for name in unknown:
        say(f"{name} sets nothing: no option has this name.")
    shown = [s for s in found if everything or s.origin != "default"]
    if not shown:
        say("Nothing is set; `cies config --all` lists what can be.")
    rows = [[s.option.command, s.option.key, _text(s.value), s.origin] for s in shown]
    print_table(["command", "option", "value", "from"], rows)


def _document(setting: Setting) -> dict[str, Any]:
    option = setting.option
    return {
        "command": option.command,
        "option": option.key,
        "value": _for_typer(setting.value),
        "from": setting.origin,
        "variable": option.variables[0],
    }


def _text(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(value) if isinstance(value, list) else str(value)
