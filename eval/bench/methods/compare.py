"""Every method under every condition: how well it ranks, and what it costs on this machine.

On the rendered world every right answer is known: each condition is judged by its own factor and
by the other factors, of which it should say nothing. Projections are made from words twice: from
the word lists that come with CIES, and from the world's own values.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from eval.bench.cost import MethodCost
from eval.judge import LabelJudge, LabelMatrix, MetricMean, VectorsOf, judge_conditions, mean_of
from eval.metrics.figures import QueryScores
from eval.metrics.names import metric
from eval.metrics.ranked import rank
from eval.world.captions import value_texts
from eval.world.factors import FACTORS, Scene, sample_scenes
from eval.world.render import render
from indexes.errors import UsageError
from indexes.search.multi_vector import similarities
from indexes.vectors import Vectors
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder
from ingest.encoders.factory import METHODS, make_encoder
from ingest.encoders.projections.base import PROJECTIONS, Projection, fit_projection
from ingest.fill.vector_sources import CAPTIONS, LEARNED, PHOTO
from ingest.vocabularies import vocabulary_of

#: Where the words of a projection come from: the lists of configs, or the world itself.
SHIPPED, OWN = "shipped words", "the world's own values"

#: The methods that are measured. Captions and models of pictures alone do not depend on a
#: condition, photo does not answer all of the world's, learned needs examples, imported has no
#: model, and embedders need one that was trained as such.
MEASURED = tuple(
    method
    for method in METHODS
    if method not in (CAPTIONS, LEARNED, PHOTO, "embedder", "imported", "vision")
)

#: Factors that the text queries name together, such as "red heart".
TEXT_FACTORS = ("color", "shape")

#: Metrics of the matrices; P@1 and the others of `cies eval` are not printed.
_METRICS = ("MAP@R",)

#: Pictures embedded at once, and those that are timed.
_CHUNK, _TIMED = 128, 128

#: Prompts asked of a picture at once where they are not timed.
_PROMPTS = 20

#: Rounds of which the median is taken.
_ROUNDS = 9

_WHOLE = Condition.parse(UNCONDITIONAL)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class JudgedMethod:
    """How well a method ranks.

    Attributes:
        method: its name.
        words: where a projection's words come from, or empty.
        matrix: MAP@R of every condition under every factor.
        texts: factor to precision@10 of texts such as "red heart" under it; empty where the method
            embeds no text.
    """

    method: str
    words: str
    matrix: LabelMatrix
    texts: Mapping[str, MetricMean] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodComparison:
    """Every method on the same rendered pictures.

    Attributes:
        pictures: how many.
        seed: the seed of the pictures.
        judged: one entry a method; projections twice, by both kinds of words.
        costs: one entry a method.
    """

    pictures: int
    seed: int
    judged: list[JudgedMethod] = field(default_factory=list)
    costs: list[MethodCost] = field(default_factory=list)


class MethodEncoder:
    """The encoder of one stored method, with how its vectors are compared."""

    def __init__(self, method: str, encoder: BaseEncoder):
        self.method = method
        self.encoder = encoder
        self.parts = int(encoder.spec.settings.get("parts", 1))

    def asked(self, conditions: Sequence[Condition]) -> Sequence[Condition]:
        """The conditions; the unconditional one alone if the method knows no conditions."""
        return conditions if self.encoder.conditional else [_WHOLE]

    def embed(self, pictures: Sequence[Image.Image], conditions: Sequence[Condition]) -> Vectors:
        """Embed pictures under conditions: float32 [pictures, conditions, dim]."""
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
        """Pictures a second, with words, as an ingest embeds them."""
        timed = pictures[:_TIMED]
        started = time.perf_counter()
        self.encoder.embed(timed, conditions)
        return len(timed) / (time.perf_counter() - started)


def load_methods(lvlm: str, clip: str, methods: Sequence[str]) -> Iterator[MethodEncoder]:
    """Load the encoders of some methods; a projection needs that of ``clip``.

    Args:
        lvlm: an LVLM's name, as ``--model`` takes it.
        clip: a dual encoder's name.
        methods: names of :data:`MEASURED`.

    Raises:
        UsageError: if there is no such method.
        ModelError: if a model is not available.
    """
    needed = check_methods(methods)
    for method in MEASURED:
        if method in needed:
            model = clip if method == "clip" else lvlm
            yield MethodEncoder(method, make_encoder(method, model, force=True))


def check_methods(methods: Sequence[str]) -> set[str]:
    """The stored methods that are needed for some methods.

    Raises:
        UsageError: if there is no such method.
    """
    for method in methods:
        if method not in MEASURED:
            raise UsageError(
                f"No method '{method}' is measured here; choose among {', '.join(MEASURED)}."
            )
    return {method if METHODS[method].kind == "stored" else "clip" for method in methods}


def world_judge(scenes: Sequence[Scene]) -> LabelJudge:
    """A judge of rendered pictures, whose ids are their numbers, by the factors of the world."""
    return LabelJudge(
        [str(number) for number in range(len(scenes))],
        {
            factor: {
                str(number): (scene.labels[factor],)
                for number, scene in enumerate(scenes)
                if scene.labels[factor]
            }
            for factor in FACTORS
        },
    )


def rows_of(vectors: Vectors) -> VectorsOf:
    """What gives rows [dim] of an array [pictures, dim] by pictures' numbers, as text."""
    return lambda numbers: vectors[[int(number) for number in numbers]]


