"""The rendered world as a benchmark: every factor known, so no right answer is counted wrong.

Six tasks. ``world`` judges each of ten conditions by each of ten factors that tell nothing about
one another: the diagonal is what was asked for, the rest is leakage. ``world-wordings`` asks for
the same in other words. ``world-abstention`` asks for what some pictures do not have.
``world-focus`` and ``world-change`` are templates as in GeneCIS (Vaze et al., CVPR 2023), each with
a small gallery and one target. ``world-edits`` asks for one change and all else kept, with several
targets, as CIRCO does (Baldrati et al., ICCV 2023), on pictures in which nothing else differs; it
is what ``cies bench compose`` asks too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eval.runs.abstention import ABSENT, APPLIES, AUROC, SHARED_NEIGHBOURS
from eval.tasks import BenchmarkSource, LabelTask, QueryTask, Task, TaskPart, TaskQuery
from eval.world.captions import change
from eval.world.edits import VARIED, Edits, make_edits, picture_id
from eval.world.factors import FACTORS, Scene, sample_scenes
from eval.world.gallery import draw

#: A seed no built-in model was schooled on.
SEED = 4711

SOURCE = BenchmarkSource(
    "the rendered world of CIES", "cies bench world", "MIT, made by this program"
)

#: Factor to ways of asking for it, its own name first.
WORDINGS: Mapping[str, tuple[str, ...]] = {
    "color": ("color", "colour", "hue"),
    "shape": ("shape", "form", "kind of thing"),
    "pattern": ("pattern", "decoration"),
    "material": ("material", "surface"),
    "background": ("background", "background color"),
    "size": ("size", "object size"),
    "count": ("count", "number"),
    "style": ("style", "medium"),
    "stroke": ("stroke", "line weight"),
    "frame": ("frame", "border"),
}

#: Factors that a change is asked of: all of their values are seen in every picture.
CHANGED = ("color", "shape", "pattern", "background", "size", "count", "style")

#: Pictures of ``world-edits``, in which little varies: see :mod:`eval.world.edits`.
EDITED = 648

#: Candidates of a template, as in GeneCIS; fewer where so few pictures are rendered that there are
#: not enough, but never less than :data:`FEWEST`.
CANDIDATES, FEWEST = 15, 5

Progress = Callable[[int, int], None]


def world_tasks(
    folder: Path,
    count: int,
    seed: int = SEED,
    size: int = 256,
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> tuple[Task, ...]:
    """Render the pictures, unless they are there, and pose all tasks.

    Args:
        folder: gets ``world/00001.jpg`` and so on, and ``edits/``.
        count: pictures of ``world``; :data:`EDITED` more are of ``world-edits``.
        seed: equal seeds give equal pictures and questions.
        size: side of a picture in pixels.
        workers: processes to draw with; one a core by default.
        progress: called with pictures drawn and to draw.

    Raises:
        CiesError: if the folder cannot be written to.
    """
    scenes = {f"{n:05d}.jpg": s for n, s in enumerate(sample_scenes(count, seed), start=1)}
    questions = max(10, count // 20)
    asked = make_edits(EDITED, questions * len(VARIED), seed)
    edits = {f"{picture_id(n)}.jpg": scene for n, scene in enumerate(asked.scenes)}
    _draw_once(folder, {"world": scenes, "edits": edits}, (count, seed, size), workers, progress)
    of = {f"world/{name}": scene.labels for name, scene in scenes.items()}
    images = {key: folder / key for key in of}
    random = np.random.default_rng(seed)
    return (
        _labels("world", images, {factor: (factor,) for factor in FACTORS}, of),
        _labels("world-wordings", images, WORDINGS, of),
        _abstention(images, of),
        _focus(images, of, questions, random),
        _change(images, of, questions, random),
        _edits(folder, asked),
    )


def _draw_once(
    folder: Path,
    scenes: Mapping[str, Mapping[str, Scene]],
    made_of: Sequence[int],
    workers: int | None,
    progress: Progress,
) -> None:
    """Render what is not there; the note of what it is comes last."""
    note = folder / "rendered.json"
    count, seed, size = made_of
    about = json.dumps({"count": count, "seed": seed, "size": size, "edits": EDITED})
    if note.exists() and note.read_text(encoding="utf-8") == about:
        return
    total, before = sum(len(of) for of in scenes.values()), 0
    for name, of in scenes.items():
        draw(
            folder / name,
            of,
            size,
            workers,
            lambda done, _, start=before: progress(start + done, total),  # type: ignore[misc]
        )
        before += len(of)
    note.write_text(about, encoding="utf-8")


def _labels(
    name: str,
    images: Mapping[str, Path],
    wordings: Mapping[str, Sequence[str]],
    of: Mapping[str, Mapping[str, str]],
) -> LabelTask:
    crossed = all(len(words) == 1 for words in wordings.values())
    labels = {
        word: {key: (values[factor],) for key, values in of.items() if values[factor]}
        for factor, words in wordings.items()
        for word in words
    }
    metrics = () if crossed else (SHARED_NEIGHBOURS,)
    return LabelTask(name, SOURCE, images, labels, metrics=metrics, crossed=crossed)


def _abstention(images: Mapping[str, Path], of: Mapping[str, Mapping[str, str]]) -> LabelTask:
    """Things drawn in lines have no material."""
    labels = {key: (APPLIES if values["material"] else ABSENT,) for key, values in of.items()}
    return LabelTask(
        "world-abstention",
        SOURCE,
        images,
        {"material": labels},
        headline=AUROC,
        metrics=(),
        notes=("Things drawn in lines have no material; is a method less sure of them?",),
    )


class _Pool:
    """Pictures by their values."""

    def __init__(self, of: Mapping[str, Mapping[str, str]], random: np.random.Generator):
        self.of = of
        self.keys = list(of)
        self.random = random
        self._values = {
            factor: np.array([of[key][factor] for key in self.keys]) for factor in FACTORS
        }

    def having(self, **values: str) -> np.ndarray:
        """Which pictures have these values: bool [pictures]."""
        found = np.ones(len(self.keys), dtype=bool)
        for factor, value in values.items():
            found &= self._values[factor] == value
        return found

    def draw(self, which: np.ndarray, count: int = 1) -> list[str]:
        """Some of these pictures, at most ``count``, none twice."""
        rows = np.flatnonzero(which)
        chosen = self.random.choice(rows, min(count, len(rows)), replace=False)
        return [self.keys[row] for row in chosen]

    def order(self, keys: Sequence[str]) -> tuple[str, ...]:
        """The same in random order, so that the target's place tells nothing."""
        return tuple(keys[n] for n in self.random.permutation(len(keys)))


