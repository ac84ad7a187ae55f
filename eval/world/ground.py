"""Backgrounds: the ground behind objects, small clutter, and objects that cover a side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from eval.world.factors import TONES, Scene
from eval.world.shapes import FORMS, form
from eval.world.surfaces import Pixels, vary

_ALL = np.array([tone for tones in TONES.values() for tone in tones], dtype=np.float32)

#: Least difference of a channel (0 to 255) that makes an object visible on its ground.
_VISIBLE = 48


def tone_of(name: str, random: np.random.Generator) -> Pixels:
    """One of the tones of a color word, float32 [3]; the plainest is the most frequent."""
    tones = TONES[name]
    choice = 0 if random.random() < 0.4 else int(random.integers(len(tones)))
    return np.array(tones[choice], dtype=np.float32)


def any_tone(random: np.random.Generator) -> Pixels:
    """A tone of any color, float32 [3]."""
    return vary(_ALL[int(random.integers(len(_ALL)))], 15, random)


def apart(color: Pixels, other: Pixels) -> Pixels:
    """``color``, with its lightness changed if needed to be visible on ``other``: [3]."""
    gap = float(np.abs(color - other).max())
    if gap >= _VISIBLE:
        return color
    away = 1.0 if color.mean() >= other.mean() else -1.0
    if not 25 < float(color.mean()) + away * (_VISIBLE - gap) < 240:
        away = -away
        gap = -gap
    moved: Pixels = color + np.float32(away * (_VISIBLE - gap))
    return np.clip(moved, 0, 255).astype(np.float32)


def all_tones() -> Pixels:
    """Every tone of every color, float32 [n, 3]."""
    return _ALL


def ground(scene: Scene, side: int, random: np.random.Generator) -> tuple[Pixels, Pixels]:
    """The background [side, side, 3] and its mean color [3]."""
    labels = scene.labels
    color = vary(tone_of(labels["background"], random), 14, random)
    if labels["background"] == labels["color"]:
        # Object and ground have the same color word: the ground gets another lightness.
        color = np.clip(color + (34 if color.mean() < 128 else -34), 0, 255).astype(np.float32)
    canvas = np.broadcast_to(color, (side, side, 3)).astype(np.float32)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    lifelike = labels["style"] in ("photo", "painting")
    slope = 26 if lifelike else 8
    gx, gy = random.uniform(-slope, slope, 2).astype(np.float32)
    light = gx * ramp[None, :] + gy * ramp[:, None]
    if random.random() < (0.6 if lifelike else 0.2):
        light = light + _mottle(side, random)
    if lifelike and random.random() < 0.3:
        # A table or a floor: everything below a line is a little darker or lighter.
        line = random.uniform(0.35, 0.9) * side + random.uniform(-0.2, 0.2) * np.arange(side)
        below = np.arange(side)[:, None] > line[None, :]
        light = light + below * np.float32(random.choice([-1, 1]) * random.uniform(10, 24))
    if random.random() < 0.18:
        light = light + _texture(side, random)
    return canvas + light[..., None].astype(np.float32), color


def _mottle(side: int, random: np.random.Generator) -> NDArray[np.float32]:
    cells = int(random.integers(4, 12))
    coarse = random.normal(0, 255 * 0.045, (cells, cells)).astype(np.float32)
    grown = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(grown, dtype=np.float32)


def _texture(side: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Faint stripes, tiles or planks on the whole ground."""
    turn, pace = random.uniform(0, np.pi), 2 * np.pi / random.uniform(0.06, 0.2)
    axis = np.linspace(0, 1, side, dtype=np.float32)
    u = axis[None, :] * np.cos(turn) + axis[:, None] * np.sin(turn)
    waves = np.sin(pace * u)
    if random.random() < 0.5:
        v = -axis[None, :] * np.sin(turn) + axis[:, None] * np.cos(turn)
        waves = waves * np.sin(pace * v)
    if random.random() < 0.5:
        waves = np.sign(waves)
    return np.asarray(waves * random.uniform(4, 11), dtype=np.float32)


def litter(canvas: Pixels, color: Pixels, random: np.random.Generator) -> Pixels:
    """Return a canvas [side, side, 3] with small marks, too small to be taken for the object."""
    side = canvas.shape[0]
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(0, 7))):
        tone = _paint(color + random.uniform(-60, 60, 3))
        x, y = random.uniform(0, side, 2)
        reach = side * random.uniform(0.006, 0.018)
        if random.random() < 0.5:
            draw.ellipse([x - reach, y - reach, x + reach, y + reach], fill=tone)
        else:
            angle = random.uniform(0, 2 * np.pi)
            dx, dy = 3 * reach * np.cos(angle), 3 * reach * np.sin(angle)
            draw.line([x, y, x + dx, y + dy], fill=tone, width=max(1, int(reach / 2)))
    for _ in range(int(random.integers(0, 4)) if random.random() < 0.4 else 0):
        corners = _alien(random) * side * random.uniform(0.025, 0.05)
        draw.polygon(_points(corners + random.uniform(0, side, 2)), fill=_paint(any_tone(random)))
    return np.asarray(image, dtype=np.float32)


def intrude(canvas: Pixels, random: np.random.Generator) -> Pixels:
    """Return a canvas [side, side, 3] with unnamed forms that cover part of a side."""
    side = canvas.shape[0]
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(1, 3))):
        angle = random.uniform(0, 2 * np.pi)
        center = 0.5 + random.uniform(0.66, 0.72) * np.array([np.cos(angle), np.sin(angle)])
        corners = _alien(random) * side * random.uniform(0.14, 0.26) + center * side
        draw.polygon(_points(corners), fill=_paint(any_tone(random)))
    return np.asarray(image, dtype=np.float32)


def _alien(random: np.random.Generator) -> NDArray[np.float64]:
    return form(int(random.integers(1, FORMS + 1)))[0]


def _points(corners: NDArray[np.float64]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in corners]


def _paint(color: Pixels) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in np.clip(color, 0, 255))
    return red, green, blue
