"""Renders scenes: the labels decide what is visible, the seed decides the rest.

Everything is painted at twice its size and reduced, so that edges are smooth. All lengths are
shares of the picture's side, so that a scene looks the same at 128 and at 512 pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from eval.world.factors import FILLED, Scene
from eval.world.ground import all_tones, any_tone, apart, ground, intrude, litter, tone_of
from eval.world.manners import Manner, manner
from eval.world.media import develop
from eval.world.shapes import FORMS, form, holes, outline
from eval.world.surfaces import Pixels, material, pattern, second_tone, vary
from eval.world.things import DARKER, LIGHTER, OTHER, OWN, ObjectPart, thing

#: Size to the radius of an object as a share of the picture's side, from and to.
RADIUS = {"small": (0.15, 0.175), "medium": (0.22, 0.255), "large": (0.305, 0.36)}

#: Count to the number of objects, from and to, and the factor of their size.
COUNT = {
    "one": (1, 1, 1.0),
    "two": (2, 2, 0.94),
    "three": (3, 3, 0.84),
    "four": (4, 4, 0.76),
    "many": (6, 9, 0.62),
}

#: Stroke to the width of a line as a share of the picture's side, for a large object.
STROKE = {"thin": (0.014, 0.018), "regular": (0.028, 0.034), "bold": (0.052, 0.066)}

#: Factor of the size of objects in a frame, so that the frame fits around them.
_FRAMED = 0.84

_Line = NDArray[np.float64]


def _places(
    count: int, radius: float, room: float, random: np.random.Generator
) -> NDArray[np.float32]:
    """Centers of ``count`` objects within ``room`` of the middle: float32 [count, 2].

    The first of some random placements in which they do not touch is taken, else the one with the
    largest gaps, so that large or many objects may overlap.
    """
    reach = max(0.015, room - radius * 0.93)
    if count == 1:
        return (0.5 + random.uniform(-reach, reach, (1, 2))).astype(np.float32)
    tries = 0.5 + random.uniform(-reach, reach, (300 if count < 9 else 60, count, 2))
    gaps = np.linalg.norm(tries[:, :, None] - tries[:, None], axis=-1)
    gaps[:, np.arange(count), np.arange(count)] = np.inf
    closest = gaps.min(axis=(1, 2))
    roomy = np.flatnonzero(closest > 2.05 * radius)
    choice = roomy[0] if len(roomy) else int(closest.argmax())
    return np.asarray(tries[choice], dtype=np.float32)


def _filled(line: _Line, cut: tuple[_Line, ...], box: int) -> Pixels:
    mask = Image.new("L", (box, box), 0)
    draw = ImageDraw.Draw(mask)
    draw.polygon([(float(x), float(y)) for x, y in line], fill=255)
    for inner in cut:
        draw.polygon([(float(x), float(y)) for x, y in inner], fill=0)
    return np.asarray(mask, dtype=np.float32) / 255


def _lines(line: _Line, cut: tuple[_Line, ...], box: int, width: int) -> Pixels:
    mask = Image.new("L", (box, box), 0)
    draw = ImageDraw.Draw(mask)
    for each in (line, *cut):
        closed = [(float(x), float(y)) for x, y in np.concatenate([each, each[:2]])]
        draw.line(closed, fill=255, width=width, joint="curve")
    return np.asarray(mask, dtype=np.float32) / 255


class _Brush:
    """Paints the objects of a scene, which differ only in place, tilt and a little in form."""

    def __init__(self, scene: Scene, side: int, color: Pixels, random: np.random.Generator):
        labels = scene.labels
        self.labels = labels
        self.side = side
        self.random = random
        fewest, most, scale = COUNT[labels["count"]]
        self.count = int(random.integers(fewest, most + 1))
        smallest, largest = RADIUS[labels["size"]]
        if labels["size"] == "large" and self.count == 1:
            largest = 0.43
        self.radius = random.uniform(smallest, largest) * scale
        self.framed = labels["frame"] != "none"
        if self.framed:
            self.radius *= _FRAMED
        self.color = apart(vary(tone_of(labels["color"], random), 13, random), color)
        self.tone = second_tone(self.color, all_tones(), random)
        self.manner: Manner | None = manner(scene.manner) if scene.manner else None
        self.cut: tuple[_Line, ...] = ()
        if scene.form > FORMS:
            self.parts = thing(scene.form - FORMS)
        else:
            if scene.form:
                line, self.cut = form(scene.form)
            else:
                line, self.cut = outline(labels["shape"]), holes(labels["shape"])
            self.parts = (ObjectPart(line, OWN),)
        self.tilt = random.uniform(-0.3, 0.3)
        self.drawn = labels["stroke"] != FILLED
        widths = STROKE.get(labels["stroke"], (0.012, 0.02))
        self.width = random.uniform(*widths) * (0.4 + 0.6 * min(1.0, self.radius / 0.3)) * side
        self.lifelike = labels["style"] in ("photo", "painting")
        self.light = random.uniform(-0.8, 0.8, 2)
        self.shade = random.uniform(0.2, 0.5) if self.lifelike else 0.0
        self.shadow = self.lifelike and random.random() < 0.6
        self.rimmed = not self.drawn and not self.lifelike and random.random() < 0.25
        self.rim = self.width
        if self.manner:
            self.rimmed = self.manner.rim > 0
            self.rim = self.manner.rim * side
        self.tones: dict[int, Pixels] = {}
        if scene.form > FORMS:
            self.tones = {
                DARKER: self.color * np.float32(0.6),
                LIGHTER: self.color + (255 - self.color) * np.float32(0.5),
                OTHER: any_tone(random),
            }

    def paint(self, canvas: Pixels, center: NDArray[np.float32]) -> None:
        """Draw one object into ``canvas`` [side, side, 3], in place."""
        random, labels = self.random, self.labels
        radius = self.radius * self.side
        box = int(np.ceil(radius * 2.6)) + 4
        left, top = (np.round(center * self.side) - box // 2).astype(int)
        turn = self.tilt + random.uniform(-0.12, 0.12)
        spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        # A slight perspective, different for each object.
        stretch = np.array([[random.uniform(0.88, 1.08), 0], [random.uniform(-0.12, 0.12), 1]])
        move = stretch @ spin * radius
        lines = [self._moved(part.line, move, box) for part in self.parts]
        cut = tuple(c @ move + box / 2 for c in self.cut)
        grid = (np.arange(box, dtype=np.float32) - box / 2) / radius
        x, y = np.meshgrid(grid, grid)
        # No pattern is finer than a small picture can show, so that every label is visible.
        seen = self.side / radius
        coarse, fine = max(0.26, 0.07 * seen), max(0.13, 0.045 * seen)
        second = pattern(labels["pattern"], x, y, coarse, self.drawn, random)
        bodies = [_filled(line, cut, box) for line in lines]
        body = np.maximum.reduce(bodies)
        paint: Pixels
        if self.drawn:
            alpha = np.maximum(self._rims(lines, cut, bodies, self.width), body * second)
            paint = np.broadcast_to(self.color, (box, box, 3))
        else:
            alpha = body
            cover = second[..., None]
            paint = self.color * (1 - cover) + self.tone * cover
            body_paint = paint
            for part, visible in zip(self.parts, bodies, strict=True):
                tone = self.tones.get(part.tone, body_paint)
                paint = paint * (1 - visible[..., None]) + tone * visible[..., None]
            factor, white = material(labels["material"], x, y, fine, random)
            paint = paint * factor[..., None] + 255 * white[..., None]
        if self.shade:
            far = np.hypot(x - self.light[0], y - self.light[1])
            paint = paint * (1.1 - self.shade * np.clip(far / 2, 0, 1))[..., None]
        if self.shadow:
            self._cast(canvas, alpha, left, top, radius * 0.13, radius * 0.1)
        if self.manner:
            paint = self.manner.shaded(np.asarray(paint, dtype=np.float32), x, y)
            drop = self.manner.shadow * self.side
            if drop:
                self._cast(canvas, alpha, left, top, drop, self.manner.softness * self.side)
        same = labels["color"] == labels["background"]
        if not self.drawn and (self.rimmed or same or self.count > 4):
            rim = self._rims(lines, cut, bodies, self.rim)[..., None]
            edge = np.clip(self.color + (75 if self.color.mean() < 100 else -75), 0, 255)
            if self.manner and self.manner.rim:
                edge = self.manner.rim_of(self.color)
            paint = paint * (1 - rim) + edge * rim
        _blend(canvas, np.asarray(paint, dtype=np.float32), alpha, left, top)

    def _moved(self, line: _Line, move: NDArray[np.float64], box: int) -> _Line:
        if self.manner:
            line = self.manner.wobbled(line, self.random)
        return np.asarray(line @ move + box / 2)

    def _rims(
        self, lines: list[_Line], cut: tuple[_Line, ...], bodies: list[Pixels], width: float
    ) -> Pixels:
        """The outlines of all parts, where no later part covers them: [box, box]."""
        box = len(bodies[0])
        shown: Pixels = np.zeros((box, box), dtype=np.float32)
        for line, body in zip(lines, bodies, strict=True):
            drawn = _lines(line, cut, box, max(2, round(width)))
            shown = np.maximum(shown * (1 - body), drawn)
        return shown

    def frame(self, canvas: Pixels, color: Pixels) -> None:
        """Draw a circle or a square around everything, in place."""
        random, side = self.random, self.side
        reach = random.uniform(0.435, 0.48) * side
        middle = side / 2 + random.uniform(-0.02, 0.02, 2) * side
        box = [*(middle - reach), *(middle + reach)]
        mask = Image.new("L", (side, side), 0)
        draw = ImageDraw.Draw(mask)
        solid = random.random() < 0.35
        width = 0 if solid else max(3, round(self.width * random.uniform(0.9, 1.3)))
        tone = self.color if random.random() < 0.6 else any_tone(random)
        if solid:
            # A disc or a tile behind the object, of another color than both.
            tone = np.clip(color + random.choice([-1, 1]) * random.uniform(35, 60), 0, 255)
        fill, line = (255, None) if solid else (None, 255)
        if self.labels["frame"] == "circle":
            draw.ellipse(box, fill=fill, outline=line, width=max(1, width))
        else:
            corner = reach * random.uniform(0.0, 0.3)
            draw.rounded_rectangle(box, corner, fill=fill, outline=line, width=max(1, width))
        alpha = np.asarray(mask, dtype=np.float32) / 255
        _blend(canvas, np.broadcast_to(tone, canvas.shape).astype(np.float32), alpha, 0, 0)

    def _cast(
        self, canvas: Pixels, body: Pixels, left: int, top: int, drop: float, blur: float
    ) -> None:
        soft = Image.fromarray((body * 255).astype(np.uint8))
        soft = soft.filter(ImageFilter.GaussianBlur(blur))
        alpha = np.asarray(soft, dtype=np.float32) / 255 * 0.4
        dark = np.zeros((*alpha.shape, 3), dtype=np.float32)
        _blend(canvas, dark, alpha, left + int(drop), top + int(drop))


def _blend(canvas: Pixels, paint: Pixels, alpha: Pixels, left: int, top: int) -> None:
    side, box = canvas.shape[0], alpha.shape[0]
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(side, left + box), min(side, top + box)
    if x0 >= x1 or y0 >= y1:
        return
    part = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    cover = alpha[part][..., None]
    canvas[y0:y1, x0:x1] = canvas[y0:y1, x0:x1] * (1 - cover) + paint[part] * cover


def render(scene: Scene, size: int = 256) -> Image.Image:
    """Draw a scene.

    Args:
        scene: its labels decide what is visible, its seed the rest.
        size: width and height of the picture in pixels.

    Returns:
        An RGB picture; equal arguments give equal pixels.
    """
    random = np.random.default_rng(scene.seed)
    side = 2 * size
    canvas, color = ground(scene, side, random)
    brush = _Brush(scene, side, color, random)
    canvas = litter(canvas, color, random).copy()
    if brush.framed:
        brush.frame(canvas, color)
    room = 0.33 if brush.framed else 0.49
    for center in _places(brush.count, brush.radius, room, random):
        brush.paint(canvas, center)
    if scene.labels["style"] in ("photo", "painting") and random.random() < 0.25:
        canvas = intrude(canvas, random)
    if brush.manner:
        canvas = brush.manner.finished(canvas, random)
    return develop(canvas, scene.labels["style"], size, random)