def _focus(
    images: Mapping[str, Path],
    of: Mapping[str, Mapping[str, str]],
    questions: int,
    random: np.random.Generator,
) -> QueryTask:
    """Find the one picture with the reference's value; the others share some other value."""
    pool = _Pool(of, random)
    parts: list[TaskPart] = []
    for factor in FACTORS:
        queries: list[TaskQuery] = []
        others = [name for name in FACTORS if name != factor]
        references = pool.draw(~pool.having(**{factor: ""}), 3 * questions)
        for reference in references:
            if len(queries) == questions:
                break
            values = of[reference]
            same = pool.having(**{factor: values[factor]})
            unlike = ~same & ~pool.having(**{factor: ""})
            itself = np.array([key == reference for key in pool.keys])
            target = pool.draw(same & ~itself)
            gallery = list(target)
            for number in range(10 * CANDIDATES):
                shared = others[number % len(others)]
                if len(gallery) == CANDIDATES:
                    break
                if values[shared]:
                    alike = unlike & pool.having(**{shared: values[shared]})
                    gallery += [key for key in pool.draw(alike) if key not in gallery]
            if target and len(gallery) >= FEWEST:
                queries.append(_template(factor, queries, reference, factor, target, pool, gallery))
        parts += _part(factor, queries)
    metrics = ("R@1", "R@2", "R@3")
    return QueryTask("world-focus", SOURCE, images, tuple(parts), metrics, conditions=True)


def _template(
    part: str,
    before: Sequence[TaskQuery],
    reference: str,
    text: str,
    target: Sequence[str],
    pool: _Pool,
    gallery: Sequence[str],
) -> TaskQuery:
    return TaskQuery(
        f"{part}-{len(before)}", reference, text, {target[0]: 1.0}, pool.order(gallery)
    )


def _change(
    images: Mapping[str, Path],
    of: Mapping[str, Mapping[str, str]],
    questions: int,
    random: np.random.Generator,
) -> QueryTask:
    """Find the picture of the same kind with the new value.

    Of the others, one half is of the same kind without it, one half has it and is of another
    kind. The kind is the shape; where that is to change, the color.
    """
    pool = _Pool(of, random)
    parts: list[TaskPart] = []
    for factor in CHANGED:
        kind = "color" if factor == "shape" else "shape"
        queries: list[TaskQuery] = []
        for reference in pool.draw(np.ones(len(pool.keys), dtype=bool), 5 * questions):
            if len(queries) == questions:
                break
            values = of[reference]
            wanted = str(random.choice([v for v in FACTORS[factor] if v != values[factor]]))
            new, same = pool.having(**{factor: wanted}), pool.having(**{kind: values[kind]})
            itself = np.array([key == reference for key in pool.keys])
            half = CANDIDATES // 2
            target = pool.draw(new & same)
            gallery = [
                *target,
                *pool.draw(same & ~new & ~itself, half),
                *pool.draw(new & ~same, half),
            ]
            if target and len(gallery) >= FEWEST:
                asked = change(factor, wanted, random).text
                queries.append(_template(factor, queries, reference, asked, target, pool, gallery))
        parts += _part(factor, queries)
    return QueryTask("world-change", SOURCE, images, tuple(parts), ("R@1", "R@2", "R@3"))


def _part(name: str, queries: Sequence[TaskQuery]) -> list[TaskPart]:
    """The questions as a part; none where too few pictures are rendered to ask any."""
    every = dict.fromkeys(key for query in queries for key in query.gallery or ())
    return [TaskPart(name, tuple(queries), tuple(every))] if queries else []


def _edits(folder: Path, edits: Edits) -> QueryTask:
    """Change one thing, keep all others: every picture of that combination is right."""
    names = [f"edits/{picture_id(number)}.jpg" for number in range(len(edits.scenes))]
    key = dict(zip(map(picture_id, range(len(names))), names, strict=True))
    parts = []
    for factor in VARIED:
        asked = [
            q for q, changed in zip(edits.queries, edits.factors, strict=True) if changed == factor
        ]
        queries = [
            replace(
                query,
                id=f"{factor}-{number}",
                image=key[query.image],
                relevant={key[one]: gain for one, gain in query.relevant.items()},
                exclude=tuple(key[one] for one in query.exclude),
            )
            for number, query in enumerate(asked)
        ]
        parts.append(TaskPart(factor, tuple(queries), tuple(names)))
    images = {name: folder / name for name in names}
    metrics = ("mAP@5", "mAP@10", "mAP@25", "mAP@50", "R@1", "R@5")
    return QueryTask("world-edits", SOURCE, images, tuple(parts), metrics)
