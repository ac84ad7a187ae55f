"""``cies bench search``: every index beside NumPy, FAISS and LanceDB used plainly."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from cies.console import print_json, print_table, say
from eval.bench.search.measure import BATCHES, Figures, bench_search, environment
from eval.bench.search.vectors import write_generated
from indexes.errors import ModelError
from ingest.encoders.base import BaseEncoder, EncoderSpec
from query.engine import Engine
from query.hits import SCHEMA_VERSION


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
        size: how many vectors are generated.
        dimension: of each.
        seed: of the generation.
        place: a gallery's folder; needed with a condition.
        condition: of that gallery; generated vectors by default.
        folder: where to work; a temporary one by default.
        kinds: of indexes; all by default.
        as_json: print one JSON document.

    Raises:
        GalleryMissing: if there is no gallery.
        UnknownCondition: if it has no such condition.
        GalleryError: if the disk is full.
    """
    from indexes.store.gallery import Gallery

    asked: dict[str, object]
    if condition is not None:
        assert place is not None
        engine = Engine(Gallery.open(place), _no_model)
        figures = bench_search(engine, condition, None, say, kinds)
        asked = {"gallery": str(place), "condition": condition}
    else:
        if place is not None:
            # It may have been set for good, for other commands.
            say("Generated vectors are measured; name a --condition for those of a gallery.")
        asked = {"size": size, "dimension": dimension, "seed": seed}
        with TemporaryDirectory(prefix="cies-bench-", dir=folder) as made:
            say(f"Writing a gallery of {size} vectors of {dimension} ...")
            gallery = write_generated(Path(made) / "g.cies", size, dimension, seed)
            engine = Engine(gallery, _no_model)
            figures = bench_search(engine, "generated", seed, say, kinds)
    about = environment()
    if as_json:
        document = {"environment": about, "asked": asked, "figures": asdict(figures)}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    _print(figures)
    say("; ".join(f"{name} {value}" for name, value in about.items()))


def _no_model(spec: EncoderSpec) -> BaseEncoder:
    raise ModelError("The bench asks with stored vectors and loads no model.")


def _print(figures: Figures) -> None:
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
    say(f"{figures.vectors} vectors of {figures.dimension}, 10 hits, held-out questions.")
    say(f"'over faiss flat': its time for {BATCHES[-1]} at once, over this one's.")
    say("'cold': a new process from its start to its first answer, all imports included.")
    say(
        f"Cached rows, which all of ours share: {figures.rows_megabytes:.1f} MB, made in "
        f"{figures.rows_seconds:.2f} s."
    )
    for one in figures.filtered:
        say(
            f"Among {one.share:.0%}, exact: {one.p50_ms:.3f} ms, {one.over_unfiltered:.2f} times "
            "an exact search among all."
        )
