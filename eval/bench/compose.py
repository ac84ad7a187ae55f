"""Compares all composers on the rendered world, where every right answer is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.metrics.formulas import average_precision_at, true_recall_at
from eval.metrics.ranked import Ranked, rank
from eval.metrics.statistics import interval, paired_test
from eval.world.edits import VARIED, Edits, make_edits
from eval.world.factors import FACTORS
from eval.world.render import render
from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from indexes.store.records import VectorColumn, VectorTable
from indexes.vectors import Vectors
from ingest.conditions import Condition
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.factory import make_encoder
from ingest.encoders.inversion.encoder import OPTIMISED
from ingest.encoders.methods.clip import ClipEncoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.vlm.generation import TextGenerator
from query.composers.base import ComposerContext, ComposerInput, compose_settings
from query.composers.caption_writer import LvlmCaptionWriter
from query.composers.dior import conditions_in_change, read_changed_picture, vectors_from_words
from query.composers.factory import COMPOSERS, compose
from query.composers.modification import Modification
from query.ranking.combination import ScoreCombination

#: Numbers of best answers that are judged.
CUTS = (5, 10, 25, 50)

#: Side of a picture in pixels.
SIZE = 160

#: The composer that also compares with captions of the gallery.
WEIGHS_CAPTIONS = "weimo"


#: The comparisons that docs/compose.md makes: the first composer is expected to be better.
PAIRS = (
    ("sum", "image"),
    ("sum", "text"),
    ("cirevl", "sum"),
    ("pdv", "cirevl"),
    ("dior-split", "dior"),
    ("dior-split", "sum"),
    ("dior-split -c", "sum"),
    ("text -c", "sum"),
    ("searle", "image"),
    ("searle", "text"),
    ("searle", "sum"),
    ("searle-oti", "searle"),
    ("pic2word", "searle"),
    ("lincir", "searle"),
)


@dataclass(frozen=True)
class ComposerScores:
    """The figures of one composer.

    Attributes:
        name: the name of the composer, with its options.
        precision: k to float64 [queries], the truncated average precision (mAP@k) of each query.
        recall: k to float64 [queries], the share of all right answers among the first k.
        seconds: mean time to compose one query.
    """

    name: str
    precision: Mapping[int, NDArray[np.float64]]
    recall: Mapping[int, NDArray[np.float64]]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """For documents."""
        return {
            "composer": self.name,
            "map": {str(k): float(self.precision[k].mean()) for k in CUTS},
            "map_interval": {str(k): _ends(self.precision[k]) for k in CUTS},
            "recall": {str(k): float(self.recall[k].mean()) for k in CUTS},
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class ComposerComparison:
    """All composers on the same queries.

    Attributes:
        rows: chance first.
        factors: the factor that each query changes.
        pictures: number of pictures in the gallery.
        right: mean number of right answers of a query.
        captions_seconds: to write the gallery's captions, which weimo needs.
    """

    rows: tuple[ComposerScores, ...]
    factors: tuple[str, ...]
    pictures: int
    right: float
    captions_seconds: float

    def row(self, name: str) -> ComposerScores:
        """The figures of a composer."""
        return next(row for row in self.rows if row.name == name)

    def differences(self, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """Paired tests of mAP@10 over the queries, for pairs that were both measured."""
        found = []
        measured = {row.name for row in self.rows}
        for first, second in [pair for pair in pairs if measured.issuperset(pair)]:
            test = paired_test(self.row(first).precision[10], self.row(second).precision[10])
            found.append(
                {
                    "better": first,
                    "worse": second,
                    "difference": test.difference,
                    "interval": [test.interval.low, test.interval.high],
                    "p_value": test.p_value,
                }
            )
        return found


def _ends(values: NDArray[np.float64]) -> list[float]:
    found = interval(values)
    return [found.low, found.high]


def compare(
    lvlm: str,
    clip: str,
    pictures: int,
    queries: int,
    seed: int,
    busy: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    weights: Mapping[str, Mapping[str, float]] | None = None,
    only: Sequence[str] = (),
) -> ComposerComparison:
    """Measure every composer on the same changes to the same pictures.

    Args:
        lvlm: an LVLM's name, as ``--model`` takes it; it writes captions, and embeds for dior.
        clip: a dual encoder's name.
        pictures: number of pictures in the gallery.
        queries: number of queries.
        seed: the seed of both; one that the models were not trained on.
        busy: whether the pictures also vary in factors that do not count.
        progress: called with the name of each step.
        weights: composer to weights that replace its own.
        only: composers of base vectors to measure; all composers by default.

    Raises:
        UsageError: if there is no such composer.
        ModelError: if a model is not available.
    """
    for name in only:
        if name not in COMPOSERS:
            raise UsageError(
                f"There is no composer '{name}' of base vectors; choose some of "
                f"{', '.join(COMPOSERS)}."
            )
    encoder, dior = make_encoder("clip", clip), make_encoder("dior", lvlm, force=True)
    assert isinstance(encoder, ClipEncoder) and isinstance(dior, DiorEncoder)
    dual, generator = encoder.dual, TextGenerator(dior)
    context = ComposerContext(
        clip, lambda: encoder, lambda: LvlmCaptionWriter(generator), lambda: True
    )
    edits = make_edits(pictures, queries, seed, busy)
    progress(f"rendering {pictures} pictures")
    drawn = [render(scene, SIZE) for scene in edits.scenes]
    progress("embedding them")
    base = dual.encode_images(drawn)
    asked = _EditQueries(edits, drawn, base)
    captions, captions_seconds = base, 0.0
    if not only or WEIGHS_CAPTIONS in only:
        progress("writing their captions")
        started = time.perf_counter()
        captions = dual.encode_texts(generator.generate(drawn, _describe(generator)))
        captions_seconds = time.perf_counter() - started
    rows = [_chance(asked)]
    for name in only or COMPOSERS:
        progress(f"composing by {name}")
        rows.append(_composed(name, asked, context, captions, (weights or {}).get(name, {})))
    if not only:
        progress("composing by dior")
        states = dior.encode(drawn, [Condition.parse(name) for name in FACTORS])
        rows += _by_conditions(asked, dior, states, dual)
    right = float(np.mean([len(query.relevant) for query in edits.queries]))
    return ComposerComparison(tuple(rows), edits.factors, pictures, right, captions_seconds)


def as_markdown(found: ComposerComparison) -> str:
    """The tables of docs/compose.md."""
    cuts = [f"mAP@{k}" for k in CUTS] + [f"recall@{k}" for k in CUTS]
    lines = [["composer", *cuts, "mAP@10 between"], ["---"] * (len(cuts) + 2)]
    for row in found.rows:
        low, high = _ends(row.precision[10])
        figures = [row.precision[k].mean() for k in CUTS] + [row.recall[k].mean() for k in CUTS]
        numbers = [f"{figure:.3f}" for figure in figures]
        lines.append([row.name, *numbers, f"{low:.3f}, {high:.3f}"])
    factors = np.array(found.factors)
    by = [["mAP@10 where it changes", *VARIED], ["---"] * (len(VARIED) + 1)]
    for row in found.rows[1:]:
        means = [f"{row.precision[10][factors == name].mean():.3f}" for name in VARIED]
        by.append([row.name, *means])
    tests = [["mAP@10", "better by", "between", "p"], ["---"] * 4]
    for one in found.differences(PAIRS):
        low, high = one["interval"]
        tests.append(
            [
                f"{one['better']} over {one['worse']}",
                f"{one['difference']:+.3f}",
                f"{low:+.3f}, {high:+.3f}",
                f"{one['p_value']:.4f}",
            ]
        )
    tables = ("\n".join("| " + " | ".join(line) + " |" for line in t) for t in (lines, by, tests))
    return "\n\n".join(tables)


@dataclass(frozen=True)
class _EditQueries:
    """The queries with their pictures and the base vectors of the gallery."""

    edits: Edits
    pictures: Sequence[Image.Image]
    base: Vectors

    @cached_property
    def numbers(self) -> list[int]:
        """Number of each query's picture in the gallery."""
        return [int(query.image) for query in self.edits.queries]

    def ranked(self, scores: Callable[[int], NDArray[np.float32]]) -> Ranked:
        """Rank the gallery for each query, without its own picture.

        Args:
            scores: number of a query to its scores, float32 [pictures].
        """
        kept, gains = [], []
        for place, query in enumerate(self.edits.queries):
            right = np.zeros(len(self.pictures))
            right[[int(one) for one in query.relevant]] = 1.0
            kept.append(np.delete(scores(place), self.numbers[place]))
            gains.append(np.delete(right, self.numbers[place]))
        return rank(kept, gains)