def compare_methods(
    lvlm: str,
    clip: str,
    count: int,
    seed: int,
    size: int = 256,
    names: Sequence[str] = tuple(FACTORS),
    methods: Sequence[str] = MEASURED,
    progress: Progress = lambda line: None,
) -> MethodComparison:
    """Measure every method under the world's conditions.

    Args:
        lvlm: an LVLM's name, as ``--model`` takes it.
        clip: a dual encoder's name.
        count: number of pictures.
        seed: the seed of the pictures; one that the models were not trained on.
        size: side of a picture in pixels.
        names: conditions, of the world's factors.
        methods: which of them; a projection brings ``clip`` with it.
        progress: called with the name of each step.

    Raises:
        UsageError: if there is no such method.
        ModelError: if a model is not available.
    """
    # Models are loaded first, so that a wrong name fails before minutes of rendering.
    encoders = list(load_methods(lvlm, clip, methods))
    progress(f"rendering {count} pictures")
    scenes = sample_scenes(count, seed)
    pictures = [render(scene, size) for scene in scenes]
    judge = world_judge(scenes)
    found = MethodComparison(count, seed)
    conditions = [Condition.parse(name) for name in names]
    for one in encoders:
        progress(f"embedding by {one.method}")
        asked = one.asked(conditions)
        rows = one.embed(pictures, asked)
        found.costs.append(_cost(one, rows, pictures, asked))
        columns = (
            (name, rows_of(rows[:, min(at, len(asked) - 1)])) for at, name in enumerate(names)
        )
        matrix = judge_conditions(judge, columns, _METRICS, one.parts)
        texts = {
            name: mean
            for at, name in enumerate(names)
            if name in TEXT_FACTORS
            and (mean := _text_precision(one, rows[:, min(at, len(asked) - 1)], name, scenes))
        }
        found.judged.append(JudgedMethod(one.method, "", matrix, texts))
        if one.method == "clip":
            chosen = [method for method in PROJECTIONS if method in methods]
            _compare_projections(
                found, one, rows[:, 0], chosen, names, judge, pictures[0], progress
            )
    order = list(MEASURED)
    found.judged.sort(key=lambda one: order.index(one.method))
    found.costs.sort(key=lambda one: order.index(one.method))
    return found


