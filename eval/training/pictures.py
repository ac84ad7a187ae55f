"""The pictures of a school year: rendered once, kept in a file, shown again and again."""

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

#: Where a factor does not apply to a picture, or has no word there.
UNKNOWN = -1

#: Of every eight pictures these show a nameless form, a nameless thing, a nameless manner of
#: depiction; the last only where things are filled, since a line shows little of a manner.
_OF, _FORM, _THING, _MANNER = 8, (0,), (1, 2), (2, 4, 6)

#: Every so many pictures is rendered larger and reduced, as pictures from elsewhere will be.
_REDUCED = 5

#: How many values of each factor can be seen: those that have a word first, then the nameless.
SEEN: Mapping[str, int] = MappingProxyType(
    {
        **{name: len(values) for name, values in FACTORS.items()},
        "shape": len(FACTORS["shape"]) + FORMS + THINGS,
        "style": len(FACTORS["style"]) + MANNERS,
    }
)

#: Pixels by which a picture may be moved each time it is shown.
_SHIFT = 6


@dataclass(frozen=True)
class Pictures:
    """Rendered pictures with their answers.

    Attributes:
        pixels: uint8 [n, size, size, 3].
        answers: int64 [n, factors], index of each factor's value in ``FACTORS``, or
            :data:`UNKNOWN`, for the nameless too.
        seen: int64 [n, factors], the same with the nameless numbered after the named, below
            :data:`SEEN`.
        scenes: what was rendered.
        digest: sha256 of the scenes and of how the first of them are drawn, in hexadecimal.
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


def school_scenes(count: int, seed: int) -> list[Scene]:
    """The scenes of a school year: those of a world, and among them the nameless."""
    scenes = sample_scenes(count, seed)
    for number, scene in enumerate(scenes):
        place = number % _OF
        labels, own = dict(scene.labels), scene.seed // 7
        form = hand = 0
        if place in _FORM:
            form = 1 + own % FORMS
        elif place in _THING:
            form = 1 + FORMS + own % THINGS
        if place in _MANNER and labels["stroke"] == FILLED:
            hand = 1 + own // THINGS % MANNERS
        if form:
            labels["shape"] = ""
        if hand:
            labels["style"] = ""
            if manner(hand).gloss:
                # Shiny or not, it would look so.
                labels["material"] = ""
        scenes[number] = replace(scene, labels=labels, form=form, manner=hand)
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
    digest = digest_of(scenes, size)
    made_from = {"count": count, "seed": seed, "size": size, "digest": digest}
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
    return Pictures(np.load(path), answers, seen, scenes, digest)


def digest_of(scenes: list[Scene], size: int) -> str:
    """Sha256 of the scenes and of how the first of them are drawn at a size, in hexadecimal."""
    told = hashlib.sha256()
    for scene in scenes:
        told.update(repr((dict(scene.labels), scene.seed, scene.form, scene.manner)).encode())
    for scene in scenes[:40]:
        told.update(_Draw(size)(scene).tobytes())
    return told.hexdigest()


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


def barred(pixels: torch.Tensor, share: float, upright: bool) -> torch.Tensor:
    """Pictures of another format, padded to a square as the processor pads them.

    A photograph is seldom square, and what the model gets of it has bars of the mean color at two
    of its sides. Half of what is missing is cropped, the other half squeezed.

    Args:
        pixels: float32 [n, 3, side, side], normalised, so that the mean color is 0.
        share: short side of the format by its long one, above 0 and at most 1.
        upright: whether the bars are left and right, else above and below.

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
