"""Compares two runs: their settings, and their figures with paired tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.metrics.clustering import CLUSTER_METRICS
from eval.metrics.figures import FigureKey, QueryScores
from eval.metrics.formulas import balanced_mean
from eval.metrics.statistics import holm, paired_test
from eval.runs.measuring import measure, query_scores
from eval.runs.run import Run, System
from indexes.errors import UsageError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Difference:
    """One figure of two systems, over the same queries.

    Attributes:
        task: name.
        row: condition or part.
        judge: label, or empty.
        metric: name.
        first: mean of the first system.
        second: mean of the second system.
        low: lower end of the 95 % interval of second - first.
        high: upper end of it.
        p: p-value of :func:`eval.metrics.statistics.paired_test`, two-sided.
        p_adjusted: ``p`` after Holm's correction for all compared figures.
        queries: number of queries that both answered.
    """

    task: str
    row: str
    judge: str
    metric: str
    first: float
    second: float
    low: float
    high: float
    p: float
    queries: int
    p_adjusted: float = 1.0

    @property
    def difference(self) -> float:
        """Second - first."""
        return self.second - self.first


@dataclass(frozen=True)
class RunComparison:
    """The comparison of two runs, or of two systems.

    Attributes:
        names: the names of both, as the user gave them.
        settings: name and both values of every setting that differs.
        pairs: task, first system's name, second system's name.
        differences: in the order of the first run.
    """

    names: tuple[str, str]
    settings: list[tuple[str, str, str]]
    pairs: list[tuple[str, str, str]]
    differences: list[Difference]

    def to_json(self) -> dict[str, Any]:
        """Return the document that ``cies bench compare --json`` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "runs": list(self.names),
            "settings": [{"name": name, "first": a, "second": b} for name, a, b in self.settings],
            "systems": [{"task": t, "first": a, "second": b} for t, a, b in self.pairs],
            "figures": [vars(d) | {"difference": d.difference} for d in self.differences],
        }


@dataclass(frozen=True)
class RunSelection:
    """A run, or one encoder or system of it.

    Attributes:
        run: the opened run.
        name: as the user gave it.
        chosen: name of an encoder or a system; empty for the run's only encoder.
    """

    run: Run
    name: str
    chosen: str = ""

    @classmethod
    def of(cls, text: str) -> RunSelection:
        """Open ``RUN`` or ``RUN:NAME``.

        Raises:
            UsageError: if there is no such run, encoder or system.
            CiesError: if the run is damaged.
        """
        folder, _, chosen = text.rpartition(":")
        if Path(text).exists() or not folder:
            return cls(Run.open(Path(text)), text)
        side = cls(Run.open(Path(folder)), text, chosen)
        names = {s.name for task in side.run.tasks for s in side.run.systems(task)}
        encoders = list(side.run.document["encoders"])
        if chosen not in {*names, *encoders}:
            raise UsageError(
                f"{folder} has no '{chosen}'; name one of "
                f"{', '.join(dict.fromkeys([*encoders, *sorted(names)]))} after the colon."
            )
        return side

    def systems(self) -> dict[tuple[str, str | None], System]:
        """Return task and composer (``None`` for a system chosen by its name) to a system.

        Raises:
            UsageError: if the run has several encoders and none is chosen.
        """
        every = [(task, s) for task in self.run.tasks for s in self.run.systems(task)]
        encoders = list(self.run.document["encoders"])
        if self.chosen and self.chosen not in encoders:
            return {(task, None): s for task, s in every if s.name == self.chosen}
        with_methods = {s.encoder for _, s in every if not s.baseline}
        names = [self.chosen] if self.chosen else [n for n in encoders if n in with_methods]
        if len(names) != 1:
            raise UsageError(
                f"{self.run.path} has {len(names)} methods to compare; name one as RUN:NAME, of "
                f"{', '.join(encoders)}."
            )
        return {(task, s.composer): s for task, s in every if s.encoder == names[0]}


