"""``cies methods``: the ways to embed pictures, and what each costs."""

from __future__ import annotations

from cies.words import JsonOption


def list_methods(as_json: JsonOption = False) -> None:
    """Say what each method does, needs and costs, and when to use which."""
    from cies.methods import run_methods

    run_methods(as_json)
