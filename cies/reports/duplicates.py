"""``cies dupes``: files that are the same, and pictures that nearly are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cies import api
from cies.console import print_json, print_table, say
from cies.reports.browse import long_work
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.conditions import UNCONDITIONAL
from query.engine import Engine
from query.explore.duplicates import duplicate_groups
from query.hits import SCHEMA_VERSION


def run_dupes(
    place: Path,
    conditions: Sequence[str],
    threshold: float,
    as_json: bool,
    quiet: bool,
    method: str | None = None,
) -> None:
    """List exact copies, then groups of near-duplicates. Nothing is changed.

    Args:
        place: the gallery's folder.
        conditions: in which near-duplicates must be alike, each; all of the gallery's if empty.
        threshold: least cosine.
        as_json: print one JSON document.
        quiet: print paths only, an empty line between groups.
        method: by which pictures are compared; the gallery's main one by default.

    Raises:
        UsageError: for a threshold that no cosine can reach, two ways to print, or if not all
            pictures are embedded under all of these conditions.
        UnknownCondition: naming those there are.
    """
    if as_json and quiet:
        raise UsageError("--json and -q exclude one another; give one of them.")
    engine = api.open(place, method=method)
    names = [engine.table(name).name for name in conditions] or engine.names()
    exact = _copies(engine.gallery)
    near = _near(engine, names, threshold)
    if as_json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "gallery": str(engine.gallery.path),
                "conditions": names,
                "threshold": threshold,
                "exact": exact,
                "near": near,
            }
        )
    elif quiet:
        listed = [group["paths"] for group in exact]
        listed += [[picture["path"] for picture in group] for group in near]
        print("\n\n".join("\n".join(group) for group in listed))
    else:
        _print(exact, near)
    _tell(exact, near, names, conditions)


def _copies(gallery: Gallery) -> list[dict[str, Any]]:
    """Files of equal bytes: the groups that take most room first."""
    files = [record for record in gallery.files() if record.status == "done"]
    held: dict[str, list[Any]] = {}
    for record in files:
        held.setdefault(record.key, []).append(record)
    found = [
        {
            "key": key,
            "bytes": records[0].size,
            "paths": [gallery.location(record.path) for record in records],
        }
        for key, records in held.items()
        if len(records) > 1
    ]
    return sorted(found, key=lambda g: (-g["bytes"] * (len(g["paths"]) - 1), g["paths"]))


def _near(engine: Engine, names: Sequence[str], threshold: float) -> list[list[dict[str, Any]]]:
    """Near-duplicates: in each group the picture of most pixels, then bytes, first."""
    if not names:
        return []
    tables = [engine.opened(name) for name in names]
    common = set(tables[0].keys).intersection(*(table.keys for table in tables[1:]))
    if any(len(table) != len(common) for table in tables):
        raise UsageError(
            "Not all pictures are embedded under all of these conditions "
            f"({', '.join(names)}); run `cies ingest` once more, or name some with -c."
        )
    with long_work("Comparing", len(common)) as progress:
        groups = duplicate_groups(tables, threshold, progress=progress)
    files = {record.path: record.size for record in engine.gallery.files()}
    images = {record.key: record for record in engine.gallery.images()}
    stored = engine.gallery.paths()
    found = []
    for rows in groups:
        pictures = []
        for row in rows:
            key = tables[0].keys[row]
            image, paths = images.get(key), stored[key]
            about: dict[str, Any] = {"key": key, "path": engine.gallery.location(paths[0])}
            size = {"width": image.width if image else 0, "height": image.height if image else 0}
            pictures.append({**about, "bytes": files[paths[0]], **size, "files": len(paths)})
        found.append(
            sorted(pictures, key=lambda p: (-p["width"] * p["height"], -p["bytes"], p["path"]))
        )
    return found


def _print(exact: Sequence[dict[str, Any]], near: Sequence[Sequence[dict[str, Any]]]) -> None:
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


def _tell(
    exact: Sequence[dict[str, Any]],
    near: Sequence[Sequence[dict[str, Any]]],
    names: Sequence[str],
    asked: Sequence[str],
) -> None:
    spare = sum(group["bytes"] * (len(group["paths"]) - 1) for group in exact)
    say(
        f"{len(exact)} pictures in several files ({spare / 1e6:.1f} MB in the copies), "
        f"{len(near)} groups of near-duplicates under {', '.join(names) or 'no condition'}. "
        "Nothing was deleted."
    )
    if len(names) == 1 and names[0] != UNCONDITIONAL and not asked:
        say(
            f"'{names[0]}' is all this gallery knows, so pictures alike in that alone are listed; "
            "ingest under more conditions to find duplicates proper."
        )
