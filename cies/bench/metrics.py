"""``cies bench metrics``: a whole gallery measured against itself, in seconds and megabytes."""

from __future__ import annotations

from cies.console import print_json, print_table, say
from eval.bench.metrics import measure_metrics
from query.hits import SCHEMA_VERSION


def run_bench_metrics(vectors: int, dimension: int, labels: int, seed: int, as_json: bool) -> None:
    """Measure and print.

    Args:
        vectors: how many.
        dimension: of each.
        labels: distinct ones.
        seed: of vectors and labels.
        as_json: whether to print a document in place of a table.
    """
    say(f"Ranking {vectors} vectors of {dimension} against each other ...")
    found = measure_metrics(vectors, dimension, labels, seed)
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, **vars(found)})
        return
    print_table(
        ["metric", "mean", "chance"],
        [
            [name, f"{value:.5f}", f"{found.chance[name]:.5f}"]
            for name, value in found.values.items()
        ],
        title=f"{vectors} x {vectors} x {dimension}, {labels} random labels",
        numbers=["mean", "chance"],
    )
    print_table(
        ["", "seconds", "of processors", "megabytes"],
        [
            [
                "all metrics",
                f"{found.seconds:.1f}",
                f"{found.cpu_seconds:.1f}",
                f"{found.peak_megabytes:.0f}",
            ],
            [
                "scores and argsort of whole rows alone, all at once",
                "",
                f"{found.plain_seconds:.1f}",
                f"{found.matrix_megabytes:.0f}",
            ],
        ],
        numbers=["seconds", "of processors", "megabytes"],
    )
