"""Runs the command line in a process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``cies`` with these arguments."""
    command = [sys.executable, "-m", "cies", *map(str, arguments)]
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, **options
    )
    return done
