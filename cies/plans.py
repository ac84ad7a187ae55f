"""``cies ingest --plan``: what a run would do and cost. Changes nothing, loads no model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Sequence

from cies.console import print_table, say
from indexes.errors import UsageError
from indexes.gallery import Gallery
from ingest.conditions import Condition, new_conditions
from ingest.cost import Cost, estimate
from ingest.encoders.catalogue import hub_models
from ingest.encoders.families import family
from ingest.encoders.models import DEFAULT_MODEL, find
from ingest.known import KnownKeys
from ingest.sources.factory import Opened
from ingest.survey import Survey, survey
from query.hits import SCHEMA_VERSION


def make_plan(
    gallery: Gallery | None,
    place: Path,
    opened: Sequence[Opened],
    wanted: Sequence[Condition],
    model: str | None,
    retry_failed: bool = False,
    rate: float | None = None,
) -> dict[str, Any]:
    """The document that ``cies ingest --plan --json`` prints.

    Args:
        gallery: ``None`` if there is none yet.
        place: its folder.
        opened: the sources.
        wanted: conditions asked for.
        model: asked for; ``None`` for the gallery's own or the default.
        retry_failed: whether to plan for what could not be read before.
        rate: pictures a second under all the gallery's conditions, if it was measured.

    Raises:
        UsageError: if no condition is known, or nothing can be reached.
        ModelError: if there is no such model.
    """
    tables = gallery.conditions() if gallery is not None else []
    there = [table.name for table in tables]
    new = [condition.name for condition in new_conditions(wanted, there)]
    if not there and not new:
        raise UsageError("No condition was named; add one, such as `--condition color`.")
    name = str(tables[0].made_by["model"]) if tables else model or DEFAULT_MODEL
    packed, dimension = _about(name)
    if tables:
        dimension = tables[0].dimension
    held = [gallery.stored_keys(table) for table in tables] if gallery is not None else []
    keys = KnownKeys([*held, *(_nothing() for _ in new)])
    found = survey(gallery, opened, keys.missing, None, retry_failed)
    cost = estimate(
        found.plan, found.known, keys.missing, len(there) + len(new), packed, dimension, rate
    )
    return _document(place, gallery is not None, name, there, new, found, cost, rate)


def _nothing() -> Any:
    import pyarrow as pa

    return pa.chunked_array([], pa.string())


def _about(model: str) -> tuple[bool | None, int | None]:
    """Whether a model shares one pass between conditions, and the length of its vectors."""
    source = find(model)
    if source.local:
        path = Path(source.location) / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        text = config.get("text_config") or config
        runs = family(config.get("model_type", ""), text.get("model_type"))
        return runs.mode == "packed", text.get("hidden_size")
    for known in hub_models():
        if known.name == source.name:
            return known.runs.mode == "packed", known.vector
    return None, None


def _document(
    place: Path,
    exists: bool,
    model: str,
    there: Sequence[str],
    new: Sequence[str],
    found: Survey,
    cost: Cost,
    rate: float | None,
) -> dict[str, Any]:
    plan = found.plan
    folder = place.absolute()
    while not folder.exists():
        folder = folder.parent
    return {
        "schema_version": SCHEMA_VERSION,
        "gallery": str(place),
        "exists": exists,
        "model": model,
        "conditions": [*there, *new],
        "new_conditions": list(new),
        "files": {
            "found": plan.found,
            "new": plan.new,
            "changed": plan.changed,
            "known": cost.known + plan.returned,
            "unchanged": plan.unchanged,
            "incomplete": plan.incomplete,
            "retried": plan.retried,
            "failed": len(plan.failed),
            "failed_before": plan.failed_before,
            "gone": len(plan.gone),
            "relabelled": found.relabelled,
            "out_of_reach": plan.out_of_reach,
        },
        "pictures": cost.pictures,
        "vectors": cost.vectors,
        "passes": cost.passes,
        "pictures_per_second": rate,
        "seconds": cost.seconds,
        "bytes": cost.bytes,
        "free_bytes": shutil.disk_usage(folder).free,
        "unreachable": [vars(one) for one in plan.unreachable],
    }


_WORDS = {
    "found": "files found",
    "new": "new",
    "changed": "changed since",
    "known": "of these, pictures already known",
    "unchanged": "unchanged",
    "incomplete": "pictures that lack a condition",
    "retried": "tried again",
    "failed": "unreadable",
    "failed_before": "of these, known as such",
    "gone": "gone since the last scan",
    "relabelled": "with new values of your columns",
    "out_of_reach": "lack a condition and cannot be read now",
}


def print_plan(document: dict[str, Any]) -> None:
    """The plan for people."""
    rows = [[_WORDS[name], f"{count:,}"] for name, count in document["files"].items() if count]
    passes = document["passes"]
    speed, seconds = document["pictures_per_second"], document["seconds"]
    size, free = document["bytes"], document["free_bytes"]
    rows += [
        ["pictures to embed", f"{document['pictures']:,}"],
        ["vectors to make", f"{document['vectors']:,}"],
        [
            "passes through the model",
            f"{passes:,}" if passes is not None else f"{document['pictures']:,} or more",
        ],
        ["time", "unknown until measured" if seconds is None else duration(seconds)],
        [
            "disk",
            ("unknown until the model is there" if size is None else amount(size))
            + f" ({amount(free)} free)",
        ],
    ]
    if speed and seconds:
        rows[-2][1] += f" at {speed:.1f} pictures/s"
    made = "" if document["exists"] else ", to be made"
    say(
        f"Nothing was changed. Gallery {document['gallery']}{made}; model {document['model']}; "
        f"conditions: {', '.join(document['conditions'])}."
    )
    print_table(["what", "count"], rows, numbers=["count"])
    say_unreachable(document["unreachable"])


def say_unreachable(sources: Sequence[dict[str, Any]]) -> None:
    """The sources of which nothing is left, on stderr."""
    for one in sources:
        say(
            f"{one['name']} {one['reason']}, and the gallery knows {one['files']} files from it; "
            f"nothing there counts as gone. To forget them: `cies prune --source {one['name']}`."
        )


def amount(count: int) -> str:
    """Bytes as a person says them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:,.0f} kB"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
