"""``cies bench trec``: a run's answers for other evaluators."""

from __future__ import annotations

from pathlib import Path

from cies.console import say
from eval.adapters.trec_runs import export_run, rankings
from eval.runs.run import Run


def run_bench_trec(path: Path, output: Path, depth: int) -> None:
    """Write the files and print their names.

    Raises:
        CiesError: if the run is damaged.
        UsageError: if there is no such run, or a file cannot be written.
    """
    run = Run.open(path)
    for name in run.tasks.keys() - set(rankings(run)):
        say(f"{name} is no ranking and is left out.")
    for written in export_run(run, output, depth):
        print(written)
