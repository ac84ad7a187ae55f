"""Gathers the figures of runs into a report, for Markdown, JSON and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.metrics.clustering import CLUSTER_METRICS
from eval.metrics.figures import Figure
from eval.metrics.names import metric
from eval.metrics.statistics import means_of_resamples, middle_95
from eval.reports.published import PublishedFigure, published_for
from eval.reports.worst_queries import WorstQuery, worst_queries
from eval.runs.abstention import AUROC, SHARED_NEIGHBOURS
from eval.runs.measuring import CURVE_PLACES, measure, query_scores
from eval.runs.run import Run, System
from eval.tasks import LabelTask, Task
from indexes.errors import UsageError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SystemResults:
    """One system of one run, with its figures of one task.

    Attributes:
        name: unique in the section.
        run: the system's run.
        system: the system.
        figures: in the order they were measured.
    """

    name: str
    run: Run
    system: System
    figures: tuple[Figure, ...]

    def own_figures(self, name: str) -> list[Figure]:
        """Return a metric's figures of conditions under their own labels, in order."""
        return [f for f in self.figures if f.own and f.metric == name]

    def cell(self, row: str, judge: str, name: str) -> Figure | None:
        """Return one figure, if the system has it."""
        return next((f for f in self.figures if f.key == (row, judge, name)), None)


@dataclass(frozen=True)
class MeanFigure:
    """A plain mean over conditions or parts.

    Attributes:
        value: 0 to 1.
        low: lower end of the 95 % interval, with queries drawn within each condition or part;
            ``None`` for balanced metrics and cluster metrics.
        high: upper end of it.
        chance: mean of the chance levels.
    """

    value: float
    low: float | None
    high: float | None
    chance: float


@dataclass(frozen=True)
class ReportSection:
    """One task with the results of all systems.

    Attributes:
        task: the task.
        headline: its main metric.
        metrics: the reported metrics, the headline first.
        rows: conditions or parts.
        systems: results of each system.
        published: published figures of the task.
        worst: queries with the worst answers of the best system that is not a baseline.
        worst_of: name of that system.
    """

    task: Task
    headline: str
    metrics: tuple[str, ...]
    rows: tuple[str, ...]
    systems: tuple[SystemResults, ...]
    published: tuple[PublishedFigure, ...]
    worst: tuple[WorstQuery, ...]
    worst_of: str

    def mean(self, results: SystemResults, name: str) -> MeanFigure | None:
        """Return a metric's mean over the rows, if the system has figures of it."""
        figures = [f for f in results.own_figures(name) if name != SHARED_NEIGHBOURS]
        if not figures:
            return None
        value, chance = (
            float(np.mean([getattr(f, of) for f in figures])) for of in ("value", "chance")
        )
        if name.startswith("balanced ") or name in CLUSTER_METRICS:
            return MeanFigure(value, None, None, chance)
        seed = int(results.run.document["seed"])
        means = [
            means_of_resamples(
                query_scores(results.run, self.task.name, results.system, f.key).values, seed + row
            )
            for row, f in enumerate(figures)
        ]
        low, high = middle_95(np.mean(means, axis=0))
        return MeanFigure(value, low, high, chance)

    def leakage(self, results: SystemResults) -> float | None:
        """Return the mean of MAP@R over chance, of conditions under all labels but their own."""
        leaked = [f.corrected for f in results.figures if not f.own and f.metric == "MAP@R"]
        return float(np.mean(leaked)) if leaked else None

    def curve(self, results: SystemResults) -> list[tuple[int, float, float]]:
        """Return places, hit rate and chance level at them, as means over rows."""
        found = []
        for k in CURVE_PLACES:
            figures = results.own_figures(f"recall@{k} (hit)") or results.own_figures(f"R@{k}")
            if figures:
                value = float(np.mean([f.value for f in figures]))
                found.append((k, value, float(np.mean([f.chance for f in figures]))))
        return found


@dataclass(frozen=True)
class Report:
    """A report on some runs, with a section for each task."""

    runs: tuple[Run, ...]
    sections: tuple[ReportSection, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document ``report.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "runs": [
                {"path": str(run.path), **{k: v for k, v in run.document.items() if k != "systems"}}
                for run in self.runs
            ],
            "tasks": [_section_json(section) for section in self.sections],
        }


def _section_json(section: ReportSection) -> dict[str, Any]:
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
                "name": results.name,
                "run": str(results.run.path),
                "encoder": results.system.encoder,
                "composer": results.system.composer,
                "baseline": results.system.baseline,
                "means": {
                    name: asdict(mean)
                    for name in section.metrics
                    if (mean := section.mean(results, name))
                },
                "leakage": section.leakage(results),
                "figures": [
                    {
                        **{k: v for k, v in asdict(f).items() if k not in ("task", "system")},
                        "corrected": f.corrected,
                    }
                    for f in results.figures
                ],
            }
            for results in section.systems
        ],
        "published": [
            {**asdict(one), "differs": one.differs(task.name)} for one in section.published
        ],
    }


def definition(name: str) -> str:
    """Return the definition of a metric in words."""
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
            "in which the method has the higher confidence for the first; confidence is the "
            "probability of its word, or the cosine with the nearest other picture."
        )
    return metric(name).definition


def report(runs: Sequence[Run], sheets: bool = True) -> Report:
    """Measure what is not measured yet, and make a report with a section for each task.

    Args:
        runs: at least one; those of one task on the same data share a section.
        sheets: whether to find the worst queries.

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
                own = tuple(f for f in figures if (f.task, f.system) == (name, system.name))
                if own:
                    found.setdefault(key, []).append(SystemResults(system.name, run, system, own))
    sections = [
        _section(tasks[key], _named(systems, len(runs)), sheets) for key, systems in found.items()
    ]
    return Report(tuple(runs), tuple(sections))


def _named(systems: Sequence[SystemResults], runs: int) -> list[SystemResults]:
    """Return results with unique names; baselines without a model are kept once."""
    kept: list[SystemResults] = []
    for results in systems:
        same = [one for one in kept if one.name == results.name]
        if same and results.system.encoder in ("", "histogram"):
            continue
        name = results.name
        if runs > 1 and results.system.encoder not in ("", "histogram"):
            name = f"{results.name} ({Path(results.run.path).name})"
        kept.append(SystemResults(name, results.run, results.system, results.figures))
    return kept


def _section(task: Task, systems: Sequence[SystemResults], sheets: bool) -> ReportSection:
    if isinstance(task, LabelTask):
        kinds = {f.metric for c in systems for f in c.figures}
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
    ours = [c for c in systems if not c.system.baseline]
    worst: list[WorstQuery] = []
    best = ""
    if ours and sheets and not (isinstance(task, LabelTask) and task.headline == AUROC):
        chosen = max(
            ours, key=lambda c: float(np.mean([f.value for f in c.own_figures(headline)] or [0]))
        )
        best = chosen.name
        worst = worst_queries(chosen.run, task, chosen.system, headline)
    return ReportSection(
        task,
        headline,
        metrics,
        rows,
        tuple(systems),
        tuple(published_for(task.name)),
        tuple(worst),
        best,
    )
