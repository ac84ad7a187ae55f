"""Cold starts: time of a command in a new process, compared with the imports that it needs.

Every command and every baseline runs once in each round, one after the other, so that other work
on the machine affects all of them equally; ratios are of medians.
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

#: Heavy libraries; the report names those that a command imports.
HEAVY = ("torch", "transformers", "lancedb", "faiss", "pyarrow", "numpy", "PIL", "rich", "pandas")

_LIST_IMPORTS = (
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
        seconds: its median time.
        beside: the baseline, a process with only the needed imports.
        beside_seconds: median time of the baseline in the same rounds.
        ratio: the ratio of the two.
        limit: the highest acceptable ratio.
        imports: libraries of :data:`HEAVY` that it imports.
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
    """Measure ``cies --help`` and ``cies search`` in new processes.

    Args:
        gallery: embedded by the built-in model.
        condition: the condition of the gallery.
        known: a picture of the gallery.
        new: a picture that is not in the gallery.
        rounds: runs of each command, after one that is not counted.
        progress: called after every round.

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
        progress(f"round {number} of {rounds} done" if number else "all files are cached now")
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
    last = _run([sys.executable, "-c", _LIST_IMPORTS, *arguments]).splitlines()[-1].split()
    return tuple(name for name in HEAVY if name in last)
