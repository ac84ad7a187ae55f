"""Prints the command reference: ``python -m cies.cli.reference > docs/commands.md``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cies.cli.app import app
from cies.cli.command_tree import Command, CommandOption, walk_commands

_INTRODUCTION = """\
# Commands

<!-- Written by `python -m cies.cli.reference > docs/commands.md`; do not edit this page. -->

`cies COMMAND --help` prints the same on a terminal. Every option can also be set permanently, in
the environment or in `cies.toml`: see [settings](settings.md). [json.md](json.md) describes what
`--json` prints. The condition `unconditional` embeds the picture as a whole.
"""

_EXIT_CODES = """\
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed; for `cies verify`: the gallery is damaged |
| 2 | wrong usage |
| 3 | done, but with `--strict` some files were unreadable or a source could not be reached |
| 4 | the gallery is missing, locked, or built in another way |
| 5 | a model or data are not available |
| 130 | interrupted; everything that was stored is kept |
"""

_KINDS = {int: "INTEGER", float: "NUMBER", str: "TEXT", list: "TEXT"}


def reference() -> str:
    """The Markdown page of all commands, with their options and defaults."""
    commands = list(walk_commands(app))
    overview = ["| command | what it does |", "|---|---|"]
    for command in commands:
        first_sentence = _cell(command.help.split("\n\n")[0])
        overview.append(f"| [`cies {command.name}`](#{_anchor(command)}) | {first_sentence} |")
    parts = [_INTRODUCTION, "\n".join(overview) + "\n", *map(_section, commands), _EXIT_CODES]
    return "\n".join(parts)


def _anchor(command: Command) -> str:
    return f"cies-{command.name.replace(' ', '-')}"


def _section(command: Command) -> str:
    parameters = command.parameters()
    lines = [f"## cies {command.name}", ""]
    for paragraph in command.help.split("\n\n"):
        text = " ".join(paragraph.split())
        example = text.removeprefix("Example: ")
        lines += [f"`{example}`" if example != text else _plain(text), ""]
    panels = dict.fromkeys(parameter.panel for parameter in parameters)
    for panel in sorted(panels, key=bool):
        if panel:
            lines += [f"{panel}:", ""]
        lines += _table(parameter for parameter in parameters if parameter.panel == panel)
    return "\n".join(lines)


def _table(parameters: Iterable[CommandOption]) -> list[str]:
    lines = ["| option | default | meaning |", "|---|---|---|"]
    for parameter in parameters:
        default = "required" if parameter.required else _default(parameter)
        lines.append(f"| {_names(parameter)} | {default} | {_cell(parameter.help)} |")
    return [*lines, ""]


def _names(parameter: CommandOption) -> str:
    """The names of an option with the kind of its value, or the name of an argument."""
    if not parameter.names:
        name = parameter.parameter.upper()
        return f"`{name}...`" if parameter.kind is list else f"`{name}`"
    # The long name first; a switch without a value has none to show.
    names = sorted(parameter.names, key=lambda name: not name.startswith("--"))
    text = ", ".join(f"`{name}`" for name in names)
    if parameter.kind is bool:
        return text
    kind = parameter.element if parameter.kind is list else parameter.kind
    return f"{text} {_KINDS.get(kind, 'PATH')}{_range(parameter)}"


def _range(parameter: CommandOption) -> str:
    least, most = parameter.least, parameter.most
    if least is None or most is None:
        return "" if least is None else f" from {least:g}"
    return f" from {least:g} to {most:g}"


def _default(parameter: CommandOption) -> str:
    value = parameter.default
    if value is None or value is False or value == "":
        return ""
    return "on" if value is True else f"`{value}`"


def _plain(text: str) -> str:
    """A help text as Markdown: Rich's escape of a bracket is removed."""
    return text.replace("\\[", "[").replace("<", "&lt;")


def _cell(text: str) -> str:
    """A help text as a cell of a Markdown table."""
    return re.sub(r"\s+", " ", _plain(text)).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
