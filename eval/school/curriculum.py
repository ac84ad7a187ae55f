"""What the built-in LVLM is taught: pictures, the ways to ask, and the answers."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.world.factors import FACTORS, Scene, sample_scenes
from eval.world.render import render
from ingest.conditions import UNCONDITIONAL

#: Condition to the wordings it is taught in; the first one is its name.
WORDINGS: dict[str, tuple[str, ...]] = {
    "color": ("color", "colour", "hue", "color of the object", "colour of the object"),
    "shape": ("shape", "form", "shape of the object"),
    "pattern": ("pattern", "pattern of the object"),
    "background": ("background", "background color", "background colour"),
    "size": ("size", "size of the object"),
    "count": ("count", "number", "number of objects"),
    "style": ("style", "style of depiction", "depiction style"),
}

#: Asked without a condition, the model names the shape: what a person would say in one word.
UNCONDITIONAL_FACTOR = "shape"

#: Some pictures are rendered larger and reduced, as pictures from elsewhere will be.
_RENDER_SCALES = (1.0, 1.0, 1.5)


@dataclass(frozen=True)
class Pictures:
    """Rendered pictures with their answers.

    Attributes:
        pixels: uint8 [n, size, size, 3].
        answers: int64 [n, factors], index of each factor's value in ``FACTORS``.
    """

    pixels: NDArray[np.uint8]
    answers: NDArray[np.int64]


@dataclass(frozen=True)
class _Draw:
    size: int

    def __call__(self, scene: Scene) -> NDArray[np.uint8]:
        scale = _RENDER_SCALES[scene.seed % len(_RENDER_SCALES)]
        picture = render(scene, int(self.size * scale))
        if picture.width != self.size:
            picture = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(picture)


def draw_pictures(
    count: int, seed: int, size: int, workers: int, progress: Callable[[int], None]
) -> Pictures:
    """Render the pictures of a school year.

    Args:
        count: how many.
        seed: equal seeds give equal pictures.
        size: side in pixels, the model's input.
        workers: processes to draw with.
        progress: called with the number drawn so far.
    """
    scenes = sample_scenes(count, seed)
    pixels = np.empty((count, size, size, 3), dtype=np.uint8)
    with ProcessPoolExecutor(workers) as pool:
        for number, drawn in enumerate(pool.map(_Draw(size), scenes, chunksize=200)):
            pixels[number] = drawn
            if (number + 1) % 5000 == 0:
                progress(number + 1)
    answers = np.array(
        [
            [values.index(scene.labels[name]) for name, values in FACTORS.items()]
            for scene in scenes
        ],
        dtype=np.int64,
    )
    return Pictures(pixels, answers)


def vocabulary() -> list[str]:
    """Every word the tokenizer must hold whole: questions of all templates, wordings, answers."""
    from ingest.conditions import prompt_templates

    text: list[str] = []
    for template in prompt_templates().values():
        text += [template.conditional.replace("{condition}", " "), template.unconditional]
    for wordings in WORDINGS.values():
        text += wordings
    for values in FACTORS.values():
        text += values
    words = {word.strip('.:,"').lower() for line in text for word in line.split()}
    return sorted(words - {"", UNCONDITIONAL})
