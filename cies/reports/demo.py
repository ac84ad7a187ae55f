"""The demo: the main job from nothing, on pictures and a model that need no network."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from cies import api
from cies.console import progress_bar, say
from cies.html.contact_sheet import Row, render_page, write_page
from cies.reports.hits import print_hits
from cies.reports.status import ingest_summary, print_matrix
from eval.labels import read_labels
from eval.matrix import evaluate
from eval.world.factors import FILLED
from eval.world.gallery import write_world
from ingest.fill.pipeline import Progress

#: A seed no built-in model was schooled on.
SEED = 20_261_121

CONDITIONS = ("color", "shape", "pattern", "style", "count", "background")

_NOTES = {
    "color": "same color, any shape",
    "shape": "same shape, any color",
    "pattern": "same pattern",
    "style": "drawn the same way",
    "count": "as many of them",
    "background": "same ground",
}


def run_demo(folder: Path, pictures: int) -> None:
    """Render, embed, search under each condition, measure, and write one page.

    Args:
        folder: gets ``world``, ``gallery`` and ``index.html``; a gallery of an earlier demo there
            is made anew.
        pictures: how many to render.
    """
    started = time.monotonic()
    world, place = folder / "world", folder / "gallery"
    for old in (world, place):
        shutil.rmtree(old, ignore_errors=True)
    say(f"1. Rendering {pictures} pictures into {world}")
    with progress_bar("Rendering") as progress:
        labels = write_world(
            world,
            pictures,
            SEED,
            progress=lambda done, total: progress(Progress(done, total, done, 0)),
        )
    say(f"2. Embedding them under {', '.join(CONDITIONS)}: one pass a picture for all of them")
    with progress_bar("Embedding") as progress:
        report = api.ingest(
            api.create(place),
            [world / "images"],
            CONDITIONS,
            progress=progress,
            announce=lambda encoder: say(f"   Model: {encoder.description}."),
        )
    summary = ingest_summary(place, report)
    say(f"   {summary['embedded']} pictures in {summary['seconds']:.0f} s")
    say("3. Searching one picture under each condition")
    engine = api.open(place)
    query = world / "images" / f"{_query_number(labels):05d}.jpg"
    rows = []
    for condition in CONDITIONS:
        hits = engine.search(query, condition, k=10)
        rows.append(Row(condition, _NOTES[condition], hits))
        print_hits(engine.search(query, condition, k=3), "table")
        print()
    say("4. Measuring: does a search by color find color, and not shape?")
    print_matrix(evaluate(engine, read_labels(labels)))
    page = folder / "index.html"
    write_page(
        page,
        render_page(
            "One picture, six searches",
            "Each row asks for pictures like the query in one respect. In bold what the model "
            "says of a picture in that respect; then how alike it is to the query, and the share "
            "of all pairs in this gallery that are less alike.",
            str(query),
            rows,
        ),
    )
    say(f"5. Done in {time.monotonic() - started:.0f} s. Open {page} in a browser.")


def _query_number(labels: Path) -> int:
    """A picture on which all conditions can be seen: two filled things, large, in a clear style."""
    values = read_labels(labels).values
    for number, row in enumerate(values.values(), start=1):
        clear = row["style"] in ("flat", "photo") and row["stroke"] == FILLED
        told_apart = row["pattern"] != "plain" and row["color"] not in ("black", "white", "gray")
        if clear and told_apart and (row["size"], row["count"]) == ("large", "two"):
            return number
    return 1
