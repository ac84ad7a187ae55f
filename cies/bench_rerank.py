"""``cies bench rerank``: what re-ranking a view's best finds of what a full table gives."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from cies import api
from cies.console import print_json, print_table, say
from eval.bench.reranking import HITS, bench_reranking
from query.hits import SCHEMA_VERSION


def run_bench_rerank(
    place: Path, conditions: list[str], method: str, count: int, queries: int, as_json: bool
) -> None:
    """Measure re-ranking on a gallery that has both, and print the figures.

    Args:
        place: the gallery's folder.
        conditions: those that are asked for; all that its large model knows it by.
        method: the view.
        count: how many of the best are ranked again.
        queries: pictures that are asked with.
        as_json: print one JSON document.

    Raises:
        GalleryMissing: if there is no gallery.
        UsageError: if it has no tables of a large model, or no base vectors.
    """
    engine = api.open(place)
    found = bench_reranking(engine, count, method, queries, conditions)
    if as_json:
        asked = {"gallery": str(place), "method": method, "rerank": count}
        document = {"asked": asked, "conditions": [asdict(one) for one in found]}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    numbers = ["by the view", f"best {count} re-ranked", f"random {count}"]
    print_table(
        ["condition", *numbers],
        [
            [one.condition, f"{one.by_view:.3f}", f"{one.reranked:.3f}", f"{one.by_chance:.3f}"]
            for one in found
        ],
        title=f"Share of the {HITS} nearest of a full table that are found by {method}",
        numbers=numbers,
    )
    say(f"{found[0].queries if found else 0} questions a condition, with pictures of the gallery.")
