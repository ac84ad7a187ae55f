"""Runs the command line in this process, with a stand-in in place of the built-in model."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator

import pytest
from support.stand_in import StandIn

from cies.cli.app import main


class Shell:
    """Runs ``cies`` as it is typed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: object, stdin: str = "") -> tuple[int, str, str]:
        """Run a command; returns its exit code, stdout and stderr."""
        self._monkeypatch.setattr(sys, "argv", ["cies", *map(str, words)])
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as left:
            main()
        told = self._capsys.readouterr()
        return int(left.value.code or 0), told.out, told.err

    def done(self, *words: object) -> tuple[str, str]:
        """Run a command that succeeds; returns its stdout and stderr."""
        code, out, err = self(*words)
        assert code == 0, err
        return out, err

    def refused(self, *words: object) -> str:
        """Run a command that is refused with one sentence; returns it."""
        code, out, err = self(*words)
        assert code in (2, 4) and out == "" and err.count("Error:") == 1, (code, out, err)
        return err


def stand_in_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    """``cies`` with the gallery ``g`` of the current folder, and a stand-in as its model."""
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setenv("CIES_GALLERY", "g")
    monkeypatch.setattr("ingest.fill.encoder_choice.make_encoder", lambda *a, **k: StandIn())
    monkeypatch.setattr("ingest.fill.encoder_choice.remake_encoder", lambda *a, **k: StandIn())
    yield Shell(monkeypatch, capsys)
    signal.signal(signal.SIGINT, handler)
