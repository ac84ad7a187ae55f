"""What ``cies index`` does and prints."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Sequence

from cies import api
from cies.console import print_json, print_table, say
from query.hits import SCHEMA_VERSION


def run_index(
    place: Path,
    conditions: Sequence[str],
    kind: str | None,
    as_json: bool,
    method: str | None = None,
) -> None:
    """Build and choose an index for some conditions, and show what there is.

    Args:
        place: the gallery's folder.
        conditions: their names; none for all.
        kind: what to build; ``None`` only shows.
        as_json: print one JSON document.
        method: whose vectors; the gallery's main one by default.

    Raises:
        GalleryMissing: if there is no gallery.
        UnknownCondition: if it has no such condition.
        UsageError: if there is no such index, or the gallery cannot be written to.
        CiesError: if FAISS is needed and not installed.
    """
    engine = api.open(place, method=method)
    names = list(conditions) or engine.names()
    openers = {engine.table(name).name: engine.table_loader(name) for name in names}
    if kind is not None:
        for name, table_loader in openers.items():
            say(f"Building for '{name}' ...")
            table_loader.build(kind)
    shown = []
    for name, table_loader in openers.items():
        shown.append(
            {
                "condition": name,
                "method": engine.resolved(name).method,
                "pictures": table_loader.pictures(),
                "chosen": table_loader.choice,
                "in_use": table_loader.in_use(),
                "rows_bytes": table_loader.rows_bytes(),
                "indexes": [asdict(built) for built in table_loader.known()],
            }
        )
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, "gallery": str(place), "conditions": shown})
        return
    _print(shown)


def _print(shown: Sequence[dict[str, Any]]) -> None:
    rows = []
    for one in shown:
        for built in one["indexes"]:
            used = one["in_use"] == built["kind"]
            made = datetime.fromtimestamp(built["made_at"], UTC)
            rows.append(
                [
                    one["condition"],
                    built["kind"] + (" *" if used else ""),
                    built["factory"] or built["library"],
                    str(built["vectors"]),
                    f"{built['recall_at_10']:.4f}",
                    f"{built['build_seconds']:.2f}",
                    f"{built['bytes'] / 1e6:.1f}",
                    made.strftime("%Y-%m-%d %H:%M"),
                ]
            )
        if one["in_use"] == "exact":
            row = [one["condition"], "exact *", "", str(one["pictures"]), "1.0000", "", "", ""]
            rows.append(row)
    print_table(
        ["condition", "index", "made as", "vectors", "recall@10", "build s", "MB", "made"],
        rows,
        numbers=["vectors", "recall@10", "build s", "MB"],
    )
    say("* answers searches now. Recall is against exact search, measured when it was built.")
