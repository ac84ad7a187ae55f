"""A run's figures as a part of a page, such as docs/reproduce.md, written by a command.

The part stands between two comments, ``<!-- run of world -->`` and ``<!-- end of world -->``, with
the benchmark's name; what is between them is replaced, all else stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.protocols.benchmarks import WORLD_METHODS
from eval.reports.markdown import number, table
from eval.reports.report import Report
from eval.runs.files import write_bytes
from eval.runs.run import Run
from indexes.errors import CiesError, UsageError

#: What a run may differ by on another processor or with other versions of the libraries.
TOLERANCE = 0.01

_HEAD = ("task", "system", "figure, mean", "expected", "chance", "tolerance", "status")


def write_into(page: Path, report: Report) -> None:
    """Replace the parts of a page that are of a report's runs.

    Args:
        page: a Markdown page with the comments; see the module.
        report: of runs with different benchmarks, or of several of one, which then stand in one
            table.

    Raises:
        UsageError: if the page cannot be read or has no place for a run.
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
                f"{page} has no place for a run of {name}; write the lines '{first}' and '{last}' "
                "where it shall stand."
            )
        before, rest = text.split(first)
        after = rest.split(last)[1]
        text = f"{before}{first}\n{_part(report, name)}\n{last}{after}"
    try:
        write_bytes(page, text.encode())
    except OSError as error:
        raise CiesError(f"Cannot write {page}: {(error.strerror or '').lower()}.") from error


def _part(report: Report, benchmark: str) -> str:
    runs = [run for run in report.runs if run.document["benchmark"] == benchmark]
    lines = [f"{sentence(run)}\n" for run in runs]
    rows = []
    for section in report.sections:
        columns = [c for c in section.columns if any(c.run is run for run in runs)]
        for column in columns:
            mean = section.mean(column, section.headline)
            if mean is not None:
                figures = (number(mean.value), number(mean.chance))
                kind = (section.task.name, column.name, section.headline)
                rows.append([*kind, *figures, f"{TOLERANCE}", "verified here"])
    return "\n".join([*lines, *table(_HEAD, rows)])


def sentence(run: Run) -> str:
    """How a run was made: the command, how long it took, and on what."""
    about = run.document
    spent = {name: round(seconds) for name, seconds in about.get("seconds", {}).items()}
    took = ""
    if spent:
        parts = ", ".join(f"{name} {seconds:,}" for name, seconds in spent.items())
        took = f" took {sum(spent.values()):,} seconds ({parts})"
    machine = ", ".join(f"{name} {value}" for name, value in about["machine"].items())
    return f"`{command(about)}`{took}, begun {about['begun'][:10]}; {machine}."


def command(about: Mapping[str, Any]) -> str:
    """The command that asks what a run's document says, without the place of its data."""
    words = ["cies bench", str(about["benchmark"])]
    words += [f"--option {name}={_quoted(value)}" for name, value in about["options"].items()]
    wanted = {name: one["wanted"] for name, one in about["encoders"].items() if one["wanted"]}
    asked = [name for name in wanted if name != "histogram"]
    if tuple(asked) != WORLD_METHODS or about["benchmark"] != "world":
        words += [f"--method {_quoted(':'.join(name.split(' ', 1)))}" for name in asked]
    chosen = {str(one["wanted"]["composer"]) for one in about.get("composers", {}).values()}
    words += [f"--composer {name}" for name in sorted(chosen)]
    return " ".join(words)


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text
