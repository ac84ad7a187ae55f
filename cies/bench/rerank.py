"""``cies bench rerank``: what re-ranking a view's best finds of what a full table gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from cies import api
from cies.console import print_json, print_table, say
from eval.bench.reranking import HITS, Found, bench_reranking
from eval.labels import read_labels
from query.hits import SCHEMA_VERSION

#: Figures of which a mean over conditions is printed.
_MEANT = [field.name for field in fields(Found) if field.name not in ("condition", "queries")]


def run_bench_rerank(
    place: Path,
    conditions: list[str],
    method: str,
    count: int,
    queries: int,
    labels: Path | None,
    earlier: int,
    as_json: bool,
) -> None:
    """Measure re-ranking on a gallery that has both, and print the figures.

    Args:
        place: the gallery's folder.
        conditions: those that are asked for; all that its large model knows it by.
        method: the view.
        count: how many of the best are ranked again.
        queries: pictures that are asked with.
        labels: a CSV file of the pictures' values, for the share of hits that are right.
        earlier: other questions before each that is asked again; 0 for no such measurement.
        as_json: print one JSON document.

    Raises:
        GalleryMissing: if there is no gallery.
        UsageError: if it has no tables of a large model, or no base vectors, or the labels do not
            fit it.
    """
    engine = api.open(place)
    known = read_labels(labels) if labels is not None else None
    found = bench_reranking(
        engine, count, method, queries, conditions, known, earlier, progress=say
    )
    if as_json:
        asked = {"gallery": str(place), "method": method, "rerank": count, "earlier": earlier}
        document = {"asked": asked, "conditions": [asdict(one) for one in found]}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    numbers = ["by the view", f"best {count} re-ranked", "passes", f"random {count}"]
    if earlier:
        numbers += [f"after {earlier} others", "passes then"]
    if labels is not None:
        numbers += ["right by the view", "re-ranked", "by the full table"]
    each = [asdict(one) for one in found]
    if len(found) > 1:
        each.append({name: _mean([one[name] for one in each]) for name in _MEANT})
    rows = [
        [one.get("condition", "mean"), *_figures(one, bool(earlier), labels is not None)]
        for one in each
    ]
    print_table(
        ["condition", *numbers],
        rows,
        title=f"Share of the {HITS} nearest of a full table that are found by {method}",
        numbers=numbers,
    )
    say(f"{found[0].queries if found else 0} questions a condition, with pictures of the gallery.")
    say("Nothing is embedded: the full table stands in for the model. 'passes': pictures that it")
    say("would have embedded for a question, besides the one that is asked with.")
    if labels is not None:
        say("'right': share of the ten hits that have the query's value.")


def _figures(one: Mapping[str, Any], earlier: bool, right: bool) -> list[str]:
    names = ["by_view", "reranked", "passes", "by_chance"]
    names += ["after", "passes_after"] * earlier
    names += ["right_by_view", "right_reranked", "right_by_table"] * right
    return [_figure(one[name], 0 if name.startswith("passes") else 3) for name in names]


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