def _scores(name: str, ranked: Ranked, seconds: float = 0.0) -> ComposerScores:
    return ComposerScores(
        name,
        {k: average_precision_at(ranked, k) for k in CUTS},
        {k: true_recall_at(ranked, k) for k in CUTS},
        seconds,
    )


def _chance(asked: _EditQueries) -> ComposerScores:
    ranked = asked.ranked(lambda place: np.zeros(len(asked.pictures), dtype=np.float32))
    return _scores("chance", ranked.by_chance())


def _composed(
    name: str,
    asked: _EditQueries,
    context: ComposerContext,
    captions: Vectors,
    weights: Mapping[str, float],
) -> ComposerScores:
    started = time.perf_counter()
    found = []
    if name == OPTIMISED:
        # All in one batch; each picture gets the word that it would get alone.
        context.inversion().optimise(asked.base[asked.numbers])
    for query, number in zip(asked.edits.queries, asked.numbers, strict=True):
        change = Modification(query.text, name, weights=weights)
        question = ComposerInput(
            change, asked.base[number], partial(asked.pictures.__getitem__, number)
        )
        found.append(compose(name, question, context))
    seconds = (time.perf_counter() - started) / len(found)

    def scores(place: int) -> NDArray[np.float32]:
        one = found[place]
        both = (1 - one.captions) * asked.base + one.captions * captions
        return np.asarray(both @ one.vector, dtype=np.float32)

    return _scores(name, asked.ranked(scores), seconds)


