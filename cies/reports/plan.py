"""``cies ingest --plan``: what a run would do and cost. Changes nothing, loads no model."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Sequence

from ingest.encoders.models.model_type import dual_dimension, is_dual

from cies.console import print_table, say
from cies.measured import measured_rate
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.conditions import UNCONDITIONAL, Condition, new_conditions, same_name
from ingest.encoders.models.catalogue import hub_models
from ingest.encoders.models.find import find
from ingest.encoders.vlm.families import family
from ingest.fill.encoder_choice import IngestTarget
from ingest.fill.vector_sources import vector_sources_of
from ingest.scan.cost import CostEstimate, Workload, estimate
from ingest.scan.known_files import KnownKeys
from ingest.scan.scan import ScanResult, scan_sources
from ingest.sources.factory import SourceGroup
from query.hits import SCHEMA_VERSION


def make_plan(
    gallery: Gallery | None,
    place: Path,
    opened: Sequence[SourceGroup],
    wanted: Sequence[Condition],
    choice: IngestTarget,
    retry_failed: bool = False,
    rate: Callable[[str, str, int], float | None] = lambda method, model, count: measured_rate(
        model, count, method=method
    ),
) -> dict[str, Any]:
    """The document that ``cies ingest --plan --json`` prints.

    Args:
        gallery: ``None`` if there is none yet.
        place: its folder.
        opened: the sources.
        wanted: conditions asked for.
        choice: who is asked about them, from :func:`ingest.fill.encoder_choice.choose`.
        retry_failed: whether to plan for what could not be read before.
        rate: pictures a second of a method and model by the number of conditions asked in one go.

    Raises:
        UsageError: if no condition is known, or nothing can be reached.
        ModelError: if there is no such model.
    """
    there = gallery.conditions() if gallery is not None else []
    if not choice.conditional:
        wanted = [Condition.parse(UNCONDITIONAL)]
    own = choice.vector_source.tables if choice.vector_source is not None else ()
    new = [condition.name for condition in new_conditions(wanted, [t.name for t in own])]
    completed = [t for t in own if any(same_name(t.name, c.name) for c in wanted)]
    kept_up = [table for table in there if table.kept_up or table in completed]
    if not kept_up and not new:
        raise UsageError("No condition was named; add one, such as `--condition color`.")
    held = [gallery.stored_keys(table) for table in kept_up] if gallery is not None else []
    keys = KnownKeys([*held, *(_nothing() for _ in new)])
    found = scan_sources(gallery, opened, keys.missing, None, retry_failed)
    parts: list[_Part] = []
    for vector_source in vector_sources_of(kept_up):
        spec, mine = vector_source.spec, [t.name for t in vector_source.tables]
        numbers = {n for n, table in enumerate(kept_up) if table in vector_source.tables}
        parts.append(
            _Part(spec.method, spec.model, mine, numbers, vector_source.tables[0].dimension)
        )
    part = next((p for p in parts if (p.method, p.model) == _name(choice)), None)
    if part is None and new:
        # What is there already, if only in part, says how long its vectors are.
        dimension = own[0].dimension if own else None
        part = _Part(*_name(choice), [], set(), dimension)
        parts.append(part)
    if part is not None:
        part.conditions += new
        part.numbers |= set(range(len(kept_up), len(kept_up) + len(new)))
    cost = estimate(found.plan, found.known, keys.missing, [p.load(rate) for p in parts])
    names = list(dict.fromkeys([*(table.name for table in kept_up), *new]))
    return _document(place, gallery is not None, choice, names, new, found, parts, cost)


@dataclass
class _Part:
    """What one method and model have to do."""

    method: str
    model: str
    conditions: list[str]
    numbers: set[int]
    dimension: int | None

    def load(self, rate: Callable[[str, str, int], float | None]) -> Workload:
        packed, dimension = _about(self.model)
        if self.method in ("generative", "regional"):
            # Answers are embedded by another model, and parts of a picture add to the row.
            packed, dimension = packed and self.method == "regional", None
        return Workload(
            frozenset(self.numbers),
            packed,
            self.dimension or dimension,
            lambda count: rate(self.method, self.model, count),
        )


def _name(choice: IngestTarget) -> tuple[str, str]:
    return (
        choice.method,
        choice.vector_source.spec.model if choice.vector_source is not None else choice.model,
    )


def _nothing() -> Any:
    import pyarrow as pa

    return pa.chunked_array([], pa.string())


def _about(model: str) -> tuple[bool | None, int | None]:
    """Whether a model shares one pass between conditions, and the length of its vectors."""
    if is_dual(model):
        return True, dual_dimension(model)
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
    choice: IngestTarget,
    names: Sequence[str],
    new: Sequence[str],
    found: ScanResult,
    parts: Sequence[_Part],
    estimated: CostEstimate,
) -> dict[str, Any]:
    plan, cost = found.plan, estimated.whole
    folder = place.absolute()
    while not folder.exists():
        folder = folder.parent
    return {
        "schema_version": SCHEMA_VERSION,
        "gallery": str(place),
        "exists": exists,
        "model": _name(choice)[1],
        "conditions": list(names),
        "new_conditions": list(new),
        "files": {
            "found": plan.found,
            "new": plan.new,
            "changed": plan.changed,
            "known": estimated.known + plan.returned,
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
        "pictures_per_second": cost.pictures / cost.seconds if cost.seconds else None,
        "seconds": cost.seconds,
        "bytes": cost.bytes,
        "makers": [
            {
                "method": part.method,
                "model": part.model,
                "conditions": part.conditions,
                "pictures": own.pictures,
                "vectors": own.vectors,
                "passes": own.passes,
                "seconds": own.seconds,
                "bytes": own.bytes,
            }
            for part, own in zip(parts, estimated.parts, strict=True)
        ],
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
    if len(document["makers"]) > 1:
        _print_makers(document["makers"])
    say_unreachable(document["unreachable"])


def _print_makers(vector_sources: Sequence[dict[str, Any]]) -> None:
    print_table(
        ["method", "model", "conditions", "pictures", "vectors", "time"],
        [
            [
                one["method"],
                one["model"],
                ", ".join(one["conditions"]),
                f"{one['pictures']:,}",
                f"{one['vectors']:,}",
                "unknown" if one["seconds"] is None else duration(one["seconds"]),
            ]
            for one in vector_sources
        ],
        title="Of this, by method and model, one after the other",
        numbers=["pictures", "vectors"],
    )


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
