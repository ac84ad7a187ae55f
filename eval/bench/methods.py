"""Every method under every condition: how well it ranks, and what it costs on this machine.

On the rendered world all there is to know is known: each condition is judged by its own factor,
and by the others, of which it should tell nothing. Views are worked out from words, once from the
lists that come with CIES, as a stranger would have them, and once from the world's own values.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.bench.cost import Cost
from eval.bench.quality import factor_values
from eval.matrix import Measure
from eval.metrics.definitions import chance_map_at_r, map_at_r
from eval.world.captions import value_texts
from eval.world.factors import FACTORS, sample_scenes
from eval.world.render import render
from indexes.errors import UsageError
from indexes.search.parts import best_of_parts, split
from indexes.search.vectors import Vectors
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder
from ingest.encoders.factory import METHODS, make_encoder
from ingest.encoders.projections.base import PROJECTIONS, Projection, fit_view
from ingest.fill.vector_sources import CAPTIONS
from ingest.vocabularies import vocabulary_of

#: Where the words of a view come from: the lists of configs, or the world itself.
SHIPPED, OWN = "shipped words", "the world's own values"

#: Pictures embedded at once, and those that are timed.
_CHUNK, _TIMED = 128, 128

#: Prompts asked of a picture at once where they are not timed.
_PROMPTS = 20

#: Rounds of which the median is taken.
_ROUNDS = 9

_WHOLE = Condition.parse(UNCONDITIONAL)

#: What is measured. Captions are no answer to a condition.
MEASURED = tuple(method for method in METHODS if method != CAPTIONS)

Progress = Callable[[str], None]
Values = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Judged:
    """How well a method ranks.

    Attributes:
        method: its name.
        words: where a view's words come from, or empty.
        cells: condition, then factor, to MAP@R with its chance.
    """

    method: str
    words: str
    cells: Mapping[str, Mapping[str, Measure]]

    @property
    def own(self) -> float:
        """Mean MAP@R of the conditions under their own factors."""
        return float(np.mean([row[name].value for name, row in self.cells.items()]))

    @property
    def leakage(self) -> float:
        """Mean MAP@R over chance of the conditions under all other factors."""
        others = [
            measure.corrected
            for name, row in self.cells.items()
            for label, measure in row.items()
            if label != name
        ]
        return float(np.mean(others))


@dataclass(frozen=True)
class Comparison:
    """Every method on the same rendered pictures.

    Attributes:
        pictures: how many.
        seed: of them.
        judged: one a method; views twice, by both kinds of words.
        costs: one a method.
    """

    pictures: int
    seed: int
    judged: list[Judged] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)


class Way:
    """One method at work: turns pictures into rows under conditions, and compares rows."""

    def __init__(self, method: str, encoder: BaseEncoder):
        self.method = method
        self.encoder = encoder
        self.parts = int(encoder.spec.settings.get("parts", 1))

    def embed(self, pictures: Sequence[Image.Image], conditions: Sequence[Condition]) -> Vectors:
        """Float32 [pictures, conditions, dim]."""
        # Every part is a prompt of its own, and very many in one pass take longer than in two.
        step = max(1, _PROMPTS // self.parts)
        rows = [
            np.concatenate(
                [
                    self.encoder.encode(
                        pictures[start : start + _CHUNK], conditions[at : at + step]
                    )
                    for at in range(0, len(conditions), step)
                ],
                axis=1,
            )
            for start in range(0, len(pictures), _CHUNK)
        ]
        return np.concatenate(rows)

    def rate(self, pictures: Sequence[Image.Image], conditions: Sequence[Condition]) -> float:
        """Pictures a second, words said as an ingest has them said."""
        some = pictures[:_TIMED]
        started = time.perf_counter()
        self.encoder.embed(some, conditions)
        return len(some) / (time.perf_counter() - started)

    def scores(self, queries: Vectors, rows: Vectors) -> NDArray[np.float32]:
        """How alike: float32 [queries, rows]. Of several parts, the best one counts."""
        if self.parts > 1:
            return best_of_parts(split(queries, self.parts)[:, 0], rows, self.parts)
        found: NDArray[np.float32] = queries @ rows.T
        return found


def ways(lvlm: str, clip: str) -> Iterator[tuple[str, str]]:
    """Stored methods, with the model each is given: those of DIOR's kind the LVLM."""
    for method in MEASURED:
        if METHODS[method].kind == "stored":
            yield method, clip if method == "clip" else lvlm


def check_methods(methods: Sequence[str]) -> set[str]:
    """The stored methods that are needed for some.

    Raises:
        UsageError: if there is no such method.
    """
    for method in methods:
        if method not in MEASURED:
            raise UsageError(
                f"No method '{method}' is measured here; choose among {', '.join(MEASURED)}."
            )
    return {method if METHODS[method].kind == "stored" else "clip" for method in methods}


