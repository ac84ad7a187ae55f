"""``cies bench learn``: print how well learned conditions order pictures, by number of examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cies.console import print_json, print_table, say
from cies.learn import candidate_part
from eval.bench.learned import METRIC, LearningFigure, bench_learning, mean_differences
from eval.labels import match_files, read_labels
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.fill.learned_conditions import parts_to_learn_from
from query.hits import SCHEMA_VERSION


def run_bench_learn(
    gallery_path: Path,
    labels_path: Path,
    columns: Sequence[str],
    counts: str,
    methods: Sequence[str],
    draws: int,
    seed: int,
    as_json: bool,
) -> None:
    """Learn each column of a label file from a few pictures a value, and print the figures.

    Args:
        gallery_path: the gallery's folder.
        labels_path: a table as for ``cies eval``.
        columns: the columns to learn; all by default.
        counts: numbers of examples a value, such as ``3,5,10``.
        methods: learn from the vectors of these methods; of all by default.
        draws: how often examples are drawn.
        seed: of the draws.
        as_json: print one JSON document.

    Raises:
        UsageError: if there is nothing to learn from, or nothing to learn.
    """
    wanted = _numbers(counts)
    gallery = Gallery.open(gallery_path)
    tables = [
        table
        for table in parts_to_learn_from(gallery)
        if not methods or table.made_by["method"] in methods
    ]
    if not tables:
        named = f" of the methods {', '.join(methods)}" if methods else ""
        raise UsageError(f"The gallery at {gallery.path} has no vectors{named} to learn from.")
    labels = read_labels(labels_path)
    unknown = [column for column in columns if column not in labels.columns]
    if unknown:
        raise UsageError(
            f"{labels_path} has no column '{unknown[0]}' (it has: {', '.join(labels.columns)})."
        )
    key_of = {record.path: record.key for record in gallery.files() if record.status == "done"}
    matched = match_files(labels.values, key_of, labels_path)
    keys = sorted({key_of[path] for path in matched.values()})
    values = {
        column: {
            key_of[path]: labels.values[file][column]
            for file, path in matched.items()
            if labels.values[file][column]
        }
        for column in columns or labels.columns
    }
    parts = [candidate_part(gallery, table, keys) for table in tables]
    figures = bench_learning(parts, keys, values, wanted, draws, seed, _say)
    if not figures:
        raise UsageError(
            f"No column of {labels_path} has two values with {min(wanted) + 10} pictures; show "
            "fewer examples by --examples, or label more pictures."
        )
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, "figures": [asdict(one) for one in figures]})
        return
    print_table(
        ["label", "examples", "values", "chance", "best single", "learned", "difference", "95 %"],
        [_row(figure) for figure in figures],
        title=f"{METRIC} of pictures that were not shown, mean of {draws} draws",
        numbers=["examples", "values", "chance", "learned", "difference"],
    )
    for examples, unseen, mean in mean_differences(figures):
        kind = "values never shown" if unseen else "values shown"
        say(f"{examples} examples a value, {kind}: {mean:+.3f} in the mean over labels.")


def _numbers(counts: str) -> list[int]:
    try:
        found = [int(part) for part in counts.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 2:
        raise UsageError(f"--examples takes numbers from 2 on, such as 3,5,10, not '{counts}'.")
    return found


def _say(figure: LearningFigure) -> None:
    say(f"  {figure.label}, {figure.examples} examples a value: {figure.difference:+.3f}")


def _row(figure: LearningFigure) -> list[str]:
    return [
        figure.label,
        str(figure.examples),
        f"{figure.values} {'unseen' if figure.unseen else 'shown'}",
        f"{figure.chance:.2f}",
        f"{figure.best_single:.2f} {figure.best_name}",
        f"{figure.learned:.2f}",
        f"{figure.difference:+.3f}",
        f"{figure.low:+.3f} to {figure.high:+.3f}",
    ]
