"""The commands of a Typer app with their options and arguments, read from their signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperArgument

_PREFIX = "CIES_"


@dataclass(frozen=True)
class CommandOption:
    """One option or argument of one command.

    Attributes:
        command: the command's words, such as ``search`` or ``bench embed``.
        key: its long name without dashes: ``copy-to``.
        parameter: the name of the function's parameter.
        kind: ``bool``, ``int``, ``float``, ``str``, ``Path`` or ``list``.
        default: the value if it is not given.
        least: the least number allowed, if there is one.
        most: the greatest number allowed, if there is one.
        names: all names as typed, such as ``--condition`` and ``-c``; none for an argument.
        help: its help text.
        panel: the heading under which ``--help`` lists it; empty for the default one.
        required: whether the command needs it.
        element: the kind of a list's values, ``str`` or ``int``.
    """

    command: str
    key: str
    parameter: str
    kind: type
    default: Any
    least: float | None = None
    most: float | None = None
    names: tuple[str, ...] = ()
    help: str = ""
    panel: str = ""
    required: bool = False
    element: type = str

    @property
    def variables(self) -> tuple[str, str]:
        """The environment variables that set it: of this command, and of all that have it."""
        own, shared = (
            _PREFIX + name.upper().replace("-", "_").replace(" ", "_")
            for name in (f"{self.command} {self.key}", self.key)
        )
        return own, shared


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: its words, such as ``search`` or ``bench embed``.
        function: the function that runs it; ``None`` for a group without one.
        help: its help text.
    """

    name: str
    function: Callable[..., Any] | None
    help: str

    def parameters(self) -> list[CommandOption]:
        """The options and arguments, in the order of the signature."""
        return [] if self.function is None else _parameters(self.name, self.function)

    def options(self) -> list[CommandOption]:
        """The options alone."""
        return [parameter for parameter in self.parameters() if parameter.names]


def walk_commands(app: typer.Typer, prefix: str = "") -> Iterator[Command]:
    """All commands that ``--help`` lists; a group comes before the commands in it."""
    for info in app.registered_commands:
        if info.callback is not None and not info.hidden:
            name = f"{prefix} {info.name or info.callback.__name__}".strip()
            yield Command(name, info.callback, inspect.getdoc(info.callback) or "")
    for group in app.registered_groups:
        inner = group.typer_instance
        if inner is not None:
            name = f"{prefix} {group.name}".strip()
            callback = inner.registered_callback
            about = inner.info.help if isinstance(inner.info.help, str) else ""
            yield Command(name, callback.callback if callback else None, about)
            yield from walk_commands(inner, name)


#: What `--help` shows for a value, by its kind; a switch has none.
_METAVARS = {bool: "", int: "INTEGER", float: "NUMBER", str: "TEXT", list: "TEXT", Path: "PATH"}


def name_values(app: typer.Typer) -> None:
    """Let ``--help`` name the values of options as the command reference does."""
    # Typer shows `<list[str]>` beside the name of an argument, and has no option against it.
    setattr(TyperArgument, "display_type_rich", _no_type)  # noqa: B010
    for command in walk_commands(app):
        if command.function is None:
            continue
        # Annotations are texts, of which every reader makes options of its own.
        hints = get_type_hints(command.function, include_extras=True)
        command.function.__annotations__ = hints
        for name, hint in hints.items():
            kind, info = _kind_and_info(hint)
            if isinstance(info, type(typer.Option())) and info.metavar is None:
                info.metavar = _METAVARS.get(_element(hint) if kind is list else kind, "TEXT")
            elif info is not None and info.metavar is None:
                info.metavar = name.upper()


def _no_type(argument: Any, ctx: Any) -> None:
    """What ``--help`` shows as the type of an argument."""


def all_options(app: typer.Typer) -> list[CommandOption]:
    """The options of all commands."""
    return [option for command in walk_commands(app) for option in command.options()]


def _parameters(command: str, function: Callable[..., Any]) -> list[CommandOption]:
    hints = get_type_hints(function, include_extras=True)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = _kind_and_info(hints[name])
        if info is None:
            continue
        required = parameter.default is inspect.Parameter.empty
        names = _names(name, kind, info) if isinstance(info, type(typer.Option())) else ()
        long = [part for part in names if part.startswith("--")]
        found.append(
            CommandOption(
                command=command,
                key=(long or names or (name,))[0].lstrip("-"),
                parameter=name,
                kind=kind,
                default=None if required else parameter.default,
                least=info.min,
                most=info.max,
                names=names,
                help=info.help or "",
                panel=info.rich_help_panel or "",
                required=required,
                element=_element(hints[name]),
            )
        )
    return found


def _element(hint: Any) -> type:
    """The kind of the values of a list, as a parameter's annotation says; ``str`` for others."""
    while get_origin(hint) is not None:
        if get_origin(hint) is list:
            return int if get_args(hint) == (int,) else str
        hint = hint.__origin__ if get_origin(hint) is Annotated else get_args(hint)[0]
    return str


def _names(parameter: str, kind: type, info: Any) -> tuple[str, ...]:
    """The names of an option; the form without ``no-`` comes first."""
    # In an annotation, Typer takes the first name for the default value.
    declared = [d for d in (info.default, *(info.param_decls or ())) if isinstance(d, str)]
    if declared:
        return tuple(part for name in declared for part in name.split("/"))
    name = parameter.replace("_", "-")
    return (f"--{name}", f"--no-{name}") if kind is bool else (f"--{name}",)


def _kind_and_info(hint: Any) -> tuple[type, Any]:
    """A parameter's type, and its ``typer.Option`` or ``typer.Argument`` if it has one."""
    info = None
    while get_origin(hint) is not None and get_origin(hint) is not list:
        if get_origin(hint) is Annotated:
            info = hint.__metadata__[0]
            hint = hint.__origin__
        else:  # Optional
            hint = next(part for part in get_args(hint) if part is not type(None))
    kind = list if get_origin(hint) is list else hint
    known = isinstance(info, (type(typer.Option()), type(typer.Argument())))
    return kind, info if known else None
