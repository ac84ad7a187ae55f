"""How well learned conditions order pictures, by the number of examples that they were shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.judge import LabelJudge
from eval.metrics.formulas import balanced_mean
from eval.metrics.names import metric
from eval.metrics.statistics import interval
from indexes.vectors import Vectors
from query.explore.learning import CandidatePart, learn_condition

#: What is measured: right pictures among the first ten, over ten.
METRIC = "precision@10"

#: A value is judged if this many pictures have it beside its examples.
_REMAINING = 10


@dataclass(frozen=True)
class LearningFigure:
    """Precision@10 of the pictures that were not shown, as a mean over values and draws.

    Attributes:
        label: whose values were the groups.
        examples: shown for each value.
        unseen: whether only every other value was shown, and the others are judged.
        values: number of values judged.
        draws: how often examples were drawn.
        learned: of the learned condition.
        best_single: of the best single condition, chosen in each draw with all the labels.
        best_name: the condition that was best most often.
        difference: learned less best single.
        low: of the 95 % interval of the difference, over other draws.
        high: of that interval.
        chance: of a random order.
    """

    label: str
    examples: int
    unseen: bool
    values: int
    draws: int
    learned: float
    best_single: float
    best_name: str
    difference: float
    low: float
    high: float
    chance: float


def bench_learning(
    parts: Sequence[CandidatePart],
    keys: Sequence[str],
    labels: Mapping[str, Mapping[str, str]],
    counts: Sequence[int],
    draws: int,
    seed: int,
    progress: Callable[[LearningFigure], None] = lambda figure: None,
) -> list[LearningFigure]:
    """Learn each label from drawn examples, and judge the pictures that were not shown.

    Args:
        parts: the conditions to learn from, with the vectors of all pictures.
        keys: the pictures, in the order of these vectors.
        labels: label to picture to value; pictures without a value are left out.
        counts: numbers of examples for each value, at least 2.
        draws: how often examples are drawn.
        seed: of the draws.
        progress: called with each figure.

    Returns:
        For each label and count one figure of shown and, with at least four values, one of unseen
        values. Labels with fewer than two values that have enough pictures are left out.
    """
    found = []
    row_of = {key: row for row, key in enumerate(keys)}
    names = _names(parts)
    centred = {name: part.centred() for name, part in zip(names, parts, strict=True)}
    for label, values in labels.items():
        for count in counts:
            for unseen in (False, True):
                pictures = _by_value(values, row_of, count)
                if len(pictures) < (4 if unseen else 2):
                    continue
                drawn = [
                    _draw(parts, centred, keys, pictures, label, count, unseen, [seed, number])
                    for number in range(draws)
                ]
                found.append(_figure(label, count, unseen, pictures, drawn))
                progress(found[-1])
    return found


def _names(parts: Sequence[CandidatePart]) -> list[str]:
    """The conditions' names, with the method where two methods have one of that name."""
    names = [part.name for part in parts]
    return [
        f"{part.name} ({part.made_by['method']})" if names.count(part.name) > 1 else part.name
        for part in parts
    ]


def _by_value(
    values: Mapping[str, str], row_of: Mapping[str, int], count: int
) -> dict[str, list[int]]:
    """Rows of the pictures of each value that enough pictures have."""
    rows: dict[str, list[int]] = {}
    for key, value in sorted(values.items()):
        if key in row_of:
            rows.setdefault(value, []).append(row_of[key])
    return {value: rows[value] for value in sorted(rows) if len(rows[value]) >= count + _REMAINING}


@dataclass(frozen=True)
class _ExampleDraw:
    learned: float
    singles: Mapping[str, float]
    chance: float


def _draw(
    parts: Sequence[CandidatePart],
    centred: Mapping[str, Vectors],
    keys: Sequence[str],
    pictures: Mapping[str, Sequence[int]],
    label: str,
    count: int,
    unseen: bool,
    seed: Sequence[int],
) -> _ExampleDraw:
    """Learn from one draw of examples, and judge the other pictures."""
    random = np.random.default_rng(seed)
    shown = list(pictures)[:: 2 if unseen else 1]
    rows = [random.permutation(pictures[value])[:count] for value in shown]
    examples = np.concatenate(rows)
    groups = np.repeat(np.arange(len(shown)), count)
    chosen = [replace(part, vectors=part.vectors[examples]) for part in parts]
    learned = learn_condition(chosen, groups, shown, seed[-1]).learned
    vectors_of_part = {id(part.made_by): part.vectors for part in parts}
    stored = [vectors_of_part[id(part.made_by)] for part in learned.parts]
    left_out = set(examples.tolist())
    value_of = {
        keys[row]: (value,)
        for value, rows_of_value in pictures.items()
        if not unseen or value not in shown
        for row in rows_of_value
        if row not in left_out
    }
    judge = LabelJudge(list(value_of), {label: value_of})
    row_of = {key: row for row, key in enumerate(keys)}

    def scores(vectors: Vectors) -> tuple[float, float]:
        def of_pictures(asked: Sequence[str]) -> Vectors:
            return vectors[[row_of[key] for key in asked]]

        figures = dict(judge.scores(of_pictures, [metric(METRIC)]))[label][METRIC]
        return (
            balanced_mean(figures.values, figures.classes),
            balanced_mean(figures.chance, figures.classes),
        )

    value, chance = scores(learned.vectors(stored))
    return _ExampleDraw(value, {name: scores(one)[0] for name, one in centred.items()}, chance)


def _figure(
    label: str,
    count: int,
    unseen: bool,
    pictures: Mapping[str, Sequence[int]],
    drawn: Sequence[_ExampleDraw],
) -> LearningFigure:
    best = [max(draw.singles, key=lambda name: draw.singles[name]) for draw in drawn]
    single = [draw.singles[name] for draw, name in zip(drawn, best, strict=True)]
    differences = np.array([d.learned for d in drawn]) - np.array(single)
    bounds = interval(differences)
    return LearningFigure(
        label,
        count,
        unseen,
        len(pictures) // 2 if unseen else len(pictures),
        len(drawn),
        float(np.mean([draw.learned for draw in drawn])),
        float(np.mean(single)),
        max(sorted(set(best)), key=best.count),
        float(differences.mean()),
        bounds.low,
        bounds.high,
        float(np.mean([draw.chance for draw in drawn])),
    )


def mean_differences(figures: Sequence[LearningFigure]) -> Iterator[tuple[int, bool, float]]:
    """The mean difference over labels: number of examples, whether unseen, mean."""
    kinds = sorted({(figure.examples, figure.unseen) for figure in figures})
    for examples, unseen in kinds:
        same = [f.difference for f in figures if (f.examples, f.unseen) == (examples, unseen)]
        yield examples, unseen, float(np.mean(same))
