"""``cies bench start``: cold starts as ratios, on a small gallery made for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cies import api
from cies.console import print_json, print_table, say
from eval.bench.start import measure_starts
from eval.world.gallery import write_world
from query.hits import SCHEMA_VERSION

#: Pictures of the gallery that is made; starting depends little on how many there are.
_PICTURES = 40


def run_bench_start(rounds: int, as_json: bool) -> None:
    """Make a gallery, measure, and print.

    Args:
        rounds: runs of each command.
        as_json: whether to print a document in place of a table.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say(f"Rendering and embedding {_PICTURES} pictures ...")
        write_world(folder / "world", _PICTURES, seed=5, size=128, workers=1)
        images = sorted((folder / "world" / "images").iterdir())
        api.ingest(api.create(folder / "gallery"), [folder / "world" / "images"], ["color"])
        new = folder / "new.jpg"
        # The same pixels in other bytes are a new picture.
        new.write_bytes(images[0].read_bytes() + b"\0")
        starts = measure_starts(folder / "gallery", "color", images[0], new, rounds, say)
    if as_json:
        document = {"rounds": rounds, "starts": [vars(start) for start in starts]}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    print_table(
        ["command", "seconds", "beside", "its seconds", "ratio", "at most", "imports"],
        [
            [
                start.command,
                f"{start.seconds:.3f}",
                start.beside,
                f"{start.beside_seconds:.3f}",
                f"{start.ratio:.2f}",
                f"{start.limit:.1f}",
                ", ".join(start.imports) or "none of the heavy ones",
            ]
            for start in starts
        ],
        title=f"Cold starts, medians of {rounds} rounds taken in turn",
        numbers=["seconds", "its seconds", "ratio", "at most"],
    )
