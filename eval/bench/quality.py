"""How well embeddings keep to a condition, on the rendered world, where all there is is known.

Every condition is judged by every factor: by its own, which should be high, and by the others,
where anything above chance has leaked. And the wordings of one condition should find the same
neighbours.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.matrix import Measure, judge
from eval.world.captions import value_texts
from eval.world.factors import FACTORS, Scene, sample_scenes
from eval.world.render import render
from indexes.errors import UsageError
from indexes.search.vectors import Vectors
from ingest.conditions import Condition
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.projections import indirect

#: Pictures to vectors under some conditions by name: float32 [pictures, conditions, dim].
Encode = Callable[[Sequence[Image.Image], Sequence[str]], Vectors]

#: What a person may call a color, whose neighbours should be the same.
WORDINGS = ("color", "colour", "hue")

#: How many neighbours of two wordings are compared.
_NEIGHBOURS = 10


@dataclass(frozen=True)
class Quality:
    """The figures of one way of embedding.

    Attributes:
        method: its name.
        cells: condition, then factor, to MAP@R with its chance.
        agreement: mean share of the first 10 neighbours that two of :data:`WORDINGS` have in
            common, or ``None`` where the method knows no wordings.
    """

    method: str
    cells: Mapping[str, Mapping[str, Measure]]
    agreement: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For documents."""
        return {
            "method": self.method,
            "own": self.own,
            "leakage": self.leakage,
            "wording_agreement": self.agreement,
            "map_at_r": {
                condition: {label: measure.to_json() for label, measure in row.items()}
                for condition, row in self.cells.items()
            },
        }

    @property
    def own(self) -> float:
        """Mean MAP@R of the conditions under their own factors."""
        return float(np.mean([row[name].value for name, row in self.cells.items()]))

    @property
    def leakage(self) -> float:
        """Mean MAP@R over chance of the conditions under all other factors."""
        return float(
            np.mean(
                [
                    measure.corrected
                    for name, row in self.cells.items()
                    for label, measure in row.items()
                    if label != name
                ]
            )
        )


def factor_values(scenes: Sequence[Scene]) -> dict[str, NDArray[np.int64]]:
    """Factor to int64 [scenes], the number of its value, or -1 where it does not apply."""
    return {
        name: np.array(
            [values.index(s.labels[name]) if s.labels[name] else -1 for s in scenes],
            dtype=np.int64,
        )
        for name, values in FACTORS.items()
    }


def measure(
    method: str,
    vectors: Vectors,
    conditions: Sequence[str],
    values: Mapping[str, NDArray[np.int64]],
    agreement: float | None = None,
) -> Quality:
    """Judge vectors of rendered pictures.

    Args:
        method: a name for them.
        vectors: float32 [pictures, conditions, dim], unit rows.
        conditions: factors' names.
        values: from :func:`factor_values`.
        agreement: from :func:`wording_agreement`.
    """
    groups: dict[bytes, list[str]] = {}
    for name, each in values.items():
        groups.setdefault((each >= 0).tobytes(), []).append(name)
    cells: dict[str, dict[str, Measure]] = {}
    for column, condition in enumerate(conditions):
        judged: dict[str, Measure] = {}
        # Factors that apply to the same pictures share their rankings.
        for names in groups.values():
            known = values[names[0]] >= 0
            found = judge(vectors[known, column], {name: values[name][known] for name in names})
            judged.update({name: measures["MAP@R"] for name, (_, measures) in found.items()})
        cells[condition] = {name: judged[name] for name in values if name in judged}
    return Quality(method, cells, agreement)


