"""Unnamed drawing styles (manners), which one set of drawings shares and another does not.

Only training uses them. A word such as "flat" covers sets of drawings that differ in outlines,
shading, gloss and paper. A model that is trained to distinguish these manners recognises styles
that have no word in its vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from eval.world.shapes import Outline
from eval.world.surfaces import Pixels

#: Number of unnamed manners.
MANNERS = 80

#: The tone of a rim: black, a darker or lighter shade of the object's color, or white.
RIMS = ("black", "darker", "lighter", "white")


@dataclass(frozen=True)
class Manner:
    """The properties shared by all pictures of a manner; lengths are shares of the picture's side.

    Attributes:
        rim: width of the line around every part, 0 for none.
        rim_tone: one of :data:`RIMS`.
        gradient: how much darker the far end is than the near end, 0 to 0.7.
        light: position of the light, x and y, in radii of the object.
        around: whether the gradient is radial around the light, else linear.
        gloss: strength of a highlight near the light, 0 for none.
        hard: whether the highlight has an edge.
        shadow: offset of the shadow, 0 for none.
        softness: blur of the shadow.
        wobble: amplitude of the unsteadiness of outlines, in radii.
        saturation: factor of the saturation.
        lightness: added to all channels.
        dots: strength of halftone dots over the picture, 0 for none.
        period: the period of the dots.
        paper: strength of the paper's grain, 0 for none.
        levels: number of levels of a channel, 0 for all.
    """

    rim: float
    rim_tone: str
    gradient: float
    light: tuple[float, float]
    around: bool
    gloss: float
    hard: bool
    shadow: float
    softness: float
    wobble: float
    saturation: float
    lightness: float
    dots: float
    period: float
    paper: float
    levels: int

    def wobbled(self, line: Outline, random: np.random.Generator) -> Outline:
        """An unsteady outline: float64 [corners, 2], with more corners than the given one."""
        if not self.wobble:
            return line
        following = np.roll(line, -1, axis=0)
        steps = np.linspace(0, 1, 4, endpoint=False)[None, :, None]
        dense = (line[:, None] * (1 - steps) + following[:, None] * steps).reshape(-1, 2)
        turn = np.arctan2(dense[:, 1], dense[:, 0])
        strayed = np.zeros_like(dense)
        for wave in (3, 5, 8):
            phase = random.uniform(0, 2 * np.pi, 2)
            strayed += np.cos(wave * turn[:, None] + phase) / wave**0.5
        return np.asarray(dense + self.wobble * strayed)

    def shaded(self, paint: Pixels, x: Pixels, y: Pixels) -> Pixels:
        """Paint with this manner's shading.

        Args:
            paint: [height, width, 3], 0 to 255.
            x: the x coordinate of every pixel, in radii of the object.
            y: the y coordinate, as ``x``.
        """
        lx, ly = self.light
        if self.around:
            far = np.hypot(x - lx, y - ly) / 2
        else:
            far = 0.5 - (x * lx + y * ly) / (2 * np.hypot(lx, ly))
        paint = paint * (1 + self.gradient * (0.35 - np.clip(far, 0, 1)))[..., None]
        if self.gloss:
            near = ((x - 0.6 * lx) / 0.42) ** 2 + ((y - 0.6 * ly) / 0.26) ** 2
            sheen = (near < 1).astype(np.float32) if self.hard else np.exp(-near)
            paint = paint + (255 - paint) * (self.gloss * sheen)[..., None]
        return np.asarray(paint, dtype=np.float32)

    def rim_of(self, color: Pixels) -> Pixels:
        """The color of the rim of an object of this color, float32 [3]."""
        tones = {
            "black": np.full(3, 24),
            "white": np.full(3, 250),
            "darker": color * 0.55,
            "lighter": (color + 255) / 2,
        }
        return np.asarray(tones[self.rim_tone], dtype=np.float32)

    def finished(self, canvas: Pixels, random: np.random.Generator) -> Pixels:
        """The picture with this manner's colors, dots and paper: [side, side, 3], 0 to 255."""
        side = canvas.shape[0]
        grey = canvas.mean(axis=2, keepdims=True)
        canvas = grey + (canvas - grey) * self.saturation + self.lightness
        if self.levels:
            canvas = np.round(canvas / 255 * self.levels) / self.levels * 255
        if self.dots:
            axis = np.arange(side) / (self.period * side)
            across, along = axis[None, :] + axis[:, None], axis[None, :] - axis[:, None]
            dot = np.hypot(across % 1 - 0.5, along % 1 - 0.5) < 0.34
            canvas = canvas * (1 - self.dots * dot[..., None])
        if self.paper:
            cells = 80
            grain = random.normal(0, self.paper, (cells, cells)).astype(np.float32)
            places = np.arange(side) * cells // side
            canvas = canvas + grain[places][:, places][..., None]
        return np.clip(canvas, 0, 255).astype(np.float32)


@cache
def manner(number: int) -> Manner:
    """The unnamed manner of a number, 1 to :data:`MANNERS`; always the same for a number."""
    random = np.random.default_rng([79, number])

    def perhaps(chance: float, least: float, most: float) -> float:
        value = random.uniform(least, most)
        return float(value) if random.random() < chance else 0.0

    angle = random.uniform(-np.pi, 0)
    far = random.uniform(0.4, 0.9)
    return Manner(
        rim=perhaps(0.45, 0.012, 0.04),
        rim_tone=str(random.choice(RIMS, p=[0.4, 0.35, 0.1, 0.15])),
        gradient=perhaps(0.5, 0.25, 0.7),
        light=(float(far * np.cos(angle)), float(far * np.sin(angle))),
        around=bool(random.random() < 0.5),
        gloss=perhaps(0.35, 0.35, 0.8),
        hard=bool(random.random() < 0.5),
        shadow=perhaps(0.35, 0.02, 0.045),
        softness=perhaps(0.5, 0.01, 0.025),
        wobble=perhaps(0.3, 0.015, 0.04),
        saturation=float(random.uniform(0.75, 1.25)),
        lightness=float(random.uniform(-14, 16)),
        dots=perhaps(0.2, 0.1, 0.25),
        period=float(random.uniform(0.03, 0.05)),
        paper=perhaps(0.25, 6, 13),
        levels=int(random.integers(7, 10)) if random.random() < 0.2 else 0,
    )
