"""docs/commands.md is what the commands themselves say."""

from __future__ import annotations

from pathlib import Path

from cies.cli.app import app
from cies.cli.command_tree import walk_commands
from cies.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def test_the_page_is_the_generated_one() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run `python -m cies.cli.reference > docs/commands.md`"
    )


def test_every_command_and_option_is_on_the_page_with_a_help_text() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for command in walk_commands(app):
        assert command.help.strip(), command.name
        section = page.split(f"\n## cies {command.name}\n")[1].split("\n## ")[0]
        for parameter in command.parameters():
            assert parameter.help, (command.name, parameter.key)
            names = parameter.names or (parameter.parameter.upper(),)
            assert all(f"`{name}" in section for name in names), (command.name, parameter.key)
