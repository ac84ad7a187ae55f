"""``cies bench methods``: the quality and the cost of every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cies.console import print_json, print_table, say
from cies.measured import remember_costs
from eval.bench.methods.compare import MEASURED, MethodComparison, check_methods, compare_methods
from eval.bench.methods.page import (
    cost_rows,
    interval_width,
    page,
    quality_rows,
    set_rows,
    text_rows,
    written_by_hand,
)
from eval.bench.methods.sets import SetScores, score_sets
from indexes.errors import UsageError
from query.hits import SCHEMA_VERSION


def run_bench_methods(
    lvlm: str,
    clip: str,
    pictures: int,
    seed: int,
    triplets: Sequence[Path],
    renamed: Sequence[str],
    methods: Sequence[str],
    write: Path | None,
    as_json: bool,
) -> None:
    """Measure every method, print the tables and remember the costs.

    Args:
        lvlm: an LVLM's name, as ``--model`` takes it.
        clip: a dual encoder's name.
        pictures: number of rendered pictures, or 0 for none.
        seed: the seed of these pictures.
        triplets: triplet files of the user's own pictures.
        renamed: ``CONDITION=ASKED``, conditions of these files that are asked for by another name.
        methods: which to measure; all if empty.
        write: the page to write.
        as_json: whether to print a JSON document.

    Raises:
        UsageError: if there is nothing to measure, or a file cannot be read or written.
        ModelError: if a model is not available.
    """
    if not pictures and not triplets:
        raise UsageError("There is nothing to measure; give -n or --triplets.")
    if 0 < pictures < 100:
        raise UsageError(
            f"{pictures} pictures are too few for the rarer values; -n takes at least 100, or 0."
        )
    if write is not None and not write.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {write.absolute().parent} for --write; make it.")
    asked = dict(_pair(text) for text in renamed)
    methods = methods or MEASURED
    check_methods(methods)

    def tell(line: str) -> None:
        say(f"  {line}")

    found = MethodComparison(0, seed)
    if pictures:
        found = compare_methods(lvlm, clip, pictures, seed, methods=methods, progress=tell)
        remember_costs(found.costs)
    sets = score_sets(triplets, lvlm, clip, asked, methods, tell)
    if write is not None:
        try:
            before = write.read_text(encoding="utf-8") if write.exists() else ""
            by_hand = written_by_hand(before)
            write.write_text(page(found, sets, lvlm, clip, asked, by_hand), encoding="utf-8")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"Cannot write {write}: {reason}; name another --write.") from error
        say(f"Written to {write}.")
        if by_hand:
            say("The part written by hand was kept; check that it still fits the figures.")
    if as_json:
        print_json(_document(found, sets, lvlm, clip))
        return
    _print(found, sets)


def _pair(text: str) -> tuple[str, str]:
    name, sign, asked = text.partition("=")
    if not (name.strip() and sign and asked.strip()):
        raise UsageError(
            f"--as {text!r} is not CONDITION=ASKED; write it as in --as main_colour=color."
        )
    return name.strip(), asked.strip()


def _print(found: MethodComparison, sets: Sequence[SetScores]) -> None:
    if found.judged:
        columns, rows = quality_rows(found)
        title = f"MAP@R under the own label, {found.pictures} rendered pictures"
        print_table(columns, rows, title=title, numbers=columns[2:])
        say(f"95 % intervals are at most ±{interval_width(found):.3f}; --json has each of them.")
        say("Leakage: mean MAP@R over chance under the other labels.")
        columns, rows = text_rows(found)
        if rows:
            print()
            title = 'Texts such as "red heart", judged by one of the two factors'
            print_table(columns, rows, title=title, numbers=columns[2:])
        print()
        columns, rows = cost_rows(found)
        print_table(columns, rows, title="Cost on this machine", numbers=columns[2:])
    for one in sets:
        print()
        columns, rows = set_rows(one)
        title = f"Triplet accuracy (0.5 ignores the condition), {one.name}, {one.pictures} pictures"
        print_table(columns, rows, title=title, numbers=columns[3:])


def _document(
    found: MethodComparison, sets: Sequence[SetScores], lvlm: str, clip: str
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "lvlm": lvlm,
        "clip": clip,
        "pictures": found.pictures,
        "seed": found.seed,
        "methods": [
            {
                "method": one.method,
                "words": one.words,
                "own": one.matrix.own,
                "leakage": one.matrix.leakage,
                "map_at_r": {
                    condition: {
                        cell.label: cell.metrics["MAP@R"].to_json()
                        for cell in one.matrix.cells
                        if cell.condition == condition
                    }
                    for condition in one.matrix.conditions
                },
                "texts": {factor: mean.to_json() for factor, mean in one.texts.items()},
            }
            for one in found.judged
        ],
        "costs": [asdict(cost) for cost in found.costs],
        "sets": [
            {
                "name": one.name,
                "pictures": one.pictures,
                "triplets": [
                    {
                        **asdict(row),
                        "methods": {name: mean.value for name, mean in row.methods.items()},
                        "intervals": {n: [mean.low, mean.high] for n, mean in row.methods.items()},
                    }
                    for row in one.rows
                ],
            }
            for one in sets
        ],
    }
