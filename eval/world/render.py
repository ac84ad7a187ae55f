"""Draws one scene of the rendered world.

A picture is painted at twice its size and reduced, so that edges are smooth. All lengths are
fractions of the picture, so a scene looks the same at 96 and at 512 pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from eval.world.factors import PALETTE, Scene
from eval.world.shapes import hole, outline

Pixels = NDArray[np.floating[Any]]

#: Radius of an object as a fraction of the picture's side, from and to.
RADIUS = {"small": (0.11, 0.13), "medium": (0.165, 0.19), "large": (0.225, 0.25)}
COUNT = {"one": 1, "two": 2, "three": 3, "four": 4}


def _vary(color: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    """A color near another one: lightness moves together, hue a little."""
    lightness = random.uniform(-amount, amount)
    hue = random.uniform(-amount / 2, amount / 2, 3)
    return np.clip(color + lightness + hue, 0, 255).astype(np.float32)


def _base(name: str) -> Pixels:
    return np.array(PALETTE[name], dtype=np.float32)


def _second_tone(color: Pixels, random: np.random.Generator) -> Pixels:
    """The tone a pattern is drawn in: the same color, clearly darker or lighter."""
    step = random.uniform(55, 90)
    moved: Pixels = color + np.float32(step if float(color.mean()) < 90 else -step)
    return np.clip(moved, 0, 255).astype(np.float32)


def _places(count: int, radius: float, random: np.random.Generator) -> Pixels:
    """Centers of ``count`` objects that do not overlap if there is room: float32 [count, 2]."""
    if count == 1:
        room = max(0.0, 0.5 - radius - 0.02)
        return (0.5 + random.uniform(-room, room, (1, 2))).astype(np.float32)
    tries = random.uniform(radius + 0.01, 1 - radius - 0.01, (400, count, 2))
    gaps = np.linalg.norm(tries[:, :, None] - tries[:, None], axis=-1)
    gaps[:, np.arange(count), np.arange(count)] = np.inf
    closest = gaps.min(axis=(1, 2))
    roomy = np.flatnonzero(closest > 2.05 * radius)
    choice = roomy[0] if len(roomy) else int(closest.argmax())
    return np.asarray(tries[choice], dtype=np.float32)


def _pattern(
    kind: str, x: Pixels, y: Pixels, thin: bool, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Where the second tone goes, over object coordinates ``x`` and ``y`` (-1 to 1)."""
    turn = random.uniform(0, np.pi)
    u = x * np.cos(turn) - y * np.sin(turn) + 8
    v = x * np.sin(turn) + y * np.cos(turn) + 8
    second: NDArray[np.bool_]
    if kind == "plain":
        second = np.zeros(x.shape, dtype=bool)
    elif kind == "striped":
        period = random.uniform(0.4, 0.62)
        second = (u / period) % 1 < (0.24 if thin else 0.45)
    elif kind == "checked":
        period = random.uniform(0.34, 0.5)
        if thin:
            second = ((u / period) % 1 < 0.2) | ((v / period) % 1 < 0.2)
        else:
            second = (np.floor(u / period) + np.floor(v / period)) % 2 == 0
    elif kind == "dotted":
        period = random.uniform(0.42, 0.58)
        distance = np.hypot((u / period) % 1 - 0.5, (v / period) % 1 - 0.5)
        second = (np.abs(distance - 0.26) < 0.1) if thin else (distance < 0.3)
    else:
        # Printed: irregular blotches, where a few waves of unlike direction add up.
        waves = np.zeros(x.shape, dtype=np.float32)
        for _ in range(5):
            angle, pace = random.uniform(0, 2 * np.pi), random.uniform(4, 9)
            along = x * np.cos(angle) + y * np.sin(angle)
            waves += np.cos(pace * along + random.uniform(0, 2 * np.pi))
        second = (np.abs(waves) < 0.45) if thin else (waves > 0.5)
    return second


