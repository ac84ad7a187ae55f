"""The pictures of a school year: rendered once, kept in a file, shown again and again."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.world.factors import FACTORS, Scene, sample_scenes
from eval.world.render import render
from eval.world.shapes import FORMS, SHAPES

#: Where a factor does not apply to a picture, or has no word there.
UNKNOWN = -1

#: Every so many pictures shows a nameless form, and one is rendered larger and reduced, as
#: pictures from elsewhere will be.
_NAMELESS, _REDUCED = 8, 5

#: Pixels by which a picture may be moved each time it is shown.
_SHIFT = 6


@dataclass(frozen=True)
class Pictures:
    """Rendered pictures with their answers.

    Attributes:
        pixels: uint8 [n, size, size, 3].
        answers: int64 [n, factors], index of each factor's value in ``FACTORS``, or
            :data:`UNKNOWN`.
        outlines: int64 [n], which outline is seen: named shapes first, then nameless forms.
        scenes: what was rendered.
    """

    pixels: NDArray[np.uint8]
    answers: NDArray[np.int64]
    outlines: NDArray[np.int64]
    scenes: list[Scene]


@dataclass(frozen=True)
class _Draw:
    size: int

    def __call__(self, scene: Scene) -> NDArray[np.uint8]:
        reduced = scene.seed % _REDUCED == 0
        picture = render(scene, self.size * 3 // 2 if reduced else self.size)
        if reduced:
            picture = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(picture)


def school_scenes(count: int, seed: int) -> list[Scene]:
    """The scenes of a school year: those of a world, every eighth with a nameless form."""
    scenes = sample_scenes(count, seed)
    for number in range(0, count, _NAMELESS):
        scene = scenes[number]
        form = 1 + scene.seed // 7 % FORMS
        scenes[number] = replace(scene, labels={**scene.labels, "shape": ""}, form=form)
    return scenes


def draw_pictures(
    count: int,
    seed: int,
    size: int,
    workers: int,
    folder: Path,
    progress: Callable[[int], None],
) -> Pictures:
    """Render the pictures of a school year, or open those an earlier run rendered.

    Args:
        count: how many.
        seed: equal seeds give equal pictures.
        size: side in pixels, the model's input.
        workers: processes to draw with.
        folder: gets ``pictures.npy``.
        progress: called with the number drawn so far.
    """
    scenes = school_scenes(count, seed)
    path, about = folder / "pictures.npy", folder / "pictures.json"
    made_from = {"count": count, "seed": seed, "size": size}
    if not about.exists() or json.loads(about.read_text(encoding="utf-8")) != made_from:
        folder.mkdir(parents=True, exist_ok=True)
        about.unlink(missing_ok=True)
        pixels = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3)
        )
        with ProcessPoolExecutor(workers) as pool:
            for number, drawn in enumerate(pool.map(_Draw(size), scenes, chunksize=100)):
                pixels[number] = drawn
                if (number + 1) % 5000 == 0:
                    progress(number + 1)
        pixels.flush()
        about.write_text(json.dumps(made_from), encoding="utf-8")
    answers = np.array(
        [
            [
                values.index(scene.labels[name]) if scene.labels[name] else UNKNOWN
                for name, values in FACTORS.items()
            ]
            for scene in scenes
        ],
        dtype=np.int64,
    )
    outlines = np.array(
        [
            len(SHAPES) + scene.form - 1 if scene.form else SHAPES.index(scene.labels["shape"])
            for scene in scenes
        ],
        dtype=np.int64,
    )
    return Pictures(np.load(path), answers, outlines, scenes)


def shifted(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Every picture moved a few pixels, its edge carried on, so that patches cut none alike.

    Args:
        pixels: uint8 [n, side, side, 3].
        random: decides how far.

    Returns:
        uint8 of the same shape.
    """
    wide = np.pad(pixels, ((0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), "edge")
    side = pixels.shape[1]
    starts = random.integers(0, 2 * _SHIFT + 1, (len(pixels), 2))
    moved = [each[y : y + side, x : x + side] for each, (y, x) in zip(wide, starts, strict=True)]
    return np.stack(moved)
