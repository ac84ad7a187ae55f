"""``cies ingest --plan``: what a run would do and cost. Changes nothing, loads no model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cies.console import print_document, print_table, say
from cies.measured import measured_rate
from cies.reports.ingest import existing_gallery, say_unreachable
from indexes.errors import UsageError
from indexes.store.gallery import DEFAULT_GEOMETRY, Gallery
from ingest.conditions import UNCONDITIONAL, Condition, new_conditions, same_name
from ingest.encoders.embedders.presets import preset_of
from ingest.encoders.factory import METHODS
from ingest.encoders.models.catalogue import all_models
from ingest.encoders.models.find import dual_dimension, find_model, is_dual, is_vision
from ingest.encoders.vlm.families import family
from ingest.fill.encoder_choice import IngestTarget, choose_target, conditions_for, notes_on_target
from ingest.fill.vector_sources import EMBEDDER, PHOTO, vector_sources_of
from ingest.scan.cost import CostEstimate, Workload, estimate
from ingest.scan.known_files import KnownKeys
from ingest.scan.scan import ScanResult, scan_sources
from ingest.sources.factory import SourceGroup

#: Method, model and number of conditions in one pass -> pictures a second, ``None`` if unknown.
Rate = Callable[[str, str, int], float | None]


def run_plan(
    gallery_path: Path,
    opened: Sequence[SourceGroup],
    conditions: Sequence[str],
    model: str | None = None,
    method: str | None = None,
    retry_failed: bool = False,
    as_json: bool = False,
    device: str = "auto",
    geometry: str | None = None,
) -> None:
    """Print what ``cies ingest`` would do with the same arguments.

    Raises:
        CiesError: as the run itself would.
    """
    gallery = existing_gallery(gallery_path)
    target = choose_target(gallery, method, model)
    wanted = [Condition.parse(text) for text in conditions]
    for note in notes_on_target(target, bool(wanted)):
        say(f"Note: {note}.")
    geometry = geometry or (gallery.geometry if gallery is not None else DEFAULT_GEOMETRY)
    wanted = conditions_for(target, gallery, wanted, geometry)

    def rate(method: str, model: str, count: int) -> float | None:
        return measured_rate(model, count, device, method)

    document = make_plan(gallery, gallery_path, opened, wanted, target, retry_failed, rate)
    if as_json:
        print_document(document)
    else:
        print_plan(document)


def make_plan(
    gallery: Gallery | None,
    gallery_path: Path,
    opened: Sequence[SourceGroup],
    wanted: Sequence[Condition],
    target: IngestTarget,
    retry_failed: bool = False,
    rate: Rate = lambda method, model, count: measured_rate(model, count, method=method),
) -> dict[str, Any]:
    """The document that ``cies ingest --plan --json`` prints.

    Args:
        gallery: ``None`` if there is none yet.
        gallery_path: its folder.
        opened: the sources.
        wanted: the conditions asked for.
        target: the method and model, from :func:`ingest.fill.encoder_choice.choose_target`.
        retry_failed: include files that could not be read before.
        rate: embedding speed.

    Raises:
        UsageError: if no condition is named, or no source can be reached.
        ModelError: if there is no such model.
    """
    if not target.conditional:
        wanted = [Condition.parse(UNCONDITIONAL)]
    chosen = target.vector_source.tables if target.vector_source is not None else ()
    new = [condition.name for condition in new_conditions(wanted, [t.name for t in chosen])]
    completed = [t for t in chosen if any(same_name(t.name, c.name) for c in wanted)]
    stored = gallery.conditions() if gallery is not None else []
    kept_up = [table for table in stored if table.kept_up or table in completed]
    if not kept_up and not new:
        raise UsageError("No condition was named; add one, such as `--condition color`.")
    stored_keys = [gallery.stored_keys(table) for table in kept_up] if gallery is not None else []
    keys = KnownKeys([*stored_keys, *(_no_keys() for _ in new)])
    scan = scan_sources(gallery, opened, keys.missing, None, retry_failed)
    tasks = [
        _EncoderTask(
            method=source.spec.method,
            model=source.spec.model,
            conditions=[table.name for table in source.tables],
            numbers={n for n, table in enumerate(kept_up) if table in source.tables},
            dimension=source.tables[0].dimension,
        )
        for source in vector_sources_of(kept_up)
    ]
    method, model = _method_and_model(target)
    task = next((t for t in tasks if (t.method, t.model) == (method, model)), None)
    if task is None and new:
        # A partial table, to which an ingest adds nothing, still gives the length of the vectors.
        task = _EncoderTask(method, model, [], set(), chosen[0].dimension if chosen else None)
        tasks.append(task)
    if task is not None:
        task.conditions += new
        task.numbers |= set(range(len(kept_up), len(kept_up) + len(new)))
    workloads = [task.workload(rate) for task in tasks]
    cost = estimate(scan.plan, scan.known, keys.missing, workloads)
    names = list(dict.fromkeys([*(table.name for table in kept_up), *new]))
    return _document(gallery_path, gallery is not None, model, names, new, scan, tasks, cost)


@dataclass
class _EncoderTask:
    """The work of one method and model.

    Attributes:
        method: its name.
        model: its model.
        conditions: names of the conditions that it embeds.
        numbers: positions of these conditions among all of the plan.
        dimension: length of its vectors, ``None`` if unknown.
    """

    method: str
    model: str
    conditions: list[str]
    numbers: set[int]
    dimension: int | None

    def workload(self, rate: Rate) -> Workload:
        packed: bool | None = None
        dimension: int | None = None
        if self.method == PHOTO:
            packed, dimension = True, _packing_and_dimension(self.model)[1]
        elif self.method in METHODS:
            packed, dimension = _packing_and_dimension(self.model)
        if self.method in ("generative", "regional"):
            # generative embeds the answers by another model; regional stores several vectors.
            packed, dimension = packed and self.method == "regional", None
        if self.method == EMBEDDER:
            preset = preset_of(self.model)
            packed = packed and preset is not None and preset.shares_pictures
        return Workload(
            frozenset(self.numbers),
            packed,
            self.dimension or dimension,
            lambda count: rate(self.method, self.model, count),
        )


def _method_and_model(target: IngestTarget) -> tuple[str, str]:
    source = target.vector_source
    return target.method, target.model if source is None else source.spec.model


def _no_keys() -> Any:
    import pyarrow as pa

    return pa.chunked_array([], pa.string())


def _packing_and_dimension(model: str) -> tuple[bool | None, int | None]:
    """Whether conditions share one pass, and the length of vectors; ``None`` if unknown."""
    if is_dual(model):
        return True, dual_dimension(model)
    source = find_model(model)
    is_single = is_vision(model)  # its vectors do not depend on the condition
    if source.local:
        path = Path(source.location) / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        text = config.get("text_config") or config
        runs = family(config.get("model_type", ""), text.get("model_type"))
        return is_single or runs.mode == "packed", text.get("hidden_size")
    for known in all_models():
        if known.name == source.name:
            return is_single or known.family_info.mode == "packed", known.vector
    return None, None


def _document(
    gallery_path: Path,
    exists: bool,
    model: str,
    names: Sequence[str],
    new: Sequence[str],
    scan: ScanResult,
    tasks: Sequence[_EncoderTask],
    estimated: CostEstimate,
) -> dict[str, Any]:
    plan, cost = scan.plan, estimated.total
    folder = gallery_path.absolute()
    while not folder.exists():
        folder = folder.parent
    return {
        "gallery": str(gallery_path),
        "exists": exists,
        "model": model,
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
            "relabelled": scan.relabelled,
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
                "method": task.method,
                "model": task.model,
                "conditions": task.conditions,
                "pictures": part.pictures,
                "vectors": part.vectors,
                "passes": part.passes,
                "seconds": part.seconds,
                "bytes": part.bytes,
            }
            for task, part in zip(tasks, estimated.parts, strict=True)
        ],
        "free_bytes": shutil.disk_usage(folder).free,
        "unreachable": [vars(one) for one in plan.unreachable],
    }


_FILE_COUNTS = {
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
    """Print a plan from :func:`make_plan` for people."""
    pictures, passes = document["pictures"], document["passes"]
    speed, seconds = document["pictures_per_second"], document["seconds"]
    size, free = document["bytes"], document["free_bytes"]
    time = "unknown until measured" if seconds is None else duration(seconds)
    if speed and seconds:
        time += f" at {speed:.1f} pictures/s"
    disk = "unknown until the model is there" if size is None else amount(size)
    rows = [
        [_FILE_COUNTS[name], f"{count:,}"] for name, count in document["files"].items() if count
    ]
    rows += [
        ["pictures to embed", f"{pictures:,}"],
        ["vectors to make", f"{document['vectors']:,}"],
        [
            "passes through the model",
            f"{pictures:,} or more" if passes is None else f"{passes:,}",
        ],
        ["time", time],
        ["disk", f"{disk} ({amount(free)} free)"],
    ]
    created = "" if document["exists"] else ", to be created"
    say(
        f"Nothing was changed. Gallery {document['gallery']}{created}; model {document['model']}; "
        f"conditions: {', '.join(document['conditions'])}."
    )
    print_table(["what", "count"], rows, numbers=["count"])
    if len(document["makers"]) > 1:
        _print_encoders(document["makers"])
    say_unreachable(document["unreachable"])


def _print_encoders(entries: Sequence[dict[str, Any]]) -> None:
    print_table(
        ["method", "model", "conditions", "pictures", "vectors", "time"],
        [
            [
                entry["method"],
                entry["model"],
                ", ".join(entry["conditions"]),
                f"{entry['pictures']:,}",
                f"{entry['vectors']:,}",
                "unknown" if entry["seconds"] is None else duration(entry["seconds"]),
            ]
            for entry in entries
        ],
        title="By method and model, which run one after the other",
        numbers=["pictures", "vectors"],
    )


def amount(count: int) -> str:
    """A number of bytes in kB, MB or GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:,.0f} kB"


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
