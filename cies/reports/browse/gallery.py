"""``cies gallery``: the pictures in groups by the model's words, printed or as HTML pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cies import api
from cies.console import print_document, print_table, progress_bar, say
from cies.html.folder import check_folder, write_folder
from cies.html.gallery import INDEX, ConditionGroups
from cies.reports.browse.facets import merged_words
from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from ingest.conditions import same_name
from query.engine import Engine
from query.explore.groups import groups


@dataclass(frozen=True)
class GroupingOptions:
    """How pictures are grouped; see :func:`query.explore.groups.groups`."""

    sure: float
    smallest: int
    merge_below: float


def run_gallery(
    gallery_path: Path,
    conditions: Sequence[str],
    folder: Path | None,
    originals: bool,
    grouping: GroupingOptions,
    gone: bool,
    as_json: bool,
    method: str | None = None,
) -> None:
    """Group the pictures under each condition; print the groups, or write pages.

    Args:
        gallery_path: the gallery's folder.
        conditions: the conditions to group by; all of the gallery's if empty.
        folder: the folder of the pages; ``None`` prints the groups.
        originals: let the pictures on the pages link to their files.
        grouping: how pictures are grouped.
        gone: include pictures without an existing file.
        as_json: print one JSON document.
        method: the method whose words and vectors are used; the gallery's main one by default.

    Raises:
        UsageError: if pages would overwrite other files, or there are no pictures to show.
        CiesError: if the folder cannot be written to.
    """
    if originals and folder is None:
        raise UsageError("--originals applies to pages; name a folder for them with --html.")
    engine = api.open(gallery_path, gone=gone, method=method, follow=False)
    if folder is not None:
        check_folder(folder, engine.gallery)
    sections: list[ConditionGroups] = []
    for name in conditions or engine.names():
        if not any(same_name(name, section.condition) for section in sections):
            table = engine.opened(name)
            found = groups(table, None, grouping.sure, grouping.smallest, grouping.merge_below)
            sections.append(ConditionGroups(table, found))
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
            say(f"{len(about['unreadable'])} pictures cannot be shown: their files are missing.")
        say(f"Open {folder / INDEX} in a browser.")
    if as_json:
        print_document(_document(engine, sections))
    elif folder is None:
        _print_groups(engine, sections)


def _document(engine: Engine, sections: Sequence[ConditionGroups]) -> dict[str, Any]:
    """The document that ``cies gallery --json`` prints."""

    def picture(table: OpenTable, row: int) -> dict[str, Any]:
        key = table.keys[row]
        return {
            "key": key,
            "path": engine.path(key),
            "word": table.words[row],
            "word_probability": float(table.word_probabilities[row]),
        }

    return {
        "gallery": str(engine.gallery.path),
        "conditions": [
            {
                "condition": section.condition,
                "method": section.table.table.made_by["method"],
                "groups": [
                    {
                        "word": group.word,
                        "words": [vars(word) for word in group.facet.words],
                        "pictures": [picture(section.table, row) for row in group.sure.tolist()],
                        "placed_by_likeness": [
                            picture(section.table, row) for row in group.likely.tolist()
                        ],
                        "representatives": [
                            section.table.keys[row] for row in group.representatives.tolist()
                        ],
                    }
                    for group in section.groups
                ],
            }
            for section in sections
        ],
    }


def _print_groups(engine: Engine, sections: Sequence[ConditionGroups]) -> None:
    print_table(
        ["condition", "group", "pictures", "by likeness", "merged with it", "most typical"],
        [
            [
                section.condition,
                group.word,
                str(group.pictures),
                str(len(group.likely)),
                merged_words([vars(word) for word in group.facet.words]),
                engine.path(section.table.keys[int(group.sure[0])]),
            ]
            for section in sections
            for group in section.groups
        ],
        numbers=["pictures", "by likeness"],
    )
    say("Add --html FOLDER for pages to browse.")
