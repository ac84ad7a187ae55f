"""``cies facets``: the model's words under a condition, and how many pictures have each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cies import api
from cies.console import print_document, print_table, say
from query.engine import Engine
from query.explore.facets import SAME, facets


def run_facets(
    gallery_path: Path,
    condition: str,
    merge_below: float,
    gone: bool,
    as_json: bool,
    method: str | None = None,
) -> None:
    """Print the words of a condition and the number of pictures of each.

    Args:
        gallery_path: the gallery's folder.
        condition: one of the gallery's conditions.
        merge_below: words whose pictures are separated by less than this are merged.
        gone: include pictures without an existing file.
        as_json: print one JSON document.
        method: the method whose words are counted; the gallery's main one by default.
    """
    engine = api.open(gallery_path, gone=gone, method=method, follow=False)
    document = facets_document(engine, condition, merge_below)
    if as_json:
        print_document(document)
        return
    name, total, without_word = (document[n] for n in ("condition", "pictures", "without_word"))
    print_table(
        ["word", "pictures", "share", "merged with it"],
        [
            [
                entry["word"],
                str(entry["pictures"]),
                f"{entry['share']:.1%}",
                merged_words(entry["words"]),
            ]
            for entry in document["facets"]
        ],
        title=f"Words under '{name}'",
        numbers=["pictures", "share"],
    )
    if without_word:
        say(f"{without_word} of {total} pictures have no word under '{name}'.")


def facets_document(engine: Engine, condition: str, merge_below: float = SAME) -> dict[str, Any]:
    """The document that ``cies facets --json`` prints.

    Args:
        engine: the open gallery.
        condition: one of its conditions.
        merge_below: words whose pictures are separated by less than this are merged.

    Raises:
        UnknownCondition: if the gallery has no such condition.
    """
    table = engine.opened(condition)
    total = len(table)
    found = facets(table, merge_below=merge_below)
    return {
        "gallery": str(engine.gallery.path),
        "condition": table.table.name,
        "method": table.table.made_by["method"],
        "pictures": total,
        "without_word": total - sum(facet.pictures for facet in found),
        "facets": [
            {
                "word": facet.word,
                "pictures": facet.pictures,
                "share": facet.pictures / total,
                "words": [vars(word) for word in facet.words],
            }
            for facet in found
        ],
    }


def merged_words(words: Sequence[Mapping[str, Any]]) -> str:
    """The words merged into a facet, each with its number of pictures and the reason."""
    return ", ".join(f"{w['word']} ({w['pictures']}, by {w['merged_by']})" for w in words[1:])
