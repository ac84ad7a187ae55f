"""``cies demo --photos``: the demo on the user's own pictures."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from cies import api
from cies.console import progress_bar, say
from cies.html.contact_sheet import SheetRow, render_page, write_page
from cies.reports.hits import print_hits
from indexes.errors import UsageError
from ingest.encoders.models.find import DEFAULT_PHOTO, find_model
from ingest.fill.encoder_choice import PHOTO_CONDITIONS
from query.explore.varying import typical_query, varying_conditions

#: Conditions on the page.
_SHOWN = 6

#: Fewer pictures give no neighbours worth showing.
_LEAST = 6


def run_photo_demo(folder: Path, photos: Path) -> None:
    """Embed the pictures of a folder, and write a page of searches by what varies there.

    Args:
        folder: gets ``gallery`` and ``index.html``; those of an earlier demo are replaced.
        photos: a folder of pictures; nothing in it is changed.

    Raises:
        UsageError: if there is no such folder, or it has too few pictures.
    """
    if not photos.is_dir():
        raise UsageError(f"There is no folder {photos}; name a folder of pictures with --photos.")
    started = time.monotonic()
    gallery_path = folder / "gallery"
    conditions = list(find_model(DEFAULT_PHOTO).declared_conditions() or {})
    shutil.rmtree(gallery_path, ignore_errors=True)
    say(f"1. Embedding the pictures of {photos}: one pass per picture for all conditions")
    with progress_bar("Embedding") as progress:
        report = api.ingest(
            api.create(gallery_path, "centred"),
            [photos],
            conditions,
            method="photo",
            progress=progress,
            announce=lambda encoder: say(f"   Model: {encoder.description}."),
        )
    say(f"   {report.embedded} pictures in {report.seconds:.0f} s, {len(report.failed)} unreadable")
    if report.embedded < _LEAST:
        raise UsageError(
            f"{photos} has {report.embedded} readable pictures, and the demo needs {_LEAST}; name "
            "another folder with --photos."
        )
    say("2. Choosing the conditions by which these pictures differ")
    engine = api.open(gallery_path)
    columns = {name: engine.vectors(name) for name in conditions}
    vectors = {name: column.vectors for name, column in columns.items()}
    # What a picture shows matters more to most people than how bright it is.
    usual = {name: vectors[name] for name in PHOTO_CONDITIONS}
    chosen = varying_conditions(usual, _SHOWN - 1)
    chosen += [name for name in varying_conditions(vectors, len(vectors)) if name not in chosen]
    chosen = chosen[:_SHOWN] or conditions[:_SHOWN]
    say(f"   {', '.join(chosen)}")
    row = typical_query({name: vectors[name] for name in chosen})
    query = engine.path(columns[chosen[0]].keys[row])
    say(f"3. Searching {query} under each of them")
    rows = []
    for condition in chosen:
        hits = engine.search(query, condition, k=10)
        rows.append(SheetRow(condition, f"alike in {condition}", hits))
        print_hits(engine.search(query, condition, k=3), "table")
        print()
    page = folder / "index.html"
    write_page(
        page,
        render_page(
            f"One of your pictures, {len(rows)} searches",
            "Each row has the pictures most like the query under one condition, of those by which "
            "your pictures differ most.",
            query,
            rows,
        ),
    )
    say(
        f"4. Done in {time.monotonic() - started:.0f} s. Open {page} in a browser. To search more: "
        f"cies search {query} -g {gallery_path} -c {chosen[0]}"
    )
