"""What a report says of some runs, as values: for Markdown, JSON and pages alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.metrics.figures import Figure
from eval.metrics.names import metric
from eval.metrics.statistics import means_of_resamples, middle_95
from eval.reports.published import PublishedFigure, published_for
from eval.reports.worst_queries import WorstQuery, worst_queries
from eval.runs.abstention import AUROC, SHARED_NEIGHBOURS
from eval.runs.measuring import CLUSTER_METRICS, CURVE_PLACES, measure, query_scores
from eval.runs.run import Run, System
from eval.tasks import LabelTask, Task
from indexes.errors import UsageError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SystemResults:
    """One system of one run, with its figures of one task.

    Attributes:
        name: unique in the section.
        run: that it is of.
        system: the system.
        figures: in the order they were made.
    """

    name: str
    run: Run
    system: System
    figures: tuple[Figure, ...]

    def own(self, name: str) -> list[Figure]:
        """Figures of a metric under what was asked for, in order."""
        return [f for f in self.figures if f.own and f.metric == name]

    def cell(self, row: str, judge: str, name: str) -> Figure | None:
        """One figure, if there is one."""
        return next((f for f in self.figures if f.key == (row, judge, name)), None)


@dataclass(frozen=True)
class MeanFigure:
    """The plain mean over conditions or parts.

    Attributes:
        value: 0 to 1.
        low: lower end of the 95 % interval, queries drawn within each condition or part; ``None``
            for means over classes and of clusters.
        high: its upper end.
        chance: mean of the chance levels.
    """

    value: float
    low: float | None
    high: float | None
    chance: float


@dataclass(frozen=True)
class TaskReport:
    """One task and all that answered it.

    Attributes:
        task: what was asked.
        headline: its metric.
        metrics: what is told of it, the headline first.
        rows: conditions or parts.
        columns: systems.
        published: figures of others.
        worst: queries that the best method of our own answers worst.
        worst_of: that method.
    """

    task: Task
    headline: str
    metrics: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[SystemResults, ...]
    published: tuple[PublishedFigure, ...]
    worst: tuple[WorstQuery, ...]
    worst_of: str

    def mean(self, column: SystemResults, name: str) -> MeanFigure | None:
        """A metric's mean over the rows, if the system has it under each of them."""
        figures = [f for f in column.own(name) if name != SHARED_NEIGHBOURS]
        if not figures:
            return None
        value, chance = (
            float(np.mean([getattr(f, of) for f in figures])) for of in ("value", "chance")
        )
        if name.startswith("balanced ") or name in CLUSTER_METRICS:
            return MeanFigure(value, None, None, chance)
        seed = int(column.run.document["seed"])
        means = [
            means_of_resamples(
                query_scores(column.run, self.task.name, column.system, f.key).values, seed + row
            )
            for row, f in enumerate(figures)
        ]
        low, high = middle_95(np.mean(means, axis=0))
        return MeanFigure(value, low, high, chance)

    def leakage(self, column: SystemResults) -> float | None:
        """Mean over chance of MAP@R under all labels that were not asked for."""
        leaked = [f.corrected for f in column.figures if not f.own and f.metric == "MAP@R"]
        return float(np.mean(leaked)) if leaked else None

    def curve(self, column: SystemResults) -> list[tuple[int, float, float]]:
        """Places, hit rate within them, and its chance level, means over rows."""
        found = []
        for k in CURVE_PLACES:
            figures = column.own(f"recall@{k} (hit)") or column.own(f"R@{k}")
            if figures:
                value = float(np.mean([f.value for f in figures]))
                found.append((k, value, float(np.mean([f.chance for f in figures]))))
        return found


