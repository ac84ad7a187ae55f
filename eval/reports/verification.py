"""What of ours stands beside a published figure, and whether that was verified."""

from __future__ import annotations

from dataclasses import dataclass

from eval.reports.published import PublishedFigure
from eval.reports.report import SystemResults, TaskReport
from eval.runs.answers import CONDITION
from ingest.fill.vector_sources import BASE

#: How far a run of the same method, model and protocol may be off.
TOLERANCE = 0.02

VERIFIED, OFF, NOT_RUN = "verified here", "not reproduced", "not yet run"


@dataclass(frozen=True)
class OwnFigure:
    """A figure of ours.

    Attributes:
        name: of the system.
        value: 0 to 1.
        same: whether it is of the same method.
    """

    name: str
    value: float
    same: bool


def comparable_figure(section: TaskReport, one: PublishedFigure) -> OwnFigure | None:
    """The figure of the same method of ours, or else of our best.

    Args:
        section: a task's systems.
        one: published of it.
    """
    found = []
    for column in section.columns:
        value = _value(section, column, one)
        if value is not None:
            found.append(OwnFigure(column.name, value, _method(column) == one.method))
    return (
        max(found, key=lambda comparable_figure: (comparable_figure.same, comparable_figure.value))
        if found
        else None
    )


def status(section: TaskReport, one: PublishedFigure) -> str:
    """Whether a published figure was run here, on the same data with the same method and model."""
    if one.differs(section.task.name).replace(TIES, ""):
        return NOT_RUN
    for column in section.columns:
        made = column.run.document["encoders"].get(column.system.encoder, {}).get("made_by", {})
        same = _method(column) == one.method and one.names(str(made.get("model", "")))
        value = _value(section, column, one)
        if same and value is not None:
            return VERIFIED if abs(value - one.value) <= TOLERANCE else OFF
    return NOT_RUN


#: What alone leaves a protocol the same but for the last digits.
TIES = "ours counts ties in expectation"


def _value(section: TaskReport, column: SystemResults, one: PublishedFigure) -> float | None:
    if not one.part:
        mean = section.mean(column, one.metric)
        return None if mean is None else mean.value
    return next((f.value for f in column.own(one.metric) if f.row == one.part), None)


def _method(column: SystemResults) -> str:
    """A composer's name, or else the method's; of baselines of other methods both."""
    made = column.run.document["encoders"].get(column.system.encoder, {}).get("made_by", {})
    method, composer = str(made.get("method", column.name)), column.system.composer
    if composer in ("", CONDITION):
        return method
    return composer if method == BASE else f"{method} {composer}"