def compare(first: RunSelection, second: RunSelection) -> RunComparison:
    """Compare all figures that both sides have, over the queries that both answered.

    Raises:
        UsageError: if the runs have no task in common, or nothing to compare.
        CiesError: if one is damaged.
    """
    same = [
        name
        for name, digest in first.run.document["tasks"].items()
        if second.run.document["tasks"].get(name) == digest
    ]
    if not same:
        raise UsageError(
            f"{first.run.path} and {second.run.path} have no task in common: their tasks are "
            f"{', '.join(first.run.tasks)} and {', '.join(second.run.tasks)}, or their data "
            "differ; compare runs of one benchmark on the same data."
        )
    others = second.systems()
    pairs = []
    for (task, composer), system in first.systems().items():
        partners = [
            partner
            for (name, key), partner in others.items()
            if name == task and (key == composer or None in (key, composer))
        ]
        if task in same and len(partners) == 1:
            pairs.append((task, system, partners[0]))
    if not pairs or (first.run.path == second.run.path and all(a == b for _, a, b in pairs)):
        raise UsageError(
            f"{first.name} and {second.name} have nothing different to compare; name two systems "
            "as RUN:NAME."
        )
    differences = []
    figures, others_figures = measure(first.run), measure(second.run)
    for task, a, b in pairs:
        keys = {f.key for f in others_figures if (f.task, f.system) == (task, b.name)}
        for figure in figures:
            if figure.metric in CLUSTER_METRICS:
                continue
            if (figure.task, figure.system) == (task, a.name) and figure.key in keys:
                differences.append(
                    _difference(
                        task,
                        figure.key,
                        query_scores(first.run, task, a, figure.key),
                        query_scores(second.run, task, b, figure.key),
                        int(first.run.document["seed"]),
                    )
                )
    adjusted = holm([one.p for one in differences])
    differences = [replace(one, p_adjusted=p) for one, p in zip(differences, adjusted, strict=True)]
    settings = _settings(first, second, pairs)
    named = [(task, a.name, b.name) for task, a, b in pairs]
    return RunComparison((first.name, second.name), settings, named, differences)


def _difference(task: str, key: FigureKey, a: QueryScores, b: QueryScores, seed: int) -> Difference:
    common, at_a, at_b = np.intersect1d(a.numbers, b.numbers, return_indices=True)
    one, other = a.values[at_a], b.values[at_b]
    row, judge, metric = key
    classes = a.classes[at_a] if metric.startswith("balanced ") else None
    test = paired_test(other, one, classes, seed=seed)
    means = [
        float(v.mean()) if classes is None else balanced_mean(v, classes) for v in (one, other)
    ]
    return Difference(
        task=task,
        row=row,
        judge=judge,
        metric=metric,
        first=means[0],
        second=means[1],
        low=test.interval.low,
        high=test.interval.high,
        p=test.p_value,
        queries=len(common),
    )


def _settings(
    first: RunSelection, second: RunSelection, pairs: list[tuple[str, System, System]]
) -> list[tuple[str, str, str]]:
    """Return the settings that differ: name and both values."""
    a, b = pairs[0][1], pairs[0][2]
    one, other = _flat(_run_settings(first.run, a)), _flat(_run_settings(second.run, b))
    return [
        (name, one.get(name, ""), other.get(name, ""))
        for name in dict.fromkeys([*one, *other])
        if one.get(name, "") != other.get(name, "")
    ]


def _run_settings(run: Run, system: System) -> dict[str, Any]:
    document = run.document
    entry = document["encoders"].get(system.encoder, {})
    identity = entry.get("made_by", {})
    return {
        "system": system.name,
        "composer": system.composer,
        "method": identity.get("method", ""),
        "model": identity.get("model", ""),
        "revision": identity.get("revision", ""),
        "settings": identity.get("settings", {}),
        "device": entry.get("device", ""),
        "options": document["options"],
        "seed": document["seed"],
        "versions": document["versions"],
        "machine": document["machine"],
    }


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested values as one level, with names joined by dots."""
    found: dict[str, str] = {}
    for name, inner in value.items():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(inner, Mapping):
            found |= _flat(inner, path)
        else:
            found[path] = str(inner)
    return found
