"""``cies demo``: ingest, search and evaluation on rendered pictures, or on the user's own."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from cies import api
from cies.console import progress_bar, say
from cies.gallery_search import SearchableGallery
from cies.html.contact_sheet import SheetRow, write_sheet
from cies.reports.evaluation import print_matrix
from cies.reports.hits import print_hits
from eval.labels import read_labels
from eval.matrix import evaluate
from eval.world.factors import FILLED
from eval.world.gallery import check_world_folder, write_world
from indexes.errors import UsageError
from indexes.outputs import check_output
from ingest.encoders.models.find import DEFAULT_MODEL, DEFAULT_PHOTO, find_model
from ingest.fill.encoder_choice import PHOTO_CONDITIONS
from ingest.fill.pipeline import Progress
from query.explore.spelling import plain
from query.explore.varying import typical_query, varying_conditions

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

#: Conditions on the page of the user's own pictures.
_PHOTO_CONDITIONS_SHOWN = 6

#: Fewer pictures give no neighbours worth showing.
_LEAST_PHOTOS = 6


def run_demo(folder: Path, pictures: int) -> None:
    """Render, embed, search under each condition, measure, and write one page.

    Raises:
        UsageError: if the folder has files under these names that CIES did not make.

    Args:
        folder: gets ``world``, ``gallery`` and ``index.html``; those of an earlier demo are
            replaced.
        pictures: number of pictures to render.
    """
    started = time.monotonic()
    world, gallery_path = folder / "world", folder / "gallery"
    check_world_folder(world)
    _check_folder(folder)
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
            model=DEFAULT_MODEL,
            progress=progress,
            announce=lambda encoder: say(f"   Model: {encoder.description}."),
        )
    say(f"   {report.embedded} pictures in {report.seconds:.0f} s")
    say("3. Searching one picture under each condition")
    engine = api.open(gallery_path)
    query = _query(engine, labels)
    rows = []
    for condition in CONDITIONS:
        hits = engine.search(query, condition, k=10)
        rows.append(SheetRow(condition, _NOTES[condition], hits))
        print(f"\n== {condition}: {_NOTES[condition]} ==")
        print_hits(engine.search(query, condition, k=3), "table")
    print()
    say("4. Measuring: does a search by color find color, and not shape?")
    print_matrix(evaluate(engine, read_labels(labels)))
    page = folder / "index.html"
    write_sheet(
        page,
        "One picture, six searches",
        "Each row has the pictures most like the query under one condition.",
        query,
        rows,
    )
    say(f"5. Done in {time.monotonic() - started:.0f} s. Open {page} in a browser.")


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which the demo would replace files that CIES did not make.

    Raises:
        UsageError: naming one.
    """
    check_output(folder / "index.html")
    gallery_path = folder / "gallery"
    if gallery_path.exists() and not (gallery_path / "manifest.lance").is_dir():
        raise UsageError(f"{gallery_path} is no gallery; name another folder for the demo.")


def _query(gallery: SearchableGallery, labels: Path) -> str:
    """The path of a picture to search with: one that shows all conditions, clear style, and of
    which the model says the most right words.

    Args:
        gallery: the pictures.
        labels: their labels.
    """
    words = {}
    for condition in CONDITIONS:
        column = gallery.vectors(condition)
        words[condition] = dict(zip(column.paths, column.words, strict=True))
    values = {Path(name).name: row for name, row in read_labels(labels).values.items()}

    def rank(path: str) -> tuple[int, bool, bool]:
        row = values[Path(path).name]
        right = sum(plain(words[name][path]) == plain(row[name] or "") for name in CONDITIONS)
        clear = row["style"] in ("flat", "photo") and row["stroke"] == FILLED
        distinct = row["pattern"] != "plain" and row["color"] not in ("black", "white", "gray")
        # One large thing shows its shape best, and two or three show their count.
        return right, clear and distinct, (row["size"], row["count"]) == ("large", "two")

    return max(words[CONDITIONS[0]], key=rank)


def run_photo_demo(folder: Path, photos: Path) -> None:
    """Embed the pictures of a folder, and write a page of searches by what varies there.

    Args:
        folder: gets ``gallery`` and ``index.html``; those of an earlier demo are replaced.
        photos: a folder of pictures; nothing in it is changed.

    Raises:
        UsageError: if there is no such folder, it has too few pictures, or files that CIES did not
            make would be replaced.
    """
    if not photos.is_dir():
        raise UsageError(f"There is no folder {photos}; name a folder of pictures with --photos.")
    started = time.monotonic()
    gallery_path = folder / "gallery"
    conditions = list(find_model(DEFAULT_PHOTO).declared_conditions() or {})
    _check_folder(folder)
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
    unreadable = len(report.failed)
    say(f"   {report.embedded} pictures in {report.seconds:.0f} s, {unreadable} unreadable")
    if report.embedded < _LEAST_PHOTOS:
        raise UsageError(
            f"{photos} has {report.embedded} readable pictures, and the demo needs "
            f"{_LEAST_PHOTOS}; name another folder with --photos."
        )
    say("2. Choosing the conditions by which these pictures differ")
    engine = api.open(gallery_path)
    columns = {name: engine.vectors(name) for name in conditions}
    vectors = {name: column.vectors for name, column in columns.items()}
    # What a picture shows matters more to most people than how bright it is.
    usual = {name: vectors[name] for name in PHOTO_CONDITIONS}
    chosen = varying_conditions(usual, _PHOTO_CONDITIONS_SHOWN - 1)
    chosen += [name for name in varying_conditions(vectors, len(vectors)) if name not in chosen]
    chosen = chosen[:_PHOTO_CONDITIONS_SHOWN] or conditions[:_PHOTO_CONDITIONS_SHOWN]
    say(f"   {', '.join(chosen)}")
    row = typical_query({name: vectors[name] for name in chosen})
    query = columns[chosen[0]].paths[row]
    say(f"3. Searching {query} under each of them")
    rows = []
    for condition in chosen:
        hits = engine.search(query, condition, k=10)
        rows.append(SheetRow(condition, f"alike in {condition}", hits))
        print_hits(engine.search(query, condition, k=3), "table")
        print()
    page = folder / "index.html"
    write_sheet(
        page,
        f"One of your pictures, {len(rows)} searches",
        "Each row has the pictures most like the query under one condition, of those by which your "
        "pictures differ most.",
        query,
        rows,
    )
    say(
        f"4. Done in {time.monotonic() - started:.0f} s. Open {page} in a browser. To search more: "
        f"cies search {query} -g {gallery_path} -c {chosen[0]}"
    )