def _compare_projections(
    found: MethodComparison,
    base: MethodEncoder,
    rows: Vectors,
    methods: Sequence[str],
    names: Sequence[str],
    judge: LabelJudge,
    picture: Image.Image,
    progress: Progress,
) -> None:
    """Judge and time every projection of the base vectors."""
    for method in methods:
        progress(f"fitting projections by {method}")
        for words in (SHIPPED, OWN):
            seconds: list[float] = []
            projections: list[Projection] = []

            def projected(
                method: str = method,
                words: str = words,
                seconds: list[float] = seconds,
                projections: list[Projection] = projections,
            ) -> Iterator[tuple[str, VectorsOf]]:
                for name in names:
                    started = time.perf_counter()
                    projections.append(fitted(base.encoder, method, name, rows, words))
                    moved = projections[-1].images(rows)
                    seconds.append(time.perf_counter() - started)
                    yield name, rows_of(moved)

            matrix = judge_conditions(judge, projected(), _METRICS)
            found.judged.append(JudgedMethod(method, words, matrix))
            if words == SHIPPED and projections:
                last = projections[-1]
                moved = last.images(rows)

                def ask(last: Projection = last, moved: Vectors = moved) -> None:
                    query = last.images(base.encoder.encode([picture], [_WHOLE])[:, 0])
                    _nearest(similarities(query, moved))

                found.costs.append(
                    replace(
                        next(cost for cost in found.costs if cost.method == base.method),
                        method=method,
                        conditions=len(names),
                        condition_seconds=statistics.median(seconds),
                        query_ms=_median_ms(ask),
                        dimension=last.dimension,
                    )
                )


def fitted(
    base: BaseEncoder, method: str, name: str, rows: Vectors, words: str = SHIPPED
) -> Projection:
    """Fit a projection of base vectors for a condition.

    Args:
        base: made the rows.
        method: one of :data:`ingest.encoders.projections.base.PROJECTIONS`.
        name: the name of the condition.
        rows: float32 [n, dim], of the pictures, whose mean is used.
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
    return fit_projection(method, values, vectors, rows.mean(axis=0))


def _text_precision(
    one: MethodEncoder, rows: Vectors, factor: str, scenes: Sequence[Scene]
) -> MetricMean | None:
    """Precision@10 of texts that name two factors, judged by one of them.

    ``None`` where the method embeds no text.
    """
    pairs = [(color, shape) for color in FACTORS["color"] for shape in FACTORS["shape"]]
    try:
        queries = one.encoder.encode_text(
            [" ".join(pair) for pair in pairs], one.asked([Condition.parse(factor)])
        )
    except UsageError:
        return None
    values = np.array([scene.labels[factor] for scene in scenes])
    right = [values == pair[TEXT_FACTORS.index(factor)] for pair in pairs]
    scores = similarities(queries[:, 0], rows, one.parts)
    asked = [number for number, hits in enumerate(right) if hits.any()]
    ranked = rank(list(scores[asked]), [right[number] for number in asked])
    precision = metric("precision@10")
    numbers, classes = np.array(asked), np.empty(0, dtype=np.str_)
    return mean_of(QueryScores(numbers, precision(ranked), precision.chance(ranked), classes))


def _cost(
    one: MethodEncoder,
    rows: Vectors,
    pictures: Sequence[Image.Image],
    conditions: Sequence[Condition],
) -> MethodCost:
    encoder = one.encoder
    one_rate = one.rate(pictures, conditions[:1])
    all_rate = one.rate(pictures, conditions) if len(conditions) > 1 else one_rate

    def ask() -> None:
        query = encoder.encode(pictures[:1], conditions[:1])[:, 0]
        _nearest(similarities(query, rows[:, 0], one.parts))

    return MethodCost(
        method=one.method,
        model=encoder.spec.model,
        device=encoder.device,
        dtype=str(encoder.spec.settings.get("dtype", "")),
        threads=encoder.threads,
        pictures=len(pictures),
        conditions=len(conditions),
        one_rate=one_rate,
        all_rate=all_rate,
        condition_seconds=len(pictures) / one_rate if encoder.conditional else 0.0,
        query_ms=_median_ms(ask),
        dimension=encoder.dimension,
    )


def _nearest(scores: Vectors, count: int = 10) -> None:
    """Find the best rows of one query, as a search does; only its time counts."""
    np.argpartition(-scores[0], min(count, scores.shape[1] - 1))[:count]


def _median_ms(work: Callable[[], None]) -> float:
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)