def compare_methods(
    lvlm: str,
    clip: str,
    count: int,
    seed: int,
    size: int = 256,
    names: Sequence[str] = tuple(FACTORS),
    methods: Sequence[str] = MEASURED,
    progress: Progress = lambda line: None,
) -> Comparison:
    """Measure every method under the world's conditions.

    Args:
        lvlm: an LVLM's name, as ``--model`` takes it.
        clip: a dual encoder's name.
        count: pictures.
        seed: of the pictures; not that of a school.
        size: their side in pixels.
        names: conditions, of the world's factors.
        methods: which of them; a view brings ``clip`` with it.
        progress: told what comes next.

    Raises:
        UsageError: if there is no such method.
        ModelError: if a model cannot be had.
    """
    stored = check_methods(methods)
    # All of them first: a wrong name is not to be learned of after minutes of rendering.
    loaded = [
        Way(method, make_encoder(method, model, force=True))
        for method, model in ways(lvlm, clip)
        if method in stored
    ]
    progress(f"rendering {count} pictures")
    scenes = sample_scenes(count, seed)
    pictures = [render(scene, size) for scene in scenes]
    values = factor_values(scenes)
    found = Comparison(count, seed)
    conditions = [Condition.parse(name) for name in names]
    for way in loaded:
        progress(f"embedding by {way.method}")
        asked = conditions if way.encoder.conditional else [_WHOLE]
        rows = way.embed(pictures, asked)
        found.costs.append(_cost(way, rows, pictures, asked))
        cells = {
            name: judge_scores(way, rows[:, min(at, len(asked) - 1)], values)
            for at, name in enumerate(names)
        }
        found.judged.append(Judged(way.method, "", cells))
        if way.method == "clip":
            views = [view for view in PROJECTIONS if view in methods]
            _compare_views(found, way, rows[:, 0], views, names, values, pictures[0], progress)
    order = list(MEASURED)
    found.judged.sort(key=lambda one: order.index(one.method))
    found.costs.sort(key=lambda one: order.index(one.method))
    return found


def _compare_views(
    found: Comparison,
    base: Way,
    rows: Vectors,
    views: Sequence[str],
    names: Sequence[str],
    values: Values,
    picture: Image.Image,
    progress: Progress,
) -> None:
    """Judge and time every view of the base vectors."""
    of_base = found.costs[-1]
    for method in views:
        progress(f"working out views by {method}")
        for words in (SHIPPED, OWN):
            cells, seconds, view = {}, [], None
            for name in names:
                started = time.perf_counter()
                view = fitted(base.encoder, method, name, rows, words)
                moved = view.images(rows)
                seconds.append(time.perf_counter() - started)
                cells[name] = judge_scores(base, moved, values)
            found.judged.append(Judged(method, words, cells))
            if words == SHIPPED and view is not None:
                last = view

                def ask(view: Projection = last, moved: Vectors = moved) -> None:
                    seen = view.images(base.encoder.encode([picture], [_WHOLE])[:, 0])
                    _nearest(base.scores(seen, moved))

                cost = Cost(
                    method,
                    of_base.model,
                    of_base.device,
                    of_base.dtype,
                    of_base.threads,
                    of_base.pictures,
                    len(names),
                    of_base.one_rate,
                    of_base.all_rate,
                    statistics.median(seconds),
                    _median_ms(ask),
                    view.dimension,
                )
                found.costs.append(cost)


def fitted(
    base: BaseEncoder, method: str, name: str, rows: Vectors, words: str = SHIPPED
) -> Projection:
    """A view of base vectors under a condition.

    Args:
        base: made the rows.
        method: one of :data:`ingest.encoders.projections.base.PROJECTIONS`.
        name: the condition's.
        rows: float32 [n, dim], of the pictures, of which the mean counts.
        words: :data:`SHIPPED`, or :data:`OWN` for a factor of the world.

    Raises:
        UsageError: if no list of words is known.
    """
    if words == OWN:
        texts = value_texts(name)
        values = texts
    else:
        vocabulary = vocabulary_of(name)
        texts, values = vocabulary.texts, list(vocabulary.words)
    vectors = base.encode_text(texts, [_WHOLE])[:, 0]
    return fit_view(method, values, vectors, rows.mean(axis=0))


def judge_scores(way: Way, rows: Vectors, values: Values) -> dict[str, Measure]:
    """MAP@R by every factor, each beside its chance; a picture never finds itself.

    Args:
        way: compares rows.
        rows: [n, dim], of all pictures under one condition.
        values: factor to int64 [n]; pictures where it is -1 are left out altogether.
    """
    scores = way.scores(rows, rows)
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    judged = {}
    for name, each in values.items():
        known = each >= 0
        ranked = order[known]
        if not known.all():
            ranked = ranked[known[ranked]].reshape(len(ranked), -1)
        hits = each[ranked] == each[known][:, None]
        relevant = hits.sum(axis=1)
        asked = relevant > 0
        if not asked.any():
            continue
        others = np.full(int(asked.sum()), hits.shape[1], dtype=np.int64)
        value = map_at_r(hits[asked], relevant[asked]).mean()
        chance = chance_map_at_r(relevant[asked], others).mean()
        judged[name] = Measure(float(value), float(chance))
    return judged


def _cost(
    way: Way,
    rows: Vectors,
    pictures: Sequence[Image.Image],
    conditions: Sequence[Condition],
) -> Cost:
    encoder = way.encoder
    one_rate = way.rate(pictures, conditions[:1])
    all_rate = way.rate(pictures, conditions) if len(conditions) > 1 else one_rate

    def ask() -> None:
        seen = encoder.encode(pictures[:1], conditions[:1])[:, 0]
        _nearest(way.scores(seen, rows[:, 0]))

    return Cost(
        way.method,
        encoder.spec.model,
        encoder.device,
        str(encoder.spec.settings.get("dtype", "")),
        encoder.threads,
        len(pictures),
        len(conditions),
        one_rate,
        all_rate,
        len(pictures) / one_rate if encoder.conditional else 0.0,
        _median_ms(ask),
        encoder.dimension,
    )


def _nearest(scores: NDArray[np.float32], count: int = 10) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.argpartition(-scores[0], min(count, scores.shape[1] - 1))[:count]
    return found


def _median_ms(work: Callable[[], None]) -> float:
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)
