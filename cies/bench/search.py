"""``cies bench search``, ``view`` and ``rerank``: print how fast and how exact searches are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cies import api
from cies.console import print_json, print_table, say
from eval.bench.reranking import HITS, RerankingQuality, bench_reranking
from eval.bench.search.feedback import compare_feedback
from eval.bench.search.measure import BATCHES, SearchFigures, bench_search
from eval.bench.search.vectors import write_generated
from eval.bench.views import CONDITIONS, bench_projections
from eval.environment import environment
from eval.labels import read_labels
from indexes.errors import ModelError, UsageError
from indexes.store.gallery import Gallery
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.encoders.projections.base import PROJECTIONS
from query.engine import Engine
from query.hits import SCHEMA_VERSION

#: Libraries whose versions are printed.
_LIBRARIES = ("numpy", "faiss-cpu", "faiss-gpu", "lancedb", "pyarrow")

#: Figures of which a mean over conditions is printed.
_AVERAGED = [f.name for f in fields(RerankingQuality) if f.name not in ("condition", "queries")]


def run_bench_search(
    size: int,
    dimension: int,
    seed: int,
    place: Path | None,
    condition: str | None,
    folder: Path | None,
    kinds: list[str],
    as_json: bool,
) -> None:
    """Measure search on generated vectors, or on a gallery's, and print the figures.

    Args:
        size: number of generated vectors.
        dimension: the dimension of each.
        seed: the seed of the generation.
        place: a gallery's folder; needed with a condition.
        condition: the condition of that gallery; generated vectors by default.
        folder: where to work; a temporary one by default.
        kinds: kinds of indexes; all by default.
        as_json: print one JSON document.

    Raises:
        GalleryMissing: if there is no gallery.
        UnknownCondition: if it has no such condition.
        GalleryError: if the disk is full.
    """
    asked: dict[str, object]
    if condition is not None:
        assert place is not None
        engine = Engine(Gallery.open(place), _no_model)
        figures = bench_search(engine, condition, None, say, kinds)
        asked = {"gallery": str(place), "condition": condition}
    else:
        if place is not None:
            # The gallery may come from the settings.
            say("Generated vectors are measured; give -c to measure those of the gallery.")
        asked = {"size": size, "dimension": dimension, "seed": seed}
        with TemporaryDirectory(prefix="cies-bench-", dir=folder) as made:
            say(f"Writing a gallery of {size} vectors of {dimension} ...")
            gallery = write_generated(Path(made) / "g.cies", size, dimension, seed)
            engine = Engine(gallery, _no_model)
            figures = bench_search(engine, "generated", seed, say, kinds)
    about = environment(*_LIBRARIES)
    if as_json:
        document = {"environment": about, "asked": asked, "figures": asdict(figures)}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    _print_search(figures)
    say("; ".join(f"{name} {value}" for name, value in about.items()))


def _no_model(spec: EncoderSpec) -> BaseEncoder:
    raise ModelError("`cies bench search` uses stored vectors and loads no model.")


def _print_search(figures: SearchFigures) -> None:
    flat = next((line for line in figures.lines if line.way == "faiss-flat"), None)
    numbers = ["recall@10", "p50 ms", "p95 ms", *(f"{n} at once, ms" for n in BATCHES)]
    numbers += ["over faiss flat", "build s", "MB", "cold ms"]
    rows = []
    for line in figures.lines:
        over = flat.batch_ms[BATCHES[-1]] / line.batch_ms[BATCHES[-1]] if flat else float("nan")
        rows.append(
            [
                line.way,
                line.made_as,
                f"{line.recall_at_10:.4f}",
                f"{line.p50_ms:.3f}",
                f"{line.p95_ms:.3f}",
                *(f"{line.batch_ms[n]:.1f}" for n in BATCHES),
                f"{over:.2f}",
                f"{line.build_seconds:.2f}",
                f"{line.megabytes:.1f}",
                f"{line.cold_ms:.0f}",
            ]
        )
    print_table(["way", "made as", *numbers], rows, numbers=numbers)
    say(f"{figures.vectors} vectors of {figures.dimension}, 10 hits, held-out queries.")
    say(f"'over faiss flat': time of faiss-flat for {BATCHES[-1]} at once over this one's.")
    say("'cold': a new process from its start to its first answer, with all imports.")
    say(
        f"Cached rows, shared by all indexes of CIES: {figures.rows_megabytes:.1f} MB, made in "
        f"{figures.rows_seconds:.2f} s."
    )
    for one in figures.filtered:
        say(
            f"Exact search in {one.share:.0%}: {one.p50_ms:.3f} ms, {one.over_unfiltered:.2f} "
            "times an exact search in all."
        )


def run_bench_view(
    size: int,
    dimension: int,
    seed: int,
    folder: Path | None,
    methods: Sequence[str],
    as_json: bool,
) -> None:
    """Measure projections on generated vectors and print the figures.

    Args:
        size: number of vectors.
        dimension: the dimension of each vector.
        seed: the seed of the vectors.
        folder: the folder to work in; a temporary one by default.
        methods: projections to measure; all by default.
        as_json: whether to print a JSON document.

    Raises:
        GalleryError: if the disk is full.
        UsageError: if there is no such projection.
    """
    for method in methods:
        if method not in PROJECTIONS:
            raise UsageError(
                f"There is no projection '{method}'; choose one of {', '.join(PROJECTIONS)}."
            )
    with TemporaryDirectory(prefix="cies-bench-", dir=folder) as made:
        found = bench_projections(
            size,
            dimension,
            seed,
            Path(made) / "g.cies",
            methods or tuple(PROJECTIONS),
            progress=say,
        )
    about = environment(*_LIBRARIES)
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
        ["projection", *columns],
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
    say("'new': words embedded, projection fitted, all vectors projected and kept, ten hits found.")
    say("'cores': mean time of all cores for that; other work does not change it.")
    say("'its words': the share of a text model of CLIP ViT-B/32's size with random weights.")
    say("'again': the next query. 'kept': the first of a new engine with the kept projection.")
    say("; ".join(f"{name} {value}" for name, value in about.items()))


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
    """Measure re-ranking on a gallery with full tables and base vectors, and print the figures.

    Args:
        place: the gallery's folder.
        conditions: the conditions to measure; all conditions of its large model by default.
        method: the projection.
        count: number of best hits that are ranked again.
        queries: number of pictures of the gallery that are queries.
        labels: a CSV file of the pictures' values, for the share of hits that are right.
        earlier: other queries before each measured one; 0 to leave that out.
        as_json: whether to print a JSON document.

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
    numbers = ["by the projection", f"best {count} re-ranked", "passes", f"random {count}"]
    if earlier:
        numbers += [f"after {earlier} others", "passes then"]
    if labels is not None:
        numbers += ["right by the projection", "re-ranked", "by the full table"]
    each = [asdict(one) for one in found]
    if len(found) > 1:
        each.append({name: _mean([one[name] for one in each]) for name in _AVERAGED})
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
    say(f"{found[0].queries if found else 0} queries a condition, with pictures of the gallery.")
    say("Nothing is embedded: vectors come from the full table. 'passes': pictures that the model")
    say("would have embedded for a query, besides the query.")
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


def run_bench_feedback(
    gallery_path: Path, labels: Path, queries: int, seed: int, as_json: bool
) -> None:
    """Print mean average precision after rounds of likes and dislikes.

    Raises:
        GalleryMissing: if there is no gallery.
        UsageError: if the label file does not fit it.
    """
    found = compare_feedback(
        api.open(gallery_path, follow=False), read_labels(labels), queries, seed
    )
    if as_json:
        print_json(
            {"schema_version": SCHEMA_VERSION, "comparisons": [one.to_json() for one in found]}
        )
        return
    rows = []
    for one in found:
        for row in one.rows:
            low, high = row.interval
            numbers = [f"{row.mean_ap:.3f}", f"{low:.3f}-{high:.3f}"]
            rows.append([one.wanted, row.method, str(row.rounds), str(one.queries), *numbers])
    columns = ["wanted", "feedback", "rounds", "queries", "mAP", "95 %"]
    print_table(columns, rows, title="Pictures that were not rated, by rounds", numbers=columns[2:])
    for one in found:
        for name, (gain, low, high) in one.difference.items():
            first = one.rows[0].method
            say(f"{one.wanted}: {first} less {name} {gain:+.3f} ({low:+.3f} to {high:+.3f}).")
