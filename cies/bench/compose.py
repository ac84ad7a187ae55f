"""Prints what every composer finds on the rendered world. See :mod:`eval.bench.compose`."""

from __future__ import annotations

from collections.abc import Sequence

from cies.console import print_json, print_table, say
from eval.bench.compose import CUTS, PAIRS, Comparison, as_markdown, compare
from indexes.errors import UsageError
from query.hits import SCHEMA_VERSION


def run_bench_compose(
    lvlm: str,
    clip: str,
    pictures: int,
    queries: int,
    seed: int,
    busy: bool,
    markdown: bool,
    as_json: bool,
    composers: Sequence[str] = (),
) -> None:
    """Measure and print.

    Raises:
        UsageError: if there are too few pictures for the questions, or there is no such composer.
        ModelError: if a model cannot be had.
    """
    if markdown and as_json:
        raise UsageError("--markdown and --json exclude one another; give one of them.")
    try:
        found = compare(lvlm, clip, pictures, queries, seed, busy, say, only=composers)
    except ValueError as error:
        raise UsageError(f"{error}; give more --pictures or fewer --queries.") from error
    if as_json:
        print_json(document(found, lvlm, clip, seed, busy))
    elif markdown:
        print(as_markdown(found))
    else:
        _print(found, seed)


def document(found: Comparison, lvlm: str, clip: str, seed: int, busy: bool) -> dict[str, object]:
    """What ``cies bench compose --json`` prints."""
    return {
        "schema_version": SCHEMA_VERSION,
        "lvlm": lvlm,
        "clip": clip,
        "pictures": found.pictures,
        "queries": len(found.factors),
        "seed": seed,
        "busy": busy,
        "right": found.right,
        "captions_seconds": found.captions_seconds,
        "composers": [row.to_json() for row in found.rows],
        "differences": found.differences(PAIRS),
    }


def _print(found: Comparison, seed: int) -> None:
    names = [f"mAP@{k}" for k in CUTS] + [f"recall@{k}" for k in CUTS]
    columns = ["composer", *names, "mAP@10 between", "ms"]
    lines = []
    for row in found.rows:
        kept = row.to_json()
        low, high = kept["map_interval"]["10"]
        figures = [kept[kind][str(k)] for kind in ("map", "recall") for k in CUTS]
        numbers = [f"{figure:.3f}" for figure in figures]
        lines.append([row.name, *numbers, f"{low:.3f} {high:.3f}", f"{row.seconds * 1000:.0f}"])
    print_table(
        columns,
        lines,
        title=f"{len(found.factors)} changes to {found.pictures} rendered pictures of seed {seed}, "
        f"{found.right:.1f} right answers each",
        numbers=columns[1:],
    )
    for one in found.differences(PAIRS):
        low, high = one["interval"]
        say(
            f"{one['better']} over {one['worse']}, mAP@10: {one['difference']:+.3f} "
            f"(95 % between {low:+.3f} and {high:+.3f}, p {one['p_value']:.4f})"
        )
