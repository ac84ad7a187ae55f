"""``cies facets``, ``gallery`` and ``outliers``: what is in a gallery under a condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from cies import api
from cies.console import print_json, print_table, progress_bar, say
from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from ingest.conditions import same_name
from ingest.fill.pipeline import Progress
from query.engine import Engine
from query.explore.facets import Facet
from query.explore.groups import Group
from query.hits import SCHEMA_VERSION, Hit, Hits, Query

#: Pictures from which a long computation says how far it is.
_MANY = 20_000


@dataclass(frozen=True)
class Grouping:
    """How groups are made; see :func:`query.explore.groups.groups`."""

    sure: float
    smallest: int
    merge_below: float


def run_facets(
    place: Path,
    condition: str,
    merge_below: float,
    gone: bool,
    as_json: bool,
    method: str | None = None,
) -> None:
    """Print the words of a condition and how many pictures have each.

    Args:
        place: the gallery's folder.
        condition: one it has.
        merge_below: separation below which words are one.
        gone: whether pictures without a file count.
        as_json: print one JSON document.
        method: whose words; the gallery's main one by default.
    """
    from query.explore.facets import facets

    engine = api.open(place, gone=gone, method=method)
    table = engine.opened(condition)
    found = facets(table, merge_below=merge_below)
    wordless = len(table) - sum(facet.pictures for facet in found)
    if as_json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "gallery": str(engine.gallery.path),
                "condition": table.table.name,
                "method": table.table.made_by["method"],
                "pictures": len(table),
                "without_word": wordless,
                "facets": [
                    {
                        "word": facet.word,
                        "pictures": facet.pictures,
                        "share": facet.pictures / len(table),
                        "words": [vars(word) for word in facet.words],
                    }
                    for facet in found
                ],
            }
        )
        return
    print_table(
        ["word", "pictures", "share", "merged with it"],
        [
            [
                facet.word,
                str(facet.pictures),
                f"{facet.pictures / len(table):.1%}",
                _merged(facet),
            ]
            for facet in found
        ],
        title=f"Words under '{table.table.name}'",
        numbers=["pictures", "share"],
    )
    if wordless:
        say(f"{wordless} of {len(table)} pictures have no word under '{table.table.name}'.")


def _merged(facet: Facet) -> str:
    return ", ".join(f"{w.word} ({w.pictures}, by {w.merged_by})" for w in facet.words[1:])


def run_gallery(
    place: Path,
    conditions: Sequence[str],
    folder: Path | None,
    originals: bool,
    chosen: Grouping,
    gone: bool,
    as_json: bool,
    method: str | None = None,
) -> None:
    """Put the pictures in groups under each condition; print them, or write pages.

    Args:
        place: the gallery's folder.
        conditions: those to group by; all of the gallery's if empty.
        folder: of the pages, or ``None`` to print the groups.
        originals: whether pictures on the pages link to their files.
        chosen: how groups are made.
        gone: whether pictures without a file are in the groups.
        as_json: print one JSON document.
        method: whose words and vectors; the gallery's main one by default.

    Raises:
        UsageError: if pages would be in the way in that folder, or there is nothing to show.
        CiesError: if the folder cannot be written to.
    """
    from cies.html.folder import check_folder, write_folder
    from cies.html.gallery import INDEX, Section
    from query.explore.groups import groups

    if originals and folder is None:
        raise UsageError("--originals is about pages; name a folder for them with --html.")
    engine = api.open(place, gone=gone, method=method)
    if folder is not None:
        check_folder(folder, engine.gallery)
    sections: list[Section] = []
    for name in conditions or engine.names():
        if not any(same_name(name, section.condition) for section in sections):
            table = engine.opened(name)
            found = groups(table, None, chosen.sure, chosen.smallest, chosen.merge_below)
            sections.append(Section(table, found))
    if not any(section.pictures for section in sections):
        names = ", ".join(f"'{section.condition}'" for section in sections) or "any condition"
        raise UsageError(
            f"The gallery at {engine.gallery.path} has no pictures under {names}; `cies ingest "
            "FOLDER` adds them, and --gone shows those whose files are gone."
        )
    if folder is not None:
        with progress_bar("Thumbnails") as progress:
            about = write_folder(folder, engine.gallery, sections, originals, progress)
        for section in sections:
            say(
                f"{section.pictures} pictures in {len(section.groups)} groups under "
                f"'{section.condition}'."
            )
        if about["unreadable"]:
            say(f"{len(about['unreadable'])} pictures cannot be shown: their files are not there.")
        say(f"Open {folder / INDEX} in a browser.")
    if as_json:
        print_json(_groups_document(engine, [(s.table, s.groups) for s in sections]))
    elif folder is None:
        _print_groups([(s.table, s.groups) for s in sections], engine)


def _groups_document(
    engine: Engine, sections: Sequence[tuple[OpenTable, Sequence[Group]]]
) -> dict[str, Any]:
    def picture(table: OpenTable, row: int) -> dict[str, Any]:
        key = table.keys[row]
        return {
            "key": key,
            "path": engine.path(key),
            "word": table.words[row],
            "word_probability": float(table.word_probabilities[row]),
        }

    return {
        "schema_version": SCHEMA_VERSION,
        "gallery": str(engine.gallery.path),
        "conditions": [
            {
                "condition": table.table.name,
                "method": table.table.made_by["method"],
                "groups": [
                    {
                        "word": group.word,
                        "words": [vars(word) for word in group.facet.words],
                        "pictures": [picture(table, row) for row in group.sure.tolist()],
                        "placed_by_likeness": [
                            picture(table, row) for row in group.likely.tolist()
                        ],
                        "representatives": [
                            table.keys[row] for row in group.representatives.tolist()
                        ],
                    }
                    for group in found
                ],
            }
            for table, found in sections
        ],
    }


def _print_groups(sections: Sequence[tuple[OpenTable, Sequence[Group]]], engine: Engine) -> None:
    print_table(
        ["condition", "group", "pictures", "by likeness", "merged with it", "most typical"],
        [
            [
                table.table.name,
                group.word,
                str(group.pictures),
                str(len(group.likely)),
                _merged(group.facet),
                engine.path(table.keys[int(group.sure[0])]),
            ]
            for table, found in sections
            for group in found
        ],
        numbers=["pictures", "by likeness"],
    )
    say("Add --html FOLDER for pages to browse.")


def run_outliers(
    place: Path,
    condition: str,
    k: int,
    neighbours: int,
    html: Path | None,
    gone: bool,
    as_json: bool,
    quiet: bool,
    method: str | None = None,
) -> None:
    """Print the pictures that fit nowhere under a condition.

    Args:
        place: the gallery's folder.
        condition: one it has.
        k: how many pictures.
        neighbours: how many nearest ones each is compared with.
        html: write a page here.
        gone: whether pictures without a file are judged.
        as_json: print one JSON document.
        quiet: print paths only.
        method: by which pictures are compared; the gallery's main one by default.

    Raises:
        UsageError: if ``k`` is below 1, or two ways to print are asked.
        CiesError: if the page cannot be written.
    """
    from cies.html.contact_sheet import Row, render_page, write_page

    if k < 1:
        raise UsageError(f"-k must be at least 1, not {k}.")
    if as_json and quiet:
        raise UsageError("--json and -q exclude one another; give one of them.")
    engine = api.open(place, gone=gone, method=method)
    table = engine.opened(condition)
    name = table.table.name
    found = _outlying(engine, table, k, neighbours)
    if not found:
        say(f"Fewer than two pictures under '{name}', so that none can be told from the others.")
    if html is not None:
        asked = Query(
            image="", condition=name, key="", in_gallery=False, word="", word_probability=0.0
        )
        page = render_page(
            f"Fits nowhere, by {name}",
            f"Of {len(table):,} pictures those least like their {neighbours} nearest ones. In bold "
            "the word of the pictures each is nearest to; then the mean cosine with its nearest "
            "ones, and the share of all pairs in this gallery that are less alike.",
            "",
            [Row(name, f"{len(found)} pictures", Hits(asked, found))],
        )
        write_page(html, page)
        say(f"Page written to {html}.")
    if quiet:
        for hit in found:
            print(hit.path)
    elif as_json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "gallery": str(engine.gallery.path),
                "condition": name,
                "method": table.table.made_by["method"],
                "pictures": len(table),
                "neighbours": neighbours,
                "outliers": [_outlier(table, hit) for hit in found],
            }
        )
    else:
        rows = []
        for hit in found:
            own = _outlier(table, hit)["word"]
            rows.append([str(hit.rank), f"{hit.score:.4f}", hit.word, own, hit.path])
        print_table(
            ["rank", "score", "nearest word", "own word", "path"],
            rows,
            title=f"Least like their {neighbours} nearest pictures under '{name}'",
            numbers=["rank", "score"],
        )


def _outlying(engine: Engine, table: OpenTable, k: int, neighbours: int) -> tuple[Hit, ...]:
    """The outliers as hits, whose word is that of the pictures each is nearest to."""
    import numpy as np

    from query.explore.groups import groups, nearest_groups
    from query.explore.outliers import outliers

    with long_work("Comparing", len(table)) as progress:
        found = outliers(table, k, neighbours, progress=progress)
    if not found:
        return ()
    rows = np.array([one.row for one in found], dtype=np.int64)
    words = [""] * len(rows)
    if any(table.words):
        among = groups(table)
        words = [among[number].word for number in nearest_groups(table, rows, among)]
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


def _outlier(table: OpenTable, hit: Hit) -> dict[str, Any]:
    row = table.row(hit.key)
    assert row is not None  # it came from this table
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


@contextmanager
def long_work(what: str, pictures: int) -> Iterator[Callable[[int, int], None]]:
    """Progress of something that takes long only where there are many pictures.

    Args:
        what: shown before it.
        pictures: how many there are.
    """
    if pictures < _MANY:
        yield lambda done, total: None
        return
    with progress_bar(what) as progress:
        yield lambda done, total: progress(Progress(done, total, done, 0))
