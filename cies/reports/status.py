"""What the commands print and write. No torch, no transformers."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

from cies.console import print_json, print_table, say
from cies.measured import measured_speeds
from cies.reports.plan import say_unreachable
from indexes.store.attributes import TYPES, user_columns
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.encoders.models.find import BUILTIN
from ingest.fill.pipeline import IngestReport
from ingest.sources.factory import SourceGroup
from query.hits import SCHEMA_VERSION, Hits

if TYPE_CHECKING:
    from eval.matrix import Matrix, TripletScore

#: Unreadable files named at the end of an ingest; all of them are in ``cies status --failed``.
_FAILURES_SHOWN = 20

_TYPE_NAMES = {kind: name for name, kind in TYPES.items()}


def print_failures(report: IngestReport) -> None:
    """The unreadable files on stderr, with reasons, and how many there are of each kind."""
    for record in report.failed[:_FAILURES_SHOWN]:
        say(f"unreadable: {record.path!r}: {record.reason}")
    rest = len(report.failed) - _FAILURES_SHOWN
    if rest > 0:
        say(f"... and {rest} more; `cies status --failed` lists all of them.")
    if len(report.failed) > 1:
        counts = Counter(record.status for record in report.failed).most_common()
        say("Unreadable: " + ", ".join(f"{count} {status}" for status, count in counts) + ".")


def say_sources(opened: Sequence[SourceGroup], report: IngestReport) -> None:
    """On stderr: columns that got another name, sources with nothing in them, files to mind."""
    for one in opened:
        for source in one.sources:
            renamed = [(a, b) for a, b in source.names.items() if a != b]
            if renamed:
                listed = ", ".join(f"'{old}' is {new}" for old, new in renamed)
                say(f"Columns of {source.name} in the gallery: {listed}.")
    if not report.found and not report.unreachable:
        names = ", ".join(one.name or one.sources[0].name for one in opened)
        say(f"No pictures in {names}: no file there has a picture's name.")
    if report.relabelled:
        say(f"{report.relabelled} files have new values in your columns.")
    say_unreachable([vars(one) for one in report.unreachable])
    if report.out_of_reach:
        say(f"{report.out_of_reach} pictures lack a condition and cannot be read now.")


def ingest_summary(place: Path, report: IngestReport) -> dict[str, Any]:
    """The document that ``cies ingest --json`` prints."""
    return {
        "schema_version": SCHEMA_VERSION,
        "gallery": str(place),
        "conditions": report.conditions,
        "makers": [
            {**vars(vector_source), "seconds": round(vector_source.seconds, 3)}
            for vector_source in report.vector_sources
        ],
        "found": report.found,
        "embedded": report.embedded,
        "unchanged": report.unchanged,
        "known": report.known,
        "gone": report.gone,
        "relabelled": report.relabelled,
        "out_of_reach": report.out_of_reach,
        "unreachable": [vars(one) for one in report.unreachable],
        "failed": [vars(record) for record in report.failed],
        "failed_by_status": Counter(record.status for record in report.failed),
        "notes": report.notes,
        "seconds": round(report.seconds, 3),
    }


def say_model(table: VectorTable) -> None:
    """One line on stderr when the answer comes from a built-in model."""
    model = table.made_by["model"]
    if model in BUILTIN:
        say(f"Model: {model}, {BUILTIN[model]}.")


def write_sheet(path: Path, hits: Hits) -> None:
    """The contact sheet of one search."""
    from cies.html.contact_sheet import Row, render_page, write_page

    image, condition = hits.query.image, hits.query.condition
    rows = [Row(condition, f"{len(hits)} nearest", hits)]
    shown = image if Path(image).is_file() else ""
    title, asked = f"Alike in {condition}", f"Query: {image or hits.query.text}"
    if hits.query.composed:
        from query.composers.base import Interpretation

        title = f"{image}, but: {hits.query.composed['modification']}"
        asked = "; ".join(Interpretation(**hits.query.composed).lines())
    page = render_page(title, asked, shown, rows)
    write_page(path, page)
    say(f"Contact sheet written to {path}.")


def gallery_status(gallery: Gallery) -> dict[str, Any]:
    """The document that ``cies status --json`` prints."""
    files = gallery.files()
    failed = [record for record in files if record.status not in ("done", "gone")]
    gone = [record for record in files if record.status == "gone"]
    keys = {record.key for record in files if record.status == "done"}
    entries = []
    for table in gallery.conditions():
        embedded = gallery.keys(table)
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
                "settings": table.made_by["settings"],
            }
        )
    size = sum(path.stat().st_size for path in gallery.path.rglob("*") if path.is_file())
    return {
        "schema_version": SCHEMA_VERSION,
        "gallery": str(gallery.path),
        "pictures": len(keys),
        "files": len(files) - len(failed) - len(gone),
        "failed": [vars(record) for record in failed],
        "gone": [{"path": record.path, "since": _moment(record.gone_at)} for record in gone],
        "sources": [{"source": name, **kept} for name, kept in gallery.sources().items()],
        "columns": {name: _TYPE_NAMES[kind] for name, kind in user_columns(gallery).items()},
        "bytes": size,
        "geometry": gallery.geometry,
        "conditions": entries,
    }


def print_status(document: dict[str, Any]) -> None:
    """The status for people."""
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
    print_conditions(document)


def print_conditions(document: dict[str, Any]) -> None:
    """The conditions for people."""
    print_table(
        ["condition", "pictures", "missing", "dimension", "method", "model"],
        [
            [
                entry["name"],
                _held(entry),
                str(entry["missing"]),
                str(entry["dimension"]),
                entry["method"],
                entry["model"],
            ]
            for entry in document["conditions"]
        ],
        numbers=["pictures", "missing", "dimension"],
    )


def _held(entry: dict[str, Any]) -> str:
    """How many pictures a condition has; of a partial one also of how many, and what next."""
    if not entry["partial"]:
        return str(entry["pictures"])
    state = "partial, ingest completes it" if entry["filling"] else "partial"
    return f"{entry['pictures']} of {entry['pictures'] + entry['missing']} ({state})"


def failed_files(gallery: Gallery) -> dict[str, Any]:
    """The document that ``cies status --failed --json`` prints."""
    failed = [record for record in gallery.files() if record.status != "done"]
    return {
        "schema_version": SCHEMA_VERSION,
        "gallery": str(gallery.path),
        "failed": [vars(record) for record in failed],
        "failed_by_status": Counter(record.status for record in failed),
    }


def print_failed(document: dict[str, Any]) -> None:
    """The files that could not be read."""
    rows = [[r["path"], r["status"], r["reason"]] for r in document["failed"]]
    print_table(["file", "status", "reason"], rows)


def print_gone(document: dict[str, Any]) -> None:
    """The files that were not there at the last scan."""
    rows = [[entry["path"], entry["since"]] for entry in document["gone"]]
    print_table(["file", "gone since"], rows)


def _moment(seconds: int | None) -> str:
    return datetime.fromtimestamp(seconds or 0, UTC).isoformat()


def print_matrix(matrix: Matrix, pairs: bool = False) -> None:
    """The matrix of MAP@R over chance, then every condition under its own label in full.

    Args:
        matrix: what was measured.
        pairs: whether every condition is shown in full under every label, as it is anyway where no
            label goes by a condition's name.
    """
    from eval.matrix import METRICS

    rows = []
    for condition in matrix.conditions:
        cells = {cell.label: cell for cell in matrix.cells if cell.condition == condition}
        best = max(cells.values(), key=lambda cell: cell.metrics["MAP@R"].corrected)
        row = [condition]
        for label in matrix.labels:
            value = f"{cells[label].metrics['MAP@R'].corrected:.3f}"
            row.append(f"[{value}]" if cells[label] is best else value)
        rows.append(row)
    print_table(
        ["condition", *matrix.labels],
        rows,
        title=f"MAP@R over chance (0 chance, 1 perfect), {matrix.pictures} pictures; "
        "rows: searched by, columns: judged by, [best of row]",
        numbers=matrix.labels,
    )
    full = []
    own = [cell for cell in matrix.cells if cell.own]
    whole = pairs or not own
    for cell in matrix.cells if whole else own:
        line = [cell.condition, cell.label, "yes" if cell.own else "", str(cell.queries)]
        for name in METRICS:
            measure = cell.metrics[name]
            line += [f"{measure.value:.3f}", f"{measure.chance:.3f}"]
        full.append(line)
    print()
    columns = ["condition", "label", "own", "queries"]
    columns += [text for name in METRICS for text in (name, f"chance {name}")]
    title = "Every pair" if whole else "Every condition under its own label"
    print_table(columns, full, title=f"{title}, each beside its chance level", numbers=columns[3:])
    if not whole:
        say("All figures of every condition and label: cies eval --pairs.")
    if matrix.unmatched:
        say(f"{matrix.unmatched} files of the label file are not in the gallery.")


def print_triplets(scores: Sequence[TripletScore]) -> None:
    """Triplet accuracies; 0.5 is what a similarity that ignores the condition gets."""
    print()
    print_table(
        ["pair", "condition", "triplets", "accuracy"],
        [[s.pair, s.condition, str(s.triplets), f"{s.accuracy:.3f}"] for s in scores],
        title="Triplet accuracy (0.5 ignores the condition)",
        numbers=["triplets", "accuracy"],
    )


def print_models(as_json: bool) -> None:
    """The built-in models, those of the hub, and how every known family is run."""
    from ingest.encoders.models.catalogue import hub_models, recommended, this_machine
    from ingest.encoders.models.find import find
    from ingest.encoders.vlm.families import FAMILIES, UNKNOWN

    speeds = measured_speeds()
    entries = []
    for name, about in BUILTIN.items():
        schooled = find(name).trained_on() or {}
        entries.append({"name": name, "about": about, "conditions": schooled})
    machine = this_machine()
    start = recommended(machine)
    hub = [
        {
            **vars(model),
            "mode": model.runs.mode,
            "runs_on": machine.place(model) or None,
            "recommended": model is start,
        }
        for model in hub_models()
    ]
    if as_json:
        families = {name: vars(family) for name, family in FAMILIES.items()}
        other = vars(UNKNOWN)
        document = {"builtin": entries, "machine": vars(machine), "hub": hub}
        document |= {"measured": [vars(speed) for speed in speeds]}
        document |= {"families": families, "other_families": other}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    print_table(
        ["model", "what it is", "conditions"],
        [[str(e["name"]), str(e["about"]), ", ".join(e["conditions"])] for e in entries],
    )
    print()
    memory = f"{machine.memory:.0f} GB" if machine.memory else "an unknown amount"
    print_table(
        ["hub model", "download", "vector", "TFLOP/image", "runs here on", "licence"],
        [
            [
                f"{entry['name']}{' (start here)' if entry['recommended'] else ''}",
                f"{entry['gigabytes']:.1f} GB",
                str(entry["vector"]),
                f"{entry['teraflops']:.2f}",
                str(entry["runs_on"] or ("too large" if machine.memory else "unknown")),
                str(entry["licence"]),
            ]
            for entry in hub
        ],
        title=f"For photographs; this machine has {memory} of memory"
        + (f" and a GPU of {machine.gpu:.0f} GB" if machine.gpu else " and no GPU"),
        numbers=["download", "vector", "TFLOP/image"],
    )
    say("Compare ways of running one here with `cies bench embed --model NAME`.")
    print()
    if speeds:
        print_table(
            ["model", "conditions", "device", "dtype", "threads", "pictures/s", "on", "when"],
            [
                [
                    speed.model,
                    str(speed.conditions),
                    speed.device,
                    speed.dtype,
                    str(speed.threads),
                    f"{speed.pictures_per_second:.3g}",
                    str(speed.pictures),
                    speed.when,
                ]
                for speed in speeds
            ],
            title="How fast models embedded on this machine, by `cies ingest`",
            numbers=["conditions", "threads", "pictures/s", "on"],
        )
        print()
    print_table(
        ["family", "conditions run", "because"],
        [[name, family.mode, family.reason] for name, family in FAMILIES.items()]
        + [["any other", UNKNOWN.mode, UNKNOWN.reason]],
        title="Models from the hub or a folder, by family: packed is all conditions in one pass",
    )
