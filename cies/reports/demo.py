"""``cies demo``: ingest, search and evaluation on rendered pictures, without a network."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from cies import api
from cies.console import progress_bar, say
from cies.html.contact_sheet import SheetRow, render_page, write_page
from cies.reports.evaluation import print_matrix
from cies.reports.hits import print_hits
from eval.labels import read_labels
from eval.matrix import evaluate
from eval.world.factors import FILLED
from eval.world.gallery import write_world
from ingest.fill.pipeline import Progress

#: No built-in model was trained on pictures of this seed.
SEED = 20_261_121

CONDITIONS = ("color", "shape", "pattern", "style", "count", "background")

_NOTES = {
    "color": "same color, any shape",
    "shape": "same shape, any color",
    "pattern": "same pattern",
    "style": "drawn the same way",
    "count": "as many of them",
    "background": "same background",
}


def run_demo(folder: Path, pictures: int) -> None:
    """Render, embed, search under each condition, measure, and write one page.

    Args:
        folder: gets ``world``, ``gallery`` and ``index.html``; those of an earlier demo are
            replaced.
        pictures: number of pictures to render.
    """
    started = time.monotonic()
    world, gallery_path = folder / "world", folder / "gallery"
    for old in (world, gallery_path):
        shutil.rmtree(old, ignore_errors=True)
    say(f"1. Rendering {pictures} pictures into {world}")
    with progress_bar("Rendering") as progress:
        labels = write_world(
            world,
            pictures,
            SEED,
            progress=lambda done, total: progress(Progress(done, total, done, 0)),
        )
    say(f"2. Embedding them under {', '.join(CONDITIONS)}: one pass per picture for all of them")
    with progress_bar("Embedding") as progress:
        report = api.ingest(
            api.create(gallery_path),
            [world / "images"],
            CONDITIONS,
            progress=progress,
            announce=lambda encoder: say(f"   Model: {encoder.description}."),
        )
    say(f"   {report.embedded} pictures in {report.seconds:.0f} s")
    say("3. Searching one picture under each condition")
    engine = api.open(gallery_path)
    query = world / "images" / f"{_query_number(labels):05d}.jpg"
    rows = []
    for condition in CONDITIONS:
        hits = engine.search(query, condition, k=10)
        rows.append(SheetRow(condition, _NOTES[condition], hits))
        print_hits(engine.search(query, condition, k=3), "table")
        print()
    say("4. Measuring: does a search by color find color, and not shape?")
    print_matrix(evaluate(engine, read_labels(labels)))
    page = folder / "index.html"
    write_page(
        page,
        render_page(
            "One picture, six searches",
            "Each row has the pictures most like the query under one condition. In bold: the "
            "model's word for the picture. Then its cosine with the query, and the share of all "
            "pairs in this gallery that are less alike.",
            str(query),
            rows,
        ),
    )
    say(f"5. Done in {time.monotonic() - started:.0f} s. Open {page} in a browser.")


def _query_number(labels: Path) -> int:
    """The number of a picture that shows all conditions: two large filled things, clear style."""
    values = read_labels(labels).values
    for number, row in enumerate(values.values(), start=1):
        clear = row["style"] in ("flat", "photo") and row["stroke"] == FILLED
        distinct = row["pattern"] != "plain" and row["color"] not in ("black", "white", "gray")
        if clear and distinct and (row["size"], row["count"]) == ("large", "two"):
            return number
    return 1
