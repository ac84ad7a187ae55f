"""``cies outliers``: the pictures that are least like even their nearest neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cies import api
from cies.console import print_document, print_paths, print_table, progress_if_large, say
from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from query.engine import Engine
from query.explore.groups import groups, nearest_groups
from query.explore.outliers import outliers
from query.hits import Hit, Hits, Query


def run_outliers(
    gallery_path: Path,
    condition: str,
    k: int,
    neighbours: int,
    html: Path | None,
    gone: bool,
    as_json: bool,
    quiet: bool,
    method: str | None = None,
) -> None:
    """Print the outliers under a condition, and write them as a page if asked to.

    Args:
        gallery_path: the gallery's folder.
        condition: one of the gallery's conditions.
        k: number of outliers.
        neighbours: number of nearest pictures that each picture is compared with.
        html: write a page to this file.
        gone: include pictures without an existing file.
        as_json: print one JSON document.
        quiet: print paths only.
        method: the method whose vectors are compared; the gallery's main one by default.

    Raises:
        UsageError: if ``k`` is below 1, or both JSON and paths are asked for.
        CiesError: if the page cannot be written.
    """
    if k < 1:
        raise UsageError(f"-k must be at least 1, not {k}.")
    if as_json and quiet:
        raise UsageError("--json and -q exclude one another; give one of them.")
    engine = api.open(gallery_path, gone=gone, method=method, follow=False)
    table = engine.opened(condition)
    name = table.table.name
    found = _outlier_hits(engine, table, k, neighbours)
    entries = [_entry(table, hit) for hit in found]
    if not found:
        say(f"There are fewer than two pictures under '{name}', so none can be an outlier.")
    if html is not None:
        _write_page(html, name, len(table), neighbours, found)
    if quiet:
        print_paths(hit.path for hit in found)
    elif as_json:
        print_document(
            {
                "gallery": str(engine.gallery.path),
                "condition": name,
                "method": table.table.made_by["method"],
                "pictures": len(table),
                "neighbours": neighbours,
                "outliers": entries,
            }
        )
    else:
        print_table(
            ["rank", "score", "nearest word", "own word", "path"],
            [
                [str(e["rank"]), f"{e['score']:.4f}", e["nearest_word"], e["word"], e["path"]]
                for e in entries
            ],
            title=f"Least like their {neighbours} nearest pictures under '{name}'",
            numbers=["rank", "score"],
        )


def _outlier_hits(engine: Engine, table: OpenTable, k: int, neighbours: int) -> tuple[Hit, ...]:
    """The outliers as hits; the word of each is that of the group it is nearest to."""
    with progress_if_large("Comparing", len(table)) as progress:
        found = outliers(table, k, neighbours, progress=progress)
    if not found:
        return ()
    rows = np.array([one.row for one in found], dtype=np.int64)
    words = [""] * len(rows)
    if any(table.words):
        candidates = groups(table)
        words = [candidates[number].word for number in nearest_groups(table, rows, candidates)]
    percentiles = table.percentiles(np.array([one.score for one in found]))
    return tuple(
        Hit(
            rank=rank,
            key=table.keys[one.row],
            path=engine.path(table.keys[one.row]),
            score=one.score,
            percentile=float(percentiles[rank - 1]),
            word=words[rank - 1],
            word_probability=float(table.word_probabilities[one.row]),
        )
        for rank, one in enumerate(found, start=1)
    )


def _entry(table: OpenTable, hit: Hit) -> dict[str, Any]:
    """A member of ``outliers`` in the JSON document."""
    row = table.row(hit.key)
    assert row is not None  # the hit is a row of this table
    return {
        "rank": hit.rank,
        "key": hit.key,
        "path": hit.path,
        "score": hit.score,
        "percentile": hit.percentile,
        "word": table.words[row],
        "word_probability": hit.word_probability,
        "nearest_word": hit.word,
    }


def _write_page(
    path: Path, condition: str, pictures: int, neighbours: int, found: tuple[Hit, ...]
) -> None:
    from cies.html.contact_sheet import SheetRow, write_sheet

    query = Query(
        image="", condition=condition, key="", in_gallery=False, word="", word_probability=0.0
    )
    write_sheet(
        path,
        f"Outliers by {condition}",
        f"The pictures, of {pictures:,}, that are least like their {neighbours} nearest ones.",
        "",
        [SheetRow(condition, f"{len(found)} pictures", Hits(query, found))],
        legend="Below each picture: the word of the group that it is nearest to; the mean cosine "
        f"with its {neighbours} nearest pictures; the share of all pairs of pictures in this "
        "gallery that are less alike; and the name of the file, which opens it.",
    )
    say(f"Page written to {path}.")