def _background(scene: Scene, side: int, random: np.random.Generator) -> tuple[Pixels, Pixels]:
    """The empty picture [side, side, 3] and the mean color it was painted with [3]."""
    labels = scene.labels
    color = _vary(_base(labels["background"]), 20, random)
    if labels["background"] == labels["color"]:
        # The same word twice must stay visible: the ground steps away in lightness.
        color = np.clip(color + (28 if color.mean() < 128 else -28), 0, 255).astype(np.float32)
    canvas = np.broadcast_to(color, (side, side, 3)).astype(np.float32)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    slope = 26 if labels["style"] == "photo" else 9
    gx, gy = random.uniform(-slope, slope, 2).astype(np.float32)
    canvas = canvas + (gx * ramp[None, :] + gy * ramp[:, None])[..., None]
    if random.random() < (0.6 if labels["style"] == "photo" else 0.25):
        coarse = random.normal(0, 255 * 0.045, (7, 7)).astype(np.float32)
        grown = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        canvas = canvas + np.asarray(grown)[..., None]
    return canvas, color


def _clutter(canvas: Pixels, ground: Pixels, random: np.random.Generator) -> Pixels:
    """Specks and scratches, too small to be taken for an object."""
    side = canvas.shape[0]
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(0, 9))):
        tone = tuple(int(v) for v in np.clip(ground + random.uniform(-60, 60, 3), 0, 255))
        x, y = random.uniform(0, side, 2)
        reach = side * random.uniform(0.008, 0.022)
        if random.random() < 0.5:
            draw.ellipse([x - reach, y - reach, x + reach, y + reach], fill=tone)
        else:
            angle = random.uniform(0, 2 * np.pi)
            dx, dy = 3 * reach * np.cos(angle), 3 * reach * np.sin(angle)
            draw.line([x, y, x + dx, y + dy], fill=tone, width=max(1, int(reach / 2)))
    return np.asarray(image, dtype=np.float32)


def _mask(corners: NDArray[np.float64], inner: NDArray[np.float64] | None, box: int) -> Image.Image:
    mask = Image.new("L", (box, box), 0)
    draw = ImageDraw.Draw(mask)
    draw.polygon([tuple(p) for p in corners], fill=255)
    if inner is not None:
        draw.polygon([tuple(p) for p in inner], fill=0)
    return mask


def _strokes(
    corners: NDArray[np.float64], inner: NDArray[np.float64] | None, box: int, width: int
) -> Image.Image:
    mask = Image.new("L", (box, box), 0)
    draw = ImageDraw.Draw(mask)
    for line in (corners,) if inner is None else (corners, inner):
        closed = [tuple(p) for p in np.concatenate([line, line[:2]])]
        draw.line(closed, fill=255, width=width, joint="curve")
    return mask


