"""Reports as Markdown, and the table rows that Markdown and HTML share."""

from __future__ import annotations

from collections.abc import Sequence

from eval.reports.report import MeanFigure, Report, ReportSection, SystemResults, definition
from eval.reports.verification import comparable_figure, status
from eval.runs.abstention import SHARED_NEIGHBOURS
from eval.tasks import LabelTask

#: Head of the table of :func:`published_rows`.
PUBLISHED_HEADS = (
    "system",
    "part",
    "metric",
    "published",
    "ours",
    "status",
    "source",
    "protocol",
)


def number(value: float) -> str:
    """Format a figure with three places."""
    return f"{value:.3f}"


def with_interval(mean: MeanFigure) -> str:
    """Format a mean with its interval."""
    if mean.low is None or mean.high is None:
        return number(mean.value)
    return f"{number(mean.value)} [{number(mean.low)}, {number(mean.high)}]"


def as_markdown(report: Report, title: str) -> str:
    """Return the document ``report.md``."""
    lines = [f"# {title}", "", *_about(report)]
    for section in report.sections:
        lines += ["", *_section(section)]
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, with escaped cells."""
    every = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in every]


def encoder_rows(report: Report) -> list[list[str]]:
    """Return name, model, revision, settings, device and seconds of all encoders of all runs."""
    rows = []
    for run in report.runs:
        for name, entry in run.document["encoders"].items():
            identity = entry["made_by"]
            settings = [f"{k} {v}" for k, v in identity["settings"].items() if v is not None]
            rows.append(
                [
                    name,
                    str(identity["model"]),
                    str(identity["revision"])[:12],
                    ", ".join(settings),
                    entry["device"] or "cpu",
                    f"{entry.get('seconds', 0):.0f}",
                ]
            )
    return rows


def run_lines(report: Report) -> list[str]:
    """Return sentences about each run, and about what was left out."""
    lines = []
    for run in report.runs:
        about = run.document
        options = ", ".join(f"{k} {v}" for k, v in about["options"].items()) or "none"
        versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
        machine = ", ".join(f"{k} {v}" for k, v in about["machine"].items())
        lines.append(
            f"{run.path.name}: {about['benchmark']}, options: {options}; seed {about['seed']}; "
            f"begun {about['begun']}, finished {about.get('finished', 'not yet')}; {versions}; "
            f"{machine}."
        )
        if about.get("seconds"):
            spent = ", ".join(f"{k} {v:,.0f}" for k, v in about["seconds"].items())
            total = sum(about["seconds"].values())
            lines.append(f"{run.path.name} took {total:,.0f} seconds: {spent}.")
        for entry in about["encoders"].values():
            lines += entry["notes"]
        for name, entry in about.get("composers", {}).items():
            if entry["writer"]:
                lines.append(f"{name}: captions by {entry['writer']}.")
            lines += entry["notes"]
    return lines


def headline_rows(section: ReportSection, name: str) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the main table: systems by conditions or parts, and chance."""
    head = ["system", *(row or "all" for row in section.rows), "mean [95 %]"]
    leaks = any(section.leakage(results) is not None for results in section.systems)
    if leaks:
        head.append("leakage")
    rows = []
    chance: list[str] = []
    for results in section.systems:
        figures = {f.row: f for f in results.own_figures(name)}
        mean = section.mean(results, name)
        if mean is None:
            continue
        cells = [number(figures[r].value) if r in figures else "" for r in section.rows]
        leak = section.leakage(results)
        rows.append(
            [
                results.name,
                *cells,
                with_interval(mean),
                *([number(leak) if leak is not None else ""] * leaks),
            ]
        )
        if not chance and len(figures) == len(section.rows):
            levels = [number(figures[r].chance) for r in section.rows]
            chance = ["chance", *levels, number(mean.chance), *(["0.000"] * leaks)]
    return head, [*rows, *([chance] if chance else [])]


def other_rows(section: ReportSection) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the means of the other metrics."""
    names = [name for name in section.metrics[1:] if name != SHARED_NEIGHBOURS]
    rows = []
    for results in section.systems:
        means = [section.mean(results, name) for name in names]
        if any(means):
            rows.append([results.name, *(with_interval(mean) if mean else "" for mean in means)])
    return ["system", *names], rows if names else []


def wording_rows(section: ReportSection) -> list[list[str]]:
    """Return system, wording, first wording, shared neighbours and chance."""
    return [
        [results.name, f.row, f.judge, number(f.value), number(f.chance)]
        for results in section.systems
        for f in results.own_figures(SHARED_NEIGHBOURS)
    ]


def published_rows(section: ReportSection) -> list[list[str]]:
    """Return published figures with those of the runs, and how the protocols differ."""
    rows = []
    for one in section.published:
        ours = comparable_figure(section, one)
        rows.append(
            [
                one.system,
                one.part or "mean",
                one.metric,
                number(one.value),
                f"{number(ours.value)} ({ours.name})" if ours else "",
                status(section, one),
                one.source + (", quoted" if one.seen == "secondary" else ""),
                one.differs(section.task.name) or "same, as far as known",
            ]
        )
    return rows


def _about(report: Report) -> list[str]:
    head = ["encoder", "model", "revision", "settings", "device", "seconds"]
    lines = [f"{line}\n" for line in run_lines(report)]
    return [*lines, *table(head, encoder_rows(report))]


def _section(section: ReportSection) -> list[str]:
    task = section.task
    lines = [
        f"## {task.name}",
        "",
        f"{task.source.title}; licence: {task.source.licence}. {len(task.images):,} pictures.",
        *task.notes,
        "",
        f"**{section.headline}**: {definition(section.headline)}",
        "",
        *table(*headline_rows(section, section.headline)),
    ]
    head, rows = other_rows(section)
    if rows:
        lines += ["", *(f"**{name}**: {definition(name)}  " for name in head[1:])]
        lines += ["", *table(head, rows)]
    if shared := wording_rows(section):
        lines += ["", f"**{SHARED_NEIGHBOURS}**: {definition(SHARED_NEIGHBOURS)}", ""]
        lines += table(["system", "wording", "first wording", "shared", "chance"], shared)
    lines += _matrices(section)
    if section.published:
        lines += ["", "Published figures, with the same method of ours, or else our best:", ""]
        lines += table(PUBLISHED_HEADS, published_rows(section))
    return lines


def systems_with_other_labels(section: ReportSection) -> list[SystemResults]:
    """Return systems that were judged by labels other than the condition's own."""
    if not isinstance(section.task, LabelTask):
        return []
    return [c for c in section.systems if any(not f.own for f in c.figures)]


def _matrices(section: ReportSection) -> list[str]:
    lines: list[str] = []
    for results in systems_with_other_labels(section):
        lines += [
            "",
            f"{results.name}: MAP@R over chance, (value - chance) / (1 - chance), of the condition "
            "searched under (rows) judged by each label (columns):",
            "",
        ]
        rows = []
        for row in section.rows:
            cells = [results.cell(row, judge, "MAP@R") for judge in section.rows]
            rows.append(
                [
                    row,
                    *(
                        "" if c is None else f"{c.corrected:.2f}".replace("-0.00", "0.00")
                        for c in cells
                    ),
                ]
            )
        lines += table(["condition", *section.rows], rows)
    return lines
