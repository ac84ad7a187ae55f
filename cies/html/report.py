"""Benchmark reports: one page with its figures, plots and pictures inside. It fetches nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from cies.html.rendering import jpeg_address, render
from eval.reports.markdown import (
    PUBLISHED_HEADS,
    encoder_rows,
    headline_rows,
    other_rows,
    published_rows,
    run_lines,
    systems_with_other_labels,
    wording_rows,
)
from eval.reports.report import Report, ReportSection, SystemResults, definition
from eval.reports.worst_queries import WorstQuery
from eval.runs.abstention import SHARED_NEIGHBOURS
from eval.runs.pictures import loader
from eval.tasks import QueryTask, Task
from indexes.errors import CiesError
from query.explore.thumbnails import as_jpeg

#: Longest side in pixels of a picture of a report.
_SIDE = 128


def report_page(report: Report, title: str) -> str:
    """The page ``report.html``."""
    return render(
        "report.html.j2",
        root=None,
        title=title,
        heading=title,
        sections=[_section(section) for section in report.sections],
        runs=run_lines(report),
        encoders=encoder_rows(report),
    )


def _section(section: ReportSection) -> dict[str, Any]:
    """The values of one task, under the names that the template uses."""
    task = section.task
    head, others = other_rows(section)
    systems = [results for results in section.systems if results.own_figures(section.headline)]
    return {
        "name": task.name,
        "source": task.source.title,
        "licence": task.source.licence,
        "images": len(task.images),
        "notes": task.notes,
        "headline": section.headline,
        "definition": definition(section.headline),
        "rows": section.rows,
        "systems": [results.name for results in systems],
        "bars": _bars(section, systems),
        "table": headline_rows(section, section.headline),
        "others": {
            "definitions": [(name, definition(name)) for name in head[1:]],
            "head": head,
            "rows": others,
        },
        "wordings": {"definition": definition(SHARED_NEIGHBOURS), "rows": wording_rows(section)},
        "matrices": [_matrix(section, results) for results in systems_with_other_labels(section)],
        "recall": _recall(section),
        "published": {"head": PUBLISHED_HEADS, "rows": published_rows(section)},
        "worst": _worst(section),
    }


def _bars(section: ReportSection, systems: list[SystemResults]) -> list[dict[str, Any]]:
    """For each row its name, and the headline's figure of each system that has one."""
    rows = []
    for row in section.rows:
        bars = []
        for number, results in enumerate(systems):
            figures = {figure.row: figure for figure in results.own_figures(section.headline)}
            if (figure := figures.get(row)) is not None:
                bars.append(
                    {
                        "system": number,
                        "value": figure.value,
                        "low": figure.low,
                        "high": figure.high,
                        "chance": figure.chance,
                    }
                )
        rows.append({"name": row or "all", "bars": bars})
    return rows


def _matrix(section: ReportSection, results: SystemResults) -> dict[str, Any]:
    def corrected(row: str, judge: str) -> float | None:
        cell = results.cell(row, judge, "MAP@R")
        return None if cell is None else cell.corrected

    return {
        "system": results.name,
        "cells": [[corrected(row, judge) for judge in section.rows] for row in section.rows],
        "leakage": section.leakage(results) or 0,
    }


def _recall(section: ReportSection) -> dict[str, Any] | None:
    """Curves of the systems that have several points, with places on a logarithmic axis."""
    curves = {results.name: section.curve(results) for results in section.systems}
    curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    answers = sorted({k for curve in curves.values() for k, _, _ in curve})
    place = {k: math.log(k) / math.log(max(answers[-1], 2)) for k in answers}
    return {
        "systems": list(curves),
        "ticks": list(place.items()),
        "chance": [(place[k], chance) for k, _, chance in max(curves.values(), key=len)],
        "lines": [[(place[k], value) for k, value, _ in curve] for curve in curves.values()],
    }


def _worst(section: ReportSection) -> dict[str, Any]:
    picture = _pictures(section.task)

    def values(query: WorstQuery) -> dict[str, Any]:
        return {
            "row": query.row,
            "words": query.words,
            "value": query.value,
            "picture": picture(query.image, query.words) if query.image else None,
            "answers": [
                {
                    "picture": picture(answer.id, answer.words),
                    "right": answer.right,
                    "score": answer.score,
                }
                for answer in query.answers
            ],
        }

    return {"system": section.worst_of, "queries": [values(query) for query in section.worst]}


def _pictures(task: Task) -> Callable[[str, str], dict[str, str | None]]:
    """A function of an image id and its words that gives a picture; each file is read once."""
    crops = task.crops if isinstance(task, QueryTask) else {}
    load = loader(task.images, crops, None)
    addresses: dict[str, str | None] = {}

    def picture(image_id: str, words: str) -> dict[str, str | None]:
        if image_id not in addresses:
            try:
                image = load([image_id])[0]
                image.thumbnail((_SIDE, _SIDE))
                addresses[image_id] = jpeg_address(as_jpeg(image))
            except CiesError:
                addresses[image_id] = None
        name = image_id.rsplit("/", 1)[-1]
        return {"name": name, "words": words, "address": addresses[image_id]}

    return picture