class _Brush:
    """Paints the objects of one scene, all alike but for place and tilt."""

    def __init__(self, scene: Scene, side: int, ground: Pixels, random: np.random.Generator):
        labels = scene.labels
        self.labels = labels
        self.side = side
        self.ground = ground
        self.random = random
        self.radius = random.uniform(*RADIUS[labels["size"]])
        self.color = _vary(_base(labels["color"]), 18, random)
        self.tone = _second_tone(self.color, random)
        self.tilt = random.uniform(-0.35, 0.35)
        self.stroke = random.uniform(0.1, 0.16)
        self.light = random.uniform(-0.8, 0.8, 2)
        self.shade = random.uniform(0.25, 0.55)
        self.shadow = random.random() < 0.6

    def paint(self, canvas: Pixels, center: Pixels) -> None:
        """Draw one object into ``canvas`` [side, side, 3], in place."""
        radius = self.radius * self.side
        box = int(np.ceil(radius * 2.4)) + 2
        left, top = (np.round(center * self.side) - box // 2).astype(int)
        turn = self.tilt + self.random.uniform(-0.12, 0.12)
        spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        corners = outline(self.labels["shape"]) @ spin * radius + box / 2
        cut = hole(self.labels["shape"])
        inner = None if cut is None else cut @ spin * radius + box / 2
        grid = (np.arange(box, dtype=np.float32) - box / 2) / radius
        x, y = np.meshgrid(grid, grid)
        thin = self.labels["style"] == "outline"
        paint: Pixels
        alpha: Pixels
        second = _pattern(self.labels["pattern"], x, y, thin, self.random)
        body = np.asarray(_mask(corners, inner, box), dtype=np.float32) / 255
        if thin:
            width = max(2, round(self.stroke * radius))
            lines = np.asarray(_strokes(corners, inner, box, width), dtype=np.float32) / 255
            alpha = np.maximum(lines, body * second)
            paint = np.broadcast_to(self.color, (box, box, 3))
        else:
            alpha = body
            paint = np.where(second[..., None], self.tone, self.color)
        if self.labels["style"] == "photo":
            far = np.hypot(x - self.light[0], y - self.light[1])
            paint = paint * (1.12 - self.shade * np.clip(far / 2, 0, 1))[..., None]
            if self.shadow:
                self._cast(canvas, body, left, top, radius)
        if self.labels["color"] == self.labels["background"] and not thin:
            rim = np.asarray(_strokes(corners, inner, box, 3), dtype=np.float32)[..., None] / 255
            edge = self.color + (70 if self.color.mean() < 128 else -70)
            paint = paint * (1 - rim) + edge * rim
        _blend(canvas, paint.astype(np.float32), alpha, left, top)

    def _cast(self, canvas: Pixels, body: Pixels, left: int, top: int, radius: float) -> None:
        soft = Image.fromarray((body * 255).astype(np.uint8))
        soft = soft.filter(ImageFilter.GaussianBlur(radius * 0.12))
        alpha = np.asarray(soft, dtype=np.float32) / 255 * 0.45
        dark = np.zeros((*alpha.shape, 3), dtype=np.float32)
        drop = int(radius * 0.14)
        _blend(canvas, dark, alpha, left + drop, top + drop)


def _blend(canvas: Pixels, paint: Pixels, alpha: Pixels, left: int, top: int) -> None:
    side, box = canvas.shape[0], alpha.shape[0]
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(side, left + box), min(side, top + box)
    if x0 >= x1 or y0 >= y1:
        return
    part = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    cover = alpha[part][..., None]
    canvas[y0:y1, x0:x1] = canvas[y0:y1, x0:x1] * (1 - cover) + paint[part] * cover


def _develop(canvas: Pixels, style: str, size: int, random: np.random.Generator) -> Image.Image:
    """Reduce the painted canvas to the picture and give it the faults of its medium."""
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    if style == "pixelated":
        cells = int(random.integers(34, 46))
        image = image.resize((cells, cells), Image.Resampling.BOX)
        image = image.resize((size, size), Image.Resampling.NEAREST)
    else:
        image = image.resize((size, size), Image.Resampling.BOX)
    pixels = np.asarray(image, dtype=np.float32)
    if style == "photo":
        if random.random() < 0.5:
            image = image.filter(ImageFilter.GaussianBlur(size * random.uniform(0.002, 0.007)))
            pixels = np.asarray(image, dtype=np.float32)
        balance = random.uniform(0.9, 1.1, 3).astype(np.float32)
        # Grain is drawn coarse, so that it survives being reduced to a model's input.
        grain = random.normal(0, random.uniform(4, 13), (96, 96, 3)).astype(np.float32)
        rows = (np.arange(size) * 96 // size).astype(int)
        pixels = pixels * balance + grain[rows][:, rows]
    pixels = pixels * np.float32(random.uniform(0.88, 1.1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def render(scene: Scene, size: int = 256) -> Image.Image:
    """Draw a scene.

    Args:
        scene: its labels decide what is seen, its seed all the rest.
        size: width and height of the picture in pixels.

    Returns:
        An RGB picture; equal arguments give equal pixels.
    """
    random = np.random.default_rng(scene.seed)
    side = 2 * size
    canvas, ground = _background(scene, side, random)
    canvas = _clutter(canvas, ground, random).copy()
    brush = _Brush(scene, side, ground, random)
    for center in _places(COUNT[scene.labels["count"]], brush.radius, random):
        brush.paint(canvas, center)
    return _develop(canvas, scene.labels["style"], size, random)
