"""``cies index``: builds and chooses search indexes, and lists them with their recall."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Sequence

from cies import api
from cies.console import print_document, print_table, say


def run_index(
    gallery_path: Path,
    conditions: Sequence[str],
    kind: str | None,
    as_json: bool,
    method: str | None = None,
) -> None:
    """Build and choose an index for some conditions, and list their indexes.

    Args:
        gallery_path: the gallery's folder.
        conditions: names of conditions; all of the gallery's if empty.
        kind: the index to build; ``None`` only lists.
        as_json: print one JSON document.
        method: the method whose vectors are indexed; the gallery's main one by default.

    Raises:
        GalleryMissing: if there is no gallery.
        UnknownCondition: if the gallery has no such condition.
        UsageError: if there is no such index, or the gallery cannot be written to.
        CiesError: if FAISS is needed and not installed.
    """
    engine = api.open(gallery_path, method=method, follow=False)
    names = list(conditions) or engine.names()
    loaders = {engine.table(name).name: engine.table_loader(name) for name in names}
    if kind is not None:
        for name, loader in loaders.items():
            say(f"Building for '{name}' ...")
            loader.build(kind)
    entries = [
        {
            "condition": name,
            "method": engine.resolve(name).method,
            "pictures": loader.pictures(),
            "chosen": loader.choice,
            "in_use": loader.in_use(),
            "rows_bytes": loader.rows_bytes(),
            "indexes": [asdict(built) for built in loader.known()],
        }
        for name, loader in loaders.items()
    ]
    if as_json:
        print_document({"gallery": str(gallery_path), "conditions": entries})
    else:
        _print_indexes(entries)


def _print_indexes(entries: Sequence[dict[str, Any]]) -> None:
    rows = []
    for entry in entries:
        for built in entry["indexes"]:
            mark = " *" if entry["in_use"] == built["kind"] else ""
            made_at = datetime.fromtimestamp(built["made_at"], UTC)
            rows.append(
                [
                    entry["condition"],
                    built["kind"] + mark,
                    built["factory"] or built["library"],
                    str(built["vectors"]),
                    f"{built['recall_at_10']:.4f}",
                    f"{built['build_seconds']:.2f}",
                    f"{built['bytes'] / 1e6:.1f}",
                    made_at.strftime("%Y-%m-%d %H:%M"),
                ]
            )
        if entry["in_use"] == "exact":
            pictures = str(entry["pictures"])
            rows.append([entry["condition"], "exact *", "", pictures, "1.0000", "", "", ""])
    print_table(
        ["condition", "index", "made as", "vectors", "recall@10", "build s", "MB", "made"],
        rows,
        numbers=["vectors", "recall@10", "build s", "MB"],
    )
    say("* answers searches now. Recall is relative to exact search, measured at build time.")
