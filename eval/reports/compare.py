"""What differs between two runs: in how they were made, and in what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.metrics.definitions import balanced_mean
from eval.metrics.figures import QueryScores
from eval.metrics.statistics import holm, paired_test
from eval.runs.measuring import CLUSTER_METRICS, measure, query_scores
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
        second: mean of the second.
        low: lower end of the 95 % interval of second - first.
        high: its upper end.
        p: of a two-sided paired permutation test (:func:`eval.metrics.statistics.paired_test`).
        p_adjusted: the same after Holm, for all figures that are compared.
        queries: that both answered.
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
    """Two sides, side by side.

    Attributes:
        names: of both sides.
        settings: what is not the same: its name and both values.
        pairs: task, first system's name, second's.
        differences: in the order of the first run.
    """

    names: tuple[str, str]
    settings: list[tuple[str, str, str]]
    pairs: list[tuple[str, str, str]]
    differences: list[Difference]

    def to_json(self) -> dict[str, Any]:
        """The document that ``cies bench compare --json`` prints."""
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
        run: opened.
        name: as the user gave it.
        chosen: an encoder's or a system's name; empty for the run's own.
    """

    run: Run
    name: str
    chosen: str = ""

    @classmethod
    def of(cls, text: str) -> RunSelection:
        """From ``RUN`` or ``RUN:NAME``.

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
        """Task and composer, or ``None`` for the one system chosen by its name, to a system.

        Raises:
            UsageError: if the run has several encoders and none is chosen.
        """
        every = [(task, s) for task in self.run.tasks for s in self.run.systems(task)]
        encoders = list(self.run.document["encoders"])
        if self.chosen and self.chosen not in encoders:
            return {(task, None): s for task, s in every if s.name == self.chosen}
        mine = [
            name
            for name in encoders
            if name == self.chosen or (not self.chosen and self._to_compare(name))
        ]
        if len(mine) != 1:
            raise UsageError(
                f"{self.run.path} has {len(mine)} methods to compare; name one as RUN:NAME, of "
                f"{', '.join(encoders)}."
            )
        return {(task, s.composer): s for task, s in every if s.encoder == mine[0]}

    def _to_compare(self, encoder: str) -> bool:
        """Whether an encoder is no trivial baseline."""
        return any(
            s.encoder == encoder and not s.baseline
            for task in self.run.tasks
            for s in self.run.systems(task)
        )


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
            f"{first.run.path} and {second.run.path} have no task in common: they ask "
            f"{', '.join(first.run.tasks)} and {', '.join(second.run.tasks)}, or other data; "
            "compare runs of one benchmark on the same data."
        )
    one, other = first.systems(), second.systems()
    pairs = []
    for task, key in one:
        there = [b for (t, k), b in other.items() if t == task and (k == key or None in (k, key))]
        if task in same and len(there) == 1:
            pairs.append((task, one[task, key], there[0]))
    if not pairs or (first.run.path == second.run.path and all(a == b for _, a, b in pairs)):
        raise UsageError(
            f"{first.name} and {second.name} have nothing different to compare; name systems as "
            "RUN:NAME."
        )
    differences = []
    figures = measure(first.run)
    measure(second.run)
    for task, a, b in pairs:
        theirs = _cells(second.run, task, b)
        for figure in figures:
            if figure.metric in CLUSTER_METRICS:
                continue
            if (figure.task, figure.system) == (task, a.name) and figure.key in theirs:
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


def _cells(run: Run, task: str, system: System) -> set[tuple[str, str, str]]:
    from eval.runs.measuring import load_figures

    return {f.key for f in load_figures(run) if (f.task, f.system) == (task, system.name)}


def _difference(
    task: str, cell: tuple[str, str, str], a: QueryScores, b: QueryScores, seed: int
) -> Difference:
    common, at_a, at_b = np.intersect1d(a.numbers, b.numbers, return_indices=True)
    one, other = a.values[at_a], b.values[at_b]
    classes = a.classes[at_a] if cell[2].startswith("balanced ") else None
    test = paired_test(other, one, classes, seed=seed)
    means = [
        float(v.mean()) if classes is None else balanced_mean(v, classes) for v in (one, other)
    ]
    return Difference(
        task,
        *cell,
        means[0],
        means[1],
        test.interval.low,
        test.interval.high,
        test.p_value,
        len(common),
    )


def _settings(
    first: RunSelection, second: RunSelection, pairs: list[tuple[str, System, System]]
) -> list[tuple[str, str, str]]:
    """Everything that was not the same."""
    a, b = pairs[0][1], pairs[0][2]
    one, other = _flat(_about(first.run, a)), _flat(_about(second.run, b))
    return [
        (name, one.get(name, ""), other.get(name, ""))
        for name in dict.fromkeys([*one, *other])
        if one.get(name, "") != other.get(name, "")
    ]


def _about(run: Run, system: System) -> dict[str, Any]:
    document = run.document
    entry = document["encoders"].get(system.encoder, {})
    return {
        "system": system.name,
        "composer": system.composer,
        "method": entry.get("made_by", {}).get("method", ""),
        "model": entry.get("made_by", {}).get("model", ""),
        "revision": entry.get("made_by", {}).get("revision", ""),
        "settings": entry.get("made_by", {}).get("settings", {}),
        "device": entry.get("device", ""),
        "options": document["options"],
        "seed": document["seed"],
        "versions": document["versions"],
        "machine": document["machine"],
    }


def _flat(value: Mapping[str, Any], above: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, inner in value.items():
        path = f"{above}.{name}" if above else name
        if isinstance(inner, Mapping):
            found |= _flat(inner, path)
        else:
            found[path] = str(inner)
    return found
