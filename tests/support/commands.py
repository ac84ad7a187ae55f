"""Runs the command line."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from cies.cli.app import main

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``cies`` with these arguments.

    Without options it runs in this process, which saves the seconds that importing torch takes.
    Its streams are neither terminals nor files.

    Args:
        *arguments: what is typed after ``cies``.
        **options: of :func:`subprocess.run`, such as ``cwd``; it then runs in a process of its own.
    """
    words = [str(argument) for argument in arguments]
    if not options:
        return _run_here(words)
    command = [sys.executable, "-m", "cies", *words]
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, **options
    )
    return done


def _run_here(words: list[str]) -> subprocess.CompletedProcess[str]:
    handlers = [signal.getsignal(number) for number in _SIGNALS]
    before = sys.argv, sys.stdin
    printed, messages = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(file, "utf-8", write_through=True) for file in (printed, messages))
    sys.argv, sys.stdin = ["cies", *words], io.TextIOWrapper(io.BytesIO())
    code = None
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as left:
        code = left.code
    finally:
        sys.argv, sys.stdin = before
        for number, handler in zip(_SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
    assert isinstance(code, int)
    return subprocess.CompletedProcess(
        sys.argv, code, printed.getvalue().decode(), messages.getvalue().decode()
    )