@dataclass(frozen=True)
class Report:
    """All that is told of some runs."""

    runs: tuple[Run, ...]
    sections: tuple[TaskReport, ...]

    def to_json(self) -> dict[str, Any]:
        """The document ``report.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "runs": [
                {"path": str(run.path), **{k: v for k, v in run.document.items() if k != "systems"}}
                for run in self.runs
            ],
            "tasks": [_section_json(section) for section in self.sections],
        }


def _section_json(section: TaskReport) -> dict[str, Any]:
    task = section.task
    return {
        "name": task.name,
        "source": asdict(task.source),
        "notes": list(task.notes),
        "files": dict(task.files),
        "pictures": len(task.images),
        "headline": section.headline,
        "metrics": {name: definition(name) for name in section.metrics},
        "systems": [
            {
                "name": column.name,
                "run": str(column.run.path),
                "encoder": column.system.encoder,
                "composer": column.system.composer,
                "baseline": column.system.baseline,
                "means": {
                    name: asdict(mean)
                    for name in section.metrics
                    if (mean := section.mean(column, name))
                },
                "leakage": section.leakage(column),
                "figures": [
                    {
                        **{k: v for k, v in asdict(f).items() if k not in ("task", "system")},
                        "corrected": f.corrected,
                    }
                    for f in column.figures
                ],
            }
            for column in section.columns
        ],
        "published": [
            {**asdict(one), "differs": one.differs(task.name)} for one in section.published
        ],
    }


def definition(name: str) -> str:
    """A metric in words."""
    if name in CLUSTER_METRICS:
        kind = "Normalised" if name == "NMI" else "Adjusted"
        return (
            f"{kind} mutual information of the labels and as many k-means clusters (FAISS, 20 "
            "iterations, a fixed seed); chance by shuffling."
        )
    if name == SHARED_NEIGHBOURS:
        return (
            "Share of the first 10 neighbours that a wording and the condition's first wording "
            "have in common."
        )
    if name.startswith(AUROC):
        return (
            "Share of pairs, one picture that the condition applies to and one that it does not, "
            "in which the method is surer of the first; sure by the probability of its word, or "
            "by the cosine with the nearest other picture."
        )
    return metric(name).definition


def report(runs: Sequence[Run], sheets: bool = True) -> Report:
    """Measure what is not measured yet, and gather it task by task.

    Args:
        runs: at least one; those of one task on the same data stand side by side.
        sheets: whether to look for the worst queries.

    Raises:
        UsageError: if there is no run.
        CiesError: if one is damaged.
    """
    if not runs:
        raise UsageError("There is no run to report on; name a run folder.")
    found: dict[tuple[str, str], list[SystemResults]] = {}
    tasks: dict[tuple[str, str], Task] = {}
    for run in runs:
        figures = measure(run)
        for name, task in run.tasks.items():
            key = (name, run.document["tasks"][name])
            tasks[key] = task
            for system in run.systems(name):
                mine = tuple(f for f in figures if (f.task, f.system) == (name, system.name))
                if mine:
                    found.setdefault(key, []).append(SystemResults(system.name, run, system, mine))
    sections = [
        _section(tasks[key], _named(columns, len(runs)), sheets) for key, columns in found.items()
    ]
    return Report(tuple(runs), tuple(sections))


def _named(columns: Sequence[SystemResults], runs: int) -> list[SystemResults]:
    """Columns of which trivial ones stand once, and others under names of their own."""
    kept: list[SystemResults] = []
    for column in columns:
        same = [one for one in kept if one.name == column.name]
        if same and column.system.encoder in ("", "histogram"):
            continue
        name = column.name
        if runs > 1 and column.system.encoder not in ("", "histogram"):
            name = f"{column.name} ({Path(column.run.path).name})"
        kept.append(SystemResults(name, column.run, column.system, column.figures))
    return kept


def _section(task: Task, columns: Sequence[SystemResults], sheets: bool) -> TaskReport:
    if isinstance(task, LabelTask):
        kinds = {f.metric for c in columns for f in c.figures}
        if task.headline == AUROC:
            metrics = tuple(sorted(kinds))
        else:
            wanted = dict.fromkeys(
                (task.headline, *task.metrics, "P@1", "balanced MAP@R", *CLUSTER_METRICS)
            )
            metrics = tuple(name for name in wanted if name in kinds)
        rows = tuple(task.labels)
    else:
        metrics, rows = task.metrics, tuple(part.name for part in task.parts)
    headline = metrics[0] if metrics else ""
    ours = [c for c in columns if not c.system.baseline]
    worst: list[WorstQuery] = []
    best = ""
    if ours and sheets and not (isinstance(task, LabelTask) and task.headline == AUROC):
        chosen = max(ours, key=lambda c: float(np.mean([f.value for f in c.own(headline)] or [0])))
        best = chosen.name
        worst = worst_queries(chosen.run, task, chosen.system, headline)
    return TaskReport(
        task,
        headline,
        metrics,
        rows,
        tuple(columns),
        tuple(published_for(task.name)),
        tuple(worst),
        best,
    )
