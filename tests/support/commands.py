"""Helpers shared by tests."""

from __future__ import annotations

import subprocess
import sys


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run ``cies`` with these arguments."""
    command = [sys.executable, "-m", "cies", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)
