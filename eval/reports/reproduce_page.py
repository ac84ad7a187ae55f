"""Writes figures of runs into a Markdown page, such as docs/reproduce.md.

The text between two comments, ``<!-- run of world -->`` and ``<!-- end of world -->``, is
replaced; the comments have the name of the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.benchmarks import WORLD_METHODS
from eval.reports.markdown import number, table
from eval.reports.report import Report
from eval.runs.run import Run
from indexes.errors import CiesError, UsageError
from indexes.files import write_atomic

#: How much figures may differ on another processor or with other versions of the libraries.
TOLERANCE = 0.01

_HEAD = ("task", "system", "figure, mean", "expected", "chance", "tolerance", "status")


def write_into(page: Path, report: Report) -> None:
    """Replace the parts of a page that belong to the benchmarks of a report.

    Args:
        page: a Markdown page with the comments of the module.
        report: the report of one or several runs; runs of one benchmark share a table.

    Raises:
        UsageError: if the page cannot be read or lacks the comments of a benchmark.
        CiesError: if it cannot be written.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {page}; name a Markdown page that is there.") from error
    for name in dict.fromkeys(str(run.document["benchmark"]) for run in report.runs):
        first, last = f"<!-- run of {name} -->", f"<!-- end of {name} -->"
        if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
            raise UsageError(
                f"{page} has no place for a run of {name}; add the lines '{first}' and '{last}' "
                "where its table belongs."
            )
        before, rest = text.split(first)
        after = rest.split(last)[1]
        text = f"{before}{first}\n{_part(report, name)}\n{last}{after}"
    try:
        write_atomic(page, text.encode())
    except OSError as error:
        raise CiesError(f"Cannot write {page}: {(error.strerror or '').lower()}.") from error


def _part(report: Report, benchmark: str) -> str:
    runs = [run for run in report.runs if run.document["benchmark"] == benchmark]
    lines = [f"{sentence(run)}\n" for run in runs]
    rows = []
    for section in report.sections:
        systems = [c for c in section.systems if any(c.run is run for run in runs)]
        for results in systems:
            mean = section.mean(results, section.headline)
            if mean is not None:
                figures = (number(mean.value), number(mean.chance))
                kind = (section.task.name, results.name, section.headline)
                rows.append([*kind, *figures, f"{TOLERANCE}", "verified here"])
    return "\n".join([*lines, *table(_HEAD, rows)])


def sentence(run: Run) -> str:
    """Return a sentence about a run: the command, the seconds and the machine."""
    about = run.document
    spent = {name: round(seconds) for name, seconds in about.get("seconds", {}).items()}
    took = ""
    if spent:
        parts = ", ".join(f"{name} {seconds:,}" for name, seconds in spent.items())
        took = f" took {sum(spent.values()):,} seconds ({parts})"
    machine = ", ".join(f"{name} {value}" for name, value in about["machine"].items())
    return f"`{command(about)}`{took}, begun {about['begun'][:10]}; {machine}."


def command(about: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, without the folder of its data."""
    words = ["cies bench", str(about["benchmark"])]
    words += [f"--option {name}={_quoted(value)}" for name, value in about["options"].items()]
    methods = [n for n, entry in about["encoders"].items() if entry["wanted"] and n != "histogram"]
    if tuple(methods) != WORLD_METHODS or about["benchmark"] != "world":
        words += [f"--method {_quoted(':'.join(name.split(' ', 1)))}" for name in methods]
    chosen = {str(one["wanted"]["composer"]) for one in about.get("composers", {}).values()}
    words += [f"--composer {name}" for name in sorted(chosen)]
    return " ".join(words)


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text
