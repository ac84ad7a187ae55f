"""``cies methods``: the ways to embed pictures, and what each costs."""

from __future__ import annotations

from cies.cli.options import JsonOption


def list_methods(as_json: JsonOption = False) -> None:
    """Say what each method does, needs and costs, and when to use which."""
    from cies.reports.methods import run_methods

    run_methods(as_json)
