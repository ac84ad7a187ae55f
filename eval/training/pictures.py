"""The training pictures: rendered once, stored in a file, and used many times."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from eval.world.factors import FACTORS, FILLED, Scene, sample_scenes
from eval.world.manners import MANNERS, manner
from eval.world.render import render
from eval.world.shapes import FORMS
from eval.world.things import THINGS

#: The answer where a factor does not apply to a picture, or its value has no word.
UNKNOWN = -1

#: Of every eight pictures, those that show an unnamed form, an unnamed object and an unnamed style.
#: The last only where objects are filled, since lines show little of a style.
_OF, _FORM, _THING, _MANNER = 8, (0,), (1, 2), (2, 4, 6)

#: One picture in this many is rendered larger and reduced, as other pictures will be.
_REDUCED = 5

#: Number of values of each factor that pictures show: those with a word first, then the unnamed.
VISIBLE_VALUES: Mapping[str, int] = MappingProxyType(
    {
        **{name: len(values) for name, values in FACTORS.items()},
        "shape": len(FACTORS["shape"]) + FORMS + THINGS,
        "style": len(FACTORS["style"]) + MANNERS,
    }
)

#: Pixels by which a picture may be shifted each time it is shown.
_SHIFT = 6


@dataclass(frozen=True)
class TrainingPictures:
    """Rendered pictures with their answers.

    Attributes:
        pixels: uint8 [n, size, size, 3].
        answers: int64 [n, factors], index of each factor's value in ``FACTORS``, or
            :data:`UNKNOWN`, also for unnamed values.
        seen: int64 [n, factors], the same with the unnamed values numbered after the named ones,
            below :data:`VISIBLE_VALUES`.
        scenes: the scenes that were rendered.
        digest: the digest from :func:`digest_of`.
    """

    pixels: NDArray[np.uint8]
    answers: NDArray[np.int64]
    seen: NDArray[np.int64]
    scenes: list[Scene]
    digest: str


@dataclass(frozen=True)
class _Draw:
    size: int

    def __call__(self, scene: Scene) -> NDArray[np.uint8]:
        reduced = scene.seed % _REDUCED == 0
        picture = render(scene, self.size * 3 // 2 if reduced else self.size)
        if reduced:
            picture = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(picture)


def training_scenes(count: int, seed: int) -> list[Scene]:
    """The training scenes: those of a world, some of them with unnamed values."""
    scenes = sample_scenes(count, seed)
    for number, scene in enumerate(scenes):
        place = number % _OF
        labels, draw = dict(scene.labels), scene.seed // 7
        form = style = 0
        if place in _FORM:
            form = 1 + draw % FORMS
        elif place in _THING:
            form = 1 + FORMS + draw % THINGS
        if place in _MANNER and labels["stroke"] == FILLED:
            style = 1 + draw // THINGS % MANNERS
        if form:
            labels["shape"] = ""
        if style:
            labels["style"] = ""
            if manner(style).gloss:
                # It looks shiny, whatever its material.
                labels["material"] = ""
        scenes[number] = replace(scene, labels=labels, form=form, manner=style)
    return scenes


def draw_pictures(
    count: int,
    seed: int,
    size: int,
    workers: int,
    folder: Path,
    progress: Callable[[int], None],
) -> TrainingPictures:
    """Render the training pictures, or open those that an earlier run rendered.

    Args:
        count: how many.
        seed: equal seeds give equal pictures.
        size: side in pixels, as of the model's input.
        workers: processes that render.
        folder: gets ``pictures.npy``.
        progress: called with the number drawn so far.
    """
    scenes = training_scenes(count, seed)
    path, about = folder / "pictures.npy", folder / "pictures.json"
    digest = digest_of(scenes, size)
    rendered = {"count": count, "seed": seed, "size": size, "digest": digest}
    if not about.exists() or json.loads(about.read_text(encoding="utf-8")) != rendered:
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
        about.write_text(json.dumps(rendered), encoding="utf-8")
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
    seen = answers.copy()
    for name, nameless in (
        ("shape", [scene.form for scene in scenes]),
        ("style", [scene.manner for scene in scenes]),
    ):
        column = list(FACTORS).index(name)
        numbers = np.array(nameless)
        seen[:, column] = np.where(
            numbers > 0, len(FACTORS[name]) + numbers - 1, answers[:, column]
        )
    return TrainingPictures(np.load(path), answers, seen, scenes, digest)


def digest_of(scenes: list[Scene], size: int) -> str:
    """SHA-256 of the scenes and of the pixels of the first 40 at a size, in hexadecimal."""
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(repr((dict(scene.labels), scene.seed, scene.form, scene.manner)).encode())
    for scene in scenes[:40]:
        digest.update(_Draw(size)(scene).tobytes())
    return digest.hexdigest()


def shifted(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Pictures shifted by a few pixels, their edges repeated, so that patches differ each time.

    Args:
        pixels: uint8 [n, side, side, 3].
        random: draws the shifts.

    Returns:
        uint8 of the same shape.
    """
    wide = np.pad(pixels, ((0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), "edge")
    side = pixels.shape[1]
    starts = random.integers(0, 2 * _SHIFT + 1, (len(pixels), 2))
    moved = [each[y : y + side, x : x + side] for each, (y, x) in zip(wide, starts, strict=True)]
    return np.stack(moved)


def with_bars(pixels: torch.Tensor, share: float, upright: bool) -> torch.Tensor:
    """Pictures of another aspect ratio, padded to a square as the processor pads them.

    A photograph is seldom square, and the processor adds bars of the mean color at two sides. Half
    of the difference is cropped, the other half squeezed.

    Args:
        pixels: float32 [n, 3, side, side], normalised, so that the mean color is 0.
        share: short side over long side, above 0 and at most 1.
        upright: whether the bars are at the left and right, else at the top and bottom.

    Returns:
        float32 of the same shape.
    """
    side = pixels.shape[-1]
    inner, kept = round(side * share), round(side * (1 + share) / 2)
    view = pixels if upright else pixels.transpose(2, 3)
    first, start = (side - kept) // 2, (side - inner) // 2
    squeezed = functional.interpolate(
        view[..., first : first + kept], (side, inner), mode="bilinear", align_corners=False
    )
    padded = torch.zeros_like(pixels)
    padded[..., start : start + inner] = squeezed
    return padded if upright else padded.transpose(2, 3).contiguous()
