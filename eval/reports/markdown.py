"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from eval.reports.report import MeanFigure, Report, SystemResults, TaskReport, definition
from eval.reports.verification import comparable_figure, status
from eval.runs.abstention import SHARED_NEIGHBOURS
from eval.tasks import LabelTask

#: Of :func:`published_rows`.
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
    """Three places, as every table has it."""
    return f"{value:.3f}"


def around(mean: MeanFigure) -> str:
    """A mean with its interval."""
    if mean.low is None or mean.high is None:
        return number(mean.value)
    return f"{number(mean.value)} [{number(mean.low)}, {number(mean.high)}]"


def as_markdown(report: Report, title: str) -> str:
    """The document ``report.md``."""
    lines = [f"# {title}", "", *_about(report)]
    for section in report.sections:
        lines += ["", *_section(section)]
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, its cells escaped."""
    every = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in every]


def encoder_rows(report: Report) -> list[list[str]]:
    """What was asked: name, model, revision, settings, device, seconds, of all runs."""
    rows = []
    for run in report.runs:
        for name, entry in run.document["encoders"].items():
            made = entry["made_by"]
            settings = ", ".join(f"{k} {v}" for k, v in made["settings"].items() if v is not None)
            rows.append(
                [
                    name,
                    str(made["model"]),
                    str(made["revision"])[:12],
                    settings,
                    entry["device"] or "cpu",
                    f"{entry.get('seconds', 0):.0f}",
                ]
            )
    return rows


def run_lines(report: Report) -> list[str]:
    """A sentence on each run, and what could not be asked."""
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
            lines += [f"{note}" for note in entry["notes"]]
        for name, entry in about.get("composers", {}).items():
            if entry["writer"]:
                lines.append(f"{name}: captions by {entry['writer']}.")
            lines += entry["notes"]
    return lines


def headline_rows(section: TaskReport, name: str) -> tuple[list[str], list[list[str]]]:
    """Systems by conditions or parts, with the mean, and chance below."""
    head = ["system", *(row or "all" for row in section.rows), "mean [95 %]"]
    leaks = any(section.leakage(column) is not None for column in section.columns)
    if leaks:
        head.append("leakage")
    rows = []
    chance: list[str] = []
    for column in section.columns:
        figures = {f.row: f for f in column.own(name)}
        mean = section.mean(column, name)
        if mean is None:
            continue
        cells = [number(figures[r].value) if r in figures else "" for r in section.rows]
        leak = section.leakage(column)
        rows.append(
            [
                column.name,
                *cells,
                around(mean),
                *([number(leak) if leak is not None else ""] * leaks),
            ]
        )
        if not chance and len(figures) == len(section.rows):
            levels = [number(figures[r].chance) for r in section.rows]
            chance = ["chance", *levels, number(mean.chance), *(["0.000"] * leaks)]
    return head, [*rows, *([chance] if chance else [])]


def other_rows(section: TaskReport) -> tuple[list[str], list[list[str]]]:
    """Means of the other metrics."""
    names = [name for name in section.metrics[1:] if name != SHARED_NEIGHBOURS]
    rows = []
    for column in section.columns:
        means = [section.mean(column, name) for name in names]
        if any(means):
            rows.append([column.name, *(around(mean) if mean else "" for mean in means)])
    return ["system", *names], rows if names else []


def wording_rows(section: TaskReport) -> list[list[str]]:
    """What wordings of one condition share: system, wording, first wording, value, chance."""
    return [
        [column.name, f.row, f.judge, number(f.value), number(f.chance)]
        for column in section.columns
        for f in column.own(SHARED_NEIGHBOURS)
    ]


def published_rows(section: TaskReport) -> list[list[str]]:
    """Published figures beside the same method of ours, with how protocols differ."""
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


def _section(section: TaskReport) -> list[str]:
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
        lines += ["", "Published, beside the same method of ours, or else our best:", ""]
        lines += table(PUBLISHED_HEADS, published_rows(section))
    return lines


def matrix_columns(section: TaskReport) -> list[SystemResults]:
    """Systems that have figures under labels they were not asked for."""
    if not isinstance(section.task, LabelTask):
        return []
    return [c for c in section.columns if any(not f.own for f in c.figures)]


def _matrices(section: TaskReport) -> list[str]:
    lines: list[str] = []
    for column in matrix_columns(section):
        lines += [
            "",
            f"{column.name}: MAP@R over chance, (value - chance) / (1 - chance), of the condition "
            "searched under (rows) judged by each label (columns):",
            "",
        ]
        rows = []
        for row in section.rows:
            cells = [column.cell(row, judge, "MAP@R") for judge in section.rows]
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
