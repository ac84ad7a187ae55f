"""``cies facets``: the model's words under a condition, and how many pictures have each."""

from __future__ import annotations

from pathlib import Path

from cies import api
from cies.console import print_document, print_table, say
from query.explore.facets import Facet, facets


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
    engine = api.open(gallery_path, gone=gone, method=method)
    table = engine.opened(condition)
    name, total = table.table.name, len(table)
    found = facets(table, merge_below=merge_below)
    without_word = total - sum(facet.pictures for facet in found)
    if as_json:
        print_document(
            {
                "gallery": str(engine.gallery.path),
                "condition": name,
                "method": table.table.made_by["method"],
                "pictures": total,
                "without_word": without_word,
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
        )
        return
    print_table(
        ["word", "pictures", "share", "merged with it"],
        [
            [facet.word, str(facet.pictures), f"{facet.pictures / total:.1%}", merged_words(facet)]
            for facet in found
        ],
        title=f"Words under '{name}'",
        numbers=["pictures", "share"],
    )
    if without_word:
        say(f"{without_word} of {total} pictures have no word under '{name}'.")


def merged_words(facet: Facet) -> str:
    """The words merged into a facet, each with its number of pictures and the reason."""
    return ", ".join(f"{w.word} ({w.pictures}, by {w.merged_by})" for w in facet.words[1:])
