"""The decoder processes of this process."""

from __future__ import annotations

import psutil

from ingest.read import isolated


def decoders() -> list[psutil.Process]:
    """Those that are alive."""
    alive = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in alive if "decoder_process" in " ".join(p.cmdline())]


def end_shared_decoders() -> None:
    """End those that earlier tests of this process started by :mod:`ingest.read.isolated`."""
    isolated._close()
    isolated._pools.clear()
