"""``cies bench ingest``: the pipeline with a stand-in encoder."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from cies.console import print_json, print_table, say
from eval.bench.ingest import bench_ingest, versions, write_pictures
from query.hits import SCHEMA_VERSION


def run_bench_ingest(
    cost_ms: float, pictures: int, megapixels: float, folder: Path | None, as_json: bool
) -> None:
    """Make pictures, ingest them with a stand-in encoder, print the figures, remove all of it.

    Args:
        cost_ms: milliseconds the stand-in takes for a picture.
        pictures: how many.
        megapixels: of each.
        folder: where to work; a temporary one by default.
        as_json: whether to print a document.

    Raises:
        GalleryError: if the disk is full.
    """
    with TemporaryDirectory(prefix="cies-bench-", dir=folder) as made:
        place = Path(made)
        say(f"Making {pictures} pictures of {megapixels:g} megapixels ...")
        # In a process of its own, so that its memory is not taken for the pipeline's.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            total = pool.submit(write_pictures, place / "in", pictures, megapixels).result()
        figures = bench_ingest(place / "in", place / "gallery", cost_ms, total)
    about = versions()
    if as_json:
        asked = {"cost_ms": cost_ms, "megapixels": megapixels}
        document = {"environment": about, "asked": asked, "figures": asdict(figures)}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    print_table(
        ["what", "value"],
        [
            ["pictures", str(figures.pictures)],
            ["megapixels", f"{megapixels:g}"],
            ["megabytes a file", f"{figures.file_bytes / 1e6:.2f}"],
            ["encoder, ms a picture", f"{cost_ms:g}"],
            ["encoder busy", f"{100 * figures.busy:.1f} %"],
            ["pictures/s", f"{figures.pictures_per_second:.1f}"],
            ["seconds in all", f"{figures.seconds:.1f}"],
            ["peak resident memory", f"{figures.peak_bytes / 1e6:.0f} MB"],
        ],
        numbers=["value"],
    )
    say("; ".join(f"{name} {value}" for name, value in about.items()))
