"""The rendered world as a benchmark: every factor is known, so that every right answer is known.

It has six tasks. ``world`` judges each of ten conditions by each of ten independent factors: the
diagonal is what was asked for, the rest is leakage. ``world-wordings`` asks for the same conditions
in other words. ``world-abstention`` asks for a factor that some pictures do not have.
``world-focus`` and ``world-change`` are templates as in GeneCIS (Vaze et al., CVPR 2023), each with
a small gallery and one target. ``world-edits`` asks for one change with all other factors kept,
with several targets, as CIRCO does (Baldrati et al., ICCV 2023), on pictures in which nothing else
differs; ``cies bench compose`` asks the same kind of queries.
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
from indexes.errors import UsageError

#: A seed that no built-in model was trained on.
SEED = 4711

SOURCE = BenchmarkSource(
    "the rendered world of CIES", "cies bench world", "MIT, made by this program"
)

#: Factor to its wordings, its own name first.
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

#: Factors whose changes are asked for: every picture has a visible value of them.
CHANGED = ("color", "shape", "pattern", "background", "size", "count", "style")

#: Number of pictures of ``world-edits``, in which few factors vary: see :mod:`eval.world.edits`.
EDITED = 648

#: Candidates of a template, as in GeneCIS; fewer if there are too few pictures, but at least
#: :data:`FEWEST`.
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
    """Render the pictures, unless they exist, and make all tasks.

    Args:
        folder: gets ``world/00001.jpg`` and so on, and ``edits/``.
        count: number of pictures of ``world``; ``world-edits`` has :data:`EDITED` more.
        seed: equal seeds give equal pictures and queries.
        size: side of a picture in pixels.
        workers: processes that render; one a core by default.
        progress: called with the numbers of rendered and of all pictures.

    Raises:
        CiesError: if the folder cannot be written to.
    """
    scenes = {f"{n:05d}.jpg": s for n, s in enumerate(sample_scenes(count, seed), start=1)}
    questions = max(10, count // 20)
    edited = make_edits(EDITED, questions * len(VARIED), seed)
    edits = {f"{picture_id(n)}.jpg": scene for n, scene in enumerate(edited.scenes)}
    _draw_once(folder, {"world": scenes, "edits": edits}, (count, seed, size), workers, progress)
    labels_of = {f"world/{name}": scene.labels for name, scene in scenes.items()}
    images = {key: folder / key for key in labels_of}
    random = np.random.default_rng(seed)
    return (
        _labels("world", images, {factor: (factor,) for factor in FACTORS}, labels_of),
        _labels("world-wordings", images, WORDINGS, labels_of),
        _abstention(images, labels_of),
        _focus(images, labels_of, questions, random),
        _change(images, labels_of, questions, random),
        _edits(folder, edited),
    )


def _draw_once(
    folder: Path,
    scenes: Mapping[str, Mapping[str, Scene]],
    settings: Sequence[int],
    workers: int | None,
    progress: Progress,
) -> None:
    """Render the pictures unless they exist; ``rendered.json`` is complete only then.

    Raises:
        UsageError: if a folder has files, and none says that CIES made them.
    """
    note = folder / "rendered.json"
    count, seed, size = settings
    about = json.dumps({"count": count, "seed": seed, "size": size, "edits": EDITED})
    if note.exists() and note.read_text(encoding="utf-8") == about:
        return
    if not note.exists():
        used = [
            name for name in scenes if (folder / name).is_dir() and any(folder.glob(f"{name}/*"))
        ]
        if used:
            raise UsageError(
                f"{folder / used[0]} has files that CIES did not make; name another folder with "
                "--data."
            )
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text("{}", encoding="utf-8")
    total, before = sum(len(some) for some in scenes.values()), 0
    for name, some in scenes.items():
        draw(
            folder / name,
            some,
            size,
            workers,
            lambda done, _, start=before: progress(start + done, total),  # type: ignore[misc]
        )
        before += len(some)
    note.write_text(about, encoding="utf-8")


def _labels(
    name: str,
    images: Mapping[str, Path],
    wordings: Mapping[str, Sequence[str]],
    labels_of: Mapping[str, Mapping[str, str]],
) -> LabelTask:
    crossed = all(len(words) == 1 for words in wordings.values())
    labels = {
        word: {key: (values[factor],) for key, values in labels_of.items() if values[factor]}
        for factor, words in wordings.items()
        for word in words
    }
    metrics = () if crossed else (SHARED_NEIGHBOURS,)
    return LabelTask(name, SOURCE, images, labels, metrics=metrics, crossed=crossed)


def _abstention(
    images: Mapping[str, Path], labels_of: Mapping[str, Mapping[str, str]]
) -> LabelTask:
    """Objects drawn in lines have no material."""
    labels = {
        key: (APPLIES if values["material"] else ABSENT,) for key, values in labels_of.items()
    }
    return LabelTask(
        "world-abstention",
        SOURCE,
        images,
        {"material": labels},
        headline=AUROC,
        metrics=(),
        notes=("Things drawn in lines have no material; is a method less sure of them?",),
    )


class _PicturePool:
    """Pictures by their values."""

    def __init__(self, labels_of: Mapping[str, Mapping[str, str]], random: np.random.Generator):
        self.labels_of = labels_of
        self.keys = list(labels_of)
        self.random = random
        self._values = {
            factor: np.array([labels_of[key][factor] for key in self.keys]) for factor in FACTORS
        }

    def having(self, **values: str) -> np.ndarray:
        """Whether each picture has these values: bool [pictures]."""
        found = np.ones(len(self.keys), dtype=bool)
        for factor, value in values.items():
            found &= self._values[factor] == value
        return found

    def draw(self, which: np.ndarray, count: int = 1) -> list[str]:
        """At most ``count`` of these pictures, without repeats."""
        rows = np.flatnonzero(which)
        chosen = self.random.choice(rows, min(count, len(rows)), replace=False)
        return [self.keys[row] for row in chosen]

    def order(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Pictures in random order, so that the target's position tells nothing."""
        return tuple(keys[n] for n in self.random.permutation(len(keys)))