def _by_conditions(
    asked: _EditQueries, dior: DiorEncoder, states: Vectors, dual: DualEncoder
) -> list[ComposerScores]:
    """The composers of DIOR's vectors, without conditions and with ``-c``.

    ``-c`` names the factors that a user wants to keep or change. For ``text`` it names those to
    keep, and the CLIP reads the change.
    """
    names = list(FACTORS)
    conditions = [Condition.parse(name) for name in names]
    queries = asked.edits.queries
    started = time.perf_counter()
    edited = [
        read_changed_picture(dior, asked.pictures[number], query.text, conditions)
        for query, number in zip(queries, asked.numbers, strict=True)
    ]
    edited_seconds = (time.perf_counter() - started) / len(queries)
    started = time.perf_counter()
    read = [dior.embed_text([query.text], conditions) for query in queries]
    read_seconds = (time.perf_counter() - started) / len(queries)
    changed = np.concatenate([reading.vectors for reading in edited])
    split, imagined = states[asked.numbers].copy(), 0
    for place, query in enumerate(queries):

        def imagine(place: int = place) -> Sequence[str]:
            nonlocal imagined
            imagined += 1
            return edited[place].words[0]

        spoken = conditions_in_change(query.text, names, read[place].words[0], imagine)
        given = vectors_from_words(dior, query.text, spoken, read[place], conditions)
        for at, (vector, _) in given.items():
            split[place, at] = vector
        if not spoken:
            split[place], imagined = changed[place], imagined + 1
    split_seconds = read_seconds + edited_seconds * imagined / len(queries)
    four = [names.index(name) for name in VARIED]
    texts = dual.encode_texts([query.text for query in queries])
    tables = [_table(name, states[:, at]) for at, name in enumerate(names)]
    base = _table("base", asked.base)
    mixtures: dict[tuple[int, ...], ScoreCombination] = {}

    def kept(place: int) -> NDArray[np.float32]:
        others = tuple(at for at in four if names[at] != asked.edits.factors[place])
        if others not in mixtures:
            every = [base, *(tables[at] for at in others)]
            mixtures[others] = ScoreCombination(every, [1.0] * len(every))
        own = states[asked.numbers[place]]
        cosines = [asked.base @ texts[place], *(states[:, at] @ own[at] for at in others)]
        return mixtures[others].total(cosines)

    def mean(vectors: Vectors, columns: Sequence[int]) -> Callable[[int], NDArray[np.float32]]:
        # The sum ranks as the mean cosine of query.composers.search does.
        return lambda place: np.einsum("nad,ad->n", states[:, columns], vectors[place, columns])

    everything = range(len(names))
    return [
        _scores("dior", asked.ranked(mean(changed, everything)), edited_seconds),
        _scores("dior-split", asked.ranked(mean(split, everything)), split_seconds),
        _scores("dior -c", asked.ranked(mean(changed, four)), edited_seconds),
        _scores("dior-split -c", asked.ranked(mean(split, four)), split_seconds),
        _scores("text -c", asked.ranked(kept)),
    ]


def _table(name: str, vectors: Vectors) -> OpenTable:
    keys = [f"{number:05d}" for number in range(len(vectors))]
    column = VectorColumn(keys, vectors, [""] * len(keys), np.zeros(len(keys), dtype=np.float32))
    return OpenTable(VectorTable(name, vectors.shape[1], {"phrase": name}), column)


def _describe(generator: TextGenerator) -> str:
    kind = "schooled" if generator.declares_conditions else "general"
    return str(compose_settings()["prompts"][kind]["describe"])
