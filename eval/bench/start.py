"""Cold starts: how long a command takes in a fresh process, beside what no such command can avoid.

Every command and every baseline runs once in each round, one after the other, so that what else
the machine does falls on all of them alike; ratios are of medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from indexes.errors import CiesError

_IMPORTS = {
    "typer": "import typer",
    "lancedb, numpy": "import lancedb, numpy",
    "torch, transformers": "import torch; from transformers import LlavaForConditionalGeneration",
}

#: Libraries of which it is told whether a command imports them.
HEAVY = ("torch", "transformers", "lancedb", "faiss", "pyarrow", "numpy", "PIL", "rich", "pandas")

_TELL = (
    "import sys; sys.argv = ['cies', *sys.argv[1:]]\n"
    "from cies.cli.app import main\n"
    "try: main()\n"
    "except SystemExit: pass\n"
    "print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}))"
)


@dataclass(frozen=True)
class ColdStart:
    """One command's cold start.

    Attributes:
        command: as typed.
        seconds: its median.
        beside: the imports it is compared with.
        beside_seconds: their median in the same rounds.
        ratio: the one over the other.
        limit: the greatest ratio that is good.
        imports: which of :data:`HEAVY` it imports.
    """

    command: str
    seconds: float
    beside: str
    beside_seconds: float
    ratio: float
    limit: float
    imports: tuple[str, ...]


def measure_starts(
    gallery: Path,
    condition: str,
    known: Path,
    new: Path,
    rounds: int,
    progress: Callable[[str], None] = lambda line: None,
) -> list[ColdStart]:
    """Measure ``cies --help`` and ``cies search`` in processes of their own.

    Args:
        gallery: embedded by the built-in model.
        condition: one it has.
        known: a picture of the gallery.
        new: a picture that is not in it.
        rounds: runs of each, after one that is not counted.
        progress: told after every round.

    Raises:
        CiesError: if a command fails.
    """
    asked = ["-g", str(gallery), "-c", condition, "-k", "10"]
    compared: list[tuple[str, list[str], str, float]] = [
        ("cies --help", ["--help"], "typer", 4.0),
        ("cies search KNOWN", ["search", str(known), *asked], "lancedb, numpy", 1.5),
        ("cies search NEW", ["search", str(new), *asked], "torch, transformers", 1.5),
    ]
    commands: dict[str, list[str]] = {}
    for name, arguments, beside, _ in compared:
        commands[beside] = [sys.executable, "-c", _IMPORTS[beside]]
        commands[name] = [sys.executable, "-m", "cies", *arguments]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            taken = _timed(command)
            if number:
                seconds[name].append(taken)
        progress(f"round {number} of {rounds} done" if number else "everything is in memory now")
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    return [
        ColdStart(
            name,
            median[name],
            f'python -c "{_IMPORTS[beside]}"',
            median[beside],
            median[name] / median[beside],
            limit,
            _imports(arguments),
        )
        for name, arguments, beside, limit in compared
    ]


def _environment() -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CIES_")}
    return {**kept, "HF_HUB_OFFLINE": "1"}


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise CiesError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _timed(command: Sequence[str]) -> float:
    started = time.perf_counter()
    _run(command)
    return time.perf_counter() - started


def _imports(arguments: Sequence[str]) -> tuple[str, ...]:
    last = _run([sys.executable, "-c", _TELL, *arguments]).splitlines()[-1].split()
    return tuple(name for name in HEAVY if name in last)
