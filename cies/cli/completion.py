"""What the shell offers while a command is typed, beyond the words of the commands themselves."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import typer

#: The gallery's own plain copy of its manifest, which is read without any of its libraries.
_COPY = "gallery.json"


def condition_names(context: typer.Context, incomplete: str) -> list[str]:
    """The conditions of the gallery that the command so far means; none if it cannot be read."""
    from cies.cli.app import app
    from cies.cli.config import defaults
    from cies.cli.settings import find_gallery
    from indexes.errors import CiesError

    command = context.info_name or ""
    with suppress(CiesError, OSError, ValueError, TypeError, KeyError):
        given = context.params.get("gallery")
        given = given or defaults(app, command).get(command, {}).get("gallery")
        copy = find_gallery(Path(given) if given else None) / _COPY
        entries = json.loads(copy.read_text(encoding="utf-8"))
        found = [entry for key, entry in entries.items() if key.startswith("condition:")]
        names = [entry["name"] for entry in sorted(found, key=lambda entry: entry["order"])]
        return [name for name in names if name.startswith(incomplete)]
    return []
