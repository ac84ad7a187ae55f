"""All composers on the rendered world: changes with every right answer known."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.metrics import average_precision_at, true_recall_at
from eval.ranked import Ranked, rank
from eval.world.edits import VARIED, Edits, make_edits
from eval.world.factors import FACTORS
from eval.world.render import render
from indexes.open_table import OpenTable
from indexes.records import VectorColumn, VectorTable
from indexes.vectors import Vectors
from ingest.conditions import Condition
from ingest.encoders.dior import DiorEncoder
from ingest.encoders.dual import DualEncoder
from ingest.encoders.speaker import Speaker
from query.arithmetic import Mixture, Term, common_rows
from query.composers.base import Asked, Modification, Writer
from query.composers.dior import read_changed
from query.composers.factory import COMPOSERS, compose
from query.composers.writers import LvlmWriter

#: Where lists are cut.
CUTS = (5, 10, 25, 50)

#: Side of the pictures in pixels.
SIZE = 160

#: Times the questions are drawn anew for an interval.
_DRAWS = 10_000


@dataclass(frozen=True)
class Row:
    """The figures of one composer.

    Attributes:
        name: of the composer, with what it was told.
        precision: cut to float64 [queries], the truncated average precision of each question.
        recall: cut to float64 [queries], the share of all right answers found.
        seconds: to compose one question, in the mean.
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
            "map_interval": {str(k): list(interval(self.precision[k])) for k in CUTS},
            "recall": {str(k): float(self.recall[k].mean()) for k in CUTS},
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Comparison:
    """All composers beside one another.

    Attributes:
        rows: chance first.
        factors: what each question changes.
        pictures: of the gallery.
        right: right answers of a question, in the mean.
        captions_seconds: for the gallery's captions, which weimo needs.
    """

    rows: tuple[Row, ...]
    factors: tuple[str, ...]
    pictures: int
    right: float
    captions_seconds: float

    def row(self, name: str) -> Row:
        """A composer's figures."""
        return next(row for row in self.rows if row.name == name)

    def differences(self, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """How much better one composer is than another in mAP@10, question by question."""
        found = []
        for first, second in pairs:
            gain = self.row(first).precision[10] - self.row(second).precision[10]
            low, high = interval(gain)
            found.append(
                {
                    "better": first,
                    "worse": second,
                    "difference": float(gain.mean()),
                    "interval": [low, high],
                    "p": randomization(gain),
                }
            )
        return found


def interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of the mean when the questions are drawn anew, with replacement."""
    random = np.random.default_rng(seed)
    count = len(values)
    means = [
        values[random.integers(0, count, (500, count))].mean(axis=1) for _ in range(_DRAWS // 500)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def randomization(gain: NDArray[np.float64], seed: int = 0) -> float:
    """How often random signs give a mean as far from zero: a paired test, two-sided."""
    random = np.random.default_rng(seed)
    seen, extreme = abs(float(gain.mean())), 0
    for _ in range(_DRAWS // 500):
        signs = random.integers(0, 2, (500, len(gain))) * 2 - 1
        extreme += int((np.abs((signs * gain).mean(axis=1)) >= seen - 1e-12).sum())
    return (extreme + 1) / (_DRAWS + 1)


class _Tools:
    """What composers work with, over vectors in memory."""

    def __init__(self, dual: DualEncoder, writer: Writer):
        self._dual = dual
        self._writer = writer

    @property
    def base_model(self) -> str:
        return self._dual.source.name

    @cached_property
    def writer(self) -> Writer:
        return self._writer

    @property
    def has_captions(self) -> bool:
        return True

    def texts(self, texts: Sequence[str]) -> Vectors:
        return self._dual.encode_texts(texts)

    def cut(self, text: str) -> str:
        return self._dual.cut(text)


def compare(
    lvlm: str,
    clip: str,
    pictures: int,
    queries: int,
    seed: int,
    progress: Callable[[str], None] = lambda line: None,
    weights: Mapping[str, Mapping[str, float]] | None = None,
) -> Comparison:
    """Measure every composer on the same changes of the same pictures.

    Args:
        lvlm: an LVLM's name, as ``--model`` takes it: writes captions, and embeds for dior.
        clip: a dual encoder's name.
        pictures: of the gallery.
        queries: questions.
        seed: of both; not that of a school.
        progress: told what comes next.
        weights: of composers, where their own shall not hold.

    Raises:
        ModelError: if a model cannot be had.
    """
    dual = DualEncoder.load(clip)
    dior = DiorEncoder.load(lvlm, force=True)
    speaker = Speaker(dior)
    tools = _Tools(dual, LvlmWriter(speaker))
    edits = make_edits(pictures, queries, seed)
    progress(f"rendering {pictures} pictures")
    drawn = [render(scene, SIZE) for scene in edits.scenes]
    progress("embedding them")
    base = dual.encode_images(drawn)
    states = dior.encode(drawn, [Condition.parse(name) for name in FACTORS])
    progress("writing their captions")
    started = time.perf_counter()
    said = speaker.say(drawn, _describe(speaker))
    captions = dual.encode_texts(said)
    captions_seconds = time.perf_counter() - started
    asked = _Asked(edits, drawn, base)
    rows = [_chance(asked)]
    for name in COMPOSERS:
        progress(f"composing by {name}")
        rows.append(_composed(name, asked, tools, captions, (weights or {}).get(name, {})))
    progress("composing by dior")
    rows += _by_dior(asked, dior, states)
    right = float(np.mean([len(query.relevant) for query in edits.queries]))
    return Comparison(tuple(rows), edits.factors, pictures, right, captions_seconds)


@dataclass(frozen=True)
class _Asked:
    """The questions with their pictures and answers."""

    edits: Edits
    drawn: Sequence[Image.Image]
    base: Vectors

    @cached_property
    def numbers(self) -> list[int]:
        return [int(query.image) for query in self.edits.queries]

    def ranked(self, scores: Callable[[int], NDArray[np.float32]]) -> Ranked:
        """Rank the gallery for each question, its own picture left out."""
        kept, gains = [], []
        for place, query in enumerate(self.edits.queries):
            right = np.zeros(len(self.drawn))
            right[[int(one) for one in query.relevant]] = 1.0
            kept.append(np.delete(scores(place), self.numbers[place]))
            gains.append(np.delete(right, self.numbers[place]))
        return rank(kept, gains)


def _row(name: str, ranked: Ranked, seconds: float = 0.0) -> Row:
    return Row(
        name,
        {k: average_precision_at(ranked, k) for k in CUTS},
        {k: true_recall_at(ranked, k) for k in CUTS},
        seconds,
    )


def _chance(asked: _Asked) -> Row:
    ranked = asked.ranked(lambda place: np.zeros(len(asked.drawn), dtype=np.float32))
    return _row("chance", ranked.by_chance())


def _composed(
    name: str, asked: _Asked, tools: _Tools, captions: Vectors, weights: Mapping[str, float]
) -> Row:
    started = time.perf_counter()
    found = []
    for query, number in zip(asked.edits.queries, asked.numbers, strict=True):
        change = Modification(query.text, name, weights=weights)
        question = Asked(change, asked.base[number], partial(asked.drawn.__getitem__, number))
        found.append(compose(name, question, tools))
    seconds = (time.perf_counter() - started) / len(found)

    def scores(place: int) -> NDArray[np.float32]:
        one = found[place]
        both = (1 - one.captions) * asked.base + one.captions * captions
        return np.asarray(both @ one.vector, dtype=np.float32)

    return _row(name, asked.ranked(scores), seconds)


def _by_dior(asked: _Asked, dior: DiorEncoder, states: Vectors) -> list[Row]:
    """DIOR's own composer, told nothing and told which conditions count; beside the picture."""
    names = list(FACTORS)
    keys = [f"{number:05d}" for number in range(len(states))]
    empty = [""] * len(keys)
    tables = [
        OpenTable(
            VectorTable(name, states.shape[2], {"phrase": name}),
            VectorColumn(keys, states[:, at], empty, np.zeros(len(keys), dtype=np.float32)),
        )
        for at, name in enumerate(names)
    ]
    conditions = [Condition.parse(name) for name in names]
    started = time.perf_counter()
    changed = np.concatenate(
        [
            read_changed(dior, asked.drawn[number], query.text, conditions).vectors
            for query, number in zip(asked.edits.queries, asked.numbers, strict=True)
        ]
    )
    seconds = (time.perf_counter() - started) / len(changed)
    rows = []
    own = states[asked.numbers]
    told = [names.index(name) for name in VARIED]
    everything = list(range(len(names)))
    for name, vectors, columns in (
        ("dior, the picture unchanged", own, told),
        ("dior, all conditions", changed, everything),
        ("dior", changed, told),
    ):
        mixture = Mixture([Term(tables[at], 1.0) for at in columns], _rows(tables, columns))

        def scores(
            place: int,
            mixture: Mixture = mixture,
            vectors: Vectors = vectors,
            columns: list[int] = columns,
        ) -> NDArray[np.float32]:
            return mixture.total([states[:, at] @ vectors[place, at] for at in columns])

        rows.append(_row(name, asked.ranked(scores), seconds if vectors is changed else 0.0))
    return rows


def _rows(tables: Sequence[OpenTable], columns: Sequence[int]) -> NDArray[np.int64]:
    return common_rows([tables[at] for at in columns])


def _describe(speaker: Speaker) -> str:
    from query.composers.base import settings

    kind = "schooled" if speaker.schooled else "general"
    return str(settings()["prompts"][kind]["describe"])
