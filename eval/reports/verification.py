"""Compares published figures with those of a run, and tells whether they were reproduced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.reports.published import PublishedFigure
from eval.reports.report import ReportSection, SystemResults
from eval.runs.answers import CONDITION
from ingest.fill.vector_sources import BASE

#: Largest difference at which a published figure counts as reproduced.
TOLERANCE = 0.02

VERIFIED, OFF, NOT_RUN = "verified here", "not reproduced", "not yet run"


@dataclass(frozen=True)
class OwnFigure:
    """A figure of a run that a published one is compared with.

    Attributes:
        name: the name of the system.
        value: 0 to 1.
        same: whether the system's method is the published one.
    """

    name: str
    value: float
    same: bool


def comparable_figure(section: ReportSection, one: PublishedFigure) -> OwnFigure | None:
    """Return the figure of the published method in a run, or else of the best system.

    Args:
        section: a task's systems.
        one: a published figure of the task.
    """
    found = []
    for results in section.systems:
        value = _value(section, results, one)
        if value is not None:
            found.append(OwnFigure(results.name, value, _method(results) == one.method))
    return max(found, key=lambda figure: (figure.same, figure.value), default=None)


def status(section: ReportSection, one: PublishedFigure) -> str:
    """Return whether a run reproduces a published figure.

    The data, the method and the model must be the same.
    """
    if one.differs(section.task.name).replace(TIES, ""):
        return NOT_RUN
    for results in section.systems:
        model = str(_encoder_identity(results).get("model", ""))
        same = _method(results) == one.method and one.names(model)
        value = _value(section, results, one)
        if same and value is not None:
            return VERIFIED if abs(value - one.value) <= TOLERANCE else OFF
    return NOT_RUN


#: The only difference of protocols that changes no more than the last digits.
TIES = "ours counts ties in expectation"


def _value(section: ReportSection, results: SystemResults, one: PublishedFigure) -> float | None:
    if not one.part:
        mean = section.mean(results, one.metric)
        return None if mean is None else mean.value
    return next((f.value for f in results.own_figures(one.metric) if f.row == one.part), None)


def _encoder_identity(results: SystemResults) -> Mapping[str, Any]:
    identity: Mapping[str, Any] = (
        results.run.document["encoders"].get(results.system.encoder, {}).get("made_by", {})
    )
    return identity


def _method(results: SystemResults) -> str:
    """Return the composer's name, or the method's; both for baselines of other methods."""
    method = str(_encoder_identity(results).get("method", results.name))
    composer = results.system.composer
    if composer in ("", CONDITION):
        return method
    return composer if method == BASE else f"{method} {composer}"
