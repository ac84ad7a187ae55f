"""``cies status`` and ``cies conditions``: what a gallery contains. No torch, no transformers."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cies import maintain
from cies.console import print_document, print_table, say
from indexes.store.attributes import TYPES, user_columns
from indexes.store.gallery import Gallery
from ingest.encoders.base import EncoderSpec
from ingest.fill.vector_sources import layered_method

_TYPE_NAMES = {kind: name for name, kind in TYPES.items()}


def run_status(gallery_path: Path, failed: bool, gone: bool, as_json: bool) -> None:
    """Print what a gallery contains.

    Args:
        gallery_path: the gallery's folder.
        failed: list the files that could not be read instead.
        gone: list the files that are gone instead; the JSON document has them anyway.
        as_json: print one JSON document.

    Raises:
        GalleryMissing: if there is no gallery.
    """
    gallery = Gallery.open(gallery_path)
    document = _failed_files(gallery) if failed else gallery_status(gallery)
    if as_json:
        print_document(document)
    elif failed:
        rows = [[r["path"], r["status"], r["reason"]] for r in document["failed"]]
        print_table(["file", "status", "reason"], rows)
    elif gone:
        rows = [[entry["path"], entry["since"]] for entry in document["gone"]]
        print_table(["file", "gone since"], rows)
    else:
        print_status(document)


def run_conditions(gallery_path: Path, as_json: bool) -> None:
    """Print the conditions of a gallery.

    Raises:
        GalleryMissing: if there is no gallery.
    """
    document = gallery_status(Gallery.open(gallery_path))
    if as_json:
        print_document({name: document[name] for name in ("gallery", "conditions")})
    else:
        _print_conditions(document)


def run_columns(gallery_path: Path, as_json: bool) -> None:
    """Print the user's columns of a gallery.

    Raises:
        GalleryMissing: if there is no gallery.
    """
    found = maintain.columns(Gallery.open(gallery_path))
    if as_json:
        print_document(
            {"gallery": str(gallery_path), "columns": [vars(column) for column in found]}
        )
        return
    rows = [[column.name, column.type, str(column.values)] for column in found]
    print_table(["column", "type", "values"], rows, numbers=["values"])


def gallery_status(gallery: Gallery) -> dict[str, Any]:
    """The document that ``cies status --json`` prints."""
    files = gallery.files()
    failed = [record for record in files if record.status not in ("done", "gone")]
    gone = [record for record in files if record.status == "gone"]
    keys = {record.key for record in files if record.status == "done"}
    entries = []
    for table in gallery.conditions():
        embedded = gallery.keys(table)
        spec = EncoderSpec.from_made_by(table.made_by)
        entries.append(
            {
                "name": table.name,
                "pictures": len(embedded & keys),
                "missing": len(keys - embedded),
                "partial": table.partial,
                "filling": table.filling,
                "dimension": table.dimension,
                "method": table.made_by["method"],
                "model": table.made_by["model"],
                "revision": table.made_by["revision"],
                # The numbers of a learned condition are for programs.
                "settings": {n: v for n, v in table.made_by["settings"].items() if n != "arrays"},
                "outdated": spec.outdated or spec.outdated_pixels,
            }
        )
    size = sum(path.stat().st_size for path in gallery.path.rglob("*") if path.is_file())
    return {
        "gallery": str(gallery.path),
        "pictures": len(keys),
        "files": len(files) - len(failed) - len(gone),
        "failed": [vars(record) for record in failed],
        "gone": [{"path": record.path, "since": _date(record.gone_at)} for record in gone],
        "sources": [{"source": name, **source} for name, source in gallery.sources().items()],
        "columns": {name: _TYPE_NAMES[kind] for name, kind in user_columns(gallery).items()},
        "bytes": size,
        "geometry": gallery.geometry,
        "conditions": entries,
    }


def _failed_files(gallery: Gallery) -> dict[str, Any]:
    """The document that ``cies status --failed --json`` prints."""
    failed = [record for record in gallery.files() if record.status != "done"]
    return {
        "gallery": str(gallery.path),
        "failed": [vars(record) for record in failed],
        "failed_by_status": Counter(record.status for record in failed),
    }


def print_status(document: dict[str, Any]) -> None:
    """Print a document of :func:`gallery_status` for people."""
    print_table(
        ["what", "value"],
        [
            ["gallery", document["gallery"]],
            ["pictures", str(document["pictures"])],
            ["files", str(document["files"])],
            ["unreadable", str(len(document["failed"]))],
            ["gone", str(len(document["gone"]))],
            ["sources", ", ".join(entry["source"] for entry in document["sources"])],
            ["your columns", ", ".join(f"{n} ({t})" for n, t in document["columns"].items())],
            ["vectors", document["geometry"]],
            ["on disk", f"{document['bytes'] / 1e6:.1f} MB"],
        ],
    )
    _print_conditions(document)


def _print_conditions(document: dict[str, Any]) -> None:
    print_table(
        ["condition", "pictures", "missing", "dimension", "method", "model"],
        [
            [
                entry["name"],
                _picture_count(entry),
                str(entry["missing"]),
                str(entry["dimension"]),
                layered_method(EncoderSpec(entry["method"], "", "", entry["settings"])),
                entry["model"],
            ]
            for entry in document["conditions"]
        ],
        numbers=["pictures", "missing", "dimension"],
    )
    for note in dict.fromkeys(entry["outdated"] for entry in document["conditions"]):
        if note:
            say(f"Note: {note}")


def _picture_count(entry: dict[str, Any]) -> str:
    """The number of embedded pictures; for a partial table also the total and what comes next."""
    if not entry["partial"]:
        return str(entry["pictures"])
    state = "partial, ingest completes it" if entry["filling"] else "partial"
    return f"{entry['pictures']} of {entry['pictures'] + entry['missing']} ({state})"


def _date(seconds: int | None) -> str:
    return datetime.fromtimestamp(seconds or 0, UTC).isoformat()