def _focus(
    images: Mapping[str, Path],
    labels_of: Mapping[str, Mapping[str, str]],
    questions: int,
    random: np.random.Generator,
) -> QueryTask:
    """Find the one picture with the reference's value; the others share another value with it."""
    pool = _PicturePool(labels_of, random)
    parts: list[TaskPart] = []
    for factor in FACTORS:
        queries: list[TaskQuery] = []
        others = [name for name in FACTORS if name != factor]
        references = pool.draw(~pool.having(**{factor: ""}), 3 * questions)
        for reference in references:
            if len(queries) == questions:
                break
            values = labels_of[reference]
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
    pool: _PicturePool,
    gallery: Sequence[str],
) -> TaskQuery:
    return TaskQuery(
        f"{part}-{len(before)}", reference, text, {target[0]: 1.0}, pool.order(gallery)
    )


def _change(
    images: Mapping[str, Path],
    labels_of: Mapping[str, Mapping[str, str]],
    questions: int,
    random: np.random.Generator,
) -> QueryTask:
    """Find the picture of the same kind with the new value.

    Half of the other candidates are of the same kind without the value, half have the value and are
    of another kind. The kind is the shape, or the color if the shape changes.
    """
    pool = _PicturePool(labels_of, random)
    parts: list[TaskPart] = []
    for factor in CHANGED:
        kind = "color" if factor == "shape" else "shape"
        queries: list[TaskQuery] = []
        for reference in pool.draw(np.ones(len(pool.keys), dtype=bool), 5 * questions):
            if len(queries) == questions:
                break
            values = labels_of[reference]
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
    """The queries as a part; empty if there are too few pictures for a query."""
    every = dict.fromkeys(key for query in queries for key in query.gallery or ())
    return [TaskPart(name, tuple(queries), tuple(every))] if queries else []


def _edits(folder: Path, edits: Edits) -> QueryTask:
    """Change one factor and keep the others: every picture of that combination is right."""
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