def neighbours(vectors: Vectors, count: int = _NEIGHBOURS) -> NDArray[np.int64]:
    """The nearest others of every row: int64 [n, count], in no order."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return np.argpartition(-scores, count - 1, axis=1)[:, :count].astype(np.int64)


def wording_agreement(encode: Encode, pictures: Sequence[Image.Image]) -> float:
    """Mean share of neighbours that two wordings of color have in common."""
    vectors = encode(pictures, WORDINGS)
    found = [[set(row) for row in neighbours(vectors[:, i])] for i in range(len(WORDINGS))]
    shares = [
        len(a & b) / _NEIGHBOURS
        for i in range(len(found))
        for j in range(i)
        for a, b in zip(found[i], found[j], strict=True)
    ]
    return float(np.mean(shares))


@dataclass(frozen=True)
class Comparison:
    """What a pair of models is worth on the rendered world.

    Attributes:
        methods: DIOR first.
        texts: factor to the share of right pictures among the 10 nearest to texts such as "red
            heart" under it; empty if the LVLM reads none.
        load_seconds: to load the LVLM once its libraries are imported.
        pictures_per_second: the LVLM, under four conditions, from decoded pictures.
    """

    methods: list[Quality]
    texts: dict[str, float]
    load_seconds: float
    pictures_per_second: float


def compare(
    lvlm: str,
    clip: str,
    count: int,
    seed: int,
    size: int = 256,
    progress: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Measure DIOR, CLIP, InDiReCT and Generative on the same rendered pictures.

    InDiReCT learns from the words of the world's own values, and Generative is DIOR's word put
    through the CLIP's text side: both are told more than a stranger's pictures would tell them.

    Args:
        lvlm: an LVLM's name, as ``--model`` takes it.
        clip: a dual encoder's name.
        count: pictures.
        seed: of the pictures; not that of a school.
        size: their side in pixels.
        progress: told what comes next.

    Raises:
        ModelError: if a model cannot be had.
    """
    # Both models first: a wrong name is not to be learned of after minutes of rendering.
    dual = DualEncoder.load(clip)
    DiorEncoder.load(lvlm, force=True)  # imports what is needed
    started = time.perf_counter()
    dior = DiorEncoder.load(lvlm, force=True)
    loading = time.perf_counter() - started
    progress(f"rendering {count} pictures")
    scenes = sample_scenes(count, seed)
    pictures = [render(scene, size) for scene in scenes]
    values, names = factor_values(scenes), list(FACTORS)
    progress("asking the LVLM")
    reading = dior.embed(pictures, [Condition.parse(name) for name in names])
    methods = [
        measure(
            "dior",
            reading.vectors,
            names,
            values,
            wording_agreement(
                lambda some, wordings: dior.encode(some, [Condition.parse(w) for w in wordings]),
                pictures,
            ),
        )
    ]
    four = [Condition.parse(name) for name in names[:4]]
    some = pictures[: min(count, 256)]
    started = time.perf_counter()
    dior.encode(some, four)
    rate = len(some) / (time.perf_counter() - started)
    progress("asking the CLIP")
    seen = dual.encode_images(pictures)
    methods.append(measure("clip", np.repeat(seen[:, None], len(names), axis=1), names, values))
    learned = [
        indirect.project(seen, indirect.fit(dual.encode_texts(value_texts(name)))) for name in names
    ]
    methods.append(measure("indirect", np.stack(learned, axis=1), names, values))
    words = sorted({word for row in reading.words for word in row})
    place = {word: number for number, word in enumerate(words)}
    said = dual.encode_texts(words)[[[place[word] for word in row] for row in reading.words]]
    methods.append(measure("generative", said, names, values))
    found = _by_texts(dior, reading.vectors, values)
    return Comparison(methods, found, loading, rate)


def as_markdown(found: Comparison) -> str:
    """The table of a comparison, for terminals and model cards alike."""
    names = list(FACTORS)
    chance = [found.methods[0].cells[name][name].chance for name in names]
    lines = [["MAP@R", *names, "mean", "leakage"], ["---"] * (len(names) + 3)]
    for quality in found.methods:
        own = [quality.cells[name][name].value for name in names]
        figures = [*own, quality.own, quality.leakage]
        lines.append([quality.method, *(f"{figure:.3f}" for figure in figures)])
    lines.append(["chance", *(f"{c:.3f}" for c in [*chance, float(np.mean(chance))]), "0.000"])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    texts = ", ".join(f"{share:.3f} under {factor}" for factor, share in found.texts.items())
    return (
        f"{table}\n\nNeighbours under {', '.join(WORDINGS)} shared: "
        f"{found.methods[0].agreement:.3f} of the first {_NEIGHBOURS}. Right among the "
        f"{_NEIGHBOURS} nearest to texts: {texts or 'none read'}. Loaded in "
        f"{found.load_seconds:.2f} s, {found.pictures_per_second:.0f} pictures/s under 4 "
        "conditions."
    )


def _by_texts(
    dior: DiorEncoder, vectors: Vectors, values: Mapping[str, NDArray[np.int64]]
) -> dict[str, float]:
    """Share of right pictures among the 10 nearest to a text that names two factors."""
    names = list(FACTORS)
    pairs = [(color, shape) for color in FACTORS["color"] for shape in FACTORS["shape"]]
    found = {}
    for column, factor in enumerate(("color", "shape")):
        try:
            asked = dior.encode_text([f"{c} {s}" for c, s in pairs], [Condition.parse(factor)])
        except UsageError:
            return {}
        scores = asked[:, 0] @ vectors[:, names.index(factor)].T
        nearest = np.argpartition(-scores, _NEIGHBOURS - 1, axis=1)[:, :_NEIGHBOURS]
        wanted = np.array([FACTORS[factor].index(pair[column]) for pair in pairs])
        found[factor] = float((values[factor][nearest] == wanted[:, None]).mean())
    return found
