"""``cies dupes``: files with equal bytes, and near-duplicate pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cies import api
from cies.console import print_document, print_paths, print_table, progress_if_large, say
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.conditions import UNCONDITIONAL
from query.engine import Engine
from query.explore.duplicates import duplicate_groups


def run_dupes(
    gallery_path: Path,
    conditions: Sequence[str],
    threshold: float,
    as_json: bool,
    quiet: bool,
    method: str | None = None,
) -> None:
    """List exact copies, then groups of near-duplicates. Nothing is changed.

    Args:
        gallery_path: the gallery's folder.
        conditions: near-duplicates must be alike under each; all of the gallery's if empty.
        threshold: least cosine.
        as_json: print one JSON document.
        quiet: print paths only, with an empty line between groups.
        method: the method whose vectors are compared; the gallery's main one by default.

    Raises:
        UsageError: if no cosine can reach the threshold, both JSON and paths are asked for, or
            some pictures are not embedded under all of these conditions.
        UnknownCondition: if the gallery has no such condition; the message lists those it has.
    """
    if as_json and quiet:
        raise UsageError("--json and -q exclude one another; give one of them.")
    engine = api.open(gallery_path, method=method, follow=False)
    names = [engine.table(name).name for name in conditions] or engine.names()
    exact = _exact_copies(engine.gallery)
    near = _near_duplicates(engine, names, threshold)
    if as_json:
        print_document(
            {
                "gallery": str(engine.gallery.path),
                "conditions": names,
                "threshold": threshold,
                "exact": exact,
                "near": near,
            }
        )
    elif quiet:
        groups = [group["paths"] for group in exact]
        groups += [[picture["path"] for picture in group] for group in near]
        for number, group in enumerate(groups):
            if number:
                print()
            print_paths(group)
    else:
        _print_groups(exact, near)
    spare = sum(group["bytes"] * (len(group["paths"]) - 1) for group in exact)
    say(
        f"{len(exact)} pictures in several files ({spare / 1e6:.1f} MB in the copies), "
        f"{len(near)} groups of near-duplicates under {', '.join(names) or 'no condition'}. "
        "Nothing was deleted."
    )
    if len(names) == 1 and names[0] != UNCONDITIONAL and not conditions:
        say(
            f"'{names[0]}' is the gallery's only condition, so pictures that are alike in it alone "
            "are listed; ingest under more conditions to find real duplicates."
        )


def _exact_copies(gallery: Gallery) -> list[dict[str, Any]]:
    """Groups of files with equal bytes; those whose copies take most space first."""
    by_key: dict[str, list[Any]] = {}
    for record in gallery.files():
        if record.status == "done":
            by_key.setdefault(record.key, []).append(record)
    found = [
        {
            "key": key,
            "bytes": records[0].size,
            "paths": [gallery.location(record.path) for record in records],
        }
        for key, records in by_key.items()
        if len(records) > 1
    ]
    return sorted(found, key=lambda g: (-g["bytes"] * (len(g["paths"]) - 1), g["paths"]))


def _near_duplicates(
    engine: Engine, names: Sequence[str], threshold: float
) -> list[list[dict[str, Any]]]:
    """Groups of near-duplicates; each starts with the picture of most pixels, then bytes."""
    if not names:
        return []
    tables = [engine.opened(name) for name in names]
    common = set(tables[0].keys).intersection(*(table.keys for table in tables[1:]))
    if any(len(table) != len(common) for table in tables):
        raise UsageError(
            "Not all pictures are embedded under all of these conditions "
            f"({', '.join(names)}); run `cies ingest` once more, or name some with -c."
        )
    with progress_if_large("Comparing", len(common)) as progress:
        groups = duplicate_groups(tables, threshold, progress=progress)
    sizes = {record.path: record.size for record in engine.gallery.files()}
    images = {record.key: record for record in engine.gallery.images()}
    stored = engine.gallery.paths()
    found = []
    for rows in groups:
        pictures: list[dict[str, Any]] = []
        for row in rows:
            key = tables[0].keys[row]
            image, paths = images.get(key), stored[key]
            pictures.append(
                {
                    "key": key,
                    "path": engine.gallery.location(paths[0]),
                    "bytes": sizes[paths[0]],
                    "width": image.width if image else 0,
                    "height": image.height if image else 0,
                    "files": len(paths),
                }
            )
        found.append(
            sorted(pictures, key=lambda p: (-p["width"] * p["height"], -p["bytes"], p["path"]))
        )
    return found


def _print_groups(
    exact: Sequence[dict[str, Any]], near: Sequence[Sequence[dict[str, Any]]]
) -> None:
    rows = []
    for number, group in enumerate(exact, start=1):
        for path in group["paths"]:
            rows.append([str(number), "same file", str(group["bytes"]), "", path])
    for number, pictures in enumerate(near, start=len(exact) + 1):
        for picture in pictures:
            size = f"{picture['width']} x {picture['height']}"
            rows.append([str(number), "nearly", str(picture["bytes"]), size, picture["path"]])
    print_table(
        ["group", "kind", "bytes", "pixels", "path"], rows, numbers=["group", "bytes", "pixels"]
    )
