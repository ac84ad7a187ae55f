"""``cies bench view``: what a new condition costs on base vectors that are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from cies.console import print_json, print_table, say
from eval.bench.search.measure import environment
from eval.bench.views import CONDITIONS, bench_views
from indexes.errors import UsageError
from ingest.encoders.projections.base import PROJECTIONS
from query.hits import SCHEMA_VERSION


def run_bench_view(
    size: int,
    dimension: int,
    seed: int,
    folder: Path | None,
    methods: Sequence[str],
    as_json: bool,
) -> None:
    """Measure views on generated vectors and print the figures.

    Args:
        size: how many vectors.
        dimension: of each.
        seed: of the generation.
        folder: where to work; a temporary one by default.
        methods: the views that are measured; all by default.
        as_json: print one JSON document.

    Raises:
        GalleryError: if the disk is full.
        UsageError: if there is no such view.
    """
    for method in methods:
        if method not in PROJECTIONS:
            raise UsageError(
                f"There is no view '{method}'; choose one of {', '.join(PROJECTIONS)}."
            )
    with TemporaryDirectory(prefix="cies-bench-", dir=folder) as made:
        found = bench_views(
            size, dimension, seed, Path(made) / "g.cies", methods or PROJECTIONS, progress=say
        )
    about = environment()
    if as_json:
        asked = {"size": size, "dimension": dimension, "seed": seed}
        document = {"environment": about, "asked": asked, "views": [asdict(one) for one in found]}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    columns = [
        "its words, ms",
        "new, ms",
        "worst",
        "cores, ms",
        "again, ms",
        "kept, ms",
        "worst of kept",
    ]
    print_table(
        ["view", *columns],
        [
            [
                one.method,
                f"{one.words_ms:.0f}",
                f"{one.first_ms:.0f}",
                f"{one.first_worst_ms:.0f}",
                f"{one.first_processor_ms:.0f}",
                f"{one.again_ms:.1f}",
                f"{one.opened_ms:.0f}",
                f"{one.opened_worst_ms:.0f}",
            ]
            for one in found
        ],
        title=f"First ten hits under a condition, {size} base vectors of {dimension}",
        numbers=columns,
    )
    say(f"Medians over {', '.join(CONDITIONS)}; the engine is open and the text side is loaded.")
    say("'new': words embedded, view worked out, all vectors moved and kept, ten hits found.")
    say("'cores': what all cores worked for that, on the mean; other work does not change it.")
    say("'its words': of that, a text side of CLIP ViT-B/32's size with random weights.")
    say("'again': another question. 'kept': the first in an engine opened anew, the view kept.")
    say("; ".join(f"{name} {value}" for name, value in about.items()))
