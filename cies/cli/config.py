"""``cies config``: the permanent settings and their origins."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from cies.cli.command_tree import all_options
from cies.cli.options import JsonOption
from cies.cli.settings import (
    Setting,
    plain,
    read_files,
    settings,
    settings_paths,
    unknown_variables,
)


def config(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="List every option, not only those that are set.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the permanent settings, from environment variables and cies.toml files.

    Example: CIES_K=20 cies config
    """
    from cies.console import print_document, print_table, say

    options = all_options(context.obj)
    files = read_files(options)
    found = settings(options, files, os.environ)
    unknown = unknown_variables(options, os.environ)
    read = {file.path for file in files}
    if as_json:
        print_document(
            {
                "files": [{"path": str(p), "read": p in read} for p in settings_paths()],
                "settings": [_document(setting) for setting in found],
                "unknown_variables": unknown,
            }
        )
        return
    for path in settings_paths():
        say(f"{path}: {'read' if path in read else 'not found'}")
    for name in unknown:
        say(f"{name} sets nothing: no option has this name.")
    shown = [setting for setting in found if everything or setting.origin != "default"]
    if not shown:
        say("Nothing is set; `cies config --all` lists all options.")
    rows = [[s.option.command, s.option.key, _text(s.value), s.origin] for s in shown]
    print_table(["command", "option", "value", "from"], rows)


def _document(setting: Setting) -> dict[str, Any]:
    option = setting.option
    return {
        "command": option.command,
        "option": option.key,
        "value": plain(setting.value),
        "from": setting.origin,
        "variable": option.variables[0],
    }


def _text(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(value) if isinstance(value, list) else str(value)
